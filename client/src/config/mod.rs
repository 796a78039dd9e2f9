//! What a user can set, what it means when it is not set, and the rules that check it.
//!
//! It owns every setting: its name, its default, its range and what it contradicts. It refuses to do anything with
//! them: drivers and machines read plain fields. Invariants: a setting that is accepted is honoured, one that is not is
//! refused by name, and nothing is ignored without being listed. Every limit has a name here, and none of them is
//! "for ever".
//!
//! A test sees to it that each field is read by somebody outside, so that a setting without an effect cannot be
//! offered. Errors use Kafka's own key names, also for the typed builders.

use std::time::Duration;

/// Writes a setting down once: the field that the crate reads, its default, and the documented setter of the builder.
/// Settings of the second list have a setter of their own, because it takes other types or remembers that it was used.
macro_rules! settings {
    (
        $(#[$about:meta])*
        $config:ident set by $builder:ident {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr; )*
        } and by hand {
            $( $(#[doc = $note:literal])* $own:ident: $own_type:ty = $own_default:expr; )*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $config {
            $( pub(crate) $field: $type, )*
            $( $(#[doc = $note])* pub(crate) $own: $own_type, )*
            /// The methods of the builder that were called.
            pub(crate) called: std::collections::BTreeSet<&'static str>,
        }

        impl Default for $config {
            fn default() -> Self {
                $config { $( $field: $default, )* $( $own: $own_default, )* called: Default::default() }
            }
        }

        impl $builder {
            $(
                $(#[doc = $doc])*
                pub fn $field(mut self, $field: $type) -> Self {
                    self.config.$field = $field;
                    self.config.called.insert(stringify!($field));
                    self
                }
            )*
        }
    };
}

mod assignor;
mod client;
mod consumer;
mod explain;
mod goal;
mod keys;
mod nearest;
mod pattern;
mod problem;
mod producer;
mod properties;
mod protocol;
mod security;
#[cfg(test)]
mod tests;
mod tokens;

pub use assignor::{PartitionAssignor, Subscriber};
pub use client::ClientBuilder;
pub(crate) use client::ClientConfig;
pub use consumer::{Assignor, ConsumerBuilder, Done, IsolationLevel, Reset, When};
pub(crate) use consumer::{ConsumerConfig, Source};
pub use explain::{Explanation, Origin, Setting};
pub use goal::Goal;
pub(crate) use pattern::TopicPattern;
pub use problem::{ConfigError, Warning};
pub use producer::{Acks, ProducerBuilder};
pub(crate) use producer::{PartitionerChoice, ProducerConfig};
pub use protocol::GroupProtocol;

/// The largest length that a field of a request can carry.
const LENGTH_MAX: usize = 0x7fff_ffff;

/// A duration as the milliseconds of a request field. Checked configurations never reach the upper end.
pub(crate) fn wire_millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

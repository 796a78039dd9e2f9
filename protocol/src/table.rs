//! The `message!` macro: a Kafka message is a table, and everything else follows from it.
//!
//! A row is `field: Type [versions] = default`. Versions are `[3..]`, `[..=7]` or `[3..=7]`; none means all.
//! `[tag 0, 12..]` makes it a tagged field, rows of which stand in ascending order of tags. `[null 2.., 0..]` says that
//! the value is nullable from version 2 only. From the table come the struct, its documentation, `Default`,
//! [`Wire`](crate::wire::Wire), and for a request [`Request`](crate::api::Request).
//!
//! Invariant: rows stand in the order of the wire, and a message field is written down nowhere else.

/// Defines message structs from tables.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        $name:ident $(: key $key:literal, versions $versions:expr, flexible $flexible:tt, answer $answer:ident)? {
            $( $(#[$doc:meta])* $field:ident : $ty:ty $([$($column:tt)*])? $(= $default:expr)? ),* $(,)?
        }
    )+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $(
            $(#[$doc])*
            #[doc = $crate::table::column!(doc [$($($column)*)?] [$($default)?])]
            pub $field: $ty,
        )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $crate::table::column!(default $($default)?), )* }
            }
        }

        impl $crate::wire::Wire for $name {
            #[allow(unused_comparisons, unused_variables)]
            fn encode(&self, out: &mut $crate::wire::Encoder<'_>) -> Result<(), $crate::wire::EncodeError> {
                let version = out.version();
                $( $crate::table::column!(encode self out version $name $field $($($column)*)?); )*
                if out.is_flexible() {
                    let count = out.open_tags();
                    $( $crate::table::column!(
                        encode_tag self out version count $field $ty [$($default)?] $($($column)*)?
                    ); )*
                }
                Ok(())
            }

            #[allow(unused_comparisons, unused_mut, unused_variables)]
            fn decode(input: &mut $crate::wire::Decoder) -> Result<Self, $crate::wire::DecodeError> {
                let version = input.version();
                let mut this = Self::default();
                $( if $crate::table::column!(body version $($($column)*)?) {
                    this.$field = $crate::wire::Wire::decode(input)?;
                } )*
                if input.is_flexible() {
                    input.tags(|tag, body| {
                        $( $crate::table::column!(decode_tag this body version tag $field $($($column)*)?); )*
                        Ok(())
                    })?;
                }
                Ok(this)
            }
        }

        /// A nullable struct is led by a signed byte: -1 for null, 1 for a value.
        impl $crate::wire::Nullable for $name {
            fn encode_or_null(
                this: Option<&Self>,
                out: &mut $crate::wire::Encoder<'_>,
            ) -> Result<(), $crate::wire::EncodeError> {
                let Some(this) = this else {
                    return $crate::wire::Wire::encode(&-1i8, out);
                };
                $crate::wire::Wire::encode(&1i8, out)?;
                $crate::wire::Wire::encode(this, out)
            }

            fn decode_or_null(input: &mut $crate::wire::Decoder) -> Result<Option<Self>, $crate::wire::DecodeError> {
                if <i8 as $crate::wire::Wire>::decode(input)? < 0 {
                    return Ok(None);
                }
                <Self as $crate::wire::Wire>::decode(input).map(Some)
            }
        }

        #[cfg(test)]
        impl $crate::random::Random for $name {
            #[allow(unused_comparisons, unused_variables)]
            fn random(source: &mut $crate::random::Source) -> Self {
                let version = source.version;
                Self { $( $field: $crate::table::column!(
                    random source version $ty [$($default)?] $($($column)*)?
                ), )* }
            }
        }

        $( impl $crate::api::Request for $name {
            const KEY: $crate::api::ApiKey = $crate::api::ApiKey($key);
            const NAME: &'static str = $crate::table::without_request(stringify!($name));
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE: i16 = $crate::table::column!(flexible $flexible);
            type Response = $answer;
        } )?
    )+ };
}

/// Reads the columns of a row.
macro_rules! column {
    (flexible never) => { i16::MAX };
    (flexible $version:literal) => { $version };

    (default) => { Default::default() };
    (default $default:expr) => { $default };

    (doc [] []) => { "\n\nIn every version." };
    (doc [$($column:tt)+] []) => { concat!("\n\nVersions: `", stringify!($($column)+), "`.") };
    (doc [] [$default:expr]) => { concat!("\n\nIn every version. Default: `", stringify!($default), "`.") };
    (doc [$($column:tt)+] [$default:expr]) => {
        concat!("\n\nVersions: `", stringify!($($column)+), "`. Default: `", stringify!($default), "`.")
    };

    // Whether the field is part of the body in this version.
    (body $v:ident) => { true };
    (body $v:ident tag $($rest:tt)*) => { false };
    (body $v:ident null $null:literal .., $($range:tt)*) => { $crate::table::column!(body $v $($range)*) };
    (body $v:ident null $null:literal ..) => { true };
    (body $v:ident $low:literal ..) => { $low <= $v };
    (body $v:ident ..= $high:literal) => { $v <= $high };
    (body $v:ident $low:literal ..= $high:literal) => { ($low..=$high).contains(&$v) };

    (encode $this:ident $out:ident $v:ident $name:ident $field:ident tag $($rest:tt)*) => {};
    (encode $this:ident $out:ident $v:ident $name:ident $field:ident null $null:literal .. $(, $($range:tt)*)?) => {
        if $crate::table::column!(body $v $($($range)*)?) {
            if $v < $null && $this.$field.is_none() {
                let field = concat!(stringify!($name), ".", stringify!($field));
                return Err($crate::wire::EncodeError::Null { field, version: $v });
            }
            $crate::wire::Wire::encode(&$this.$field, $out)?;
        }
    };
    (encode $this:ident $out:ident $v:ident $name:ident $field:ident $($range:tt)*) => {
        if $crate::table::column!(body $v $($range)*) {
            $crate::wire::Wire::encode(&$this.$field, $out)?;
        }
    };

    (encode_tag $this:ident $out:ident $v:ident $count:ident $field:ident $ty:ty [$($default:expr)?]
        tag $tag:literal $(, $($range:tt)*)?) => {
        if $crate::table::column!(body $v $($($range)*)?) {
            let default: $ty = $crate::table::column!(default $($default)?);
            if $this.$field != default {
                $out.tagged($count, $tag, &$this.$field)?;
            }
        }
    };
    (encode_tag $($untagged:tt)*) => {};

    (decode_tag $this:ident $body:ident $v:ident $got:ident $field:ident tag $tag:literal $(, $($range:tt)*)?) => {
        if $got == $tag && $crate::table::column!(body $v $($($range)*)?) {
            $this.$field = $crate::wire::Wire::decode($body)?;
        }
    };
    (decode_tag $($untagged:tt)*) => {};

    // A value for a test: what the version does not carry keeps its default, or it would not survive the wire.
    (random $source:ident $v:ident $ty:ty [$($default:expr)?] null $null:literal .. $(, $($range:tt)*)?) => {
        match $crate::table::column!(random $source $v $ty [$($default)?] $($($range)*)?) {
            None if $v < $null && $crate::table::column!(body $v $($($range)*)?) => Some(Default::default()),
            value => value,
        }
    };
    (random $source:ident $v:ident $ty:ty [$($default:expr)?] tag $tag:literal $(, $($range:tt)*)?) => {
        if $crate::table::column!(body $v $($($range)*)?) && $source.flexible && $source.one_in(2) {
            <$ty as $crate::random::Random>::random($source)
        } else {
            $crate::table::column!(default $($default)?)
        }
    };
    (random $source:ident $v:ident $ty:ty [$($default:expr)?] $($range:tt)*) => {
        if $crate::table::column!(body $v $($range)*) {
            <$ty as $crate::random::Random>::random($source)
        } else {
            $crate::table::column!(default $($default)?)
        }
    };
}

pub(crate) use {column, message};

/// `FetchRequest` is the request of the API `Fetch`.
pub(crate) const fn without_request(message: &'static str) -> &'static str {
    message.split_at(message.len() - "Request".len()).0
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use crate::messages::{FetchRequest, FindCoordinatorRequest, MetadataRequest};
    use crate::wire::{EncodeError, Encoder, Wire};

    fn encode(message: &impl Wire, version: i16, flexible: bool) -> Result<BytesMut, EncodeError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut Encoder::new(&mut bytes, version, flexible))?;
        Ok(bytes)
    }

    #[test]
    fn null_is_not_written_in_a_version_that_has_none() {
        let all = MetadataRequest { topics: None, ..Default::default() };
        let error = EncodeError::Null { field: "MetadataRequest.topics", version: 0 };
        assert_eq!(encode(&all, 0, false), Err(error));
        assert_eq!(encode(&all, 1, false).expect("has null"), &[0xff; 4][..]);
    }

    #[test]
    fn a_tagged_field_is_written_only_where_it_differs_from_its_default() {
        let tags = |message: &FetchRequest| {
            let bytes = encode(message, 12, true).expect("is valid");
            let default = encode(&FetchRequest::default(), 12, true).expect("is valid");
            bytes[default.len() - 1..].to_vec()
        };
        assert_eq!(tags(&FetchRequest::default()), [0]);
        let cluster_id = Some("c".into());
        assert_eq!(tags(&FetchRequest { cluster_id, ..Default::default() }), [1, 0, 2, 2, b'c']);
    }

    #[test]
    fn a_field_is_written_in_its_versions_only() {
        let request =
            FindCoordinatorRequest { key: "k".into(), key_type: 1, coordinator_keys: vec!["l".into()] };
        assert_eq!(encode(&request, 0, false).expect("is valid"), &b"\0\x01k"[..]);
        assert_eq!(encode(&request, 1, false).expect("is valid"), &b"\0\x01k\x01"[..]);
        assert_eq!(encode(&request, 4, true).expect("is valid"), &b"\x01\x02\x02l\0"[..]);
    }
}

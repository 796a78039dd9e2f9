//! What is in force, where it came from, and what it trades.
//!
//! It owns how settings are told as a reader wants to see them; the list of them is in `lines`. It refuses to decide: values
//! come from the checked settings, goals say themselves what works against them. Invariant: each setting has a line, which
//! a test holds against the table of property names.

mod lines;

use std::collections::BTreeSet;
use std::fmt;

use super::goal::{Aim, Goal};
use super::problem::{Findings, Warning};
use super::{ClientBuilder, ClientConfig, ConsumerBuilder, ConsumerConfig, ProducerBuilder, ProducerConfig};
use crate::client::Client;
use crate::error::Error;

/// Where a value came from.
///
/// ```
/// assert_eq!(ottla::Origin::Property.to_string(), "property");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has said anything: this crate's default, or Java's for a client that was made from properties.
    Default,
    /// The [`Goal`] of the client.
    Goal,
    /// [`ClientBuilder::from_properties`](crate::ClientBuilder::from_properties).
    Property,
    /// A method of a builder.
    Call,
    /// Another setting, which this one has to follow; a warning says which.
    Rule,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Default => "default",
            Origin::Goal => "goal",
            Origin::Property => "property",
            Origin::Call => "call",
            Origin::Rule => "rule",
        })
    }
}

/// A setting as it is in force. Values have Kafka's units: milliseconds and bytes.
///
/// ```
/// # fn example(explanation: ottla::Explanation) {
/// for setting in explanation.settings() {
///     println!("{}={} # {}", setting.key, setting.value, setting.trade);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Whose it is: client, producer or consumer.
    pub of: &'static str,
    /// Kafka's name, or that of the builder's method where Kafka has none.
    pub key: &'static str,
    /// What is in force.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
    /// What more of it, or another choice, would win and cost.
    pub trade: &'static str,
}

/// All settings of a client, a producer or a consumer, with what is odd about them. Printed, it is a table.
///
/// ```
/// use std::time::Duration;
/// use ottla::{Client, Goal, Origin};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let client = Client::builder().bootstrap("localhost:9092").goal(Goal::Latency).build()?;
/// let explanation = client.producer().linger(Duration::from_millis(100)).explain()?;
/// assert_eq!(explanation.warnings()[0].keys(), ["linger.ms"]);
/// assert!(explanation.to_string().contains("works against the goal latency"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    goal: Option<Goal>,
    settings: Vec<Setting>,
    warnings: Vec<Warning>,
}

impl Explanation {
    /// Every setting.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What contradicts the goal, has no effect, or gave way to another setting.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn new(client: &Client) -> Result<Self, Error> {
        let warnings = client.builder.warnings.clone();
        let mut this = Self { goal: client.config.goal, settings: Vec::new(), warnings };
        this.add::<ClientConfig>(&client.config, &client.config, &client.config);
        Ok(this)
    }

    fn add<C: Settings>(&mut self, client: &ClientConfig, set: &C, checked: &C) {
        for line in C::LINES {
            let value = (line.show)(checked);
            let origin = if (line.show)(set) == value { client.origin(set, line.key) } else { Origin::Rule };
            self.settings.push(Setting { of: C::OF, key: line.key, value, origin, trade: line.trade });
        }
    }

    fn with_producer(mut self, client: &ClientConfig, config: &ProducerConfig) -> Result<Self, Error> {
        let mut checked = config.clone();
        self.warnings.extend(checked.check(client)?);
        self.add(client, config, &checked);
        Ok(self)
    }

    fn with_consumer(mut self, client: &ClientConfig, config: &ConsumerConfig) -> Result<Self, Error> {
        let mut checked = config.clone();
        self.warnings.extend(checked.check(client)?);
        self.add(client, config, &checked);
        Ok(self)
    }
}

impl Client {
    /// The settings in force: the client's own, and those that its producers and consumers start from.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), when no producer or consumer could be built.
    pub fn explain(&self) -> Result<Explanation, Error> {
        let ClientBuilder { producer, consumer, .. } = &*self.builder;
        Explanation::new(self)?.with_producer(&self.config, producer)?.with_consumer(&self.config, consumer)
    }
}

impl ProducerBuilder {
    /// The settings in force for this producer and its client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the settings that are wrong.
    pub fn explain(&self) -> Result<Explanation, Error> {
        Explanation::new(&self.client)?.with_producer(&self.client.config, &self.config)
    }
}

impl ConsumerBuilder {
    /// The settings in force for this consumer and its client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the settings that are wrong.
    pub fn explain(&self) -> Result<Explanation, Error> {
        Explanation::new(&self.client)?.with_consumer(&self.client.config, &self.config)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
        let value = self.settings.iter().map(|s| s.value.len()).max().unwrap_or(0).min(32);
        let mut of = "";
        for setting in &self.settings {
            if of != setting.of {
                of = setting.of;
                writeln!(f, "{of:<width$}    {:<value$}  {:<8}  trade", "value", "from")?;
            }
            let Setting { key: name, value: shown, origin, trade, .. } = setting;
            writeln!(f, "  {name:<width$}  {shown:<value$}  {origin:<8}  {trade}")?;
        }
        if let Some(goal) = self.goal {
            writeln!(f, "the goal {goal} asks of topics and brokers")?;
            for (name, needed) in goal.needs() {
                writeln!(f, "  {name:<width$}  {needed}")?;
            }
            for (name, why) in goal.kept() {
                writeln!(f, "kept: {name} {why}")?;
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// A line of the table.
pub(super) struct Line<C: 'static> {
    pub(super) key: &'static str,
    /// The builder's method.
    pub(super) setter: &'static str,
    pub(super) show: fn(&C) -> String,
    pub(super) trade: &'static str,
}

const fn line<C>(
    key: &'static str,
    setter: &'static str,
    show: fn(&C) -> String,
    trade: &'static str,
) -> Line<C> {
    Line { key, setter, show, trade }
}

/// What can be explained: the settings of a client, a producer or a consumer.
pub(super) trait Settings: Sized + 'static {
    const OF: &'static str;
    const LINES: &'static [Line<Self>];
    fn aims(goal: Goal) -> &'static [Aim<Self>];
    /// The builder's methods that were called.
    fn called(&self) -> &BTreeSet<&'static str>;
}

impl ClientConfig {
    pub(super) fn origin<C: Settings>(&self, config: &C, key: &'static str) -> Origin {
        let aims = |goal: Goal| C::aims(goal).iter().any(|aim| aim.key == key && aim.set.is_some());
        let line = C::LINES.iter().find(|line| line.key == key);
        if line.is_some_and(|line| config.called().contains(line.setter)) {
            Origin::Call
        } else if self.given.contains(key) {
            Origin::Property
        } else if self.goal.is_some_and(aims) {
            Origin::Goal
        } else {
            Origin::Default
        }
    }

    /// Whether a file or the program has said what `key` is to be.
    pub(super) fn is_set_by_user<C: Settings>(&self, config: &C, key: &'static str) -> bool {
        matches!(self.origin(config, key), Origin::Property | Origin::Call)
    }

    /// Warns of what was set against the goal.
    pub(super) fn weigh<C: Settings>(&self, config: &C, found: &mut Findings) {
        if let Some(goal) = self.goal {
            goal.weigh(self, config, found);
        }
    }
}

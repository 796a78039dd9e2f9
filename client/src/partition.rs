//! How a partition is named.

use std::fmt;
use std::sync::Arc;

/// One partition of one topic. Cheap to clone.
///
/// ```
/// use ottla::TopicPartition;
///
/// let first = TopicPartition::new("orders", 0);
/// assert_eq!(first.to_string(), "orders-0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition with this number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// As Kafka's own tools write it: the topic, a hyphen, the number.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

//! Offsets that a partition has.
//!
//! It owns what the special timestamps mean. Invariant: a broker that does not know a special timestamp is never sent one,
//! since it would look it up as a time.

use ottla_protocol::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, ListedPartition,
};

use super::attempts::Pending;
use super::leaders::{Question, Told, by_topic, told};
use super::{Admin, Results};
use crate::config::{IsolationLevel, wire_millis};
use crate::error::{Error, ErrorKind};

/// Which offset of a partition is asked for.
///
/// ```
/// use ottla::OffsetSpec;
///
/// let since_new_year = OffsetSpec::Timestamp(1_767_225_600_000);
/// # let _ = since_new_year;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// That of the oldest record that is still there.
    Earliest,
    /// That of the record that will come next: the high watermark, or under
    /// [`ReadCommitted`](IsolationLevel::ReadCommitted) the end of the last transaction that has ended.
    Latest,
    /// That of the first record with this timestamp or a later one, in milliseconds since the Unix epoch (KIP-79). A
    /// negative one is refused.
    Timestamp(i64),
    /// That of the record with the largest timestamp (KIP-734, from Kafka 3.0 on).
    MaxTimestamp,
}

impl OffsetSpec {
    /// The value on the wire, and the first version of ListOffsets that knows it.
    fn wire(self) -> (i64, i16) {
        match self {
            OffsetSpec::Latest => (-1, 0),
            OffsetSpec::Earliest => (-2, 0),
            OffsetSpec::MaxTimestamp => (-3, 7),
            OffsetSpec::Timestamp(ms) => (ms, 0),
        }
    }
}

/// What was found in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` when no record fits: none is as late as the timestamp, or there is none at all.
    pub offset: Option<i64>,
    /// The timestamp of the record there, in milliseconds since the Unix epoch, when it was looked up by one.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record there (KIP-320), if the broker says so.
    pub leader_epoch: Option<i32>,
}

impl Admin {
    /// Asks the leaders of partitions for offsets.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::UnknownTopic`] at once for one that does not exist,
    /// [`ErrorKind::UnsupportedVersion`] when its leader is too old for what is asked. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{IsolationLevel, OffsetSpec};
    ///
    /// let first_two = [("orders", 0), ("orders", 1)];
    /// let ends = admin.list_offsets(first_two, OffsetSpec::Latest, IsolationLevel::ReadCommitted).await;
    /// for ((topic, partition), end) in ends.all()? {
    ///     println!("{topic} {partition} ends at {:?}", end.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = (impl Into<String>, i32)>,
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Results<(String, i32), ListedOffset> {
        let mut pending =
            Pending::new(partitions.into_iter().map(|(topic, partition)| (topic.into(), partition)));
        if let OffsetSpec::Timestamp(ms @ ..0) = spec {
            for partition in pending.open() {
                let message =
                    format!("topic {}, partition {}: timestamp {ms} is negative", partition.0, partition.1);
                pending.settle(&partition, Err(Error::new(ErrorKind::InvalidArgument, message)));
            }
        }
        let (timestamp, since) = spec.wire();
        let question = Question { what: format!("{spec:?}"), since };
        self.ask_leaders(
            pending,
            &question,
            |partitions, timeout| ListOffsetsRequest {
                replica_id: -1,
                isolation_level: isolation.wire(),
                topics: by_topic(partitions, |partition_index, current_leader_epoch| ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch,
                    timestamp,
                })
                .map(|(name, partitions)| ListOffsetsTopic { name, partitions })
                .collect(),
                timeout_ms: wire_millis(timeout),
            },
            listed_offsets,
        )
        .await
    }
}

fn listed_offsets(answer: ListOffsetsResponse) -> Told<ListedOffset> {
    let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
    told(topics, |partition| (partition.partition_index, partition.error_code), listed)
}

fn listed(partition: &ListedPartition) -> ListedOffset {
    ListedOffset {
        offset: Some(partition.offset).filter(|offset| *offset >= 0),
        timestamp: Some(partition.timestamp).filter(|ms| *ms >= 0),
        leader_epoch: Some(partition.leader_epoch).filter(|epoch| *epoch >= 0),
    }
}

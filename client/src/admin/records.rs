//! Records that are deleted: the start of partitions moves forward (KIP-107).
//!
//! It refuses to know how a log keeps them. Invariant: what is before an offset is deleted, and nothing else, however often
//! a request is repeated.

use std::collections::BTreeMap;

use ottla_protocol::messages::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};

use super::attempts::Pending;
use super::leaders::{Partition, Question, Told, by_topic, told};
use super::{Admin, Results};
use crate::config::wire_millis;
use crate::error::{Error, ErrorKind};

/// How the protocol says that all records are to go.
const HIGH_WATERMARK: i64 = -1;

impl Admin {
    /// Deletes the records of partitions in front of an offset, or all that are there for `None`. The result of each is the
    /// offset that it starts with now. Consumers that have not read what is deleted are out of range then.
    ///
    /// # Errors
    /// For each partition its own: [`ErrorKind::OffsetOutOfRange`] for an offset behind its end,
    /// [`ErrorKind::UnknownTopic`] at once for one that does not exist, [`ErrorKind::Broker`] where the topic's policy forbids
    /// it. Cancelling may leave some of it done; doing it again does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// let starts = admin.delete_records([("orders", 0, Some(1_000)), ("orders", 1, None)]).await.all()?;
    /// println!("{starts:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_records(
        &self,
        before: impl IntoIterator<Item = (impl Into<String>, i32, Option<i64>)>,
    ) -> Results<(String, i32), i64> {
        let named = before.into_iter().map(|(topic, partition, before)| ((topic.into(), partition), before));
        let before: BTreeMap<Partition, Option<i64>> = named.collect();
        let mut pending = Pending::new(before.keys().cloned());
        for (partition, offset) in &before {
            if let Some(offset @ ..0) = offset {
                let message =
                    format!("topic {}, partition {}: offset {offset} is negative", partition.0, partition.1);
                pending.settle(partition, Err(Error::new(ErrorKind::InvalidArgument, message)));
            }
        }
        let question = Question { what: "DeleteRecords".into(), since: 0 };
        let request = |partitions: &BTreeMap<Partition, i32>, timeout| {
            let mut topics = Vec::new();
            for (name, indexes) in by_topic(partitions, |index, _| index) {
                let up_to = |index: i32| before.get(&(name.to_string(), index)).copied().flatten();
                let partition = |partition_index| DeleteRecordsPartition {
                    partition_index,
                    offset: up_to(partition_index).unwrap_or(HIGH_WATERMARK),
                };
                let partitions = indexes.into_iter().map(partition).collect();
                topics.push(DeleteRecordsTopic { name, partitions });
            }
            DeleteRecordsRequest { topics, timeout_ms: wire_millis(timeout) }
        };
        self.ask_leaders(pending, &question, request, starts).await
    }
}

fn starts(answer: DeleteRecordsResponse) -> Told<i64> {
    let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
    told(
        topics,
        |partition| (partition.partition_index, partition.error_code),
        |partition| partition.low_watermark,
    )
}

//! DeleteRecords: moves the start of partitions forward (KIP-107).
//!
//! Versions 0 to 2. Ignored: the timeout, since there is no replica to wait for, and the topic's `cleanup.policy`. Answered by
//! leaders only. A batch that the new start lies in stays whole in the log, and readers pass over what lies before the start.

use super::{Caller, Refuse};
use crate::core::{Cluster, Now};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeletedRecordsPartition,
    DeletedRecordsTopic,
};

/// Everything up to the high watermark.
const HIGH_WATERMARK: i64 = -1;

impl Refuse for DeleteRecordsRequest {
    type Response = DeleteRecordsResponse;

    fn refuse(&self, code: ErrorCode) -> DeleteRecordsResponse {
        let topics = self.topics.iter().map(|topic| DeletedRecordsTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|it| not_deleted(it, code)).collect(),
        });
        DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
    }
}

fn not_deleted(asked: &DeleteRecordsPartition, error_code: ErrorCode) -> DeletedRecordsPartition {
    DeletedRecordsPartition { partition_index: asked.partition_index, low_watermark: -1, error_code }
}

impl Cluster {
    pub(crate) fn delete_records(
        &mut self,
        now: Now,
        caller: &Caller,
        request: DeleteRecordsRequest,
    ) -> DeleteRecordsResponse {
        let mut response = DeleteRecordsResponse::default();
        for topic in request.topics {
            let delete = |asked: &DeleteRecordsPartition| {
                let deleted = self.delete_before(now, caller, &topic.name, asked);
                deleted.unwrap_or_else(|code| not_deleted(asked, code))
            };
            let partitions = topic.partitions.iter().map(delete).collect();
            response.topics.push(DeletedRecordsTopic { name: topic.name, partitions });
        }
        response
    }

    fn delete_before(
        &mut self,
        now: Now,
        caller: &Caller,
        topic: &str,
        asked: &DeleteRecordsPartition,
    ) -> Result<DeletedRecordsPartition, ErrorCode> {
        let index = asked.partition_index;
        let partition = self.led_partition(ApiKey::DELETE_RECORDS, caller, topic, index, -1)?;
        let end = partition.high_watermark();
        let before = if asked.offset == HIGH_WATERMARK { end } else { asked.offset };
        if !(0..=end).contains(&before) {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        partition.delete_before(before).map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        let low_watermark = partition.log.start_offset();
        self.start_moved(now, topic, index);
        Ok(DeletedRecordsPartition { partition_index: index, low_watermark, error_code: ErrorCode::NONE })
    }
}

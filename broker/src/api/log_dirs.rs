//! DescribeLogDirs: where the logs of a node are, and how large they are.
//!
//! Versions 1 to 5: whole, but for the size of the file system and what is left of it (-1: not known). There is one directory,
//! of all nodes; in memory it is called so. Of a node, the partitions are described that it has a replica of.

use super::{Caller, Refuse};
use crate::core::topics::Topic;
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_protocol::wire::Str;

impl Refuse for DescribeLogDirsRequest {
    type Response = DescribeLogDirsResponse;

    fn refuse(&self, error_code: ErrorCode) -> DescribeLogDirsResponse {
        DescribeLogDirsResponse { error_code, ..DescribeLogDirsResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn describe_log_dirs(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeLogDirsRequest,
    ) -> DescribeLogDirsResponse {
        let asked = |topic: &Topic, index: i32| {
            let is_named =
                |it: &DescribableLogDirTopic| it.topic == topic.name && it.partitions.contains(&index);
            request.topics.as_ref().is_none_or(|topics| topics.iter().any(is_named))
        };
        let topics = self.topics.iter().map(|topic| {
            let there = (0..).zip(&topic.partitions).filter(|(index, partition)| {
                partition.replicas.contains(&caller.node) && asked(topic, *index)
            });
            let partitions = there.map(|(partition_index, partition)| DescribeLogDirsPartition {
                partition_index,
                partition_size: i64::try_from(partition.log.bytes()).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            });
            DescribeLogDirsTopic { name: topic.name.clone(), partitions: partitions.collect() }
        });
        let topics = topics.filter(|topic| !topic.partitions.is_empty()).collect();
        let log_dir = Str::from(self.log_dir());
        let result = DescribeLogDirsResult { log_dir, topics, ..DescribeLogDirsResult::default() };
        DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
    }
}

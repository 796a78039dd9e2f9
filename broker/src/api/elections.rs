//! ElectLeaders: the preferred replica leads, or any that is there (KIP-460).
//!
//! Versions 0 to 2: whole, but for the timeout, since elections are over at once. Before version 1 only preferred leaders can be
//! elected. Any node answers, as with KRaft.

use super::{Caller, Refuse};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, ElectedPartition, ElectedTopic};
use ottla_protocol::wire::Str;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

impl Refuse for ElectLeadersRequest {
    type Response = ElectLeadersResponse;

    fn refuse(&self, error_code: ErrorCode) -> ElectLeadersResponse {
        let topics = self.topic_partitions.iter().flatten().map(|topic| ElectedTopic {
            topic: topic.topic.clone(),
            partition_result: topic.partitions.iter().map(|index| elected(*index, Err(error_code))).collect(),
        });
        ElectLeadersResponse { error_code, replica_election_results: topics.collect(), ..Default::default() }
    }
}

fn elected(partition_id: i32, outcome: Result<(), ErrorCode>) -> ElectedPartition {
    let error_code = outcome.err().unwrap_or(ErrorCode::NONE);
    let error_message = outcome.err().map(|code| Str::from_static(code.message()));
    ElectedPartition { partition_id, error_code, error_message }
}

impl Cluster {
    pub(crate) fn elect_leaders(
        &mut self,
        now: Now,
        _: &Caller,
        request: ElectLeadersRequest,
    ) -> ElectLeadersResponse {
        if !matches!(request.election_type, PREFERRED | UNCLEAN) {
            return request.refuse(ErrorCode::INVALID_REQUEST);
        }
        let unclean = request.election_type == UNCLEAN;
        let of_all = request.topic_partitions.is_none();
        let asked: Vec<(Str, Vec<i32>)> = match request.topic_partitions {
            Some(topics) => topics.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
            None => self
                .topics
                .iter()
                .map(|topic| {
                    (topic.name.clone(), (0..).zip(&topic.partitions).map(|(index, _)| index).collect())
                })
                .collect(),
        };
        let mut results = Vec::new();
        for (topic, partitions) in asked {
            let elect = |index: i32| elected(index, self.elect_one(now, &topic, index, unclean));
            let mut partition_result: Vec<ElectedPartition> = partitions.into_iter().map(elect).collect();
            // Whoever asks for all of them wants to know what was done.
            partition_result.retain(|it| !of_all || it.error_code != ErrorCode::ELECTION_NOT_NEEDED);
            if !partition_result.is_empty() {
                results.push(ElectedTopic { topic, partition_result });
            }
        }
        ElectLeadersResponse { replica_election_results: results, ..Default::default() }
    }

    fn elect_one(&mut self, now: Now, topic: &str, index: i32, unclean: bool) -> Result<(), ErrorCode> {
        let found = self.topics.get(topic).and_then(|topic| topic.partition(index));
        let partition = found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let preferred = partition.replicas.first().copied();
        let (is_led, next) = match unclean {
            false => {
                let can_lead = |node: &i32| partition.standing.in_sync.contains(node) && self.is_alive(*node);
                (partition.leader == preferred, preferred.filter(can_lead))
            }
            true => (partition.leader.is_some(), self.eligible(partition, true)),
        };
        match next {
            _ if is_led => Err(ErrorCode::ELECTION_NOT_NEEDED),
            Some(_) => {
                self.set_leader(now, topic, index, next);
                Ok(())
            }
            None if unclean => Err(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE),
            None => Err(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE),
        }
    }
}

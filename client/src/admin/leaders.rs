//! Questions that the leader of each partition answers.
//!
//! It owns that a partition's leader is looked up by each attempt and asked about it, all leaders at once. It refuses to know
//! what is asked. Invariant: each partition ends with its own result, whatever becomes of its neighbours and their leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::api::Request;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{MetadataResponse, MetadataTopic};
use ottla_protocol::wire::Str;

use super::attempts::{Deadline, Pending, all};
use super::cluster::{address_of, by_name};
use super::nodes::{Address, Throttle};
use super::topics::{leaderless, name_of};
use super::{Admin, Results, checked};
use crate::error::{Error, ErrorKind};

/// A topic and the number of a partition.
pub(super) type Partition = (String, i32);

/// Partitions of one leader, with the leader epoch that must hold there (KIP-320).
pub(super) type Led = BTreeMap<Partition, i32>;

/// What a leader says of its partitions.
pub(super) type Told<V> = Vec<(Partition, Result<V, Error>)>;

/// What a broker must be able to answer.
pub(super) struct Question {
    pub(super) what: String,
    /// The first version of the API that knows it.
    pub(super) since: i16,
}

impl Admin {
    /// Asks until each partition has its last word, or the deadline has come.
    pub(super) async fn ask_leaders<R, V>(
        &self,
        mut pending: Pending<Partition, V>,
        question: &Question,
        request: impl Fn(&Led, Duration) -> R,
        answers: impl Fn(R::Response) -> Told<V>,
    ) -> Results<Partition, V>
    where
        R: Request,
        R::Response: Throttle,
    {
        let mut attempts = self.attempts();
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let mut topics: Vec<MetadataTopic> = open.iter().map(|p| by_name(&p.0)).collect();
            topics.dedup();
            let cluster = match self.metadata(Some(topics), attempts.deadline).await {
                Ok(cluster) => cluster,
                Err(cause) => {
                    pending.fail(&cause);
                    continue;
                }
            };
            let questions = by_leader(&cluster, open, &mut pending);
            let asked = questions.iter().map(|(leader, partitions)| {
                let request = request(partitions, attempts.deadline.request_timeout());
                self.ask_leader(leader, question, request, attempts.deadline)
            });
            for (partitions, answer) in questions.values().zip(all(asked).await) {
                match answer {
                    Ok(answer) => {
                        answers(answer)
                            .into_iter()
                            .for_each(|(partition, told)| pending.answer(&partition, told));
                    }
                    Err(cause) => {
                        for partition in partitions.keys() {
                            pending.answer(partition, Err(cause.clone()));
                        }
                    }
                }
            }
        }
        pending.into_results()
    }

    async fn ask_leader<R>(
        &self,
        leader: &Address,
        question: &Question,
        request: R,
        deadline: Deadline,
    ) -> Result<R::Response, Error>
    where
        R: Request,
        R::Response: Throttle,
    {
        let node = self.nodes.reach(leader, deadline).await?;
        if node.version::<R>()? < question.since {
            let message = format!("broker {}:{} is too old for {}", leader.0, leader.1, question.what);
            return Err(Error::new(ErrorKind::UnsupportedVersion, message));
        }
        node.call(&request).await
    }
}

/// The partitions as requests have them: by topic.
pub(super) fn by_topic<P>(
    partitions: &Led,
    partition: impl Fn(i32, i32) -> P,
) -> impl Iterator<Item = (Str, Vec<P>)> {
    let mut topics = BTreeMap::<&str, Vec<P>>::new();
    for ((topic, index), leader_epoch) in partitions {
        topics.entry(topic).or_default().push(partition(*index, *leader_epoch));
    }
    topics.into_iter().map(|(topic, partitions)| (Str::from(topic), partitions))
}

/// What an answer says, partition by partition.
pub(super) fn told<P, V>(
    topics: impl Iterator<Item = (Str, Vec<P>)>,
    outcome: impl Fn(&P) -> (i32, ErrorCode),
    value: impl Fn(&P) -> V,
) -> Told<V> {
    let mut told = Vec::new();
    for (topic, partitions) in topics {
        for partition in &partitions {
            let (index, code) = outcome(partition);
            let result = checked(code, None, format_args!("topic {topic}, partition {index}"));
            told.push(((topic.to_string(), index), result.map(|()| value(partition))));
        }
    }
    told
}

/// Puts each partition to its leader, with the leader epoch that must hold there (KIP-320). Those without a leader get
/// their error.
fn by_leader<V>(
    cluster: &MetadataResponse,
    open: Vec<Partition>,
    pending: &mut Pending<Partition, V>,
) -> BTreeMap<Address, Led> {
    let mut questions: BTreeMap<Address, Led> = BTreeMap::new();
    for asked in open {
        let (name, index) = &asked;
        let subject = format_args!("topic {name}, partition {index}");
        let unknown = |code| Err(Error::from_code(code, subject));
        let Some(topic) = cluster.topics.iter().find(|topic| name_of(topic) == name) else { continue };
        match topic.error_code {
            ErrorCode::NONE => {}
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                pending.settle(&asked, unknown(topic.error_code));
                continue;
            }
            code => {
                pending.answer(&asked, unknown(code));
                continue;
            }
        }
        let Some(partition) = topic.partitions.iter().find(|p| p.partition_index == *index) else {
            pending.settle(&asked, unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            continue;
        };
        match address_of(&cluster.brokers, partition.leader_id) {
            Some(leader) => {
                questions.entry(leader).or_default().insert(asked, partition.leader_epoch);
            }
            None => pending.answer(&asked, Err(leaderless(name, partition))),
        }
    }
    questions
}

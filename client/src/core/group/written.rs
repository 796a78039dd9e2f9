//! Assignors that users write.
//!
//! It owns the translation to what they see, and the distrust: their panics, and results that cannot be true. Invariant:
//! nothing reaches the members that would give a partition to two of them, or to one who does not read its topic.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla_protocol::wire::Str;

use super::assign::{Member, Shares, Topics};
use crate::config::{PartitionAssignor, Subscriber};
use crate::core::TopicPartition;
use crate::error::{Error, ErrorKind};

pub(super) fn assign_as_written(
    assignor: &dyn PartitionAssignor,
    members: &[Member],
    topics: &Topics,
) -> Result<Shares, Error> {
    let shown: Vec<Subscriber> = members.iter().map(show).collect();
    let count = |(topic, partitions): (&Str, &Vec<_>)| {
        (topic.to_string(), i32::try_from(partitions.len()).unwrap_or(i32::MAX))
    };
    let partitions: BTreeMap<String, i32> = topics.iter().map(count).collect();
    let wrong = |what: String| Error::new(ErrorKind::InvalidArgument, format!("the assignor {what}"));
    let given = catch_unwind(AssertUnwindSafe(|| assignor.assign(&shown, &partitions)))
        .map_err(|_| wrong("panicked".into()))?;
    if given.len() != members.len() {
        return Err(wrong(format!("gave {} shares to {} members", given.len(), members.len())));
    }
    let mut taken = BTreeSet::new();
    let mut shares = Vec::with_capacity(members.len());
    for (share, member) in given.into_iter().zip(members) {
        let mut read = Vec::with_capacity(share.len());
        for (topic, partition) in share {
            let partition = TopicPartition { topic: Str::from(topic), partition };
            let id = &member.id;
            let all = topics.get(&partition.topic).map_or(0, Vec::len);
            if !member.topics.contains(&partition.topic) {
                return Err(wrong(format!("gave {partition} to {id}, who does not read that topic")));
            }
            if usize::try_from(partition.partition).map_or(true, |index| index >= all) {
                return Err(wrong(format!("gave {partition} to {id}, and there is no such partition")));
            }
            if !taken.insert(partition.clone()) {
                return Err(wrong(format!("gave {partition} to {id} and to another share")));
            }
            read.push(partition);
        }
        shares.push(read);
    }
    Ok(shares)
}

fn show(member: &Member) -> Subscriber {
    let named = |partition: &TopicPartition| (partition.topic.to_string(), partition.partition);
    Subscriber {
        id: member.id.to_string(),
        instance_id: member.instance_id.as_deref().map(str::to_owned),
        topics: member.topics.iter().map(|topic| topic.to_string()).collect(),
        owned: member.owned.iter().map(named).collect(),
        generation: member.generation,
        rack: member.rack.as_deref().map(str::to_owned),
        user_data: member.user_data.as_ref().map(|data| data.to_vec()),
    }
}

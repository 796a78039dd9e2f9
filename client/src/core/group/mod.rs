//! Membership of a consumer group: which partitions this consumer may read, and until when.
//!
//! [`Group`] is one member of one group, classic or of KIP-848. It owns the membership and the search for the coordinator; it
//! refuses to know records, positions and commits: whoever reads is told by [`GroupEvent`]s what to take up and what to give
//! up. Invariants: a partition is left to others only after the reader has given it up or has been told that it is lost; a
//! member speaks one protocol all its life.

mod assign;
mod choice;
mod classic;
mod ending;
mod enrolment;
mod leader;
mod membership;
mod modern;
mod range;
#[cfg(test)]
pub(crate) mod scene;
mod sticky;
mod subscription;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;
use std::time::Instant;

use ottla_protocol::messages::SyncGroupAssignment;
use ottla_protocol::wire::Str;

use super::ask::Answer;
use super::cluster::Cluster;
use super::{Link, TopicPartition, Work};
use crate::config::{ClientConfig, ConsumerConfig, GroupProtocol, Source};
use crate::error::Error;
use classic::Classic;
pub(crate) use leader::Sharing;
use modern::Modern;

/// What the reader has to do.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// Finish with these, commit, and say [`Group::given_up`]: the group waits for it.
    Revoke(Vec<TopicPartition>),
    /// These are added to what it has.
    Assign(Vec<TopicPartition>),
    /// These may be somebody else's already: deliver nothing more of them, commit nothing. Answers an open `Revoke` too.
    Lost(Vec<TopicPartition>),
    /// The group is joined as a classic one although another protocol was preferred.
    FellBack {
        reason: String,
        /// The cluster has the other protocol.
        had_a_choice: bool,
    },
    /// The coordinator refuses something, and may not do so later: the membership goes on.
    Refused(Error),
    /// The membership is over for good.
    Failed(Error),
}

/// On behalf of which member of which group offsets are committed. One that is out of date is refused, so that no other
/// one's work is done twice (KIP-447).
///
/// ```
/// // A group that nobody is a member of: offsets are kept there, and partitions are assigned by hand.
/// let alone = ottla::GroupMetadata::of_no_member("billing");
/// # let _ = alone;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    pub(crate) group: Str,
    /// Empty for a consumer that names its partitions itself.
    pub(crate) member_id: Str,
    /// Or the epoch of a member of KIP-848; -1 for a consumer that names its partitions itself.
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<Str>,
}

impl GroupMetadata {
    /// The offsets of a group without saying on behalf of which member. Nothing fences a second reader then.
    pub fn of_no_member(group: &str) -> Self {
        Self { group: Str::from(group), member_id: Str::default(), generation: -1, instance_id: None }
    }
}

/// What a member that is closed says to its group (KIP-1092).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Parting {
    /// A dynamic member leaves, a static one keeps its place.
    #[default]
    ByKind,
    Leave,
    Remain,
}

impl Parting {
    fn leaves(self, is_static: bool) -> bool {
        match self {
            Parting::ByKind => !is_static,
            Parting::Leave => true,
            Parting::Remain => false,
        }
    }
}

/// One member of one group.
#[derive(Debug)]
pub(crate) enum Group {
    Classic(Box<Classic>),
    Modern(Box<Modern>),
}

/// The same of either.
macro_rules! either {
    ($group:expr, $member:ident => $said:expr) => {
        match $group {
            Group::Classic($member) => $said,
            Group::Modern($member) => $said,
        }
    };
}

// What the reader asks for.
impl Group {
    pub(crate) fn new(config: Arc<ConsumerConfig>, client: Arc<ClientConfig>, now: Instant) -> Self {
        let is_member = matches!(config.source, Source::Topics(_) | Source::Matching { shared: true, .. });
        if is_member && config.group_protocol != GroupProtocol::Classic {
            Group::Modern(Box::new(Modern::new(config, client, now)))
        } else {
            Group::Classic(Box::new(Classic::new(config, client, now)))
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        either!(self, member => member.poll_event())
    }

    /// The reader has finished with what `Revoke` named: its last commit is done, or will never be.
    pub(crate) fn given_up(&mut self, now: Instant) {
        either!(self, member => member.given_up(now));
    }

    /// These topics match the pattern now.
    pub(crate) fn subscribe(&mut self, now: Instant, topics: Vec<Str>) {
        either!(self, member => member.subscribe(now, topics));
    }

    /// The application asked for the next record, or waits for one: `max.poll.interval.ms` starts anew.
    pub(crate) fn polled(&mut self, now: Instant) {
        either!(self, member => member.polled(now));
    }

    /// Ends the membership, without waiting for anybody: what is owned counts as given up. A static member that remains keeps
    /// its place until its session times out, so that its next start moves no partitions (KIP-345).
    pub(crate) fn leave(&mut self, now: Instant, parting: Parting) {
        either!(self, member => member.leave(now, parting));
    }

    /// Whether there is nothing more to tell the coordinator.
    pub(crate) fn has_left(&self) -> bool {
        either!(self, member => member.has_left())
    }

    /// Who commits now. `None` while the group is between two generations, and when we belong to none.
    pub(crate) fn identity(&self) -> Option<GroupMetadata> {
        either!(self, member => member.identity())
    }

    /// Who looks committed offsets up, where the coordinator wants to know (KIP-848): the member's id and epoch.
    pub(crate) fn reader(&self) -> Option<(Str, i32)> {
        match self {
            Group::Classic(_) => None,
            Group::Modern(member) => member.identity().map(|it| (it.member_id, it.generation)),
        }
    }

    /// When the member will leave by itself, unless the application asks for records before.
    pub(crate) fn evicts_at(&self) -> Option<Instant> {
        either!(self, member => member.evicts_at())
    }

    /// Whether the member has left because the application asks for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        either!(self, member => member.is_idle())
    }

    /// Whether the membership is over for good, because of an error or because we left.
    pub(crate) fn is_over(&self) -> bool {
        either!(self, member => member.is_over())
    }

    /// The error that ended the membership.
    pub(crate) fn failure(&self) -> Option<&Error> {
        either!(self, member => member.failure())
    }

    /// The group's name.
    pub(crate) fn id(&self) -> &Str {
        either!(self, member => member.id())
    }

    pub(crate) fn coordinator(&self) -> Option<i32> {
        either!(self, member => member.coordinator.node())
    }

    /// There is something to send to the coordinator, so it must be found.
    pub(crate) fn need_coordinator(&mut self, now: Instant, cluster: &mut Cluster) {
        either!(self, member => member.coordinator.need(now, cluster));
    }

    /// Another answer said that this node does not coordinate the group.
    pub(crate) fn coordinator_failed(&mut self, now: Instant, node: i32, cluster: &mut Cluster) {
        either!(self, member => member.coordinator_failed(now, node, cluster));
    }

    /// Another answer doubts our membership: let the next heartbeat tell.
    pub(crate) fn doubt(&mut self, now: Instant) {
        either!(self, member => member.doubt(now));
    }
}

// What the links ask, and what comes back.
impl Group {
    /// For an open link that may be written to: whether [`Group::poll_work`] would give something.
    pub(crate) fn wants(&self, now: Instant, link: Link) -> bool {
        self.ready_at(link).is_some_and(|at| at <= now)
    }

    /// From when on the link is wanted, if nothing else happens.
    pub(crate) fn ready_at(&self, link: Link) -> Option<Instant> {
        either!(self, member => member.ready_at(link))
    }

    pub(crate) fn poll_work(&mut self, now: Instant, link: Link, cluster: &mut Cluster) -> Option<Work> {
        either!(self, member => member.poll_work(now, link, cluster))
    }

    /// Takes an answer in, if it answers one of this machine's requests.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        link: Link,
        answer: &Answer,
        cluster: &mut Cluster,
    ) -> bool {
        if let Answer::FindCoordinator(response) = answer {
            if let Err(error) =
                either!(self, member => member.coordinator.answered(now, link, response, cluster))
            {
                either!(self, member => member.fail(error));
            }
            return true;
        }
        either!(self, member => member.handle(now, link, answer, cluster))
    }

    /// The partitions are shared out by this member, unless the group has gone on meanwhile.
    pub(crate) fn shared(
        &mut self,
        now: Instant,
        generation: i32,
        shares: Result<Vec<SyncGroupAssignment>, Error>,
    ) {
        if let Group::Classic(member) = self {
            member.shared(now, generation, shares);
        }
    }

    /// What was out on the link is unanswered.
    pub(crate) fn lost(&mut self, now: Instant, link: Link, cluster: &mut Cluster) {
        either!(self, member => member.lost(now, link, cluster));
    }
}

// Time.
impl Group {
    /// The end of the session as judged here, `max.poll.interval.ms`, and a leader's patience.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        either!(self, member => member.deadline())
    }

    pub(crate) fn tick(&mut self, now: Instant, cluster: &mut Cluster) {
        either!(self, member => member.tick(now, cluster));
    }

    /// Goes on as far as it can: wants the links that it needs, and looks at the metadata if there is news. To be called after
    /// whatever may have changed something.
    pub(crate) fn step(&mut self, now: Instant, cluster: &mut Cluster) {
        either!(self, member => member.step(now, cluster));
        if let Group::Modern(member) = self
            && let Some((reason, had_a_choice)) = member.gives_way()
        {
            let mut classic = member.as_classic(now);
            classic.events.push_back(GroupEvent::FellBack { reason, had_a_choice });
            classic.step(now, cluster);
            *self = Group::Classic(Box::new(classic));
        }
    }
}

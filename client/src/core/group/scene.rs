//! What the tests of group and offsets play in: a cluster of two brokers whose answers are made by hand, and no real time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::api::{Request as Api, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};

use super::{Group, GroupEvent, leader};
use crate::config::{Assignor, ClientConfig, ConsumerConfig, GroupProtocol, Source};
use crate::core::cluster::Cluster;
use crate::core::offsets::Offsets;
use crate::core::{Answer, Ask, Input, Lane, Link, TopicPartition, Work};
use crate::error::{Error, ErrorKind};

pub(crate) const GROUP_1: Link = Link { node: 1, lane: Lane::Group };
pub(crate) const CONTROL_1: Link = Link { node: 1, lane: Lane::Control };
pub(crate) const GROUP_2: Link = Link { node: 2, lane: Lane::Group };
pub(crate) const CONTROL_2: Link = Link { node: 2, lane: Lane::Control };

pub(crate) struct Scene {
    pub(crate) now: Instant,
    pub(crate) cluster: Cluster,
    pub(crate) group: Group,
    pub(crate) offsets: Offsets,
    /// The level of that feature.
    pub(crate) group_version: i16,
}

impl Scene {
    /// A consumer of topic t, which has four partitions; node 1 and node 2 are there.
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        let now = Instant::now();
        let client = ClientConfig { bootstrap: vec![("seed".into(), 9092)], ..ClientConfig::default() };
        let (client, config) = (Arc::new(client), Arc::new(config));
        let mut cluster = Cluster::new(client.clone(), 1, now);
        cluster.metadata.want(now, &"t".into());
        let group = Group::new(config.clone(), client.clone(), now);
        let mut scene = Self { now, cluster, group, offsets: Offsets::new(config, client), group_version: 1 };
        scene.show_partitions(4);
        scene
    }

    /// Metadata says that topic t has this many partitions.
    pub(crate) fn show_partitions(&mut self, count: i32) {
        self.show_topic(Uuid(7), count);
    }

    /// Metadata says that topic t is this one, and has this many partitions.
    pub(crate) fn show_topic(&mut self, topic_id: Uuid, count: i32) {
        let node = |node_id| Broker {
            node_id,
            host: "broker".into(),
            port: 9000 + node_id,
            rack: Some(format!("rack-{node_id}").into()),
        };
        let partition = |partition_index| PartitionMetadata {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1 + partition_index % 2],
            ..Default::default()
        };
        let topic = TopicMetadata {
            name: Some("t".into()),
            topic_id,
            partitions: (0..count).map(partition).collect(),
            ..Default::default()
        };
        let response =
            MetadataResponse { brokers: vec![node(1), node(2)], topics: vec![topic], ..Default::default() };
        self.cluster.answered(self.now, CONTROL_1, &response);
        self.step();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now, &mut self.cluster);
        self.offsets.tick(self.now, &self.group, &mut self.cluster);
        self.step();
    }

    pub(crate) fn step(&mut self) {
        self.group.step(self.now, &mut self.cluster);
        self.offsets.step(self.now, &mut self.group, &mut self.cluster);
    }

    /// Opens every link that is wanted.
    fn dial(&mut self) {
        self.step();
        while let Some(dial) = self.cluster.poll_dial(self.now) {
            let versions = every_version().with_feature("group.version".into(), self.group_version);
            self.cluster.opened(dial.link, versions);
            self.step();
        }
    }

    /// The next request on a link, if there is one now. Work must come if and only if it is wanted.
    pub(crate) fn next(&mut self, link: Link) -> Option<Ask> {
        self.dial();
        if !self.cluster.is_writable(self.now, link) {
            return None;
        }
        let by_group = self.group.wants(self.now, link);
        let by_offsets = self.offsets.wants(self.now, link, &self.group);
        let work = self.group.poll_work(self.now, link, &mut self.cluster);
        assert_eq!(work.is_some(), by_group, "what the group wants on {link:?}");
        let work = work.or_else(|| {
            let work = self.offsets.poll_work(self.now, link, &self.group, &mut self.cluster);
            assert_eq!(work.is_some(), by_offsets, "what the offsets want on {link:?}");
            work
        });
        match work? {
            Work::Request(request) => Some(request.ask),
            Work::Share(sharing) => {
                let Input::Shared { generation, shares } = sharing.finish() else { panic!("no shares") };
                self.group.shared(self.now, generation, shares);
                self.next(link)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn answer(&mut self, link: Link, answer: Answer) {
        let taken = self.group.handle(self.now, link, &answer, &mut self.cluster)
            || self.offsets.handle(self.now, link, &answer, &mut self.group, &mut self.cluster);
        assert!(taken);
        self.step();
    }

    pub(crate) fn lose(&mut self, link: Link) {
        let cause = Error::new(ErrorKind::Connect, "connection reset");
        self.cluster.lost(self.now, link, &cause);
        self.group.lost(self.now, link, &mut self.cluster);
        self.offsets.lost(self.now, link, &mut self.cluster);
        self.step();
    }

    pub(crate) fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.group.poll_event() {
            events.push(match event {
                GroupEvent::Assign(partitions) => format!("assign {}", list(&partitions)),
                GroupEvent::Revoke(partitions) => format!("revoke {}", list(&partitions)),
                GroupEvent::Lost(partitions) => format!("lost {}", list(&partitions)),
                GroupEvent::FellBack { reason, .. } => format!("classic: {reason}"),
                GroupEvent::Refused(error) => format!("refused {:?}", error.kind()),
                GroupEvent::Failed(error) => format!("failed {:?}", error.kind()),
            });
        }
        events
    }

    /// Answers the question for the coordinator, on whatever link it is asked.
    pub(crate) fn find_coordinator(&mut self, node: i32) {
        self.dial();
        let seed = Link { node: i32::MIN, lane: Lane::Control };
        let links = [CONTROL_1, CONTROL_2, seed];
        let asked = links.into_iter().find(|link| matches!(self.next(*link), Some(Ask::FindCoordinator(_))));
        self.answer(asked.expect("the coordinator is looked for"), found_coordinator(node));
    }

    pub(crate) fn expect_join(&mut self, link: Link) -> JoinGroupRequest {
        match self.next(link) {
            Some(Ask::JoinGroup(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn expect_heartbeat(&mut self, link: Link) -> HeartbeatRequest {
        match self.next(link) {
            Some(Ask::Heartbeat(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// The next heartbeat of a member of KIP-848.
    pub(crate) fn expect_report(&mut self, link: Link) -> ConsumerGroupHeartbeatRequest {
        match self.next(link) {
            Some(Ask::ConsumerGroupHeartbeat(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Joins by KIP-848, with node 1 as the coordinator, and is given this share of topic t.
    pub(crate) fn enrol(&mut self, epoch: i32, share: &[i32]) {
        self.find_coordinator(1);
        assert_eq!(self.expect_report(GROUP_1).member_epoch, 0);
        self.answer(GROUP_1, assigned(epoch, &[(Uuid(7), share)]));
        assert_eq!(self.events(), [format!("assign {}", list(&partitions(share)))]);
        assert_eq!(reported(&self.expect_report(GROUP_1)).as_deref(), Some(share));
        self.answer(GROUP_1, kept(epoch));
    }

    /// Follows a rebalance to its end as a member that another one leads: JoinGroup, SyncGroup, this share.
    pub(crate) fn follow(&mut self, link: Link, generation: i32, share: &[i32]) {
        self.expect_join(link);
        self.answer(link, joined(generation, "other"));
        let Some(Ask::SyncGroup(request)) = self.next(link) else { panic!("no SyncGroup") };
        assert_eq!((request.generation_id, request.assignments.len()), (generation, 0));
        self.answer(link, synced(share));
    }

    /// As [`Scene::follow`], from the beginning, with node 1 as the coordinator.
    pub(crate) fn become_member(&mut self, generation: i32, share: &[i32]) {
        self.find_coordinator(1);
        self.follow(GROUP_1, generation, share);
        assert_eq!(self.events(), [format!("assign {}", list(&partitions(share)))]);
    }
}

pub(crate) fn cooperative() -> ConsumerConfig {
    ConsumerConfig {
        group_protocol: GroupProtocol::Classic,
        group_id: Some("g".into()),
        source: Source::Topics(vec!["t".into()]),
        ..ConsumerConfig::default()
    }
}

pub(crate) fn eager() -> ConsumerConfig {
    ConsumerConfig { assignors: vec![Assignor::CooperativeSticky, Assignor::Range], ..cooperative() }
}

/// A member of KIP-848.
pub(crate) fn modern() -> ConsumerConfig {
    ConsumerConfig { group_protocol: GroupProtocol::Consumer, ..cooperative() }
}

pub(crate) fn by_hand() -> ConsumerConfig {
    ConsumerConfig { source: Source::Partitions(vec![("t".into(), 0)]), ..cooperative() }
}

pub(crate) fn partitions(of_t: &[i32]) -> Vec<TopicPartition> {
    of_t.iter().map(|partition| TopicPartition { topic: "t".into(), partition: *partition }).collect()
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|p| p.partition.to_string()).collect::<Vec<_>>().join(" ")
}

fn every_version() -> Versions {
    fn of<R: Api>() -> (ottla_protocol::api::ApiKey, (i16, i16)) {
        (R::KEY, (*R::VERSIONS.start(), *R::VERSIONS.end()))
    }
    let groups = [
        of::<JoinGroupRequest>(),
        of::<SyncGroupRequest>(),
        of::<HeartbeatRequest>(),
        of::<LeaveGroupRequest>(),
        of::<DescribeGroupsRequest>(),
        of::<ConsumerGroupHeartbeatRequest>(),
    ];
    let rest = [of::<FindCoordinatorRequest>(), of::<OffsetCommitRequest>(), of::<OffsetFetchRequest>()];
    groups.into_iter().chain(rest).collect()
}

pub(crate) fn found_coordinator(node_id: i32) -> Answer {
    let coordinator = Coordinator {
        key: "g".into(),
        node_id,
        host: "broker".into(),
        port: 9000 + node_id,
        ..Default::default()
    };
    Answer::FindCoordinator(FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() })
}

/// Joined as member "me".
pub(crate) fn joined(generation_id: i32, leader: &str) -> Answer {
    Answer::JoinGroup(JoinGroupResponse {
        generation_id,
        protocol_name: Some("cooperative-sticky".into()),
        leader: leader.into(),
        member_id: "me".into(),
        ..Default::default()
    })
}

pub(crate) fn join_refused(error_code: ErrorCode, member_id: &str) -> Answer {
    Answer::JoinGroup(JoinGroupResponse { error_code, member_id: member_id.into(), ..Default::default() })
}

pub(crate) fn synced(share: &[i32]) -> Answer {
    let partitions = ConsumerProtocolPartitions { topic: "t".into(), partitions: share.to_vec() };
    let share = ConsumerProtocolAssignment { assigned_partitions: vec![partitions], user_data: None };
    let assignment = share.to_bytes(ConsumerProtocolAssignment::LATEST).unwrap();
    Answer::SyncGroup(SyncGroupResponse { assignment, ..Default::default() })
}

pub(crate) fn beaten(error_code: ErrorCode) -> Answer {
    Answer::Heartbeat(HeartbeatResponse { error_code, ..Default::default() })
}

/// A heartbeat of KIP-848 is answered: this is the share.
pub(crate) fn assigned(member_epoch: i32, share: &[(Uuid, &[i32])]) -> Answer {
    let topic = |(topic_id, partitions): &(Uuid, &[i32])| GroupTopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.to_vec(),
    };
    let assignment = Some(GroupAssignment { topic_partitions: share.iter().map(topic).collect() });
    report_answered(ConsumerGroupHeartbeatResponse { member_epoch, assignment, ..Default::default() })
}

/// A heartbeat of KIP-848 is answered: the share is as it was.
pub(crate) fn kept(member_epoch: i32) -> Answer {
    report_answered(ConsumerGroupHeartbeatResponse { member_epoch, ..Default::default() })
}

pub(crate) fn report_refused(error_code: ErrorCode) -> Answer {
    report_answered(ConsumerGroupHeartbeatResponse { error_code, ..Default::default() })
}

fn report_answered(response: ConsumerGroupHeartbeatResponse) -> Answer {
    let heartbeat_interval_ms = 5000;
    Answer::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse { heartbeat_interval_ms, ..response })
}

/// The partitions that a heartbeat of KIP-848 says its sender has, if it says so.
pub(crate) fn reported(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let topics = request.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

/// What another member of the group says of itself.
pub(crate) fn member(id: &str, topics: &[&str], owned: &[i32], generation: i32) -> JoinGroupMember {
    let topics: Vec<Str> = topics.iter().map(|topic| Str::from(*topic)).collect();
    let owned = partitions(owned);
    let said =
        leader::Said { topics: &topics, owned: owned.iter().collect(), generation, ..Default::default() };
    let metadata = said.to_bytes().unwrap();
    JoinGroupMember { member_id: id.into(), group_instance_id: None, metadata }
}

/// What a JoinGroup says of the partitions that its sender has.
pub(crate) fn owned_in(request: &JoinGroupRequest) -> (Vec<i32>, i32) {
    let said = ConsumerProtocolSubscription::from_bytes(request.protocols[0].metadata.clone()).unwrap();
    let owned = said.owned_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
    (owned, said.generation_id)
}

/// The share that a leader wrote for a member.
pub(crate) fn share_of(request: &SyncGroupRequest, member: &str) -> String {
    let share = request.assignments.iter().find(|share| share.member_id == member);
    list(&leader::read_share(share.map_or(Bytes::new(), |share| share.assignment.clone())).unwrap())
}

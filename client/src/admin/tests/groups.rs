//! Groups as their coordinators see them. Their members are plain requests, so that no consumer of ours takes part.
//! Each test makes the groups that it needs.

use ottla_broker::Fault;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription, JoinGroupProtocol,
    JoinGroupRequest, SyncGroupAssignment, SyncGroupRequest,
};
use ottla_protocol::wire::Str;

use super::*;

/// Makes a group of one static member, which gets partitions 0 and 2 of topic `t`. Returns the member's id.
async fn join(cluster: &Cluster, group: &str, protocol_type: &str) -> String {
    let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
    let protocol = JoinGroupProtocol { name: "range".into(), metadata: subscription.to_bytes(1).unwrap() };
    let join = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        group_instance_id: Some("first".into()),
        protocol_type: protocol_type.into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let coordinator = cluster.broker.coordinator(group).unwrap();
    let joined = cluster.ask(coordinator, join).await;
    assert!(joined.error_code.is_ok(), "{joined:?}");
    let partitions = ConsumerProtocolPartitions { topic: "t".into(), partitions: vec![0, 2] };
    let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![partitions], user_data: None };
    let share = SyncGroupAssignment {
        member_id: joined.member_id.clone(),
        assignment: assignment.to_bytes(1).unwrap(),
    };
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: Some("first".into()),
        protocol_type: Some(protocol_type.into()),
        protocol_name: Some(Str::from("range")),
        assignments: vec![share],
    };
    let synced = cluster.ask(coordinator, sync).await;
    assert!(synced.error_code.is_ok(), "{synced:?}");
    joined.member_id.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_with_its_members_and_their_partitions() {
    let cluster = Cluster::new(3);
    let member_id = join(&cluster, "billing", "consumer").await;
    for version in [6, 5, 0] {
        cluster.cap(ApiKey::DESCRIBE_GROUPS, version);
        let described = cluster.admin().describe_groups(["billing"]).await.take("billing").unwrap();
        assert_eq!((described.state.as_str(), described.protocol_type.as_str()), ("Stable", "consumer"));
        assert_eq!(described.assignor.as_deref(), Some("range"));
        assert_eq!(Some(described.coordinator), cluster.broker.coordinator("billing"));
        let [member] = &described.members[..] else { panic!("{:?}", described.members) };
        assert_eq!(member.member_id, member_id);
        assert_eq!(member.instance_id.as_deref(), (version >= 4).then_some("first"));
        assert_eq!(member.assignment, Some(vec![("t".to_owned(), 0), ("t".to_owned(), 2)]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_assignment_of_another_kind_is_not_read() {
    let cluster = Cluster::new(1);
    join(&cluster, "workers", "connect").await;
    let described = cluster.admin().describe_groups(["workers"]).await.take("workers").unwrap();
    assert_eq!(described.members[0].assignment, None);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_does_not_exist_fails_alone_whatever_the_version() {
    let cluster = Cluster::new(3);
    join(&cluster, "billing", "consumer").await;
    for version in [6, 5] {
        cluster.cap(ApiKey::DESCRIBE_GROUPS, version);
        let mut described = cluster.admin().describe_groups(["billing", "nobody"]).await;
        assert!(described.take("billing").is_ok());
        let error = described.take("nobody").unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND), "{error}");
        assert!(error.to_string().starts_with("group nobody: "), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_groups_of_all_brokers_are_listed_in_order() {
    let cluster = Cluster::new(3);
    let names: Vec<String> = (0..9).map(|n| format!("group-{n}")).collect();
    let mut coordinators = Vec::new();
    for name in &names {
        join(&cluster, name, "consumer").await;
        coordinators.extend(cluster.broker.coordinator(name));
    }
    coordinators.sort_unstable();
    coordinators.dedup();
    assert_eq!(coordinators.len(), 3, "the scenario needs a group on each node");
    let listed = cluster.admin().list_groups().await.unwrap();
    assert_eq!(listed.iter().map(|group| &group.group).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    let state = |group: &super::super::GroupListing| (group.state.clone(), group.group_type.clone());
    assert_eq!(state(&listed[0]), (Some("Stable".to_owned()), Some("classic".to_owned())));
    cluster.cap(ApiKey::LIST_GROUPS, 3);
    assert_eq!(state(&cluster.admin().list_groups().await.unwrap()[0]), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_whole_is_no_list() {
    let cluster = Cluster::new(3);
    let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let fault = cluster.broker.fault(Fault::on(ApiKey::LIST_GROUPS).node(2).times(2).fail(loading));
    cluster.admin().list_groups().await.unwrap();
    assert_eq!(cluster.broker.fired(fault), 2);
    cluster.broker.fault(Fault::on(ApiKey::LIST_GROUPS).node(2).always().fail(loading));
    let failed = cluster.admin().with_deadline(5 * SECOND).list_groups().await;
    check_error(failed, ErrorKind::Broker, &["not done within 5s", "node-2:9092"]);
}

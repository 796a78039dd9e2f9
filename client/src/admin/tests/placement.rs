//! Elections and reassignments.

use super::*;
use crate::Election;
use ottla_protocol::error_code::ErrorCode;

async fn leader(cluster: &Cluster) -> (Option<i32>, Vec<i32>) {
    let topic = cluster.client("node-2:9092").admin().describe_topics(["t"]).await.take("t").unwrap();
    (topic.partitions[0].leader, topic.partitions[0].replicas.clone())
}

#[tokio::test(start_paused = true)]
async fn the_preferred_replica_leads_again_when_it_is_told_to() {
    let cluster = Cluster::new(3);
    cluster.with_topic("t", 2).await;
    let admin = cluster.client("node-2:9092").admin();
    cluster.broker.stop_node(1);
    let elect = || admin.elect_leaders(Election::Preferred, [("t", 0), ("t", 1), ("u", 0)]);
    let mut refused = elect().await;
    assert!(!refused.take(&("t".to_string(), 1)).unwrap());
    let gone = refused.take(&("t".to_string(), 0)).unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE));
    let unknown = refused.take(&("u".to_string(), 0)).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownTopic);
    cluster.broker.start_node(1);
    assert_eq!(leader(&cluster).await.0, Some(2));
    assert!(elect().await.take(&("t".to_string(), 0)).unwrap());
    assert_eq!(leader(&cluster).await.0, Some(1));
    cluster.broker.move_leader("t", 1, 3).unwrap();
    let all = admin.elect_all_leaders(Election::Preferred).await.unwrap().all().unwrap();
    assert_eq!(all, BTreeMap::from([(("t".to_string(), 1), true)]), "the others were led as preferred");
}

#[tokio::test(start_paused = true)]
async fn an_unclean_election_is_for_partitions_that_nobody_leads() {
    let cluster = Cluster::new(2);
    cluster.with_topic("t", 1).await;
    cluster.broker.stop_node(2);
    cluster.broker.stop_node(1);
    cluster.broker.start_node(2);
    let admin = cluster.client("node-2:9092").admin();
    let elect = || admin.elect_leaders(Election::Unclean, [("t", 0)]);
    assert_eq!(cluster.broker.leader("t", 0).unwrap().node, None);
    assert!(elect().await.take(&("t".to_string(), 0)).unwrap());
    assert_eq!(cluster.broker.leader("t", 0).unwrap().node, Some(2));
    assert!(!elect().await.take(&("t".to_string(), 0)).unwrap());
    cluster.cap(ApiKey::ELECT_LEADERS, 0);
    let admin = cluster.client("node-2:9092").admin();
    let old = admin.elect_leaders(Election::Unclean, [("t", 0)]).await.take(&("t".to_string(), 0));
    assert_eq!(old.unwrap_err().kind(), ErrorKind::UnsupportedVersion);
}

#[tokio::test(start_paused = true)]
async fn a_partition_moves_when_those_that_come_have_all_of_it() {
    let cluster = Cluster::built(Broker::builder().nodes(3).setting("default.replication.factor", "1"));
    cluster.with_topic("t", 1).await;
    let admin = cluster.admin();
    cluster.broker.hold_replicas(3, true);
    let to = |nodes: Option<Vec<i32>>| admin.alter_reassignments([("t", 0, nodes)]);
    to(Some(vec![3, 2])).await.all().unwrap();
    let moving = admin.list_reassignments().await.unwrap().remove(&("t".to_string(), 0)).unwrap();
    assert_eq!((moving.replicas, moving.adding, moving.removing), (vec![3, 2, 1], vec![3, 2], vec![1]));
    to(None).await.all().unwrap();
    assert_eq!(leader(&cluster).await, (Some(1), vec![1]));
    let none = to(None).await.take(&("t".to_string(), 0)).unwrap_err();
    assert_eq!(none.code(), Some(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS));
    to(Some(vec![3, 2])).await.all().unwrap();
    cluster.broker.hold_replicas(3, false);
    assert_eq!(leader(&cluster).await, (Some(3), vec![3, 2]));
    assert_eq!(admin.list_reassignments().await.unwrap(), BTreeMap::new());
    for wrong in [vec![], vec![1, 1], vec![9]] {
        let refused = to(Some(wrong)).await.take(&("t".to_string(), 0)).unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
    }
}

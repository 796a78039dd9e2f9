//! The level of `transaction.version` changes while the producer is alive.

use std::collections::BTreeSet;

use ottla_protocol::api::ApiKey;

use crate::scene::*;

/// Fault 33: a transaction ends under the version under which it began, and the next one begins under the new.
#[tokio::test]
async fn the_version_of_transactions_changes_only_between_two_of_them() {
    let (broker, client) = cluster(1).await;
    let mut producer = producer(&client);
    let registered = || requests(&broker, ApiKey::ADD_PARTITIONS_TO_TXN);
    let mut expected = Vec::new();
    let (mut level, mut used) = (1, BTreeSet::new());
    for round in 0..6 {
        let value = round.to_string();
        let transaction = producer.begin().await.unwrap();
        let (before, epoch) = (registered(), broker.transaction(ID).unwrap().epoch);
        send_to(&transaction, 0, &value).await.unwrap();
        let other = 3 - level;
        broker.set_transaction_version(other).unwrap();
        // Whoever connects now is told of the new level.
        broker.move_transaction_coordinator(ID, 1 + round % 3).unwrap();
        send_to(&transaction, 1, &value).await.unwrap();
        send_offset(&transaction, i64::from(round) + 1).await.unwrap();
        transaction.commit().await.unwrap();
        expected.push(value);
        let sorted = |mut values: Vec<String>| {
            values.sort();
            values.dedup();
            values
        };
        assert_eq!(sorted(seen(&broker).await), expected, "round {round}");
        assert_eq!(offset(&broker), Some(i64::from(round) + 1));
        let registrations = registered() - before;
        let bumped = broker.transaction(ID).unwrap().epoch != epoch;
        // A connection that is still open may know of the level before.
        match (registrations, bumped) {
            // One of them may have asked the coordinator of before.
            (2.., false) => used.insert(1),
            (0, true) => used.insert(2),
            _ => panic!("round {round}: {registrations} registrations, another epoch: {bumped}"),
        };
        level = other;
    }
    assert_eq!(used.len(), 2, "both versions are used");
}

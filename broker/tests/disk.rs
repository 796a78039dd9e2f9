//! A broker on a directory: what the next one finds there, and what it does with what is broken.
#![allow(clippy::unwrap_used)]

mod wire;

use ottla_broker::{Broker, Builder, StartError};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::*;
use ottla_protocol::wire::{Str, Uuid};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use wire::*;

const NONE: ErrorCode = ErrorCode::NONE;

/// A directory of its own, gone when the test ends.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Self {
        let home = std::env::temp_dir().join(format!("ottla-broker-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        Self(home)
    }

    fn builder(&self) -> Builder {
        Broker::builder().topic("t", 1).setting("log.retention.ms", "-1").data(&self.0)
    }

    /// Starts a broker. The one before must be gone, with its tasks.
    async fn start(&self) -> (Broker, Wire) {
        for _ in 0..100 {
            match self.builder().build() {
                Err(StartError::Data { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
                    tokio::task::yield_now().await;
                }
                built => {
                    let broker = built.unwrap();
                    broker.coordinator("g");
                    broker.transaction_coordinator("x");
                    let wire = Wire::connect(&broker, 1);
                    return (broker, wire);
                }
            }
        }
        panic!("the broker before has not let its directory go");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn values_of(broker: &Broker) -> Vec<String> {
    let records = broker.log("t", 0).unwrap().into_iter();
    records.map(|it| String::from_utf8(it.value.unwrap().to_vec()).unwrap()).collect()
}

async fn commit(wire: &mut Wire, offset: i64) {
    let partition = OffsetCommitPartition { committed_offset: offset, ..OffsetCommitPartition::default() };
    let topic = OffsetCommitTopic { name: Str::from("t"), topic_id: Uuid::ZERO, partitions: vec![partition] };
    let request = OffsetCommitRequest {
        group_id: Str::from("g"),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let answer = wire.call(8, request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, NONE);
}

fn committed(broker: &Broker) -> Option<i64> {
    broker.committed("g").get(&("t".to_string(), 0)).copied()
}

#[tokio::test(start_paused = true)]
async fn the_next_broker_finds_records_sequences_and_offsets_and_gives_no_id_twice() {
    let home = Home::new("next");
    let (broker, mut wire) = home.start().await;
    let idempotent = || InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let id = wire.call(4, idempotent()).await.producer_id;
    let topic_id = broker.topic_id("t");
    append(&mut wire, "t", 0, numbered(&["a", "b"], id, 0, 0)).await;
    append(&mut wire, "t", 0, numbered(&["c"], id, 0, 2)).await;
    commit(&mut wire, 2).await;
    let epoch = broker.leader("t", 0).unwrap().epoch;
    drop(wire);
    broker.stop();
    drop(broker);

    let (broker, mut wire) = home.start().await;
    assert_eq!(values_of(&broker), ["a", "b", "c"]);
    assert_eq!((broker.topic_id("t"), committed(&broker)), (topic_id, Some(2)));
    assert!(broker.leader("t", 0).unwrap().epoch > epoch, "what comes is not taken for older");
    let again = append(&mut wire, "t", 0, numbered(&["c"], id, 0, 2)).await;
    assert_eq!((again.error_code, again.base_offset), (NONE, 2), "a batch that came before");
    let gap = append(&mut wire, "t", 0, numbered(&["e"], id, 0, 4)).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let next = append(&mut wire, "t", 0, numbered(&["d"], id, 0, 3)).await;
    assert_eq!((next.error_code, next.base_offset), (NONE, 3));
    let other = wire.call(4, idempotent()).await.producer_id;
    assert!(other > id, "{other} is not {id}");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_goes_on_where_it_was_and_pending_offsets_count_when_it_commits() {
    let home = Home::new("transaction");
    let (broker, mut wire) = home.start().await;
    let txn = Txn::new(&mut wire, "x").await;
    assert_eq!(only(wire.call(12, txn.produce("t", 0, &["a"], 0)).await).error_code, NONE);
    assert_eq!(offset_committed(wire.call(5, txn.commit_offset("g", "t", 0, 7)).await), NONE);
    drop(wire);
    broker.stop();
    drop(broker);

    let (broker, mut wire) = home.start().await;
    assert_eq!(broker.transaction("x").unwrap().state, "Ongoing");
    assert_eq!((broker.last_stable_offset("t", 0), committed(&broker)), (Some(0), None));
    assert_eq!(only(wire.call(12, txn.produce("t", 0, &["b"], 1)).await).error_code, NONE);
    let ended = wire.call(5, txn.end(true)).await;
    assert_eq!(ended.error_code, NONE);
    assert_eq!(committed(&broker), Some(7));
    drop(wire);
    broker.stop();
    drop(broker);

    let (broker, mut wire) = home.start().await;
    assert_eq!(broker.transaction("x").unwrap().state, "CompleteCommit");
    assert_eq!(broker.committed_log("t", 0).unwrap().len(), 2);
    assert_eq!((broker.last_stable_offset("t", 0), committed(&broker)), (Some(3), Some(7)));
    let again = wire.call(5, txn.end(true)).await;
    assert_eq!(
        (again.error_code, again.producer_epoch),
        (NONE, ended.producer_epoch),
        "a retry is told the same"
    );
}

fn segment(home: &Home) -> PathBuf {
    home.0.join("t-0").join("00000000000000000000.log")
}

/// Appends two batches, breaks the file, and says what the next broker finds.
async fn check_broken(test: &str, destroy: impl FnOnce(&Path), expected: &[&str]) {
    let home = Home::new(test);
    let (broker, mut wire) = home.start().await;
    append(&mut wire, "t", 0, plain(&["a", "b"])).await;
    append(&mut wire, "t", 0, plain(&["c"])).await;
    drop(wire);
    broker.stop();
    drop(broker);
    destroy(&segment(&home));
    let (broker, mut wire) = home.start().await;
    assert_eq!(values_of(&broker), expected, "{test}");
    let next = append(&mut wire, "t", 0, plain(&["next"])).await;
    assert_eq!(next.base_offset, i64::try_from(expected.len()).unwrap());
    drop(wire);
    broker.stop();
    drop(broker);
    let (broker, _) = home.start().await;
    assert_eq!(values_of(&broker).last().unwrap(), "next");
}

#[tokio::test(start_paused = true)]
async fn a_torn_tail_is_cut_off_and_the_log_goes_on_there() {
    let cut = |by: u64| {
        move |path: &Path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - by).unwrap();
        }
    };
    check_broken("cut", cut(1), &["a", "b"]).await;
    check_broken("cut-header", cut(65), &["a", "b"]).await;
    let append = |bytes: Vec<u8>| {
        move |path: &Path| OpenOptions::new().append(true).open(path).unwrap().write_all(&bytes).unwrap()
    };
    check_broken("zeros", append(vec![0; 100]), &["a", "b", "c"]).await;
    check_broken("noise", append(vec![0xa5; 100]), &["a", "b", "c"]).await;
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    check_broken("flipped", flip, &["a", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_stays_away_and_so_do_its_offsets() {
    let home = Home::new("deleted");
    let (broker, mut wire) = home.start().await;
    append(&mut wire, "t", 0, plain(&["a"])).await;
    commit(&mut wire, 1).await;
    let topics = vec![Str::from("t")];
    let request =
        DeleteTopicsRequest { topic_names: topics, timeout_ms: 1000, ..DeleteTopicsRequest::default() };
    assert_eq!(wire.call(5, request).await.responses[0].error_code, NONE);
    drop(wire);
    broker.stop();
    drop(broker);
    assert!(!segment(&home).exists());
    // It is made anew: the builder names it.
    let (broker, _) = home.start().await;
    assert_eq!((values_of(&broker).len(), committed(&broker)), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_written_is_an_error_to_the_producer_and_a_retry_is_written_once() {
    let home = Home::new("unwritable");
    let (broker, mut wire) = home.start().await;
    // Nothing can be created below a file, whoever the user is.
    fs::write(home.0.join("t-0"), "in the way").unwrap();
    let refused = append(&mut wire, "t", 0, numbered(&["a"], 900, 0, 0)).await;
    assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(refused.error_message.unwrap().starts_with("the log cannot be written"));
    assert_eq!(broker.end_offset("t", 0), Some(0));
    fs::remove_file(home.0.join("t-0")).unwrap();
    for _ in 0..2 {
        let written = append(&mut wire, "t", 0, numbered(&["a"], 900, 0, 0)).await;
        assert_eq!((written.error_code, written.base_offset), (NONE, 0));
    }
    assert_eq!(values_of(&broker), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn settings_that_were_changed_and_partitions_that_were_added_are_there_again() {
    let home = Home::new("settings");
    let (broker, mut wire) = home.start().await;
    let resource = |resource_type, resource_name, name, value| IncrementalAlterConfigsResource {
        resource_type,
        resource_name: Str::from_static(resource_name),
        configs: vec![IncrementalAlterableConfig {
            name: Str::from_static(name),
            config_operation: 0,
            value: Some(Str::from_static(value)),
        }],
    };
    let resources =
        vec![resource(2, "t", "max.message.bytes", "99"), resource(4, "", "compression.type", "gzip")];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    assert!(wire.call(1, request).await.responses.iter().all(|it| it.error_code == NONE));
    let topics = vec![CreatePartitionsTopic { name: Str::from("t"), count: 3, assignments: None }];
    let request = CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false };
    assert_eq!(wire.call(3, request).await.results[0].error_code, NONE);
    drop(wire);
    broker.stop();
    drop(broker);

    let (broker, mut wire) = home.start().await;
    assert!(broker.leader("t", 2).is_some() && broker.leader("t", 3).is_none());
    let large =
        append(&mut wire, "t", 2, plain(&["more than a hundred bytes with its header and key"])).await;
    assert_eq!(large.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: Str::from("t"),
        configuration_keys: Some(vec![Str::from("compression.type")]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let answer = wire.call(4, request).await;
    let [entry] = &answer.results[0].configs[..] else { panic!("one was asked for") };
    assert_eq!((entry.value.as_deref(), entry.config_source), (Some("gzip"), 3));
    let answer = wire.call(4, DescribeLogDirsRequest { topics: None }).await;
    let [dir] = &answer.results[..] else { panic!("there is one directory") };
    assert_eq!(&*dir.log_dir, home.0.to_str().unwrap());
    let there = dir.topics.iter().find(|topic| topic.name == "t").unwrap();
    assert_eq!(there.partitions.iter().map(|it| it.partition_size).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_second_broker_on_the_same_directory_is_refused() {
    let home = Home::new("second");
    let (broker, _wire) = home.start().await;
    match home.builder().build() {
        Err(StartError::Data { directory, .. }) => assert_eq!(directory, home.0),
        other => panic!("{other:?}"),
    }
    drop(broker);
}

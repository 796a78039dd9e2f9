//! The producer on the bundled broker: what is acknowledged is in the log, once and in order.

use std::time::Duration;

use ottla::{Client, Compression, ErrorKind, Event, Outcome, Payload};
use ottla_broker::{Answer, Fault, TestBroker};
use ottla_protocol::api::ApiKey;

const SOON: Duration = Duration::from_secs(10);

async fn cluster(partitions: i32) -> (TestBroker, Client) {
    let broker = TestBroker::builder().nodes(3).topic("t", partitions).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    (broker, client)
}

#[tokio::test]
async fn a_record_is_written_and_told_where() {
    let (_broker, client) = cluster(1).await;
    let producer = client.producer().build().expect("valid settings");
    let topic = producer.topic("t");
    for n in 0..3_i64 {
        let written = topic.send(Payload::new(b"key", b"value")).await.expect("written");
        assert_eq!((written.partition, written.offset), (0, Some(n)));
    }
    let report = producer.close(SOON).await;
    assert_eq!((report.failed, report.unknown), (0, 0));
    let refused = topic.send(Payload::value(b"late")).await.expect_err("closed");
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Closed, Some(Outcome::NotWritten)));
}

#[tokio::test]
async fn many_records_of_a_partition_are_in_order_whatever_the_codec() {
    for compression in Compression::ALL {
        let (broker, client) = cluster(6).await;
        let producer =
            client.producer().compression(compression).batch_size(2_000).build().expect("valid settings");
        let topic = producer.topic("t");
        let mut window = ottla::Deliveries::default();
        for n in 0..5_000_u32 {
            let key = (n % 7).to_be_bytes();
            window.push(topic.enqueue(Payload::keyed(&key, &n.to_be_bytes())).await.expect("accepted"));
        }
        while let Some(written) = window.next().await {
            written.expect("written");
        }
        let mut seen = 0;
        for partition in 0..6 {
            let log = broker.log("t", partition).expect("a readable log");
            seen += log.len();
            for key in 0..7_u32 {
                let of_key = log.iter().filter(|r| r.key.as_deref() == Some(&key.to_be_bytes()[..]));
                let values: Vec<_> = of_key.map(|r| r.value.clone()).collect();
                assert!(values.is_sorted(), "{compression}: the records of key {key} are out of order");
            }
        }
        assert_eq!(seen, 5_000);
    }
}

#[tokio::test]
async fn a_record_that_can_never_fit_does_not_wait_for_room() {
    let (_broker, client) = cluster(1).await;
    let producer = client.producer().buffer_memory(50_000).linger(SOON).max_block(SOON * 6);
    let producer = producer.build().expect("valid settings");
    let topic = producer.topic("t");
    // The buffer is in use, and the batch is open.
    drop(topic.enqueue(Payload::value(&[0; 10_000])).await.expect("accepted"));
    for (bytes, limit) in
        [(60_000, "buffer.memory is 50000 bytes"), (1_100_000, "max.request.size is 1048576 bytes")]
    {
        let value = vec![0; bytes];
        let refused = tokio::time::timeout(SOON, topic.enqueue(Payload::value(&value))).await;
        let error = refused.expect("told at once").map(drop).expect_err("too large");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::RecordTooLarge, Some(Outcome::NotWritten)));
        assert!(error.to_string().contains(limit), "{error}");
    }
    assert!(matches!(topic.try_enqueue(Payload::value(&[0; 60_000])), Err(ottla::Full::Failed(_))));
}

/// KIP-1123: records without a key stay in the client's rack while a leader is there; keys stay where they are.
#[tokio::test]
async fn free_records_stay_in_the_own_rack_and_keyed_ones_where_they_are() {
    let broker = TestBroker::builder().nodes(3).rack(1, "a").rack(2, "b").rack(3, "c").topic("t", 6);
    let broker = broker.start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).client_rack("b").build();
    let producer = client.expect("valid settings").producer().rack_aware_partitioning(true).batch_size(100);
    let producer = producer.build().expect("valid settings");
    let topic = producer.topic("t");
    let leader = |partition| broker.leader("t", partition).and_then(|leader| leader.node);
    let mut keyed = std::collections::BTreeSet::new();
    for number in 0..60_u8 {
        let written = topic.send(Payload::value(&[number; 80])).await.expect("written");
        assert_eq!(leader(written.partition), Some(2), "partition {} is in another rack", written.partition);
        keyed.insert(topic.send(Payload::new(&[number], b"v")).await.expect("written").partition);
    }
    assert_eq!(keyed.len(), 6, "keys go everywhere");
}

/// Metadata that shows the first two partitions of a topic only.
fn two_partitions(answer: &mut Answer) {
    if let Answer::Metadata(answer) = answer {
        answer.topics.iter_mut().for_each(|topic| topic.partitions.retain(|it| it.partition_index < 2));
    }
}

#[tokio::test]
async fn keys_move_when_a_topic_grows_unless_its_partitions_are_pinned() {
    for pinned in [false, true] {
        let broker = TestBroker::builder().topic("t", 6).start().await.expect("a broker");
        let small = broker.fault(Fault::on(ApiKey::METADATA).always().rewrite(two_partitions));
        let client = Client::builder().bootstrap(broker.bootstrap()).metadata_max_age(SOON / 100);
        let producer = client.build().expect("valid settings").producer().build().expect("valid settings");
        let topic = producer.topic("t");
        if pinned {
            topic.pin_partitions(2);
        }
        let place = async |key: u8| topic.send(Payload::new(&[key], b"v")).await.expect("written").partition;
        let mut before = Vec::new();
        for key in 0..20 {
            before.push(place(key).await);
        }
        assert!(before.iter().all(|partition| *partition < 2));
        broker.remove_fault(small);
        // A record for a partition that is new waits for none: it fails until the producer knows.
        let grown = Payload { partition: Some(5), ..Payload::value(b"v") };
        while topic.send(grown).await.is_err() {
            tokio::time::sleep(SOON / 1_000).await;
        }
        let mut after = Vec::new();
        for key in 0..20 {
            after.push(place(key).await);
        }
        assert_eq!(before == after, pinned, "{before:?}, then {after:?}");
        if !pinned {
            let event = producer.next_event().await.expect("the producer is open");
            assert_eq!(event, Event::PartitionsGrew { topic: "t".into(), from: 2, to: 6 });
        }
        producer.close(SOON).await;
        let closed = producer.next_event().await.expect_err("nothing happens any more");
        assert_eq!(closed.kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn a_partition_that_has_most_of_the_bytes_is_told_hot() {
    let (_broker, client) = cluster(6).await;
    let producer = client.producer().batch_size(100).build().expect("valid settings");
    let topic = producer.topic("t");
    let hot = topic.send(Payload::new(b"k", b"v")).await.expect("written").partition;
    for partition in 0..6 {
        let payload = Payload { partition: Some(partition), ..Payload::value(&[0; 90]) };
        topic.send(payload).await.expect("written");
    }
    let sends = async {
        for _ in 0..400 {
            topic.send(Payload::new(b"k", &[0; 90])).await.expect("written");
        }
    };
    let (event, ()) = tokio::join!(producer.next_event(), sends);
    let Ok(Event::HotPartition { partition, bytes, of, .. }) = event else { panic!("{event:?}") };
    assert!(partition == hot && bytes * 2 > of, "{partition} has {bytes} of {of}, {hot} is hot");
    let bytes = topic.partition_bytes();
    let most = bytes.iter().max().copied();
    assert_eq!((bytes.len(), most), (6, bytes.get(usize::try_from(hot).expect("0 to 5")).copied()));
}

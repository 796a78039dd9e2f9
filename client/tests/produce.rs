//! The producer on the bundled broker: what is acknowledged is in the log, once and in order.

use std::time::Duration;

use ottla::{Client, Compression, ErrorKind, Outcome, Payload};
use ottla_broker::TestBroker;

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

//! What the tests of transactions have in common: a cluster, a producer, and what a reader of committed records sees.

use std::future::Future;
use std::time::Duration;

use ottla::{
    Client, Error, GroupMetadata, Offset, Payload, ProducerBuilder, Transaction, TransactionalProducer,
};
use ottla_broker::{FaultId, TestBroker};
use ottla_protocol::api::ApiKey;

pub(crate) use crate::polls::poll_then_drop;

/// Longer than anything takes that does not hang.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The transactional id of the tests.
pub(crate) const ID: &str = "x";
/// The levels of `transaction.version`.
pub(crate) const VERSIONS: [i16; 2] = [1, 2];

/// Three nodes: topic `t` to write to and topic `in` to read from, of two partitions each.
pub(crate) async fn cluster(version: i16) -> (TestBroker, Client) {
    let broker = TestBroker::builder().nodes(3).topic("t", 2).topic("in", 2).transaction_version(version);
    let broker = broker.setting("group.min.session.timeout.ms", "100").start().await.unwrap();
    let client = client(&broker);
    (broker, client)
}

/// A client that is soon back after a failure.
pub(crate) fn client(broker: &TestBroker) -> Client {
    let millis = Duration::from_millis;
    let builder = Client::builder().bootstrap(broker.bootstrap());
    builder
        .retry_backoff(millis(5), millis(50))
        .reconnect_backoff(millis(5), millis(50))
        .request_timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

/// The settings of the tests' producer.
pub(crate) fn builder(client: &Client) -> ProducerBuilder {
    client.producer().linger(Duration::ZERO).transactional_id(ID)
}

pub(crate) fn producer(client: &Client) -> TransactionalProducer {
    builder(client).build_transactional().unwrap()
}

/// Sends a record to the first partition and waits until it is in the log.
pub(crate) async fn send(transaction: &Transaction<'_>, value: &str) -> Result<(), Error> {
    send_to(transaction, 0, value).await
}

pub(crate) async fn send_to(transaction: &Transaction<'_>, partition: i32, value: &str) -> Result<(), Error> {
    transaction.topic("t").send(to(partition, value)).await.map(|_| ())
}

pub(crate) fn to(partition: i32, value: &str) -> Payload<'_> {
    Payload { partition: Some(partition), value: Some(value.as_bytes()), ..Payload::default() }
}

/// Commits an offset of the first partition of `in` for the group `g`.
pub(crate) async fn send_offset(transaction: &Transaction<'_>, next: i64) -> Result<(), Error> {
    let next = Offset { topic: "in", partition: 0, next, leader_epoch: None };
    transaction.send_offsets(&GroupMetadata::of_no_member("g"), [next]).await
}

/// A transaction of one record.
pub(crate) async fn write(producer: &mut TransactionalProducer, value: &str) -> Result<(), Error> {
    producer.run(async |transaction| send(transaction, value).await).await
}

/// What a reader of committed records sees of the topic `t`, once no transaction is open.
pub(crate) async fn seen(broker: &TestBroker) -> Vec<String> {
    seen_of(broker, "t").await
}

pub(crate) async fn seen_of(broker: &TestBroker, topic: &str) -> Vec<String> {
    until(|| (0..2).all(|p| broker.last_stable_offset(topic, p) == broker.end_offset(topic, p))).await;
    let committed = (0..2).flat_map(|p| broker.committed_log(topic, p).unwrap());
    committed.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

/// What is in the log of the first partition of `t`, committed or not.
pub(crate) fn written(broker: &TestBroker) -> Vec<String> {
    let log = broker.log("t", 0).unwrap().into_iter();
    log.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

/// What the group has committed of the first partition of `in`.
pub(crate) fn offset(broker: &TestBroker) -> Option<i64> {
    broker.committed("g").get(&("in".to_owned(), 0)).copied()
}

pub(crate) fn state(broker: &TestBroker) -> &'static str {
    broker.transaction(ID).map_or("none", |transaction| transaction.state)
}

/// Requests of an API that arrived at any node.
pub(crate) fn requests(broker: &TestBroker, api: ApiKey) -> u64 {
    (1..=3).map(|node| broker.requests(node, api)).sum()
}

/// Waits until it is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it never came to be so");
}

/// Waits until a fault has acted.
pub(crate) async fn until_fired(broker: &TestBroker, fault: FaultId) {
    until(|| broker.fired(fault) > 0).await;
}

/// Fails instead of hanging.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

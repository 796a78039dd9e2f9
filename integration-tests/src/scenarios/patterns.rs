//! Topics by a pattern, which the broker or the client evaluates, and reading from the replica in one's own rack.

use super::group::CATCH_UP;
use crate::backend::Backend;
use crate::traffic::short_sessions;
use crate::{Failure, ensure, fail};
use ottla::{Client, Consumer, GroupProtocol, Payload};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const CLOSE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;

/// A consumer, and the values that it has received.
struct Reader {
    consumer: Consumer,
    seen: BTreeSet<String>,
}

/// With every protocol of groups and without a group: what matches is read, what appears later too, nothing else is.
pub(super) async fn topics_that_match_are_read_as_they_come(backend: &Backend) -> Result<(), Failure> {
    let kind = backend.unique("pattern");
    let names = ["a", "b", "c"].map(|name| format!("{kind}-{name}"));
    let others = [format!("my-{kind}-a"), format!("{kind}-d")];
    for topic in names[..2].iter().chain(&others) {
        backend.judge().create_topic(topic, PARTITIONS, &[]).await?;
    }
    let client = backend.client().metadata_max_age(Duration::from_secs(1)).build()?;
    let pattern = format!("{kind}-(a|[b-c])");
    let mut readers = vec![client.consumer().assign_pattern(&pattern)];
    let protocols = [GroupProtocol::Classic, GroupProtocol::Auto, GroupProtocol::Consumer];
    for protocol in protocols.into_iter().take(if backend.matches_patterns() { 3 } else { 2 }) {
        let group = backend.group("patterns");
        readers.push(short_sessions(client.consumer(), protocol).group(group).subscribe_pattern(&pattern));
    }
    let mut started = Vec::new();
    for reader in readers {
        let consumer = reader.build()?;
        backend.watch(consumer.probe());
        started.push(Reader { consumer, seen: BTreeSet::new() });
    }
    let mut expected = BTreeSet::new();
    for topic in names[..2].iter().chain(&others) {
        let written = write(&client, topic).await?;
        expected.extend(written.into_iter().filter(|_| !others.contains(topic)));
    }
    let readers = read(backend, started, &expected).await?;
    backend.judge().create_topic(&names[2], PARTITIONS, &[]).await?;
    expected.extend(write(&client, &names[2]).await?);
    for Reader { consumer, .. } in read(backend, readers, &expected).await? {
        consumer.close(CLOSE).await?;
    }
    Ok(())
}

/// Some records in each partition of a topic. Returns their values.
async fn write(client: &Client, topic: &str) -> Result<Vec<String>, Failure> {
    let producer = client.producer().build()?;
    let mut values = Vec::new();
    for partition in 0..PARTITIONS {
        for number in 0..10 {
            let value = format!("{topic}-{partition}:{number}");
            let record = Payload { partition: Some(partition), ..Payload::value(value.as_bytes()) };
            producer.topic(topic).send(record).await?;
            values.push(value);
        }
    }
    producer.close(CLOSE).await;
    Ok(values)
}

/// Everybody reads until all have seen all of this.
async fn read(
    backend: &Backend,
    readers: Vec<Reader>,
    expected: &BTreeSet<String>,
) -> Result<Vec<Reader>, Failure> {
    let start = |reader: Reader| {
        let expected = expected.clone();
        backend.spawn("reader", async move { read_until(reader, &expected).await })
    };
    let mut done = Vec::new();
    for task in readers.into_iter().map(start).collect::<Vec<_>>() {
        done.push(task.join().await??);
    }
    Ok(done)
}

async fn read_until(mut reader: Reader, expected: &BTreeSet<String>) -> Result<Reader, Failure> {
    let end = Instant::now() + CATCH_UP;
    while reader.seen != *expected {
        let (seen, all) = (reader.seen.len(), expected.len());
        ensure!(Instant::now() < end, "no progress (L2): {seen} of {all} received by {:?}", reader.consumer);
        let Ok(next) = timeout(Duration::from_secs(1), reader.consumer.recv()).await else { continue };
        let Some(record) = next? else { fail!("the consumer has ended") };
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        ensure!(expected.contains(&value), "{value} came, and its topic does not match");
        reader.seen.insert(value);
    }
    Ok(reader)
}

/// KIP-392: whoever says where it stands reads from there, also what is written later.
pub(super) async fn the_replica_in_the_same_rack_is_read_from(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("racks", 1).await?;
    let client = backend.client().build()?;
    let described = client.admin().describe_topics([&topic]).await.take(&topic)?;
    let Some(partition) = described.partitions.first() else { fail!("{topic} has no partition") };
    // A cluster of one node has no other.
    let other = partition.replicas.iter().find(|node| Some(**node) != partition.leader);
    let Some(node) = other.copied().or(partition.leader) else { fail!("{topic} has no replica") };
    let nodes = client.admin().describe_cluster().await?.nodes;
    let Some(rack) = nodes.into_iter().find(|it| it.id == node).and_then(|it| it.rack) else {
        fail!("node {node} has no rack")
    };
    let client = backend.client().client_rack(rack).build()?;
    let producer = client.producer().build()?;
    let mut consumer = client.consumer().assign([(&topic, 0)]).build()?;
    backend.watch(consumer.probe());
    for number in 0..20_u8 {
        producer.topic(&topic).send(Payload::value(&[number; 500])).await?;
        let next = timeout(CATCH_UP, consumer.recv()).await;
        let Ok(Some(record)) = next.map_err(|_| Failure::new("no progress (L2)"))? else {
            fail!("record {number} did not come")
        };
        ensure!(record.offset() == i64::from(number), "{} came in place of {number}", record.offset());
    }
    producer.close(CLOSE).await;
    let fetched_from = consumer.control().metrics().fetched_from;
    // A version of Fetch from before KIP-392 says no rack.
    let expected = if backend.reads_from_followers() { Some(node) } else { partition.leader };
    let from: Vec<i32> = fetched_from.keys().copied().collect();
    ensure!(
        Some(&from[..]) == expected.as_ref().map(std::slice::from_ref),
        "{fetched_from:?}, not {expected:?}"
    );
    consumer.close(CLOSE).await?;
    Ok(())
}

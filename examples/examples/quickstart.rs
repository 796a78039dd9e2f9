//! A week of earthquakes travels from a file through a topic to a group of two consumers, and is counted exactly.
//!
//! `cargo run --release --example quickstart` needs nothing else, for it brings its own broker. On a cluster of yours:
//! `cargo run --release --example quickstart -- --brokers localhost:9092`; and `--help` lists the rest.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ottla::format::{Decode, Encode, Encoded, Encoding};
use ottla::{
    Acks, Admin, Client, Compression, Consumer, Control, Deliveries, Header, NewTopic, Payload, Topic, When,
};
use ottla_broker::TestBroker;
use ottla_examples::earthquakes::{self, Earthquake, Networks};
use ottla_examples::{Arguments, Failure, Progress, Tally, fresh_name};
use ottla_serde::Json;

const USAGE: &str = "\
Usage: cargo run --release --example quickstart -- [options]

  --brokers HOST:PORT,...  a cluster to run on (default: a broker of three nodes in this process)
  --input FILE             events, in the columns of examples/data/earthquakes.csv (default: that file)
  --times N                how often they are produced (default 1)
  --partitions N           of the topic, which is made for this run and deleted after it (default 6)
  --compression NAME       none, gzip, snappy, lz4 or zstd (default lz4)
  --acks NAME              all, 1 or 0 (default all)

Exit code: 0 if every event was produced, consumed and committed; 1 if not; 3 if so, but rows could not be read.
";

#[tokio::main]
async fn main() -> ExitCode {
    quickstart(&Arguments::read(USAGE)).await.unwrap_or_else(|failure| {
        eprintln!("quickstart: {failure}");
        ExitCode::FAILURE
    })
}

async fn quickstart(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let times = usize::from(arguments.get("--times", std::num::NonZeroU16::MIN).get());
    let partitions = arguments.get("--partitions", 6);
    let acks = arguments.choose("--acks", &[("all", Acks::All), ("1", Acks::Leader), ("0", Acks::None)]);
    let compression = arguments.get("--compression", Compression::Lz4);
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/data/earthquakes.csv");
    let (events, unreadable) = earthquakes::read(arguments.text("--input").unwrap_or(bundled))?;
    unreadable.iter().for_each(|problem| eprintln!("left out: {problem}"));

    // A cluster: yours, or one in this process, which ends with the variable.
    let broker = match arguments.text("--brokers") {
        Some(_) => None,
        None => Some(TestBroker::builder().nodes(3).start().await?),
    };
    let bootstrap = broker.as_ref().map(TestBroker::bootstrap).unwrap_or_default();
    let client = Client::builder().bootstrap(arguments.get("--brokers", bootstrap)).build()?;

    // A topic of its own makes the counts exact. Events bear their own time, years ago: retention would delete them.
    let (name, admin) = (fresh_name("earthquakes")?, client.admin());
    let cluster = admin.with_deadline(Duration::from_secs(15)).describe_cluster().await?;
    let copies = i16::try_from(cluster.nodes.len().min(3))?;
    let topic = NewTopic::new(&name).partitions(partitions).replication_factor(copies);
    admin.create_topics([topic.config("retention.ms", "-1")]).await.all()?;

    // Idempotent, unless less is asked for than the acknowledgement of all replicas.
    let producer = client.producer().acks(acks).compression(compression).build()?;
    // 1+N commits: when 100 more records of a partition are finished, or a finished one has waited for a second.
    let hybrid = When::Hybrid { records: 100, within: Duration::from_secs(1) };
    let member = || client.consumer().group(&name).subscribe([&name]).commit_when(hybrid).build();
    let (one, two) = (member()?, member()?);

    let tally = Arc::new(Tally::new(events.len() * times));
    let ((), bytes, mut networks, others) = tokio::try_join!(
        watch(&tally, &admin, &name, [one.control(), two.control()]),
        async { tokio::spawn(produce(producer.topic(&name), events, tally.clone())).await? },
        async { tokio::spawn(consume(one, tally.clone())).await? },
        async { tokio::spawn(consume(two, tally.clone())).await? },
    )?;
    producer.close(Duration::from_secs(10)).await;
    let committed = committed(&admin, &name).await?;
    admin.delete_topics([name]).await.all()?;

    networks.merge(others);
    println!("\n{networks}\n{}", tally.report(bytes, committed));
    let complete = [tally.produced(), tally.consumed(), committed] == [tally.total(); 3];
    let left_out = if unreadable.is_empty() { 0 } else { 3 };
    Ok(ExitCode::from(if complete { left_out } else { 1 }))
}

/// Enqueues all events, and waits for the oldest when many are on their way. Returns the bytes of their values.
async fn produce(topic: Topic, events: Vec<Earthquake>, tally: Arc<Tally>) -> Result<u64, Failure> {
    let (mut window, mut value, mut bytes) = (Deliveries::default(), Vec::new(), 0);
    for (number, event) in (0..tally.total()).zip(events.iter().cycle()) {
        value.clear();
        Json.encode(event, &mut Encoding::value(topic.name(), &mut value))?;
        bytes += value.len() as u64;
        let headers = [Header { key: "number", value: Some(&number.to_be_bytes()) }];
        let keyed = Payload::keyed(event.network.as_bytes(), &value);
        let payload = Payload { headers: &headers, timestamp: Some(event.time_ms), ..keyed };
        window.push(topic.enqueue(payload).await?);
        while window.len() > 10_000 {
            window.next().await.transpose()?;
            tally.produce();
        }
    }
    while let Some(written) = window.next().await {
        written?;
        tally.produce();
    }
    Ok(bytes)
}

/// Counts the events of the partitions that the group gives to this member.
async fn consume(mut consumer: Consumer, tally: Arc<Tally>) -> Result<Networks, Failure> {
    let mut networks = Networks::default();
    loop {
        let record = match consumer.recv().await {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) if error.is_retriable() => {
                eprintln!("still trying: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let number = record.headers().find(|header| header.key == "number").and_then(|header| header.value);
        let number = u64::from_be_bytes(number.ok_or("a record without a number")?.try_into()?);
        if tally.consume(number) {
            networks.add(Json.decode(Encoded::value(record.topic(), record.value().unwrap_or_default()))?);
        }
    }
    consumer.close(Duration::from_secs(30)).await?;
    Ok(networks)
}

/// Shows how far everything is, until all is committed or nothing has moved for two minutes; then ends the members.
async fn watch(tally: &Tally, admin: &Admin, group: &str, members: [Control; 2]) -> Result<(), Failure> {
    let mut progress = Progress::new();
    while !progress.show(tally, committed(admin, group).await?) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    members.iter().for_each(Control::close);
    Ok(())
}

/// How many records the group has committed: their topic is new, so each offset is a count.
async fn committed(admin: &Admin, group: &str) -> Result<u64, Failure> {
    let offsets = admin.committed_offsets(group).await?;
    Ok(u64::try_from(offsets.values().map(|committed| committed.offset).sum::<i64>())?)
}

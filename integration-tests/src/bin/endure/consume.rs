//! What a crash of a consuming process repeats: for each policy, a process of its own that is killed again and again.
//!
//! It owns the policies and what each of them promises of a crash. Invariant: a record counts as received when the process
//! has said so, which it does before it asks for the next; so nothing is finished that was not said.

use super::{Options, client, name};
use ottla::{Done, GroupProtocol, Payload, When};
use ottla_integration_tests::judge::{self, Judge};
use ottla_integration_tests::random::Random;
use ottla_integration_tests::{Failure, ensure, fail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// Records of a batch, which is what a fetch brings of a partition.
const BATCH: u64 = 10;
/// Time between two commits, and the longest that one of them is on its way.
const EVERY: Duration = Duration::from_millis(200);
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A policy, and what it says of a crash.
struct Policy {
    name: &'static str,
    done: Done,
    when: When,
    /// Records of a partition that may come again.
    repeats: usize,
    /// What comes again was received no longer before the crash than this.
    since: Duration,
    /// Records that a crash may lose.
    losses: usize,
}

const SAFE: Policy =
    Policy { name: "", done: Done::OnNext, when: When::Manual, repeats: 0, since: Duration::MAX, losses: 0 };
const POLICIES: &[Policy] = &[
    Policy { name: "record", when: When::EachRecord, repeats: 1, ..SAFE },
    Policy { name: "batch", when: When::EachBatch, repeats: 2 * BATCH as usize, ..SAFE },
    Policy {
        name: "hybrid",
        when: When::Hybrid { records: 20, within: Duration::from_secs(5) },
        repeats: 40,
        ..SAFE
    },
    Policy {
        name: "every",
        when: When::Every(EVERY),
        repeats: usize::MAX,
        since: EVERY.saturating_add(ON_ITS_WAY),
        ..SAFE
    },
    Policy { name: "manual", repeats: MANUAL, ..SAFE },
    Policy { name: "once", done: Done::Delivered, when: When::EachRecord, losses: 1, ..SAFE },
];
/// Records after which the application commits by itself.
const MANUAL: usize = 10;

/// How long a process may take until its first record.
const START: Duration = Duration::from_secs(30);

/// Kills a consumer of each policy so many times.
pub(super) async fn consume(options: &Options) -> Result<(), Failure> {
    let topic = name("consume");
    Judge::new(judge::tcp(), &options.brokers)?.create_topic(&topic, options.partitions, &[]).await?;
    write(options, &topic).await?;
    for policy in POLICIES {
        check(options, &topic, policy).await?;
    }
    Ok(())
}

/// Batches of the same size, so that a fetch brings as many.
async fn write(options: &Options, topic: &str) -> Result<(), Failure> {
    let producer = client(options)?.producer().linger(Duration::from_secs(1)).build()?;
    let topic = producer.topic(topic);
    for batch in 0..options.records / BATCH {
        let partition = i32::try_from(batch % u64::from(options.partitions.unsigned_abs()))?;
        let mut open = ottla::Deliveries::default();
        for _ in 0..BATCH {
            let payload = Payload { value: Some(b"x"), partition: Some(partition), ..Payload::default() };
            open.push(topic.enqueue(payload).await?);
        }
        producer.flush(Duration::from_secs(60)).await?;
        while let Some(written) = open.next().await {
            written?;
        }
    }
    producer.close(Duration::from_secs(30)).await;
    Ok(())
}

/// A record that a process said it had received.
struct Received {
    life: usize,
    at: Duration,
}

async fn check(options: &Options, topic: &str, policy: &Policy) -> Result<(), Failure> {
    let mut random = Random::new(1, policy.name);
    let mut seen = BTreeMap::<i32, BTreeMap<i64, Received>>::new();
    let mut killed = Vec::new();
    let (mut most, mut again, mut lost) = (0, 0, 0);
    for life in 0..=usize::try_from(options.kills)? {
        let said = live(options, topic, policy, Duration::from_millis(random.below(150))).await?;
        killed.push(now()?);
        let mut begun = BTreeMap::new();
        for (partition, offset, at) in said {
            let seen = seen.entry(partition).or_default();
            let first = begun.insert(partition, offset).is_none();
            if first {
                let repeated = seen.range(offset..).count();
                let oldest = seen.range(offset..).map(|(_, record)| killed[record.life] - record.at).max();
                ensure!(
                    repeated <= policy.repeats && oldest.is_none_or(|oldest| oldest <= policy.since),
                    "{}: {repeated} records of {partition} came again, after {oldest:?}",
                    policy.name
                );
                (most, again) = (most.max(repeated), again + repeated);
            }
            let before = seen.range(..offset).next_back().map_or(-1, |(before, _)| *before);
            let missing = usize::try_from(offset - before - 1)?;
            ensure!(
                missing == 0 || (first && policy.losses > 0),
                "{}: {missing} records of {partition} before {offset} were skipped",
                policy.name
            );
            lost += missing;
            seen.insert(offset, Received { life, at });
        }
    }
    ensure!(lost <= policy.losses * killed.len(), "{}: {lost} records were lost", policy.name);
    println!(
        "{}: {} kills, {again} records came again, {most} of a partition at once at most, {lost} lost",
        policy.name, options.kills
    );
    Ok(())
}

/// Runs a process until it has received records for this time, kills it, and returns what it said.
async fn live(
    options: &Options,
    topic: &str,
    policy: &Policy,
    time: Duration,
) -> Result<Vec<(i32, i64, Duration)>, Failure> {
    let path = std::env::temp_dir().join(format!("{topic}.out"));
    let mut process = Command::new(std::env::current_exe()?)
        .args(["member", "--brokers", &options.brokers, "--from", topic, "--policy", policy.name])
        .stdout(File::create(&path)?)
        .spawn()?;
    let began = wait_for_a_line(&path).await;
    sleep(time).await;
    process.kill()?;
    process.wait()?;
    let text = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    began?;
    let mut said = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [partition, offset, at] = words[..] else { fail!("the process said {line:?}") };
        said.push((partition.parse()?, offset.parse()?, Duration::from_millis(at.parse()?)));
    }
    Ok(said)
}

async fn wait_for_a_line(path: &Path) -> Result<(), Failure> {
    let end = Instant::now() + START;
    while fs::metadata(path)?.len() == 0 {
        ensure!(Instant::now() < end, "no record came for {START:?}");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn now() -> Result<Duration, Failure> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// The process that is killed: a static member, so that its place waits for it.
pub(super) async fn member(options: &Options) -> Result<(), Failure> {
    let Some(policy) = POLICIES.iter().find(|policy| policy.name == options.policy) else {
        fail!("there is no policy {:?}", options.policy)
    };
    let group = format!("{}-{}", options.from, policy.name);
    let consumer =
        client(options)?.consumer().group(group).group_instance_id("one").subscribe([&options.from]);
    // A classic group knows a member that died by its name, and another need not wait for the end of its session.
    let consumer = consumer.group_protocol(GroupProtocol::Classic);
    let consumer = consumer.finish_on(policy.done).commit_when(policy.when);
    let mut consumer = consumer.max_partition_fetch_bytes(1).build()?;
    let mut received = 0;
    while let Some(record) = consumer.recv().await? {
        println!("{} {} {}", record.partition(), record.offset(), now()?.as_millis());
        received += 1;
        if policy.when == When::Manual && received % MANUAL == 0 {
            record.commit().await?;
        }
        sleep(Duration::from_micros(500)).await;
    }
    Ok(())
}

//! Long runs on a cluster that is being disturbed by somebody else, with a verdict at the end: `endure --help`.
//!
//! Owns four runs: many records by an idempotent producer, an exactly-once pipeline whose own process is killed, and consumers
//! whose processes are killed ([`consume`]); a rolling restart ([`rolling`]); and our side of a group of several clients ([`follow`]). Whoever disturbs the
//! cluster meanwhile is `on-kafka --storm`. Invariant: the verdict comes from the log, not from the client.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool speaks on both

mod consume;
mod follow;
mod rolling;

use ottla::{Client, Deliveries, GroupProtocol, IsolationLevel, OwnedRecord, Payload, Reset, Transaction};
use ottla_integration_tests::judge::{self, Judge};
use ottla_integration_tests::traffic;
use ottla_integration_tests::{Failure, ensure, fail};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const HELP: &str = "\
endure produce  --brokers HOST:PORT,... [--records 5000000] [--partitions 12] [--rate 20000]
endure pipeline --brokers HOST:PORT,... [--records 100000] [--partitions 6] [--kills 20]
endure consume  --brokers HOST:PORT,... [--records 100000] [--partitions 6] [--kills 200]
endure rolling  --brokers HOST:PORT,...
The first sends records while somebody disturbs the cluster, and finds each acknowledged one in the log once and in order.
The second copies a topic to another exactly once, in a process of its own that is killed again and again.
The third reads a topic under each commit policy, in processes that are killed, and counts what comes again.
The fourth restarts ten members of a group in turn, and looks for silence in partitions that stay where they are.";

/// Records that wait for their acknowledgement at most.
const WINDOW: usize = 50_000;
/// How long nothing may come before the end of a log is believed.
const QUIET: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Options {
    run: String,
    brokers: String,
    records: u64,
    partitions: i32,
    kills: u32,
    /// Records a second; 0 for as many as there can be.
    rate: u64,
    /// Of the pipeline's own process.
    from: String,
    to: String,
    /// Of the consumer's own process.
    policy: String,
    /// Of a member among those of other clients.
    properties: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let done = options().and_then(|options| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            match options.run.as_str() {
                "produce" => produce(&options).await,
                "pipeline" => pipeline(&options).await,
                "worker" => work(&options).await,
                "consume" => consume::consume(&options).await,
                "member" => consume::member(&options).await,
                "rolling" => rolling::rolling(&options).await,
                "follow" => follow::follow(&options).await,
                "write" => follow::write(&options).await,
                _ => {
                    println!("{HELP}");
                    Ok(())
                }
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("endure: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Failure> {
    let mut words = std::env::args().skip(1);
    let mut options = Options { run: words.next().unwrap_or_default(), ..Options::default() };
    options.kills = if options.run == "consume" { 200 } else { 20 };
    (options.records, options.partitions, options.rate) =
        if options.run == "produce" { (5_000_000, 12, 20_000) } else { (100_000, 6, 0) };
    while let Some(word) = words.next() {
        let Some(value) = words.next() else { fail!("{word} needs a value") };
        match word.as_str() {
            "--brokers" => options.brokers = value,
            "--records" => options.records = value.parse()?,
            "--partitions" => options.partitions = value.parse()?,
            "--rate" => options.rate = value.parse()?,
            "--kills" => options.kills = value.parse()?,
            "--from" => options.from = value,
            "--to" => options.to = value,
            "--policy" => options.policy = value,
            "--set" => {
                let Some((key, value)) = value.split_once('=') else { fail!("{value} is not KEY=VALUE") };
                options.properties.push((key.into(), value.into()));
            }
            _ => fail!("{word} is unknown; see --help"),
        }
    }
    ensure!(!options.brokers.is_empty() || options.run.starts_with('-'), "--brokers is missing");
    Ok(options)
}

fn name(what: &str) -> String {
    format!("endure-{what}-{}", std::process::id())
}

fn client(options: &Options) -> Result<Client, Failure> {
    Ok(Client::builder().bootstrap(&options.brokers).build()?)
}

// What became of a record.
const UNSENT: u8 = 0;
const WRITTEN: u8 = 1;
const NOT_WRITTEN: u8 = 2;
const UNKNOWN: u8 = 3;

async fn produce(options: &Options) -> Result<(), Failure> {
    let topic = name("produce");
    Judge::new(judge::tcp(), &options.brokers)?.create_topic(&topic, options.partitions, &[]).await?;
    let ends = send(options, &topic).await?;
    let count = |what: u8| ends.iter().filter(|end| **end == what).count();
    println!(
        "{} records: {} acknowledged, {} not written, {} unknown, {} refused",
        ends.len(),
        count(WRITTEN),
        count(NOT_WRITTEN),
        count(UNKNOWN),
        count(UNSENT),
    );
    let mut seen = vec![0_u8; ends.len()];
    let reordered = read(options, &topic, IsolationLevel::ReadUncommitted, |number| {
        if let Some(copies) = usize::try_from(number).ok().and_then(|at| seen.get_mut(at)) {
            *copies = copies.saturating_add(1);
        }
    })
    .await?;
    let judged = || ends.iter().zip(&seen);
    let lost = judged().filter(|(end, seen)| **end == WRITTEN && **seen == 0).count();
    let doubled = seen.iter().filter(|copies| **copies > 1).count();
    let lied = judged().filter(|(end, seen)| **end != WRITTEN && **end != UNKNOWN && **seen > 0).count();
    println!("{lost} lost, {doubled} duplicated, {reordered} reordered, {lied} false 'not written'");
    ensure!(lost + doubled + lied == 0 && reordered == 0, "a promise was broken");
    Ok(())
}

/// Sends the numbers from 0, each to the partition that it names, and returns what was told of each.
async fn send(options: &Options, topic: &str) -> Result<Vec<u8>, Failure> {
    let producer = client(options)?.producer().linger(Duration::from_millis(5)).batch_size(65_536).build()?;
    let topic = producer.topic(topic);
    let started = Instant::now();
    let mut ends = Vec::new();
    let (mut open, mut oldest) = (Deliveries::default(), std::collections::VecDeque::new());
    let told = |end: Result<_, ottla::Error>| match end {
        Ok(_) => WRITTEN,
        Err(error) if error.outcome() == Some(ottla::Outcome::NotWritten) => NOT_WRITTEN,
        Err(_) => UNKNOWN,
    };
    for number in 0..options.records {
        if number % 1_000_000 == 0 && number > 0 {
            println!("{number} records after {:.1} s", started.elapsed().as_secs_f64());
        }
        if options.rate > 0 && number % 100 == 0 {
            let due = Duration::from_secs_f64(number as f64 / options.rate as f64);
            sleep(due.saturating_sub(started.elapsed())).await;
        }
        let partition = i32::try_from(number % u64::from(options.partitions.unsigned_abs()))?;
        let value = number.to_be_bytes();
        let payload = Payload { value: Some(&value), partition: Some(partition), ..Payload::default() };
        ends.push(UNSENT);
        match topic.enqueue(payload).await {
            Ok(delivery) => {
                open.push(delivery);
                oldest.push_back(number);
            }
            Err(error) => eprintln!("{number}: {error}"),
        }
        while open.len() >= WINDOW
            && let Some(end) = open.next().await
            && let Some(at) = oldest.pop_front()
        {
            ends[usize::try_from(at)?] = told(end);
        }
    }
    while let Some(end) = open.next().await
        && let Some(at) = oldest.pop_front()
    {
        ends[usize::try_from(at)?] = told(end);
    }
    producer.close(Duration::from_secs(30)).await;
    Ok(ends)
}

/// Reads a topic to its end, and returns how many records come after a higher number of the same partition.
async fn read(
    options: &Options,
    topic: &str,
    isolation: IsolationLevel,
    mut each: impl FnMut(u64),
) -> Result<usize, Failure> {
    let partitions = (0..options.partitions).map(|partition| (topic, partition));
    let consumer = client(options)?.consumer().assign(partitions).isolation_level(isolation);
    let mut consumer = consumer.on_no_commit(Reset::Earliest).build()?;
    let mut last = vec![None; usize::try_from(options.partitions)?];
    let mut reordered = 0;
    while let Ok(record) = timeout(QUIET, consumer.recv()).await {
        let Some(record) = record? else { break };
        let number = u64::from_be_bytes(record.value().unwrap_or_default().try_into()?);
        let before = last[usize::try_from(record.partition())?].replace(number);
        reordered += usize::from(before.is_some_and(|before| before > number));
        each(number);
    }
    Ok(reordered)
}

async fn pipeline(options: &Options) -> Result<(), Failure> {
    let (from, to) = (name("from"), name("to"));
    let judge = Judge::new(judge::tcp(), &options.brokers)?;
    judge.create_topic(&from, options.partitions, &[]).await?;
    judge.create_topic(&to, options.partitions, &[]).await?;
    let ends = send(options, &from).await?;
    ensure!(ends.iter().all(|end| *end == WRITTEN), "the input could not be written");
    let mut worker = Command::new(std::env::current_exe()?);
    worker.args(["worker", "--brokers", &options.brokers, "--from", &from, "--to", &to]);
    let mut child = worker.spawn()?;
    for kill in 1..=options.kills {
        sleep(Duration::from_millis(1_500 + u64::from(kill * 617 % 2_000))).await;
        child.kill()?;
        child.wait()?;
        println!("endure: killed the pipeline, {kill} of {}", options.kills);
        child = worker.spawn()?;
    }
    let mut copies = vec![0_u8; ends.len()];
    let reordered = read(options, &to, IsolationLevel::ReadCommitted, |number| {
        if let Some(copies) = usize::try_from(number).ok().and_then(|at| copies.get_mut(at)) {
            *copies = copies.saturating_add(1);
        }
    })
    .await;
    child.kill()?;
    child.wait()?;
    let reordered = reordered?;
    let (lost, doubled) =
        (copies.iter().filter(|n| **n == 0).count(), copies.iter().filter(|n| **n > 1).count());
    println!("{} records in, {lost} lost, {doubled} duplicated, {reordered} reordered", copies.len());
    ensure!(lost + doubled + reordered == 0, "the output is not the input");
    Ok(())
}

/// The pipeline's own process: copies until it is killed.
async fn work(options: &Options) -> Result<(), Failure> {
    loop {
        let id = &options.to;
        let (client, patience) = (client(options)?, Duration::from_secs(20));
        let mut pipeline =
            traffic::pipeline(&client, id, &options.from, id, patience, GroupProtocol::Classic)?;
        let copy = async |records: &[OwnedRecord], transaction: &Transaction<'_>| {
            let topic = transaction.topic(&options.to);
            for record in records {
                let value = record.value().map(|value| &value[..]);
                let payload = Payload { value, partition: Some(record.partition()), ..Payload::default() };
                // An error of its delivery is told by the commit.
                drop(topic.enqueue(payload).await?);
            }
            // Slow enough to be killed in the middle.
            sleep(Duration::from_millis(2)).await;
            Ok::<(), ottla::Error>(())
        };
        while let Err(error) = pipeline.run(500, Duration::from_millis(20), copy).await {
            eprintln!("endure worker: {error}");
            if error.is_fatal() {
                break;
            }
        }
    }
}

//! A rolling restart of a group: what does not move keeps flowing.
//!
//! It owns ten members in one process, restarted one after the other while records come at a steady rate, and the longest
//! silence of a partition that stays with its member. It refuses to judge what is delivered. Invariant: a silence counts only
//! between two records of a partition that the same life of a member has received, one after the other, and only as far as it is
//! longer than the time between their writes.

use super::{Options, client, name};
use ottla::{Assignor, Client, Payload};
use ottla_integration_tests::judge::{self, Judge};
use ottla_integration_tests::{Failure, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const MEMBERS: usize = 10;
const PARTITIONS: i32 = 30;
/// Between two records of a partition.
const EACH: Duration = Duration::from_millis(5);
/// From one restart to the next.
const PAUSE: Duration = Duration::from_secs(3);
const SILENCE_MAX: Duration = Duration::from_millis(100);
const CLOSE: Duration = Duration::from_secs(30);

type Silences = Vec<(Duration, i32)>;

/// Restarts each member once.
pub(super) async fn rolling(options: &Options) -> Result<(), Failure> {
    let topic = name("rolling");
    Judge::new(judge::tcp(), &options.brokers)?.create_topic(&topic, PARTITIONS, &[]).await?;
    let (client, over, received) = (client(options)?, Arc::new(AtomicBool::new(false)), Arc::default());
    let writer = tokio::spawn(write(client.clone(), topic.clone(), over.clone()));
    let mut members: Vec<_> =
        (0..MEMBERS).map(|_| Life::start(&client, &topic, &received)).collect::<Result<_, _>>()?;
    sleep(3 * PAUSE).await;
    let mut silences = Silences::new();
    for member in &mut members {
        let started = Life::start(&client, &topic, &received)?;
        silences.extend(std::mem::replace(member, started).end().await?);
        sleep(PAUSE).await;
    }
    over.store(true, Ordering::Relaxed);
    let written = writer.await??;
    let (end, count) = (Instant::now() + CLOSE, || received.load(Ordering::Relaxed));
    while count() < written && Instant::now() < end {
        sleep(EACH).await;
    }
    for member in members {
        silences.extend(member.end().await?);
    }
    let (longest, partition) = silences.into_iter().max().unwrap_or_default();
    let received = count();
    println!("{MEMBERS} restarts, {written} records written, {received} received");
    println!("the longest silence of a partition that stayed where it was: {longest:?} ({partition})");
    ensure!(received >= written, "records were skipped");
    ensure!(longest <= SILENCE_MAX, "{longest:?} is more than {SILENCE_MAX:?}");
    Ok(())
}

/// Writes to every partition at a steady rate, and returns how many records there are.
async fn write(client: Client, topic: String, over: Arc<AtomicBool>) -> Result<u64, Failure> {
    let producer = client.producer().linger(Duration::ZERO).build()?;
    let (topic, mut written, mut ticks) = (producer.topic(&topic), 0, tokio::time::interval(EACH));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for partition in 0..PARTITIONS {
            let payload = Payload { value: Some(b"x"), partition: Some(partition), ..Payload::default() };
            drop(topic.enqueue(payload).await?);
            written += 1;
        }
    }
    let report = producer.close(CLOSE).await;
    ensure!(report.failed == 0 && report.unknown == 0, "{report:?}");
    Ok(written)
}

/// A member until it is restarted.
struct Life {
    control: ottla::Control,
    task: JoinHandle<Result<Silences, Failure>>,
}

impl Life {
    fn start(client: &Client, topic: &str, received: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let received = received.clone();
        let consumer = client.consumer().group(topic).subscribe([topic]);
        let mut consumer = consumer.assignors([Assignor::CooperativeSticky]).build()?;
        let control = consumer.control();
        let task = tokio::spawn(async move {
            let mut last = BTreeMap::<i32, (i64, i64, Instant)>::new();
            let mut longest = BTreeMap::<i32, Duration>::new();
            while let Some(record) = consumer.recv().await? {
                let (now, partition) = (Instant::now(), record.partition());
                received.fetch_add(1, Ordering::Relaxed);
                let (offset, written) = (record.offset(), record.timestamp());
                if let Some((before, written_before, at)) = last.insert(partition, (offset, written, now))
                    && before + 1 == offset
                {
                    let silence =
                        (now - at).saturating_sub(Duration::from_millis(written.abs_diff(written_before)));
                    let longest = longest.entry(partition).or_default();
                    *longest = (*longest).max(silence);
                }
            }
            consumer.close(CLOSE).await?;
            Ok(longest.into_iter().map(|(partition, silence)| (silence, partition)).collect())
        });
        Ok(Life { control, task })
    }

    async fn end(self) -> Result<Silences, Failure> {
        self.control.close();
        self.task.await?
    }
}

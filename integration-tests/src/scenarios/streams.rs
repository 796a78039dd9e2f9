//! Streams of partitions: a task for each, while members die and connections break.

use super::group::{CATCH_UP, has_all, protocol};
use crate::backend::{Backend, Task};
use crate::checks::History;
use crate::traffic::{receive_owned, short_sessions, write};
use crate::{Failure, ensure};
use ottla::{Done, OwnedRecord, PartitionStream, When};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A stalled connection is given up after `request.timeout.ms`, and then another one has to do.
const CLOSE: Duration = Duration::from_secs(120);
const MEMBERS: u32 = 2;
const LIVES: u32 = 2;

/// Each partition is read by a task of its own, and members die: nothing is skipped, and nothing is committed that is still in
/// work (C1, C2, F2).
pub(super) async fn a_task_for_each_partition_reads_everything(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("streams", 4).await?, backend.group("streams"));
    let history = Arc::new(History::default());
    let watching = backend.watch_commits(&group, &topic, &history);
    let trouble = backend.trouble(&topic);
    let enough = Arc::new(AtomicBool::new(false));
    let members: Vec<_> = (0..MEMBERS)
        .map(|place| {
            let (world, history, enough) = (backend.clone(), history.clone(), enough.clone());
            let (group, topic) = (group.clone(), topic.clone());
            backend.spawn("member", async move {
                for life in 0..LIVES {
                    let last = life + 1 == LIVES;
                    live(&world, place + life * MEMBERS, last, &group, &topic, &history, &enough).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    let producer = backend.client().build()?.producer().build()?;
    backend.watch(producer.probe());
    write(backend, &producer.topic(&topic), &history, 0, 0..backend.scale(200)).await?;
    producer.close(CLOSE).await;
    trouble.end().await?;
    let log = backend.log(&topic).await?;
    let end = Instant::now() + CATCH_UP;
    while !has_all(&history, &log) || history.check_all_committed(&log).is_err() {
        ensure!(Instant::now() < end, "no progress (L2): {} received", history.received_ids().len());
        sleep(Duration::from_millis(200)).await;
    }
    enough.store(true, Ordering::Relaxed);
    for member in members {
        member.join().await??;
    }
    watching.end().await?;
    backend.look_at_commits(&group, &topic, &history).await?;
    history.check_receipts(&log, true)?;
    history.check_all_committed(&log)
}

async fn live(
    backend: &Backend,
    member: u32,
    last: bool,
    group: &str,
    topic: &str,
    history: &Arc<History>,
    enough: &AtomicBool,
) -> Result<(), Failure> {
    let mut random = backend.random(&format!("streams-{member}"));
    let when = random.choose(&[
        When::EachRecord,
        When::EachBatch,
        When::Hybrid { records: 7, within: Duration::from_millis(500) },
    ]);
    let consumer = short_sessions(backend.client().build()?.consumer(), protocol(backend))
        .group(group)
        .subscribe([topic]);
    let consumer = consumer.finish_on(Done::OnAck).commit_when(when).build()?;
    backend.watch(consumer.probe());
    let mut partitions = consumer.into_partitions()?;
    let mut tasks: Vec<Task<Result<(), Failure>>> = Vec::new();
    let dies = Instant::now() + Duration::from_millis(500 + random.below(6_000));
    while !enough.load(Ordering::Relaxed) && (last || Instant::now() < dies) {
        let Ok(Some(partition)) = timeout(Duration::from_millis(300), partitions.next()).await else {
            continue;
        };
        let (records, world, history) = (partition?, backend.clone(), history.clone());
        tasks.push(backend.spawn("partition", async move { work(&world, records, &history, member).await }));
    }
    if last {
        partitions.close(CLOSE).await?;
    } else {
        drop(partitions);
    }
    for task in tasks {
        task.join().await??;
    }
    Ok(())
}

/// Reads a partition until its stream ends. Records are finished two at a time, the second one first.
async fn work(
    backend: &Backend,
    mut records: PartitionStream,
    history: &History,
    member: u32,
) -> Result<(), Failure> {
    let mut held: Option<OwnedRecord> = None;
    loop {
        let next = timeout(Duration::from_millis(50), records.next()).await;
        let next = next.ok().map(Option::transpose).transpose()?;
        if let Some(Some(record)) = &next {
            receive_owned(backend, record, history, member)?;
        }
        // The second of two first; one that is alone does not wait for another.
        let done = match (next, held.take()) {
            (Some(None), _) => break,
            (Some(Some(second)), Some(first)) => vec![second, first],
            (Some(Some(first)), None) => {
                held = Some(first);
                continue;
            }
            (None, first) => Vec::from_iter(first),
        };
        for record in done {
            history.finished(record.partition(), record.offset());
            record.ack();
        }
    }
    ensure!(records.end().is_some(), "a stream ended without a reason");
    Ok(())
}

//! What finishes a record: acknowledgements in any order, or handing it out.

use super::group::{CATCH_UP_OVER_GHOSTS, has_all, protocol};
use crate::backend::Backend;
use crate::checks::History;
use crate::traffic::{receive, short_sessions, write};
use crate::{Failure, ensure, fail};
use ottla::{Client, Done, ErrorKind, OwnedRecord, When};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A stalled connection is given up after `request.timeout.ms`, and then another one has to do.
const CLOSE: Duration = Duration::from_secs(120);
/// Records that a member has in work at once.
const IN_WORK: usize = 20;

/// Records are acknowledged out of order by members that die: nothing that is still in work is ever committed (C1, F2).
pub(super) async fn what_is_still_in_work_is_never_committed(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("acks", 2).await?, backend.group("acks"));
    let history = std::sync::Arc::new(History::default());
    let watching = backend.watch_commits(&group, &topic, &history);
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    let count = backend.scale(80);
    write(backend, &producer.topic(&topic), &history, 0, 0..count).await?;
    producer.close(CLOSE).await;
    let log = backend.log(&topic).await?;
    let (mut random, mut life, end) = (backend.random("acks"), 0, Instant::now() + CATCH_UP_OVER_GHOSTS);
    loop {
        ensure!(Instant::now() < end, "no progress (L2): {} received", history.received_ids().len());
        life += 1;
        let when = random.choose(&[
            When::EachRecord,
            When::EachBatch,
            When::Hybrid { records: 6, within: Duration::from_millis(400) },
        ]);
        let mut consumer = member(backend, &client, &group, &topic, Done::OnAck, when)?;
        let mut in_work: Vec<OwnedRecord> = Vec::new();
        let mut left = 1 + random.below(u64::from(count));
        while left > 0 {
            left -= 1;
            match timeout(Duration::from_secs(20), consumer.recv()).await {
                Ok(next) => {
                    let Some(record) = next? else { fail!("the consumer ended") };
                    receive(backend, &record, &history, life)?;
                    in_work.push(record.to_owned());
                }
                Err(_) if has_all(&history, &log) => break,
                Err(_) => {}
            }
            while in_work.len() > IN_WORK || (!in_work.is_empty() && random.percent(40)) {
                acknowledge(
                    &history,
                    in_work.swap_remove(usize::try_from(random.below(in_work.len() as u64))?),
                );
            }
        }
        if has_all(&history, &log) {
            in_work.into_iter().for_each(|record| acknowledge(&history, record));
            consumer.close(CLOSE).await?;
            break;
        }
        drop(consumer);
    }
    backend.look_at_commits(&group, &topic, &history).await?;
    watching.end().await?;
    history.check_receipts(&log, true)
}

fn acknowledge(history: &History, record: OwnedRecord) {
    history.finished(record.partition(), record.offset());
    record.ack();
}

fn member(
    backend: &Backend,
    client: &Client,
    group: &str,
    topic: &str,
    done: Done,
    when: When,
) -> Result<ottla::Consumer, Failure> {
    let consumer = short_sessions(client.consumer(), protocol(backend)).group(group).subscribe([topic]);
    let consumer = consumer.finish_on(done).commit_when(when).build()?;
    backend.watch(consumer.probe());
    Ok(consumer)
}

/// At most once: members die in the middle of their work, and no record is delivered to two of them; a death loses no more than
/// what was committed ahead.
pub(super) async fn at_most_once_delivers_nothing_twice(backend: &Backend) -> Result<(), Failure> {
    const AHEAD: u32 = 4;
    let (topic, group) = (backend.topic("once", 2).await?, backend.group("once"));
    let history = History::default();
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    let count = backend.scale(60);
    write(backend, &producer.topic(&topic), &history, 0, 0..count).await?;
    producer.close(CLOSE).await;
    let log = backend.log(&topic).await?;
    let last_ids: Vec<_> = log.values().filter_map(|logged| Some(logged.last()?.id)).collect();
    // Unless the last record of a partition is lost, it says when there is nothing to wait for.
    let at_end = || last_ids.iter().all(|id| history.received_ids().contains(id));
    let (mut random, mut lost_at_most) = (backend.random("once"), 0);
    for life in 0..5 {
        let when = if random.percent(50) {
            lost_at_most += 2;
            When::EachRecord
        } else {
            lost_at_most += 2 * AHEAD;
            When::Hybrid { records: AHEAD, within: Duration::from_secs(1) }
        };
        let mut consumer = member(backend, &client, &group, &topic, Done::Delivered, when)?;
        let last = life == 4;
        let mut left = if last { u64::MAX } else { random.below(u64::from(count) / 3) };
        while left > 0 && !at_end() {
            left -= 1;
            match timeout(Duration::from_secs(90), consumer.recv()).await {
                Ok(Ok(Some(record))) => {
                    receive(backend, &record, &history, life)?;
                }
                Ok(Ok(None)) => fail!("the consumer ended"),
                // The commit was not acknowledged in time: the record was not handed out, and is asked for again.
                Ok(Err(error)) if error.kind() == ErrorKind::Timeout => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => break,
            }
        }
        drop(consumer);
    }
    ensure!(history.redelivered() == 0, "{} records were delivered twice", history.redelivered());
    let received = u32::try_from(history.received_ids().len())?;
    ensure!(received + lost_at_most >= count, "{received} of {count} came, {lost_at_most} may be lost");
    Ok(())
}

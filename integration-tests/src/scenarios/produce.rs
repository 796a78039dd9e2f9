//! Sends: what is acknowledged, what is not, and what a producer says of it.

use crate::backend::Backend;
use crate::checks::{Ending, History};
use crate::record::RecordId;
use crate::traffic::{enqueue, settle, write, write_together};
use crate::{Failure, ensure};
use ottla::{Acks, Compression, Header, Outcome, Payload};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CLOSE: Duration = Duration::from_secs(30);

/// Null and empty are told apart, headers keep their order, timestamps and bytes are untouched (F20).
pub(super) async fn records_come_back_as_they_were_sent(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("plain", 1).await?;
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    backend.watch(producer.probe());
    let topic = producer.topic(&name);
    let headers = [
        Header { key: "trace", value: Some(b"1") },
        Header { key: "trace", value: None },
        Header { key: "empty", value: Some(b"") },
    ];
    let sent = [
        Payload { key: Some(b"k"), value: Some(b"v"), ..Payload::default() },
        Payload { key: Some(b""), value: Some(b""), ..Payload::default() },
        Payload { key: None, value: None, timestamp: Some(1_700_000_000_123), ..Payload::default() },
        Payload { value: Some("\u{20ac} \u{1f980}".as_bytes()), headers: &headers, ..Payload::default() },
    ];
    for (payload, offset) in sent.into_iter().zip(0..) {
        let written = topic.send(payload).await?;
        ensure!(
            written.partition == 0 && written.offset == Some(offset),
            "{offset} was written at {written:?}"
        );
    }
    producer.close(CLOSE).await;
    let log = backend.judge().read(&name).await?;
    for (found, payload) in log[&0].iter().zip(&sent) {
        ensure!(found.key.as_deref() == payload.key, "key {:?} was sent as {:?}", found.key, payload.key);
        ensure!(
            found.value.as_deref() == payload.value,
            "value {:?} was sent as {:?}",
            found.value,
            payload.value
        );
        let headers = found.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        let headers: Vec<_> = headers.collect();
        ensure!(headers == payload.headers, "headers {headers:?} were sent as {:?}", payload.headers);
        let kept = payload.timestamp.is_none_or(|timestamp| timestamp == found.timestamp);
        ensure!(kept, "timestamp {} was sent as {:?}", found.timestamp, payload.timestamp);
    }
    ensure!(log[&0].len() == sent.len(), "{} records are in the log", log[&0].len());
    Ok(())
}

/// S1 to S5 and L1 with several writers, while leaders move and nodes come and go (fault 15, F25).
pub(super) async fn acknowledged_records_are_in_the_log_once_and_in_order(
    backend: &Backend,
) -> Result<(), Failure> {
    // Few partitions have several batches out at once, many are spread over all nodes.
    let name = backend.topic("order", backend.random("partitions").choose(&[1, 2, 6])).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let producer = client
        .producer()
        .linger(Duration::from_millis(5))
        .batch_size(backend.random("batches").choose(&[400, 2_000]))
        .build()?;
    backend.watch(producer.probe());
    let trouble = backend.trouble(&name);
    write_together(backend, &producer.topic(&name), &history, backend.scale(200)).await?;
    trouble.end().await?;
    let report = producer.close(CLOSE).await;
    ensure!(
        report.unknown == 0 && report.failed == 0,
        "close found {report:?} although every send had ended"
    );
    let log = backend.log(&name).await?;
    history.check_sends(&log, true)?;
    // Two minutes are more than any trouble lasts: nothing has a reason to fail.
    let (acked, accepted) = (history.acked(), history.accepted());
    ensure!(
        acked == accepted,
        "{acked} of {accepted} sends were acknowledged although the trouble ended in time"
    );
    Ok(())
}

/// A broker takes any sequence number from a producer that is new to a partition: its first batch must not be overtaken.
pub(super) async fn young_producers_keep_their_order_in_trouble(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("young", 1).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let mut random = backend.random("youth");
    let trouble = backend.trouble(&name);
    for writer in 0..30 {
        let producer = client.producer().linger(Duration::ZERO).batch_size(200).build()?;
        backend.watch(producer.probe());
        write(backend, &producer.topic(&name), &history, writer, 0..8).await?;
        producer.close(CLOSE).await;
        sleep(Duration::from_millis(random.below(400))).await;
    }
    trouble.end().await?;
    history.check_sends(&backend.log(&name).await?, true)?;
    let (acked, accepted) = (history.acked(), history.accepted());
    ensure!(
        acked == accepted,
        "{acked} of {accepted} sends were acknowledged although the trouble ended in time"
    );
    Ok(())
}

/// S1 to S5 with many producers of a few records each, which share the partitions, their leaders and the trouble.
pub(super) async fn many_producers_keep_what_each_has_sent(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("many", 2).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let trouble = backend.trouble(&name);
    let mut writers = Vec::new();
    for writer in 0..16 {
        let producer = client.producer().linger(Duration::from_millis(5)).batch_size(400).build()?;
        backend.watch(producer.probe());
        let (world, history) = (backend.clone(), history.clone());
        let (topic, count) = (producer.topic(&name), backend.scale(20));
        writers.push(backend.spawn("writer", async move {
            write(&world, &topic, &history, writer, 0..count).await?;
            producer.close(CLOSE).await;
            Ok::<_, Failure>(())
        }));
    }
    for writer in writers {
        writer.join().await??;
    }
    trouble.end().await?;
    history.check_sends(&backend.log(&name).await?, true)?;
    let (acked, accepted) = (history.acked(), history.accepted());
    ensure!(
        acked == accepted,
        "{acked} of {accepted} sends were acknowledged although the trouble ended in time"
    );
    Ok(())
}

/// With a delivery timeout that is shorter than the trouble, sends fail, and say truly what became of the record.
pub(super) async fn every_send_ends_by_its_deadline(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("deadline", 3).await?;
    let history = Arc::new(History::default());
    let limit = Duration::from_millis(2_000 + backend.random("deadline").below(4_000));
    let client = backend.client().request_timeout(limit / 2).build()?;
    let producer = client.producer().delivery_timeout(limit).max_block(limit).batch_size(1_000).build()?;
    backend.watch(producer.probe());
    let trouble = backend.trouble(&name);
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (backend, topic, history) = (backend.clone(), producer.topic(&name), history.clone());
            let world = backend.clone();
            world.spawn("writer", async move {
                for number in 0..backend.scale(100) {
                    let id = RecordId { writer, number };
                    let asked = Instant::now();
                    let Ok(delivery) = enqueue(&topic, id).await else { continue };
                    history.sending(id);
                    settle(&backend, &history, id, delivery).await?;
                    let slack = limit + Duration::from_secs(1);
                    ensure!(asked.elapsed() <= limit + slack, "{id} ended after {:?} (L1)", asked.elapsed());
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for writer in writers {
        writer.join().await??;
    }
    trouble.end().await?;
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)
}

/// After a flush every earlier send has ended; close ends the rest and counts them (fault 19, F22).
pub(super) async fn flush_and_close_account_for_every_record(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("flush", 3).await?;
    let client = backend.client().build()?;
    let producer = client.producer().linger(Duration::from_secs(20)).build()?;
    backend.watch(producer.probe());
    let topic = producer.topic(&name);
    let history = History::default();
    let mut deliveries = Vec::new();
    for number in 0..30 {
        let id = RecordId { writer: 0, number };
        deliveries.push((id, enqueue(&topic, id).await?));
        history.sending(id);
    }
    producer.flush(CLOSE).await?;
    for (id, delivery) in deliveries {
        let ended = timeout(Duration::ZERO, delivery).await;
        let Ok(ended) = ended else { crate::fail!("{id} is open after a flush (L1)") };
        let written = ended?;
        history.ended(id, Ending::Written { partition: written.partition, offset: written.offset });
    }
    let mut deliveries = Vec::new();
    for number in 30..50 {
        let id = RecordId { writer: 0, number };
        deliveries.push((id, enqueue(&topic, id).await?));
        history.sending(id);
    }
    let report = producer.close(CLOSE).await;
    ensure!(
        (report.delivered, report.failed, report.unknown) == (20, 0, 0),
        "20 records were open: {report:?}"
    );
    for (id, delivery) in deliveries {
        settle(backend, &history, id, delivery).await?;
    }
    let refused = enqueue(&topic, RecordId { writer: 0, number: 99 }).await;
    let outcome = refused.err().and_then(|error| error.outcome());
    ensure!(outcome == Some(Outcome::NotWritten), "a closed producer took a record: {outcome:?}");
    history.check_sends(&backend.log(&name).await?, true)
}

/// Senders wait for room, in turn; giving up the wait sends nothing (fault 17).
pub(super) async fn a_full_buffer_makes_senders_wait(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("full", 3).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let producer = client.producer().buffer_memory(20_000).batch_size(1_000).build()?;
    backend.watch(producer.probe());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (backend, topic, history) = (backend.clone(), producer.topic(&name), history.clone());
            let world = backend.clone();
            world.spawn("writer", async move {
                let mut random = backend.random(&format!("patience {writer}"));
                let mut open = Vec::new();
                for number in 0..backend.scale(80) {
                    let id = RecordId { writer, number };
                    // Some do not wait: their record must never be seen.
                    let patience =
                        Duration::from_millis(if random.percent(20) { random.below(3) } else { 600_000 });
                    if let Ok(accepted) = timeout(patience, enqueue(&topic, id)).await {
                        history.sending(id);
                        open.push((id, accepted?));
                    }
                }
                for (id, delivery) in open {
                    settle(&backend, &history, id, delivery).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for writer in writers {
        writer.join().await??;
    }
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)
}

/// acks=1 and acks=0: no promise of once, but on a fair network everything arrives.
pub(super) async fn weaker_acknowledgements_still_arrive(backend: &Backend) -> Result<(), Failure> {
    for acks in [Acks::Leader, Acks::None] {
        let name = backend.topic("acks", 2).await?;
        let client = backend.client().build()?;
        let producer = client.producer().idempotence(false).acks(acks).build()?;
        backend.watch(producer.probe());
        let topic = producer.topic(&name);
        let history = History::default();
        // A leader that does not know the topic yet drops what wants no answer: those who lead it must be ready.
        let careful = client.producer().build()?;
        backend.watch(careful.probe());
        write(backend, &careful.topic(&name), &history, 1, 0..20).await?;
        careful.close(CLOSE).await;
        write(backend, &topic, &history, 0, 0..60).await?;
        producer.close(CLOSE).await;
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let log = backend.log(&name).await?;
            let found: usize = log.values().map(Vec::len).sum();
            if found == 80 {
                history.check_sends(&log, false)?;
                break;
            }
            // Without an answer the last records may still be on their way.
            ensure!(Instant::now() < end, "{acks:?}: {found} of 80 records arrived");
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// acks=1 without idempotence in trouble: a record may be lost, be there twice or out of order, but nothing that was said is
/// untrue (S4, S5, P8): what is certainly not written is not there.
pub(super) async fn one_acknowledgement_tells_no_lies(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("one", 2).await?;
    let history = Arc::new(History::default());
    // Shorter than most of the trouble: many sends end in doubt.
    let limit = Duration::from_millis(500 + backend.random("deadline").below(2_500));
    let client = backend.client().request_timeout(limit / 2).build()?;
    let producer = client.producer().idempotence(false).acks(Acks::Leader).delivery_timeout(limit);
    let producer = producer.max_block(limit).linger(Duration::from_millis(5)).batch_size(400).build()?;
    backend.watch(producer.probe());
    let trouble = backend.trouble(&name);
    write_together(backend, &producer.topic(&name), &history, backend.scale(100)).await?;
    trouble.end().await?;
    producer.close(CLOSE).await;
    history.check_honesty(&backend.log(&name).await?)
}

/// Each codec that this build can write.
pub(super) async fn compressed_records_come_back(backend: &Backend) -> Result<(), Failure> {
    use Compression::{Gzip, Lz4, Snappy, Zstd};
    for compression in [Gzip, Snappy, Lz4, Zstd] {
        let name = backend.topic("codec", 2).await?;
        let client = backend.client().build()?;
        let producer = client.producer().compression(compression).build()?;
        backend.watch(producer.probe());
        let history = History::default();
        write(backend, &producer.topic(&name), &history, 0, 0..backend.scale(60)).await?;
        producer.close(CLOSE).await;
        history.check_sends(&backend.log(&name).await?, true)?;
    }
    Ok(())
}

/// Batches that are larger than the topic takes go on in parts: nothing fails, nothing is lost, twice or out of order, while
/// leaders move and connections break, and whatever they are compressed with (fault 13, KIP-126).
pub(super) async fn batches_above_the_topics_limit_are_split(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic_with("split", 2, &[("max.message.bytes", "6500")]).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let producer = client
        .producer()
        .compression(backend.random("codec").choose(&[Compression::None, Compression::Lz4]))
        .linger(Duration::from_millis(20))
        .batch_size(20_000)
        .build()?;
    backend.watch(producer.probe());
    let trouble = backend.trouble(&name);
    write_together(backend, &producer.topic(&name), &history, backend.scale(120)).await?;
    trouble.end().await?;
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)?;
    let (acked, accepted) = (history.acked(), history.accepted());
    ensure!(
        acked == accepted,
        "{acked} of {accepted} sends were acknowledged although every record fits by itself"
    );
    Ok(())
}

//! Users of the client as scenarios need them: writers whose records can be judged, and readers that judge at once.
//!
//! It turns what the client says into history: how each send ended, what was received, what was finished. Invariant: a
//! history says that a record is finished before the client can know it, and that a send is accepted after it was.

use crate::backend::Backend;
use crate::checks::{Ending, History};
use crate::record::RecordId;
use crate::{Failure, ensure, fail};
use ottla::{
    Client, Consumer, ConsumerBuilder, Delivery, ErrorKind, GroupProtocol, IsolationLevel, Outcome,
    OwnedRecord, Payload, Pipeline, Record, Topic, When,
};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Deliveries that a writer waits for at most.
const WINDOW: usize = 40;
/// How long a reader waits before it looks whether it has enough.
const PATIENCE: Duration = Duration::from_millis(200);

/// Sends a writer's records in order, and tells the history how each of them ended.
pub async fn write(
    backend: &Backend,
    topic: &Topic,
    history: &History,
    writer: u32,
    numbers: Range<u32>,
) -> Result<(), Failure> {
    let mut open = VecDeque::new();
    for number in numbers {
        let id = RecordId { writer, number };
        match enqueue(topic, id).await {
            Ok(delivery) => {
                history.sending(id);
                open.push_back((id, delivery));
            }
            Err(error) => {
                ensure!(error.outcome() == Some(Outcome::NotWritten), "enqueue of {id}: {error} (S5)");
                history.ended(id, Ending::NotWritten);
            }
        }
        if open.len() >= WINDOW
            && let Some((id, delivery)) = open.pop_front()
        {
            settle(backend, history, id, delivery).await?;
        }
    }
    for (id, delivery) in open {
        settle(backend, history, id, delivery).await?;
    }
    Ok(())
}

/// Four writers, each with so many records, at once.
pub async fn write_together(
    backend: &Backend,
    topic: &Topic,
    history: &Arc<History>,
    count: u32,
) -> Result<(), Failure> {
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (world, topic, history) = (backend.clone(), topic.clone(), history.clone());
            let writing = async move { write(&world, &topic, &history, writer, 0..count).await };
            backend.spawn("writer", writing)
        })
        .collect();
    for writer in writers {
        writer.join().await??;
    }
    Ok(())
}

/// Hands one record to the producer.
pub async fn enqueue(topic: &Topic, id: RecordId) -> Result<Delivery, ottla::Error> {
    let (key, value) = (id.key(), id.value());
    let payload = Payload { key: key.as_deref(), value: Some(&value), ..Payload::default() };
    topic.enqueue(payload).await
}

/// Waits for a delivery and tells the history how it ended.
pub async fn settle(
    backend: &Backend,
    history: &History,
    id: RecordId,
    delivery: Delivery,
) -> Result<(), Failure> {
    let ending = match delivery.await {
        Ok(written) => Ending::Written { partition: written.partition, offset: written.offset },
        // What a producer says whose machine has lost the batch.
        Err(error) if error.kind() == ErrorKind::Fatal && error.code().is_none() => {
            fail!("{id} was forgotten (L1): {error}")
        }
        Err(error) => match error.outcome() {
            Some(Outcome::NotWritten | Outcome::Rejected) => Ending::NotWritten,
            Some(Outcome::PossiblyWritten) => Ending::PossiblyWritten,
            _ => fail!("the failed send of {id} says nothing of its outcome (S5): {error}"),
        },
    };
    backend.tell(format_args!("{id} ended {ending:?}"));
    history.ended(id, ending);
    Ok(())
}

/// Receives until `enough` says so or the consumer ends; the wait for a record is given up and taken up again meanwhile.
///
/// A record is finished when the next one is asked for; the last one is finished by a commit in the end.
pub async fn read(
    backend: &Backend,
    consumer: &mut Consumer,
    history: &History,
    member: u32,
    enough: impl Fn() -> bool,
) -> Result<(), Failure> {
    let mut in_hand = None;
    while !enough() {
        if let Some((partition, offset)) = in_hand.take() {
            history.finished(partition, offset);
        }
        let Ok(next) = timeout(PATIENCE, consumer.recv()).await else { continue };
        let Some(record) = next? else { return Ok(()) };
        in_hand = Some(receive(backend, &record, history, member)?);
    }
    if let Some((partition, offset)) = in_hand {
        history.finished(partition, offset);
        consumer.commit().await?;
    }
    Ok(())
}

/// Judges one record and tells the history that it was received.
pub fn receive(
    backend: &Backend,
    record: &Record<'_>,
    history: &History,
    member: u32,
) -> Result<(i32, i64), Failure> {
    let place = (record.partition(), record.offset());
    judge(backend, place, record.key(), record.value(), history, member)
}

/// The same for a record of its own.
pub fn receive_owned(
    backend: &Backend,
    record: &OwnedRecord,
    history: &History,
    member: u32,
) -> Result<(i32, i64), Failure> {
    let place = (record.partition(), record.offset());
    judge(
        backend,
        place,
        record.key().map(|key| &**key),
        record.value().map(|value| &**value),
        history,
        member,
    )
}

fn judge(
    backend: &Backend,
    (partition, offset): (i32, i64),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    history: &History,
    member: u32,
) -> Result<(i32, i64), Failure> {
    let value = value.unwrap_or_default();
    let Some(id) = RecordId::parse(value) else {
        fail!("corrupt (S2): {partition}:{offset} is no record of ours")
    };
    ensure!(id.is_intact(key, value), "corrupt (S2): {partition}:{offset} is not {id} as it was sent");
    backend.tell(format_args!("member {member} got {partition}:{offset} {id}"));
    history.received(member, partition, offset, id);
    Ok((partition, offset))
}

/// A member that dies without a word is gone after six seconds: the nodes are started so, except for classic members, who say
/// it themselves.
pub fn short_sessions(consumer: ConsumerBuilder, protocol: GroupProtocol) -> ConsumerBuilder {
    let consumer = consumer.group_protocol(protocol);
    if protocol != GroupProtocol::Classic {
        return consumer;
    }
    consumer.session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_secs(1))
}

/// A pipeline that reads a topic as a member of a group, and is missed soon when it crashes. `patience`: what it has sent, or
/// its offsets, keep others waiting for as long then.
pub fn pipeline(
    client: &Client,
    group: &str,
    from: &str,
    transactional_id: &str,
    patience: Duration,
    protocol: GroupProtocol,
) -> Result<Pipeline, ottla::Error> {
    let consumer = short_sessions(client.consumer(), protocol).group(group).subscribe([from]);
    let consumer = consumer.isolation_level(IsolationLevel::ReadCommitted);
    let consumer = consumer.commit_when(When::Manual).build()?;
    let producer = client
        .producer()
        .linger(Duration::from_millis(2))
        .transactional_id(transactional_id)
        .transaction_timeout(patience)
        .build_transactional()?;
    Pipeline::new(consumer, producer)
}

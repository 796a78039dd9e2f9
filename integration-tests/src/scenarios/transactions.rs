//! Transactions: seen as a whole or not at all, whatever happens on the way.

use crate::backend::Backend;
use crate::random::Random;
use crate::record::RecordId;
use crate::{Failure, ensure, fail};
use ottla::{ErrorKind, GroupMetadata, Offset, Payload, Previous, Transaction, TransactionalProducer};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(30);

/// A transaction, and what its writer was told of it.
pub(super) struct Told {
    records: Vec<RecordId>,
    /// The offset that went with it.
    offset: Option<i64>,
    /// Whether it was committed, once that was told.
    pub(super) committed: Option<bool>,
}

/// What is committed is seen, what is aborted or dropped is not, and the next transaction tells what nobody heard.
pub(super) async fn a_transaction_is_seen_when_it_is_committed(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("seen", 3).await?;
    let group = backend.group("reader");
    let client = backend.client().build()?;
    let mut producer = client.producer().transactional_id(&backend.unique("tx")).build_transactional()?;
    backend.watch(producer.probe());

    let transaction = producer.begin().await?;
    ensure!(transaction.previous().is_none(), "there was no transaction before");
    let topic = transaction.topic(&name);
    for (key, value) in [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] {
        topic.send(Payload::new(key, value)).await?;
    }
    let next = Offset { topic: &name, partition: 0, next: 7, leader_epoch: None };
    transaction.send_offsets(&GroupMetadata::of_no_member(&group), [next]).await?;
    transaction.commit().await?;
    let seen = backend.judge().read_committed(&name).await?;
    ensure!(seen.len() == 3, "{} of 3 records are seen after the commit (S1)", seen.len());
    let committed = backend.judge().committed(&group, &name).await?;
    ensure!(committed.get(&0) == Some(&7), "the offsets are {committed:?} after the commit (S6)");

    let transaction = producer.begin().await?;
    transaction.topic(&name).send(Payload::new(b"a", b"4")).await?;
    let next = Offset { topic: &name, partition: 0, next: 8, leader_epoch: None };
    transaction.send_offsets(&GroupMetadata::of_no_member(&group), [next]).await?;
    transaction.abort().await?;

    let transaction = producer.begin().await?;
    drop(transaction.topic(&name).enqueue(Payload::new(b"a", b"5")).await?);
    drop(transaction);

    let transaction = producer.begin().await?;
    ensure!(transaction.previous() == Some(Previous::Aborted), "a dropped transaction is aborted");
    drop(transaction.topic(&name).enqueue(Payload::new(b"a", b"6")).await?);
    let ended = timeout(Duration::ZERO, transaction.commit()).await;

    let transaction = producer.begin().await?;
    match ended {
        // So quick that it was told after all.
        Ok(ended) => ended?,
        Err(_) => ensure!(
            transaction.previous() == Some(Previous::Committed),
            "a commit that nobody waits for goes on"
        ),
    }
    // Nothing in it: no word to the coordinator is needed.
    transaction.commit().await?;

    let run = producer.run(async |transaction| {
        transaction.topic(&name).send(Payload::new(b"a", b"7")).await?;
        Err::<(), Failure>(Failure::new("given up"))
    });
    ensure!(run.await.is_err(), "the error of the work is handed on");
    producer.run(async |t| t.topic(&name).send(Payload::new(b"a", b"8")).await.map(|_| ())).await?;
    producer.close(CLOSE).await;

    let seen = backend.judge().read_committed(&name).await?;
    let mut values: Vec<_> = seen.into_iter().filter_map(|record| record.value).collect();
    values.sort();
    ensure!(values == ["1", "2", "3", "6", "8"], "{values:?} are seen in the end (S6)");
    let committed = backend.judge().committed(&group, &name).await?;
    ensure!(committed.get(&0) == Some(&7), "the offsets are {committed:?} in the end (S6)");
    Ok(())
}

/// One record of several is refused: the commit says so, nothing of the transaction is seen, and the next one works
/// (fault 30).
pub(super) async fn a_transaction_with_a_failed_record_is_not_committed(
    backend: &Backend,
) -> Result<(), Failure> {
    let name = backend.topic_with("failed", 2, &[("max.message.bytes", "2000")]).await?;
    let client = backend.client().build()?;
    let mut producer = client.producer().transactional_id(&backend.unique("tx")).build_transactional()?;
    backend.watch(producer.probe());
    let transaction = producer.begin().await?;
    let topic = transaction.topic(&name);
    let large = vec![b'x'; 3_000];
    let fine = topic.send(Payload { value: Some(b"1"), partition: Some(0), ..Payload::default() });
    fine.await?;
    let refused = Payload { value: Some(&large), partition: Some(1), ..Payload::default() };
    ensure!(topic.send(refused).await.is_err(), "3,000 bytes passed a limit of 2,000");
    let Err(error) = transaction.commit().await else { fail!("committed without one of its records (S6)") };
    ensure!(error.kind() == ErrorKind::Aborted, "the commit failed with {error}");
    producer.run(async |t| t.topic(&name).send(Payload::value(b"2")).await.map(|_| ())).await?;
    producer.close(CLOSE).await;
    let seen = backend.judge().read_committed(&name).await?;
    let values: Vec<_> = seen.into_iter().filter_map(|record| record.value).collect();
    ensure!(values == ["2"], "{values:?} are seen (S6)");
    Ok(())
}

/// A second producer of the same id fences the first: what that had open is not seen, and it stays fenced (S9, fault 35).
pub(super) async fn a_fenced_producer_stays_fenced(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("fenced", 1).await?;
    let id = backend.unique("tx");
    let client = backend.client().build()?;
    let mut first = client.producer().transactional_id(&id).build_transactional()?;
    let old = first.begin().await?;
    let topic = old.topic(&name);
    topic.send(Payload::value(b"zombie")).await?;

    let mut second = client.producer().transactional_id(&id).build_transactional()?;
    second.run(async |t| t.topic(&name).send(Payload::value(b"new")).await.map(|_| ())).await?;

    // Whether the leader or the coordinator says so first, it is the end.
    let _ = topic.send(Payload::value(b"zombie again")).await;
    let Err(error) = old.commit().await else { fail!("a fenced producer committed (S9)") };
    ensure!(error.kind() == ErrorKind::Fenced, "a fenced producer is told {error}");
    ensure!(error.to_string().contains("is not committed"), "the fate is not told: {error}");
    let Err(error) = first.begin().await.map(|_| ()) else { fail!("a fenced producer began again (S9)") };
    ensure!(error.kind() == ErrorKind::Fenced, "a fenced producer is told {error}");
    first.close(CLOSE).await;
    second.close(CLOSE).await;
    let seen = backend.judge().read_committed(&name).await?;
    let values: Vec<_> = seen.into_iter().filter_map(|record| record.value).collect();
    ensure!(values == ["new"], "{values:?} are seen (S9)");
    Ok(())
}

/// F33, F35: whoever is told that a transaction is committed finds it in the log at once, whatever the coordinator has said.
pub(super) async fn a_commit_that_returns_is_in_the_log(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("told", 2).await?;
    let mut random = backend.random("ends");
    let client = backend.client().build()?;
    // Or a coordinator that is silent is asked again until it has spoken.
    let builder = client.producer().transactional_id(&backend.unique("tx"));
    let mut producer = builder.max_block(Duration::from_millis(500)).build_transactional()?;
    backend.watch(producer.probe());
    let mut committed: Vec<String> = Vec::new();
    let mut unknown = None;
    for round in 0..backend.scale(6) {
        let transaction = loop {
            match producer.begin().await {
                Ok(transaction) => break transaction,
                Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::CommitUnknown) => {}
                Err(error) => fail!("begin failed with {error}"),
            }
        };
        let before = unknown.take();
        committed.extend(before.filter(|_| transaction.previous() == Some(Previous::Committed)));
        let value = format!("{round:03}");
        transaction.topic(&name).send(Payload::value(value.as_bytes())).await?;
        for _ in 0..random.below(4) {
            backend.end_without_a_word(random.percent(50));
        }
        match transaction.commit().await {
            Ok(()) => {
                committed.push(value);
                let seen = backend.judge().read_committed(&name).await?;
                let mut seen: Vec<_> = seen.into_iter().filter_map(|record| record.value).collect();
                seen.sort();
                ensure!(seen == committed, "{seen:?} are seen, and {committed:?} were committed (S1, S6)");
            }
            Err(error) if error.kind() == ErrorKind::CommitUnknown => unknown = Some(value),
            Err(error) => fail!("commit failed with {error}"),
        }
    }
    producer.close(CLOSE).await;
    Ok(())
}

/// As [`whole_or_absent`], with partitions that are registered before they are written to.
pub(super) async fn transactions_of_version_1_are_whole_or_absent(backend: &Backend) -> Result<(), Failure> {
    whole_or_absent(backend, 1).await
}

/// As [`whole_or_absent`], with an epoch for each transaction (KIP-890).
pub(super) async fn transactions_of_version_2_are_whole_or_absent(backend: &Backend) -> Result<(), Failure> {
    whole_or_absent(backend, 2).await
}

/// S6 while connections break, leaders and coordinators move and requests arrive late: records and offsets of a
/// transaction are there together or not at all, as its writer was told.
async fn whole_or_absent(backend: &Backend, version: i16) -> Result<(), Failure> {
    backend.set_transaction_version(version)?;
    let name = backend.topic("whole", backend.random("partitions").choose(&[1, 3])).await?;
    let group = backend.group("reader");
    let id = backend.unique("tx");
    let client = backend.client().build()?;
    let build = || {
        let builder = client.producer().linger(Duration::from_millis(5)).batch_size(600);
        // Longer than any trouble: a transaction must not run out of its time.
        builder.transactional_id(&id).transaction_timeout(Duration::from_secs(300)).build_transactional()
    };
    let mut random = backend.random("transactions");
    let mut producer = build()?;
    backend.watch(producer.probe());
    let mut told: Vec<Told> = Vec::new();
    let trouble = backend.trouble(&name);
    let count = backend.scale(8);
    for number in 0..count {
        if !transact(backend, &mut producer, (&name, &group), number, &mut random, &mut told).await? {
            drop(producer);
            producer = build()?;
            backend.watch(producer.probe());
        }
    }
    trouble.end().await?;
    // One more, which is told what became of the one before.
    while !transact(backend, &mut producer, (&name, &group), count, &mut random, &mut told).await? {
        producer = build()?;
    }
    producer.close(CLOSE).await;
    judge(backend, &name, &group, &told).await
}

/// One transaction. False if the producer is of no more use.
async fn transact(
    backend: &Backend,
    producer: &mut TransactionalProducer,
    (name, group): (&str, &str),
    writer: u32,
    random: &mut Random,
    told: &mut Vec<Told>,
) -> Result<bool, Failure> {
    let transaction = loop {
        match producer.begin().await {
            Ok(transaction) => break transaction,
            Err(error) if error.is_fatal() => return Ok(false),
            Err(error) => ensure!(
                matches!(error.kind(), ErrorKind::Timeout | ErrorKind::CommitUnknown),
                "begin failed with {error}"
            ),
        }
    };
    if let (Some(previous), Some(last)) = (transaction.previous(), told.last_mut()) {
        let committed = previous == Previous::Committed;
        ensure!(last.committed.is_none_or(|told| told == committed), "two ends were told of one transaction");
        last.committed = Some(committed);
    }
    let (mut end, fine) = fill(backend, &transaction, (name, group), writer, random).await?;
    let mut usable = true;
    match random.below(10) {
        0 => {
            end.committed = Some(false);
            usable = transaction.abort().await.is_ok();
        }
        1 => {
            end.committed = Some(false);
            drop(transaction);
        }
        2 => {
            let time = Duration::from_millis(random.below(200));
            if let Ok(ended) = timeout(time, transaction.commit()).await {
                usable = hear(ended, fine, &mut end)?;
            }
        }
        _ => usable = hear(transaction.commit().await, fine, &mut end)?,
    }
    backend.tell(format_args!(
        "transaction {writer}: {} records, told {:?}",
        end.records.len(),
        end.committed
    ));
    told.push(end);
    Ok(usable)
}

/// Sends records, and perhaps offsets. False if anything failed.
pub(super) async fn fill(
    backend: &Backend,
    transaction: &Transaction<'_>,
    (name, group): (&str, &str),
    writer: u32,
    random: &mut Random,
) -> Result<(Told, bool), Failure> {
    let topic = transaction.topic(name);
    let mut records = Vec::new();
    let mut fine = true;
    for number in 0..u32::try_from(1 + random.below(20))? {
        let id = RecordId { writer, number };
        let (key, value) = (id.key(), id.value());
        let payload = Payload { key: key.as_deref(), value: Some(&value), ..Payload::default() };
        match topic.enqueue(payload).await {
            Ok(delivery) => {
                drop(delivery);
                records.push(id);
            }
            Err(error) => {
                backend.tell(format_args!("enqueue of {id}: {error}"));
                fine = false;
                break;
            }
        }
    }
    let next = i64::from(writer) + 1;
    let mut offset = random.percent(70).then_some(next);
    if let Some(next) = offset {
        let next = Offset { topic: name, partition: 0, next, leader_epoch: None };
        let reader = GroupMetadata::of_no_member(group);
        let sending = transaction.send_offsets(&reader, [next]);
        // Whoever waits for them no longer has sent them all the same.
        let patience = Duration::from_millis(if random.percent(30) { 0 } else { 600_000 });
        if let Ok(Err(error)) = timeout(patience, sending).await {
            backend.tell(format_args!("offsets of {writer}: {error}"));
            (offset, fine) = (None, false);
        }
    }
    Ok((Told { records, offset, committed: None }, fine))
}

/// What a commit returned. False if the producer is of no more use.
fn hear(ended: Result<(), ottla::Error>, fine: bool, end: &mut Told) -> Result<bool, Failure> {
    match ended {
        Ok(()) => {
            ensure!(fine, "a transaction was committed although a part of it had failed");
            end.committed = Some(true);
        }
        Err(error) => match error.kind() {
            ErrorKind::Aborted => end.committed = Some(false),
            ErrorKind::CommitUnknown => {}
            _ => {
                ensure!(error.is_fatal(), "commit failed with {error}");
                end.committed = (!error.to_string().contains("is not known")).then_some(false);
                return Ok(false);
            }
        },
    }
    Ok(true)
}

pub(super) async fn judge(backend: &Backend, name: &str, group: &str, told: &[Told]) -> Result<(), Failure> {
    let mut seen: BTreeMap<RecordId, Vec<(i32, i64)>> = BTreeMap::new();
    for record in backend.judge().read_committed(name).await? {
        let value = record.value.unwrap_or_default();
        let Some(id) = RecordId::parse(&value) else { fail!("corrupt (S2): no record of ours") };
        ensure!(id.is_intact(record.key.as_deref(), &value), "corrupt (S2): {id} is not as it was sent");
        seen.entry(id).or_default().push((record.partition, record.offset));
    }
    let (mut offset, mut unsure) = (None, None);
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (number, end) in told.iter().enumerate() {
        let mut places = Vec::new();
        for id in &end.records {
            let copies = seen.remove(id).unwrap_or_default();
            ensure!(copies.len() <= 1, "duplicate (S2): {id} is seen at {copies:?}");
            places.extend(copies);
        }
        let (all, some) = (end.records.len(), places.len());
        ensure!(
            some == 0 || some == all,
            "torn (S6): {some} of {all} records of transaction {number} are seen"
        );
        for (partition, at) in places {
            let before = ends.insert(partition, at);
            ensure!(before.is_none_or(|before| before < at), "reordered (S3): {partition}:{at} of {number}");
        }
        match end.committed {
            Some(true) => {
                ensure!(some == all, "lost (S1): transaction {number} was committed and is not seen");
                offset = end.offset.or(offset);
            }
            Some(false) => ensure!(some == 0, "aborted read (S4): transaction {number} is seen"),
            // A producer that was fenced by its successor may have got through or not.
            None => {
                (offset, unsure) = if some > 0 { (end.offset.or(offset), None) } else { (offset, end.offset) }
            }
        }
    }
    ensure!(seen.is_empty(), "{} records are seen that nobody sent", seen.len());
    let committed = backend.judge().committed(group, name).await?.get(&0).copied();
    let right = committed == offset || (unsure.is_some() && committed == unsure);
    ensure!(right, "offset {committed:?} is committed, and should be {offset:?} (S6)");
    Ok(())
}

//! Where a consumer reads: seek, pause and resume.

use crate::backend::Backend;
use crate::checks::History;
use crate::record::RecordId;
use crate::traffic::write;
use crate::{Failure, ensure, fail};
use ottla::{ErrorKind, Event, Payload, PositionCause, Reset, SeekTo, When};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLOSE: Duration = Duration::from_secs(30);
/// The least that a consumer may read ahead.
const BUFFER: usize = 65_536;

/// After a seek no older record is seen (F6, fault 45); a paused partition is silent and goes on where it stopped.
pub(super) async fn seek_pause_and_resume_are_obeyed(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("seek", 1).await?;
    let history = History::default();
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &history, 0, 0..100).await?;
    producer.close(CLOSE).await;

    let mut consumer = client.consumer().group(backend.group("seek")).subscribe([&topic]).build()?;
    backend.watch(consumer.probe());
    let control = consumer.control();
    let mut expected = 0;
    for goal in [50, 10, 99, 0, 60] {
        for _ in 0..5.min(100 - expected) {
            let Some(record) = consumer.recv().await? else { fail!("the consumer ended") };
            ensure!(record.offset() == expected, "{} came, {expected} was next", record.offset());
            ensure!(RecordId::parse(record.value().unwrap_or_default()).is_some(), "no record of ours");
            expected += 1;
        }
        control.seek(&topic, 0, SeekTo::Offset(goal)).await?;
        expected = goal;
    }
    control.pause(&topic, 0).await?;
    let silence = timeout(Duration::from_secs(2), consumer.recv()).await;
    ensure!(silence.is_err(), "a paused partition was delivered");
    control.resume(&topic, 0).await?;
    let Some(record) = consumer.recv().await? else { fail!("the consumer ended") };
    ensure!(record.offset() == expected, "{} came after the pause, {expected} was next", record.offset());
    consumer.close(CLOSE).await?;
    Ok(())
}

/// A seek to a time: the first record that is not older, or what comes next if there is none.
pub(super) async fn a_time_is_found_and_what_comes_later_is_not_missed(
    backend: &Backend,
) -> Result<(), Failure> {
    let topic = backend.topic("times", 1).await?;
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    backend.watch(producer.probe());
    let (records, history) = (producer.topic(&topic), History::default());
    for part in 0..5 {
        write(backend, &records, &history, 0, part * 8..part * 8 + 8).await?;
        sleep(Duration::from_millis(30)).await;
    }
    let mut consumer = client.consumer().assign([(&topic, 0)]).build()?;
    backend.watch(consumer.probe());
    let mut times = Vec::new();
    while times.len() < 40 {
        let Some(record) = consumer.recv().await? else { fail!("the consumer ended") };
        times.push(record.timestamp());
    }
    let control = consumer.control();
    let newest = times.iter().copied().max().unwrap_or_default();
    for goal in [times[20], 0, newest, times[8]] {
        control.seek(&topic, 0, SeekTo::Time(goal)).await?;
        let expected = times.iter().position(|time| *time >= goal);
        let Some(record) = timeout(CLOSE, consumer.recv()).await?? else { fail!("the consumer ended") };
        let offset = usize::try_from(record.offset()).ok();
        ensure!(offset == expected, "{offset:?} came for {goal}, {expected:?} is the first: {times:?}");
    }
    control.seek(&topic, 0, SeekTo::Time(newest + 3_600_000)).await?;
    let silence = timeout(Duration::from_secs(2), consumer.recv()).await;
    ensure!(silence.is_err(), "a record came that is older than what was asked for");
    write(backend, &records, &history, 0, 40..41).await?;
    let Some(record) = timeout(CLOSE, consumer.recv()).await?? else { fail!("the consumer ended") };
    ensure!(record.offset() == 40, "{} came, 40 was next", record.offset());
    producer.close(CLOSE).await;
    consumer.close(CLOSE).await?;
    Ok(())
}

/// Records are deleted in front of a reader that is behind: an event carries the offsets that nobody will see (F8, fault 42).
pub(super) async fn a_log_that_is_cut_in_front_of_a_reader_is_told(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("cut", 1).await?;
    let client = backend.client().build()?;
    // Batches of one record, of which a fetch brings one: what is read ahead is a part of the log only.
    let producer = client.producer().batch_size(1).build()?;
    let value = [7; 1_000];
    let records = producer.topic(&topic);
    let mut open = ottla::Deliveries::default();
    for _ in 0..200 {
        open.push(records.enqueue(Payload::value(&value)).await?);
    }
    while let Some(written) = open.next().await {
        written?;
    }
    producer.close(CLOSE).await;

    let consumer = client.consumer().assign([(&topic, 0)]).on_out_of_range(Reset::Earliest);
    let mut consumer = consumer.max_partition_fetch_bytes(1).fetch_buffer_bytes(BUFFER).build()?;
    backend.watch(consumer.probe());
    let control = consumer.control();
    for offset in 0..10 {
        let Some(record) = consumer.recv().await? else { fail!("the consumer ended") };
        ensure!(record.offset() == offset, "{} came, {offset} was next", record.offset());
    }
    let starts = client.admin().delete_records([(&topic, 0, Some(180))]).await.all()?;
    ensure!(starts.into_values().eq([180]), "the log does not begin where it was cut");
    let mut received = 9;
    let lost = loop {
        let Some(record) = timeout(CLOSE, consumer.recv()).await?? else { fail!("the consumer ended") };
        if record.offset() != received + 1 {
            break received + 1..record.offset();
        }
        received = record.offset();
    };
    ensure!(lost.end == 180 && lost.start < 180, "records from {lost:?} are missing, the log begins at 180");
    let told = loop {
        match timeout(CLOSE, control.next_event()).await?? {
            Event::PositionChanged { from, to, lost, cause: PositionCause::OutOfRange, .. } => {
                break (from, to, lost);
            }
            _ => continue,
        }
    };
    ensure!(told == (Some(lost.start), 180, Some(lost.clone())), "{lost:?} is missing, {told:?} was told");
    consumer.close(CLOSE).await?;
    Ok(())
}

/// A topic is deleted and created again under a consumer (F16): neither its position nor its commits mean anything in the
/// new one. By default that is an error; where a reset is allowed, the new topic is read from its start.
pub(super) async fn a_topic_created_again_is_read_from_its_start(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("again", 1).await?, backend.group("again"));
    let client = backend.client().build()?;
    let builder = || client.consumer().commit_when(When::EachRecord).group(&group).subscribe([&topic]);
    let mut consumer = builder().on_out_of_range(Reset::Earliest).build()?;
    let mut strict = client.consumer().assign([(&topic, 0)]).build()?;
    backend.watch(consumer.probe());
    backend.watch(strict.probe());
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..20).await?;
    producer.close(CLOSE).await;
    for offset in 0..20 {
        for reader in [&mut consumer, &mut strict] {
            let Some(record) = reader.recv().await? else { fail!("the consumer ended") };
            ensure!(record.offset() == offset, "{} came, {offset} was next", record.offset());
        }
    }
    consumer.commit().await?;

    client.admin().delete_topics([&topic]).await.all()?;
    // Long enough for the readers to miss it, and for the cluster to clean up.
    sleep(Duration::from_secs(3)).await;
    backend.judge().create_topic(&topic, 1, &[]).await?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 1, 0..60).await?;
    producer.close(CLOSE).await;
    if !backend.knows_topic_ids() {
        // Nobody can tell the new topic from the old one.
        return Ok(());
    }
    let failed = timeout(CLOSE, strict.recv()).await?.err();
    ensure!(
        failed.as_ref().is_some_and(|error| error.kind() == ErrorKind::OffsetOutOfRange),
        "the position of the old topic was read on from: {failed:?}"
    );
    for offset in 0..60 {
        let Some(record) = timeout(CLOSE, consumer.recv()).await?? else { fail!("the consumer ended") };
        let id = RecordId::parse(record.value().unwrap_or_default());
        ensure!(id.is_some_and(|id| id.writer == 1), "{id:?} is of the old topic");
        ensure!(record.offset() == offset, "{} came, {offset} was next", record.offset());
    }
    consumer.commit().await?;
    consumer.close(CLOSE).await?;
    let committed = backend.judge().committed(&group, &topic).await?;
    ensure!(committed.get(&0) == Some(&60), "committed is {committed:?}");
    Ok(())
}

/// Seeks while fetches are under way, on a network that delays and breaks them: what comes next is what was asked for.
pub(super) async fn seeks_among_late_answers_show_nothing_older(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("seeks", 2).await?;
    let history = History::default();
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &history, 0, 0..200).await?;
    producer.close(CLOSE).await;
    let ends: Vec<_> = backend.log(&topic).await?.values().map(Vec::len).collect();

    // A session that outlives every stall: the assignment never changes. Small fetches keep answers on their way.
    let session = Duration::from_secs(120);
    let consumer =
        client.consumer().group(backend.group("seeks")).subscribe([&topic]).session_timeout(session);
    let mut consumer = consumer.max_partition_fetch_bytes(2_000).build()?;
    backend.watch(consumer.probe());
    let control = consumer.control();
    let mut random = backend.random("seeks");
    let mut expected = [0, 0];
    for _ in 0..60 {
        for _ in 0..random.below(8) {
            // What has been read to its end is silent.
            let Ok(next) = timeout(Duration::from_millis(random.below(40)), consumer.recv()).await else {
                continue;
            };
            let Some(record) = next? else { fail!("the consumer ended") };
            let place = usize::try_from(record.partition())?;
            let (offset, wanted) = (record.offset(), expected[place]);
            ensure!(offset == wanted, "{place}:{offset} came, {wanted} was next (fault 45)");
            expected[place] = offset + 1;
        }
        let place = usize::try_from(random.below(2))?;
        let goal = i64::try_from(random.below(ends[place] as u64))?;
        // Refused as long as the partition is not assigned.
        if control.seek(&topic, i32::try_from(place)?, SeekTo::Offset(goal)).await.is_ok() {
            backend.tell(format_args!("seek {place}:{goal}"));
            expected[place] = goal;
        }
    }
    // An unreachable group notices by itself that the member is gone.
    let _ = consumer.close(CLOSE).await;
    Ok(())
}

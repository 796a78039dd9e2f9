//! Replicas: what is acknowledged by enough of them stays, and what an unclean election loses is told.

use crate::backend::Backend;
use crate::checks::History;
use crate::traffic::write;
use crate::{Failure, ensure, fail};
use ottla::{Consumer, Control, ErrorKind, Event, PositionCause, Reset};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLOSE: Duration = Duration::from_secs(30);
/// In which each writer sends a few records.
const ROUNDS: u32 = 24;

/// S1 to S5 with acks=all, two replicas in sync at least and clean elections, while nodes die, are cut off from each other and
/// fall behind.
pub(super) async fn what_two_replicas_acknowledged_survives_every_clean_election(
    backend: &Backend,
) -> Result<(), Failure> {
    let configs = [("min.insync.replicas", "2")];
    let name = backend.topic_with("replicas", 1, &configs).await?;
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let producer = client.producer().linger(Duration::from_millis(20)).batch_size(400).build()?;
    backend.watch(producer.probe());
    let trouble = backend.trouble_of_replicas(&name);
    let mut writers = Vec::new();
    for writer in 0..2 {
        let (world, history, topic) = (backend.clone(), history.clone(), producer.topic(&name));
        // A few at a time, so that what is just acknowledged meets every kind of trouble.
        writers.push(backend.spawn("writer", async move {
            let mut random = world.random(&format!("writer {writer}"));
            for round in 0..ROUNDS {
                write(&world, &topic, &history, writer, round * 4..round * 4 + 4).await?;
                sleep(Duration::from_millis(random.below(300))).await;
            }
            Ok::<_, Failure>(())
        }));
    }
    for writer in writers {
        writer.join().await??;
    }
    trouble.end().await?;
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)?;
    ensure!(history.acked() > 0, "nothing was acknowledged, so that nothing could be lost");
    Ok(())
}

/// A replica that missed the second half leads when nobody else can: what only the other ones had is lost, although it was
/// acknowledged, and every reader is told. One that may go on reads what stands there now.
pub(super) async fn an_unclean_election_loses_what_it_says_and_readers_are_told(
    backend: &Backend,
) -> Result<(), Failure> {
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    let name = backend.topic_with("unclean", 1, &configs).await?;
    let (client, history) = (backend.client().build()?, History::default());
    let producer = client.producer().build()?;
    let topic = producer.topic(&name);
    let mut strict = client.consumer().assign([(&name, 0)]).build()?;
    let mut lenient = client.consumer().assign([(&name, 0)]).on_out_of_range(Reset::Earliest).build()?;
    let controls = [strict.control(), lenient.control()];
    write(backend, &topic, &history, 0, 0..20).await?;

    let leader = backend.judge().leaders(&name).await?[&0];
    let others: Vec<i32> = (1..=3).filter(|node| *node != leader).collect();
    for node in &others {
        backend.kill(*node).await?;
    }
    write(backend, &topic, &history, 0, 20..40).await?;
    producer.close(CLOSE).await;
    ensure!(history.acked() == 40, "{} of 40 records were acknowledged", history.acked());
    for reader in [&mut strict, &mut lenient] {
        read(reader, 0..40).await?;
    }
    backend.kill(leader).await?;
    backend.start_again(others[0]).await?;
    let log = backend.log(&name).await?;
    ensure!(log[&0].len() == 20, "{} records are left of 40, 20 were on the new leader", log[&0].len());

    let producer = client.producer().build()?;
    write(backend, &producer.topic(&name), &History::default(), 1, 0..10).await?;
    producer.close(CLOSE).await;
    let refused = timeout(CLOSE, strict.recv()).await?.err();
    ensure!(
        refused.as_ref().is_some_and(|error| error.kind() == ErrorKind::OffsetOutOfRange),
        "a reader of what was lost was told {refused:?}"
    );
    let Some(next) = timeout(CLOSE, lenient.recv()).await?? else { fail!("the consumer ended") };
    let next = next.offset();
    let [strict_told, lenient_told] = [told(&controls[0]).await?, told(&controls[1]).await?];
    ensure!(lenient_told.0 == Some(next), "{next} came, told of {lenient_told:?}");
    if backend.tells_truncation() {
        let cut = (None, Some(20..40), PositionCause::Truncated);
        ensure!(strict_told == cut, "told of {strict_told:?}");
        ensure!(lenient_told == (Some(20), cut.1, cut.2), "told of {lenient_told:?}");
    }
    // Without the epochs of leaders a reader can only know that its offset is not there.
    read(&mut lenient, next + 1..30).await?;
    backend.start_again(leader).await?;
    backend.start_again(others[1]).await?;
    let writers: Vec<u32> = backend.log(&name).await?[&0].iter().map(|record| record.id.writer).collect();
    ensure!(writers == [vec![0; 20], vec![1; 10]].concat(), "the log is of the writers {writers:?}");
    Ok(())
}

/// Reads these offsets, and nothing else.
async fn read(reader: &mut Consumer, offsets: Range<i64>) -> Result<(), Failure> {
    for offset in offsets {
        let Some(record) = timeout(CLOSE, reader.recv()).await?? else { fail!("the consumer ended") };
        ensure!(record.offset() == offset, "{} came, {offset} was next", record.offset());
    }
    Ok(())
}

/// The next word about a position: where it goes on, what is lost, and why.
async fn told(control: &Control) -> Result<(Option<i64>, Option<Range<i64>>, PositionCause), Failure> {
    loop {
        match timeout(CLOSE, control.next_event()).await?? {
            Event::PositionRefused { lost, cause, .. } => return Ok((None, lost, cause)),
            Event::PositionChanged { cause: PositionCause::NoCommit, .. } => {}
            Event::PositionChanged { to, lost, cause, .. } => return Ok((Some(to), lost, cause)),
            _ => {}
        }
    }
}

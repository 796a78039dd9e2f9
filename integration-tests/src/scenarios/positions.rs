//! Where a consumer reads: seek, pause and resume.

use crate::backend::Backend;
use crate::checks::History;
use crate::record::RecordId;
use crate::traffic::write;
use crate::{Failure, ensure};
use ottla::SeekTo;
use std::time::Duration;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(30);

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
            let Some(record) = consumer.recv().await? else { crate::fail!("the consumer ended") };
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
    let Some(record) = consumer.recv().await? else { crate::fail!("the consumer ended") };
    ensure!(record.offset() == expected, "{} came after the pause, {expected} was next", record.offset());
    consumer.close(CLOSE).await?;
    Ok(())
}

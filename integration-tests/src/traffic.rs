//! Users of the client as scenarios need them: writers whose records can be judged, and readers that judge at once.
//!
//! It turns what the client says into history: how each send ended, what was received, what was finished. Invariant: a
//! history says that a record is finished before the client can know it, and that a send is accepted after it was.

use crate::backend::Backend;
use crate::checks::{Ending, History};
use crate::record::RecordId;
use crate::{Failure, ensure, fail};
use ottla::{Delivery, Outcome, Payload, Topic};
use std::collections::VecDeque;
use std::ops::Range;

/// Deliveries that a writer waits for at most.
const WINDOW: usize = 40;

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

//! What users get wrong: a typed error with a name in it, by the deadline, and nothing else is harmed.

use crate::backend::Backend;
use crate::checks::{Ending, History};
use crate::record::RecordId;
use crate::traffic::{enqueue, write};
use crate::{Failure, ensure, fail};
use ottla::{ErrorKind, Outcome, Payload};
use std::time::Duration;
use tokio::time::Instant;

const CLOSE: Duration = Duration::from_secs(30);

/// One record above max.request.size is refused before it is sent; the records around it arrive.
pub(super) async fn a_record_that_is_too_large_is_refused_alone(backend: &Backend) -> Result<(), Failure> {
    let name = backend.topic("large", 1).await?;
    let client = backend.client().build()?;
    let producer = client.producer().max_request_size(10_000).build()?;
    let topic = producer.topic(&name);
    let history = History::default();
    write(backend, &topic, &history, 0, 0..10).await?;
    let large = vec![b'x'; 20_000];
    let refused = topic.send(Payload { value: Some(&large), ..Payload::default() }).await;
    let Err(error) = refused else { fail!("20,000 bytes passed a limit of 10,000") };
    ensure!(error.kind() == ErrorKind::RecordTooLarge, "{error}");
    ensure!(error.outcome() == Some(Outcome::NotWritten), "{error}: {:?}", error.outcome());
    ensure!(error.to_string().contains(&name), "the topic is not in {error}");
    write(backend, &topic, &history, 0, 10..20).await?;
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)
}

/// One record above max.message.bytes of the topic: the broker refuses its batch, and the records around it arrive all the
/// same (fault 13).
pub(super) async fn a_record_above_the_topics_limit_is_rejected_alone(
    backend: &Backend,
) -> Result<(), Failure> {
    let name = backend.topic_with("limit", 1, &[("max.message.bytes", "2000")]).await?;
    let client = backend.client().build()?;
    let producer = client.producer().linger(Duration::from_secs(20)).batch_size(100_000).build()?;
    backend.watch(producer.probe());
    let topic = producer.topic(&name);
    let history = History::default();
    let large = vec![b'x'; 3_000];
    let mut around = Vec::new();
    for number in 0..10 {
        let id = RecordId { writer: 0, number };
        around.push((id, enqueue(&topic, id).await?));
        history.sending(id);
    }
    let refused = topic.enqueue(Payload { value: Some(&large), ..Payload::default() }).await?;
    for number in 10..20 {
        let id = RecordId { writer: 0, number };
        around.push((id, enqueue(&topic, id).await?));
        history.sending(id);
    }
    producer.flush(CLOSE).await?;
    let Err(error) = refused.await else { fail!("3,000 bytes passed a limit of 2,000") };
    ensure!(error.kind() == ErrorKind::RecordTooLarge, "{error}");
    ensure!(error.outcome() == Some(Outcome::Rejected), "{error}: {:?}", error.outcome());
    let text = error.to_string();
    ensure!(text.contains(&name) && text.contains("max.message.bytes"), "topic or limit is not in {text}");
    for (id, delivery) in around {
        let written = delivery.await?;
        history.ended(id, Ending::Written { partition: written.partition, offset: written.offset });
    }
    producer.close(CLOSE).await;
    history.check_sends(&backend.log(&name).await?, true)
}

/// A topic that nobody created: no automatic creation, no hang.
pub(super) async fn an_unknown_topic_fails_by_the_deadline(backend: &Backend) -> Result<(), Failure> {
    let client = backend.client().build()?;
    let producer = client.producer().max_block(Duration::from_secs(3)).build()?;
    let name = backend.unique("never-created");
    let asked = Instant::now();
    let sent = producer.topic(&name).send(Payload { value: Some(b"v"), ..Payload::default() }).await;
    let Err(error) = sent else { fail!("a record went to a topic that does not exist") };
    ensure!(asked.elapsed() < Duration::from_secs(6), "it took {:?}", asked.elapsed());
    ensure!(error.kind() == ErrorKind::UnknownTopic, "{error}");
    ensure!(error.outcome() == Some(Outcome::NotWritten), "{error}: {:?}", error.outcome());
    ensure!(error.to_string().contains(&name), "the topic is not in {error}");
    producer.close(CLOSE).await;
    Ok(())
}

/// Nobody listens at the address.
pub(super) async fn an_address_without_a_broker_fails_by_the_deadline(
    backend: &Backend,
) -> Result<(), Failure> {
    // Port 1 is not used by anything on a test machine, and not by a simulated node.
    let client = backend.client_at("127.0.0.1:1").build()?;
    let producer = client.producer().max_block(Duration::from_secs(3)).build()?;
    let asked = Instant::now();
    let sent = producer.topic("any").send(Payload { value: Some(b"v"), ..Payload::default() }).await;
    let Err(error) = sent else { fail!("a record went to nobody") };
    ensure!(asked.elapsed() < Duration::from_secs(6), "it took {:?}", asked.elapsed());
    ensure!(error.outcome() == Some(Outcome::NotWritten), "{error}: {:?}", error.outcome());
    ensure!(error.to_string().contains("127.0.0.1:1"), "the address is not in {error}");
    producer.close(CLOSE).await;
    Ok(())
}

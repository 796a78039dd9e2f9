//! A test of a service, with a broker of three nodes in the process of the test. In a project of yours, `main` would
//! be a `#[tokio::test]`; here, both `cargo run --example test_broker` and `cargo test` run it.

use std::time::Duration;

use ottla::{Client, Payload};
use ottla_broker::TestBroker;
use ottla_examples::Failure;

#[cfg_attr(not(test), tokio::main)]
#[cfg_attr(test, tokio::test)]
async fn main() -> Result<(), Failure> {
    let broker = TestBroker::builder().nodes(3).topic("orders", 6).start().await?;
    let client = Client::builder().bootstrap(broker.bootstrap()).build()?;

    let producer = client.producer().build()?;
    producer.topic("orders").send(Payload::new(b"4711", b"one cup of coffee")).await?;

    broker.kill_node(1).await; // whatever it led, another node leads now
    producer.topic("orders").send(Payload::new(b"4711", b"another one")).await?;

    let mut consumer = client.consumer().group("billing").subscribe(["orders"]).build()?;
    let first = consumer.recv().await?.ok_or("closed")?;
    assert_eq!(first.value(), Some(&b"one cup of coffee"[..]));
    let second = consumer.recv().await?.ok_or("closed")?;
    assert_eq!(second.value(), Some(&b"another one"[..]));
    consumer.close(Duration::from_secs(10)).await?;

    // The broker can be looked into: the record in hand was not finished.
    assert_eq!(broker.committed("billing").values().sum::<i64>(), 1);
    Ok(())
}

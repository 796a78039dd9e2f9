//! Produces a record to a broker in the same process, and reads it back.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = ottla_broker::TestBroker::builder().topic("orders", 3).start().await?;
    let client = ottla::Client::builder().bootstrap(broker.bootstrap()).build()?;

    let producer = client.producer().build()?;
    producer.topic("orders").send(ottla::Payload::new(b"4711", b"one cup of coffee")).await?;

    let mut consumer = client.consumer().group("billing").subscribe(["orders"]).build()?;
    let record = consumer.recv().await?.ok_or("the consumer ended")?;
    assert_eq!(record.value(), Some(&b"one cup of coffee"[..]));
    println!("outside: 1 produced, 1 consumed");
    Ok(())
}

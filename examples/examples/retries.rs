//! Retries without duplicates: answers get lost, brokers refuse for a while, and each record is written once all the same.
//! It needs a broker that makes trouble when it is told to, so it always brings its own.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Client, Deliveries, ErrorCode, Payload};
use ottla_broker::{Fault, TestBroker};
use ottla_examples::Failure;
use ottla_protocol::api::ApiKey;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let broker = TestBroker::builder().nodes(3).topic("orders", 1).start().await?;
    // The broker has written the batch, and the connection breaks before it says so: what is sent again it has already.
    broker.fault(Fault::on(ApiKey::PRODUCE).skip(2).times(3).cut_answer());
    // The request does not even arrive.
    broker.fault(Fault::on(ApiKey::PRODUCE).skip(9).times(2).cut());
    // It arrives, and is refused for now.
    broker.fault(Fault::on(ApiKey::PRODUCE).skip(14).times(2).fail(ErrorCode::NOT_ENOUGH_REPLICAS));

    let client = Client::builder().bootstrap(broker.bootstrap()).build()?;
    // All of this is the default: idempotent, acks=all, retries until delivery.timeout.ms is over.
    let producer = client.producer().batch_size(2_000).build()?;
    let orders = producer.topic("orders");
    let mut deliveries = Deliveries::default();
    for number in 0..5_000_u32 {
        deliveries.push(orders.enqueue(Payload::value(&number.to_be_bytes())).await?);
    }
    while let Some(delivery) = deliveries.next().await {
        delivery?; // not one of them fails
    }

    let log = broker.log("orders", 0)?;
    let numbers = log.iter().map(|record| record.value.as_deref().unwrap_or_default().to_vec());
    let in_order = numbers.eq((0..5_000_u32).map(|number| number.to_be_bytes().to_vec()));
    let metrics = producer.metrics();
    println!("{} batches were sent again", metrics.retries);
    println!("{} records are in the log, each once and in order: {in_order}", log.len());
    producer.close(Duration::from_secs(10)).await;
    Ok(())
}

//! Manages a cluster: topics created, described and deleted, offsets and groups looked up.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{ErrorCode, IsolationLevel, NewTopic, OffsetSpec, Payload};
use ottla_examples::{Failure, Playground, fresh_name};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(1).await?;
    // Each call ends within this time, and retries until then whatever may be retried.
    let admin = playground.client.admin().with_deadline(Duration::from_secs(20));

    let cluster = admin.describe_cluster().await?;
    for node in &cluster.nodes {
        println!("node {} at {}:{}", node.id, node.host, node.port);
    }

    // Each topic has a result of its own; `all` is for those who want everything or the first error.
    let orders = fresh_name("orders")?;
    let new = NewTopic::new(&orders).partitions(6).config("retention.ms", "86400000");
    admin.create_topics([new.clone()]).await.all()?;
    match admin.create_topics([new]).await.take(orders.as_str()) {
        Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
            println!("as expected: {error}")
        }
        result => drop(result?),
    }

    let producer = playground.client.producer().build()?;
    producer.topic(&orders).send(Payload::new(b"4711", b"one cup of coffee")).await?;
    producer.close(Duration::from_secs(10)).await;

    let description = admin.describe_topics([&orders]).await.take(orders.as_str())?;
    let partitions = description.topic_partitions();
    let ends = admin.list_offsets(partitions, OffsetSpec::Latest, IsolationLevel::ReadUncommitted).await;
    for ((topic, partition), end) in ends.all()? {
        println!("{topic}-{partition} ends at {:?}", end.offset);
    }
    println!("{} groups", admin.list_groups().await?.len());

    admin.delete_topics([orders]).await.all()?;
    playground.close().await
}

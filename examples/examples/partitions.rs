//! Two consumers of a group, each with a task for each of its partitions, until Ctrl-C or until everything is read.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla::{Consumer, Control, Done, PartitionStream, Payload, When};
use ottla_examples::{Failure, Playground};

const RECORDS: u32 = 2_000;
static DONE: AtomicU32 = AtomicU32::new(0);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(4).await?;
    let (mut controls, mut members) = (Vec::new(), Vec::new());
    for member in ["one", "two"] {
        let consumer = playground.client.consumer().group(&playground.group).subscribe([&playground.topic]);
        // A stream knows nothing of what becomes of its records: each is acknowledged.
        let consumer = consumer.finish_on(Done::OnAck).commit_when(When::Every(Duration::from_secs(1)));
        // By heartbeats members learn that another one has come.
        let consumer = consumer.heartbeat_interval(Duration::from_millis(200)).build()?;
        controls.push(consumer.control());
        members.push(tokio::spawn(serve(member, consumer)));
    }
    for control in &controls {
        control.wait_assigned().await?;
    }

    let producer = playground.client.producer().build()?;
    for number in 0..RECORDS {
        let key = number.to_be_bytes();
        let order = Payload::keyed(&key, b"an order");
        drop(producer.topic(&playground.topic).enqueue(order).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    while DONE.load(Ordering::Relaxed) < RECORDS {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    controls.iter().for_each(Control::close);
    for member in members {
        member.await??;
    }
    let committed = playground.client.admin().committed_offsets(&playground.group).await?;
    println!("{} committed", committed.values().map(|committed| committed.offset).sum::<i64>());
    playground.close().await
}

/// Starts a task for each partition that the group gives.
async fn serve(member: &'static str, consumer: Consumer) -> Result<(), Failure> {
    let mut partitions = consumer.into_partitions()?;
    let mut tasks = Vec::new();
    while let Some(partition) = partitions.next().await {
        tasks.push(tokio::spawn(work(member, partition?)));
    }
    for task in tasks {
        task.await??;
    }
    // Commits what is acknowledged, and leaves the group.
    Ok(partitions.close(Duration::from_secs(10)).await?)
}

/// One slow record holds up its partition, and no other.
async fn work(member: &str, mut records: PartitionStream) -> Result<(), Failure> {
    let mut own = 0;
    while let Some(record) = records.next().await {
        let counts = record?.ack();
        own += 1;
        DONE.fetch_add(counts.into(), Ordering::Relaxed);
    }
    println!("{member} had {own} of partition {}, until it was {:?}", records.partition(), records.end());
    Ok(())
}

//! Hooks: what a member keeps for each partition is made when the partition comes, and handed on before it goes.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{Control, HookError, Payload, RebalanceHooks, When};
use ottla_examples::{Failure, Playground};

/// Counts of one member, by partition: made, written down and dropped by its hooks.
#[derive(Clone)]
struct Counts {
    member: &'static str,
    open: Arc<Mutex<BTreeMap<i32, u64>>>,
    written: Arc<Mutex<BTreeMap<i32, u64>>>,
}

impl RebalanceHooks for Counts {
    async fn assigned(&self, _: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
        for (_, partition) in partitions {
            let before = self.written.lock().map_err(|_| "poisoned")?.get(partition).copied().unwrap_or(0);
            println!("{}: partition {partition} comes, {before} were counted so far", self.member);
            self.open.lock().map_err(|_| "poisoned")?.insert(*partition, before);
        }
        Ok(())
    }

    async fn revoked(&self, control: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
        // Nobody else has them before this returns: the commit and the counts go together.
        control.commit().await?;
        for (_, partition) in partitions {
            let count = self.open.lock().map_err(|_| "poisoned")?.remove(partition).unwrap_or(0);
            println!("{}: partition {partition} goes, {count} are written down", self.member);
            self.written.lock().map_err(|_| "poisoned")?.insert(*partition, count);
        }
        Ok(())
    }
}

/// Reads as a new member of the group until it has counted this many records, and leaves.
async fn work(playground: &Playground, counts: Counts, until: u64) -> Result<(), Failure> {
    let consumer = playground.client.consumer().group(&playground.group).subscribe([&playground.topic]);
    let consumer = consumer.commit_when(When::Manual).rebalance_hooks(counts.clone());
    let mut consumer = consumer.build()?;
    for _ in 0..until {
        let record = consumer.recv().await?.ok_or("closed")?;
        let partition = record.partition();
        *counts.open.lock().map_err(|_| "poisoned")?.entry(partition).or_insert(0) += 1;
        // It is counted, so it is finished, whatever comes next.
        record.commit().await?;
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(2).await?;
    let producer = playground.client.producer().build()?;
    for number in 0..100_u32 {
        let (value, partition) = (number.to_be_bytes(), Some(i32::from(number % 2 == 0)));
        let payload = Payload { partition, ..Payload::value(&value) };
        drop(producer.topic(&playground.topic).enqueue(payload).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let written = Arc::<Mutex<BTreeMap<i32, u64>>>::default();
    for (member, until) in [("first", 37), ("second", 63)] {
        let counts = Counts { member, open: Arc::default(), written: written.clone() };
        work(&playground, counts, until).await?;
    }
    let all: u64 = written.lock().map_err(|_| "poisoned")?.values().sum();
    println!("{all} records were counted, each once");
    playground.close().await
}

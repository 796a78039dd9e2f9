//! Exactly once into a file, which holds a sum and the offsets behind its records, and is replaced as a whole.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla::{HookError, OffsetStore, Payload, When};
use ottla_examples::{Failure, Playground, fresh_name};

/// A line with the sum, and one for each partition with the offset that comes next.
struct File(PathBuf);

fn read(path: &Path) -> Result<(u64, BTreeMap<i32, i64>), HookError> {
    let text = if path.exists() { std::fs::read_to_string(path)? } else { "0".to_owned() };
    let mut lines = text.lines();
    let sum = lines.next().unwrap_or("0").parse()?;
    let mut next = BTreeMap::new();
    for line in lines {
        let (partition, offset) = line.split_once(' ').ok_or("a line without an offset")?;
        next.insert(partition.parse()?, offset.parse()?);
    }
    Ok((sum, next))
}

/// Readers see the old file or the new one, and nothing in between.
fn write(path: &Path, sum: u64, next: &BTreeMap<i32, i64>) -> Result<(), HookError> {
    let lines: String = next.iter().map(|(partition, offset)| format!("{partition} {offset}\n")).collect();
    std::fs::write(path.with_extension("new"), format!("{sum}\n{lines}"))?;
    Ok(std::fs::rename(path.with_extension("new"), path)?)
}

impl OffsetStore for File {
    async fn load(&self, partitions: &[(String, i32)]) -> Result<BTreeMap<(String, i32), i64>, HookError> {
        let (_, next) = read(&self.0)?;
        let of = |place: &(String, i32)| Some((place.clone(), *next.get(&place.1)?));
        Ok(partitions.iter().filter_map(of).collect())
    }
}

/// Adds up at most `count` records, and stores after each ten.
async fn work(playground: &Playground, path: &Path, count: usize) -> Result<(), Failure> {
    // The group shares the partitions; where they begin is in the file.
    let consumer = playground.client.consumer().group(&playground.group).subscribe([&playground.topic]);
    let mut consumer = consumer.commit_when(When::Manual).offset_store(File(path.to_owned())).build()?;
    let (mut sum, mut next) = read(path)?;
    for number in 1..=count {
        let record = consumer.recv().await?.ok_or("closed")?;
        let value: [u8; 8] = record.value().unwrap_or_default().try_into()?;
        sum += u64::from_be_bytes(value);
        next.insert(record.partition(), record.offset() + 1);
        if number % 10 == 0 {
            write(path, sum, &next)?;
        }
    }
    // What was not stored is lost, as in a crash, and is read again.
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(2).await?;
    let producer = playground.client.producer().build()?;
    for number in 1..=100_u64 {
        let (value, partition) = (number.to_be_bytes(), Some(i32::from(number % 2 == 0)));
        let payload = Payload { partition, ..Payload::value(&value) };
        drop(producer.topic(&playground.topic).enqueue(payload).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let path = std::env::temp_dir().join(fresh_name("ottla-sum")?);
    work(&playground, &path, 37).await?;
    println!("after 37 records the file says {:?}", read(&path)?);
    work(&playground, &path, 70).await?;
    println!("the sum of 1 to 100 is {}, each counted once", read(&path)?.0);
    std::fs::remove_file(&path)?;
    playground.close().await
}

//! Consume, transform, produce: every input has its effect once, though members crash, join and leave and brokers fail.

use super::group::protocol;
use crate::backend::Backend;
use crate::random::Random;
use crate::record::RecordId;
use crate::traffic::pipeline;
use crate::{Failure, ensure, fail};
use ottla::{OwnedRecord, Payload, Pipeline, Step, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLOSE: Duration = Duration::from_secs(30);

/// Three stages, each a group of two members that crash and are replaced: what comes out is what went in, once, in order.
pub(super) async fn a_chain_of_pipelines_loses_and_doubles_nothing(backend: &Backend) -> Result<(), Failure> {
    let mut topics = Vec::new();
    for name in ["one", "two", "three", "four"] {
        topics.push(backend.topic(name, 2).await?);
    }
    let count = backend.scale(60);
    let over = Arc::new(AtomicBool::new(false));
    let names = Arc::new(AtomicU32::new(0));
    let trouble = backend.trouble(&topics[1]);
    let mut workers = Vec::new();
    for (stage, pair) in topics.windows(2).enumerate() {
        let group = backend.group("stage");
        for member in 0..2_u64 {
            let worker = Worker {
                backend: backend.clone(),
                group: group.clone(),
                from: pair[0].clone(),
                to: pair[1].clone(),
                random: backend.random(&format!("worker {stage} {member}")),
                over: over.clone(),
                names: names.clone(),
            };
            workers.push(backend.spawn("worker", worker.work()));
        }
    }
    fill(backend, &topics[0], count).await?;
    trouble.end().await?;
    // However long it takes: the run has a limit of its own.
    while backend.judge().read_committed(&topics[3]).await?.len() < count as usize {
        sleep(Duration::from_millis(500)).await;
    }
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().await??;
    }
    judge(backend, &topics[3], count).await
}

async fn fill(backend: &Backend, topic: &str, count: u32) -> Result<(), Failure> {
    let producer = backend.client().build()?.producer().linger(Duration::from_millis(5)).build()?;
    backend.watch(producer.probe());
    let topic = producer.topic(topic);
    for number in 0..count {
        let id = RecordId { writer: number % 2, number: number / 2 };
        let partition = i32::try_from(number % 2)?;
        let payload = Payload { value: Some(&id.value()), partition: Some(partition), ..Payload::default() };
        topic.enqueue(payload).await?.await?;
    }
    producer.close(CLOSE).await;
    Ok(())
}

/// A member of a stage, which is started again whenever it has crashed.
struct Worker {
    backend: Backend,
    group: String,
    from: String,
    to: String,
    random: Random,
    over: Arc<AtomicBool>,
    names: Arc<AtomicU32>,
}

impl Worker {
    async fn work(mut self) -> Result<(), Failure> {
        // A member that comes back is the same one: its new producer fences the old.
        let id = self.backend.unique(&format!("tx-{}", self.names.fetch_add(1, Ordering::Relaxed)));
        while !self.over.load(Ordering::Relaxed) {
            let mut pipeline = self.start(&id)?;
            let steps = 1 + self.random.below(12);
            if let Err(error) = self.live(&mut pipeline, steps).await {
                // As a supervisor would: a new one.
                self.backend.tell(format_args!("a worker of {} ends with {error}", self.group));
            }
            match self.random.below(3) {
                0 => pipeline.close(CLOSE).await.or_else(|error| match error.is_retriable() {
                    true => Ok(()),
                    false => Err(error),
                })?,
                // A crash.
                _ => drop(pipeline),
            }
            sleep(Duration::from_millis(self.random.below(300))).await;
        }
        Ok(())
    }

    fn start(&self, id: &str) -> Result<Pipeline, Failure> {
        let client = self.backend.client().build()?;
        let pipeline =
            pipeline(&client, &self.group, &self.from, id, Duration::from_secs(10), protocol(&self.backend))?;
        self.backend.watch(pipeline.probe());
        Ok(pipeline)
    }

    async fn live(&mut self, pipeline: &mut Pipeline, steps: u64) -> Result<(), ottla::Error> {
        for _ in 0..steps {
            if self.over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let gives_up = self.random.percent(5);
            let (to, slow) = (&self.to, self.random.below(30));
            let work = async |records: &[OwnedRecord], transaction: &Transaction<'_>| {
                let topic = transaction.topic(to);
                for record in records {
                    let payload = Payload {
                        value: record.value().map(|value| &value[..]),
                        partition: Some(record.partition()),
                        ..Payload::default()
                    };
                    drop(topic.enqueue(payload).await?);
                }
                sleep(Duration::from_millis(slow)).await;
                Ok::<usize, ottla::Error>(records.len())
            };
            let step = pipeline.step(10, Duration::from_millis(20), work);
            let patience = Duration::from_millis(if gives_up { self.random.below(100) } else { 2_000 });
            // A step that is given up is one of the crashes that a pipeline survives.
            let Ok(step) = timeout(patience, step).await else { continue };
            match step? {
                Some(Step::Committed(records)) => {
                    self.backend.tell(format_args!("{} moved {records} records", self.group));
                }
                Some(Step::Repeated(reason)) => {
                    self.backend.tell(format_args!("{} starts over: {reason}", self.group));
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

async fn judge(backend: &Backend, topic: &str, count: u32) -> Result<(), Failure> {
    let mut next: BTreeMap<i32, u32> = BTreeMap::new();
    for record in backend.judge().read_committed(topic).await? {
        let value = record.value.unwrap_or_default();
        let Some(id) = RecordId::parse(&value) else { fail!("corrupt (S2): no record of ours") };
        let expected = next.entry(record.partition).or_default();
        ensure!(
            id.number == *expected && i32::try_from(id.writer) == Ok(record.partition),
            "partition {} has {id} where number {expected} belongs (S2, S3, S6)",
            record.partition
        );
        *expected += 1;
    }
    let seen: u32 = next.values().sum();
    ensure!(seen == count, "{seen} of {count} records came out (S1)");
    Ok(())
}

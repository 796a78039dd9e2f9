//! Offsets that the application keeps with its results: each record is in the results once, whoever crashes.

use super::group::{CATCH_UP_OVER_GHOSTS, protocol};
use crate::backend::Backend;
use crate::checks::History;
use crate::random::Random;
use crate::record::RecordId;
use crate::traffic::{receive, short_sessions, write};
use crate::{Failure, ensure, fail};
use ottla::{ConsumerBuilder, ErrorKind, HookError, OffsetStore, Record, SeekTo, When};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CLOSE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// A database: results and offsets, which change together.
#[derive(Default)]
struct Table {
    next: BTreeMap<(String, i32), i64>,
    /// How often each record is in the results.
    counted: BTreeMap<RecordId, u32>,
}

/// What a consumer knows of it. Now and then it cannot be read.
struct Database {
    table: Arc<Mutex<Table>>,
    backend: Backend,
    random: Mutex<Random>,
}

impl OffsetStore for Database {
    async fn load(&self, partitions: &[(String, i32)]) -> Result<BTreeMap<(String, i32), i64>, HookError> {
        let time = self.random.lock().below(150);
        sleep(Duration::from_millis(time)).await;
        if self.random.lock().percent(10) {
            return Err("the database is away".into());
        }
        let next = self.table.lock().next.clone();
        self.backend.tell(format_args!("{partitions:?} begin at {next:?}"));
        Ok(next)
    }
}

impl Table {
    /// Puts a record into the results. In a group only from where the results end: whoever was cut off is told to go on there.
    fn add(&mut self, record: &Record<'_>, in_group: bool) -> Result<Option<i64>, Failure> {
        let key = (record.topic().to_owned(), record.partition());
        let next = self.next.get(&key).copied().unwrap_or(0);
        ensure!(record.offset() <= next, "lost: {key:?} goes from {next} to {}", record.offset());
        if in_group && record.offset() != next {
            return Ok(Some(next));
        }
        let Some(id) = RecordId::parse(record.value().unwrap_or_default()) else {
            fail!("no record of ours")
        };
        *self.counted.entry(id).or_insert(0) += 1;
        self.next.insert(key, record.offset() + 1);
        Ok(None)
    }

    fn check(&self, count: u32) -> Result<(), Failure> {
        let twice = self.counted.iter().find(|(_, times)| **times != 1);
        ensure!(twice.is_none(), "doubled: {twice:?}");
        ensure!(self.counted.len() == count as usize, "{} of {count} are in the results", self.counted.len());
        Ok(())
    }
}

/// Consumers crash between any two steps, in a group and without one. The group's commits, where there are any, decide nothing.
pub(super) async fn results_hold_each_record_once_through_crashes(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("stored", PARTITIONS).await?;
    let group = backend.group("stored");
    let tables: [Arc<Mutex<Table>>; 2] = [Arc::default(), Arc::default()];
    let count = backend.scale(150);
    let trouble = backend.trouble(&topic);
    let mut tasks = Vec::new();
    for (place, in_group) in [(0, true), (1, true), (2, false)] {
        let table = tables[usize::from(in_group)].clone();
        let (world, topic, group) = (backend.clone(), topic.clone(), group.clone());
        tasks.push(backend.spawn("reader", async move {
            let end = Instant::now() + CATCH_UP_OVER_GHOSTS;
            let mut random = world.random(&format!("stored {place}"));
            let mut life = 0;
            while table.lock().counted.len() < count as usize {
                ensure!(Instant::now() < end, "no progress (L2): {} counted", table.lock().counted.len());
                life += 1;
                let builder = world.client().build()?.consumer().commit_when(When::Manual);
                let consumer = if in_group {
                    // Its commits would begin elsewhere.
                    let when = random.choose(&[When::Manual, When::Every(Duration::from_secs(1))]);
                    short_sessions(builder, protocol(&world))
                        .group(&group)
                        .subscribe([&topic])
                        .commit_when(when)
                } else {
                    builder.assign((0..PARTITIONS).map(|partition| (&topic, partition)))
                };
                let whims = Mutex::new(world.random(&format!("database {place} {life}")));
                let database = Database { table: table.clone(), backend: world.clone(), random: whims };
                live(&world, consumer.offset_store(database), &table, in_group, count, &mut random).await?;
            }
            Ok::<_, Failure>(())
        }));
    }
    let producer = backend.client().build()?.producer().build()?;
    backend.watch(producer.probe());
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..count).await?;
    producer.close(CLOSE).await;
    trouble.end().await?;
    for task in tasks {
        task.join().await??;
    }
    for table in tables {
        table.lock().check(count)?;
    }
    Ok(())
}

/// One life of a consumer, with a random end.
async fn live(
    backend: &Backend,
    consumer: ConsumerBuilder,
    table: &Mutex<Table>,
    in_group: bool,
    count: u32,
    random: &mut Random,
) -> Result<(), Failure> {
    let mut consumer = consumer.build()?;
    backend.watch(consumer.probe());
    let control = consumer.control();
    let mut left = 1 + random.below(u64::from(count) / 2);
    while left > 0 && table.lock().counted.len() < count as usize {
        let record = match timeout(Duration::from_millis(500), consumer.recv()).await {
            Ok(Ok(Some(record))) => record,
            // The store could not be read: nothing was delivered, and another life begins.
            Ok(Err(error)) if error.kind() == ErrorKind::OffsetStore => break,
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(None)) => break,
            // Whoever dies while it joins holds a classic group up for minutes.
            Err(_) => continue,
        };
        left -= 1;
        receive(backend, &record, &History::default(), 0)?;
        if random.percent(10) {
            let time = random.below(300);
            sleep(Duration::from_millis(time)).await;
        }
        if random.percent(3) {
            break;
        }
        let behind = table.lock().add(&record, in_group)?;
        if let Some(next) = behind {
            // It may be lost already.
            let _ = control.seek(record.topic(), record.partition(), SeekTo::Offset(next)).await;
        }
    }
    Ok(())
}

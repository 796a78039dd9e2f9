//! One broker of three is slow or silent, and leads one partition of twelve: the other eleven go on as before. The time is
//! the simulator's, so rates can be compared; each seed has a network of its own, whose whims the mean over some evens out.
#![allow(clippy::print_stdout, reason = "says what was compared")]

use ottla::{Client, Deliveries, NewTopic, Payload, Topic};
use ottla_integration_tests::Failure;
use ottla_integration_tests::cluster::SimulatedCluster;
use ottla_integration_tests::world::{Options, Simulation, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PARTITIONS: i32 = 12;
const SLOW: i32 = 2;
/// Records of one writer that are on their way at once.
const WINDOW: usize = 50;
const SEEDS: u64 = 8;

/// What the partitions other than the first have got acknowledged, and how long that took in all.
#[derive(Default)]
struct Count {
    records: AtomicU64,
    waited: AtomicU64,
}

impl Count {
    /// Records a virtual second over a while from now, and their mean time to the acknowledgement in microseconds.
    async fn measure(&self, time: Duration) -> (u64, u64) {
        let before = (self.records.load(Ordering::Relaxed), self.waited.load(Ordering::Relaxed));
        sleep(time).await;
        let records = self.records.load(Ordering::Relaxed) - before.0;
        let waited = self.waited.load(Ordering::Relaxed) - before.1;
        (records / time.as_secs(), waited / records.max(1))
    }
}

/// The others' records a second and their waits in microseconds, before the trouble and then, summed over the seeds.
#[derive(Default)]
struct Sums {
    rate: AtomicU64,
    wait: AtomicU64,
    rate_then: AtomicU64,
    wait_then: AtomicU64,
}

/// Writes to one partition until it is told to stop, as fast as the producer takes it, with a bounded window.
async fn write(topic: Topic, partition: i32, count: Arc<Count>, until: Instant) -> Result<(), ottla::Error> {
    let value = [b'x'; 4_000];
    let (mut window, mut since) = (Deliveries::default(), std::collections::VecDeque::new());
    while Instant::now() < until {
        let payload = Payload { partition: Some(partition), ..Payload::value(&value) };
        window.push(topic.enqueue(payload).await?);
        since.push_back(Instant::now());
        // The writer of the slow partition does not wait for what it sent: only memory holds it back.
        while partition > 0 && window.len() >= WINDOW {
            window.next().await.transpose()?;
            count.records.fetch_add(1, Ordering::Relaxed);
            let waited = since.pop_front().map_or(0, |since| since.elapsed().as_micros());
            count.waited.fetch_add(u64::try_from(waited).unwrap_or(0), Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn scenario(
    simulation: Simulation,
    buffer_memory: usize,
    trouble: fn(&SimulatedCluster),
    sums: Arc<Sums>,
) -> Result<(), Failure> {
    let cluster = SimulatedCluster::start(&simulation)?;
    let client = Client::builder().bootstrap(cluster.bootstrap()).world(Arc::new(simulation.clone()));
    let client = client.request_timeout(Duration::from_secs(60)).build()?;
    client.admin().create_topics([NewTopic::new("t").partitions(PARTITIONS)]).await.all()?;
    cluster.lead_first_alone("t", SLOW);
    let producer = client.producer().buffer_memory(buffer_memory).build()?;
    simulation.probe(producer.probe());
    let (topic, count) = (producer.topic("t"), Arc::new(Count::default()));
    let until = Instant::now() + Duration::from_secs(12);
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let work = write(topic.clone(), partition, count.clone(), until);
            simulation.spawn("writer", work)
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let (rate, wait) = count.measure(Duration::from_secs(2)).await;
    trouble(&cluster);
    sleep(Duration::from_secs(4)).await;
    let (rate_then, wait_then) = count.measure(Duration::from_secs(4)).await;
    println!("{rate} records/s in {wait} us before, {rate_then} in {wait_then} us then");
    cluster.heal();
    for writer in writers {
        writer.await?.transpose()?;
    }
    producer.close(Duration::from_secs(60)).await;
    cluster.stop();
    let Sums { rate: rates, wait: waits, rate_then: rates_then, wait_then: waits_then } = &*sums;
    for (sum, part) in [(rates, rate), (waits, wait), (rates_then, rate_then), (waits_then, wait_then)] {
        sum.fetch_add(part, Ordering::Relaxed);
    }
    Ok(())
}

fn check(buffer_memory: usize, trouble: fn(&SimulatedCluster)) {
    let sums = Arc::new(Sums::default());
    for seed in 0..SEEDS {
        let options = Options { heals_after: None, lines: false };
        let sums = sums.clone();
        let report = run(seed, options, move |simulation| scenario(simulation, buffer_memory, trouble, sums));
        assert_eq!(report.failure, None, "seed {seed}");
    }
    let mean = |sum: &AtomicU64| sum.load(Ordering::Relaxed) / SEEDS;
    let (rate, rate_then) = (mean(&sums.rate), mean(&sums.rate_then));
    let (wait, wait_then) = (mean(&sums.wait), mean(&sums.wait_then));
    assert!(rate_then * 10 >= rate * 8, "the others fell from {rate} to {rate_then} records a second");
    assert!(wait_then <= wait * 2, "the others wait {wait_then} us instead of {wait}");
}

const LITTLE: usize = 4 << 20;

#[test]
fn eleven_partitions_keep_their_rate_while_the_leader_of_the_twelfth_takes_two_seconds() {
    check(32 << 20, |cluster| cluster.slow(SLOW, Duration::from_secs(2)));
}

#[test]
fn eleven_partitions_keep_their_rate_while_the_leader_of_the_twelfth_is_silent() {
    check(32 << 20, |cluster| cluster.freeze(SLOW, Duration::from_secs(30)));
}

#[test]
fn a_slow_leader_leaves_memory_for_the_others_where_there_is_little() {
    check(LITTLE, |cluster| cluster.slow(SLOW, Duration::from_secs(2)));
}

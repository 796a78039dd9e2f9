//! The same records under each policy of commits: what finishes a record, what sends a commit, and what a crash then does.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Done, Payload, When};
use ottla_examples::{Failure, Playground};

const RECORDS: usize = 100;
/// The application dies with this one in hand.
const CRASH_AT: usize = 45;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(1).await?;
    let producer = playground.client.producer().build()?;
    for number in 0..RECORDS {
        drop(producer.topic(&playground.topic).enqueue(Payload::value(number.to_string().as_bytes())).await?);
    }
    producer.close(Duration::from_secs(10)).await;

    let second = Duration::from_secs(1);
    let policies = [
        ("each record: one comes again", Done::OnNext, When::EachRecord),
        ("each fetched batch: that batch comes again", Done::OnNext, When::EachBatch),
        ("1+N: at most N and the one in hand", Done::OnNext, When::Hybrid { records: 10, within: second }),
        ("by time: what was finished since", Done::OnNext, When::Every(Duration::from_millis(5))),
        ("by hand: everything since the last call", Done::OnNext, When::Manual),
        ("acknowledged: from the first gap on", Done::OnAck, When::EachRecord),
        ("at most once: nothing comes again", Done::Delivered, When::EachRecord),
    ];
    for (number, (policy, done, when)) in policies.into_iter().enumerate() {
        let group = format!("{}-{number}", playground.group);
        let consumer = playground.client.consumer().group(&group).subscribe([&playground.topic]);
        let mut consumer = consumer.finish_on(done).commit_when(when).build()?;
        for count in 0..=CRASH_AT {
            let record = consumer.recv().await?.ok_or("closed")?;
            // Acknowledged in any order: here one is left out.
            if done == Done::OnAck && count != 20 {
                record.ack();
            }
            if when == When::Manual && count == 30 {
                record.commit().await?;
            }
        }
        // Long enough for the answers to the commits that were sent.
        tokio::time::sleep(Duration::from_millis(100)).await;
        // As good as a crash: nothing more is committed, and the group is not told.
        drop(consumer);

        let committed = playground.client.admin().committed_offsets(&group).await?;
        let next = committed.values().map(|committed| committed.offset).next().unwrap_or(0);
        println!("{policy}: it died with record {CRASH_AT} in hand, whoever comes next begins with {next}");
    }
    playground.close().await
}

//! The simulator catches what it claims to catch: each test plants one mistake in a toy program and sees it reported.

use ottla_integration_tests::Failure;
use ottla_integration_tests::world::{Options, Report, Simulation, run};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

const STORM: Options = Options { heals_after: Some(Duration::from_secs(20)), lines: false };
const CALM: Options = Options { heals_after: None, lines: false };

/// Four users write numbers to an echo server until each has got back fifty of its own, whatever breaks.
async fn echo(simulation: Simulation) -> Result<(), Failure> {
    let mut accept = simulation.network.listen("node-1", 9092);
    let server = simulation.clone();
    let serving = simulation.spawn("accept", async move {
        while let Some(mut stream) = accept.recv().await {
            server.spawn("connection", async move {
                while let Ok(number) = stream.read_u64().await {
                    if stream.write_all(&number.to_be_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let users: Vec<_> = (0..4)
        .map(|user| {
            let world = simulation.clone();
            simulation.spawn("user", async move {
                let mut next = 0;
                while next < 50 {
                    let Ok(mut stream) = world.network.connect("node-1", 9092).await else { continue };
                    while next < 50 && stream.write_all(&u64::to_be_bytes(next)).await.is_ok() {
                        let Ok(Ok(back)) = timeout(Duration::from_secs(1), stream.read_u64()).await else {
                            break;
                        };
                        assert_eq!(back, next, "bytes arrive unchanged and in order");
                        world.trace.tell(format_args!("user {user} got {back}"));
                        next += 1;
                    }
                }
            })
        })
        .collect();
    for user in users {
        user.await?;
    }
    simulation.network.cut("node-1", 9092);
    serving.await?;
    Ok(())
}

fn failure<F>(options: Options, scenario: impl FnOnce(Simulation) -> F) -> String
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    run(1, options, scenario).failure.unwrap_or_default()
}

fn hashes(report: &Report) -> (u64, u64, u64) {
    (report.events_hash, report.polls_hash, report.events)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another_one() {
    let mut traces = BTreeSet::new();
    for seed in 0..20 {
        let first = run(seed, STORM, echo);
        let second = std::thread::spawn(move || run(seed, STORM, echo)).join().expect("no panic");
        assert_eq!(hashes(&first), hashes(&second), "seed {seed}");
        assert_eq!(first.failure, None, "seed {seed}");
        traces.insert(first.events_hash);
    }
    assert_eq!(traces.len(), 20);
}

#[test]
fn bad_weather_resets_streams_and_refuses_connections_until_it_heals() {
    let storm = Options { lines: true, ..STORM };
    let lines: Vec<_> = (0..20).flat_map(|seed| run(seed, storm, echo).lines).collect();
    for what in [" reset ", " stall "] {
        assert!(lines.iter().any(|line| line.contains(what)), "no {what}");
    }
    let calm = run(1, Options { lines: true, ..CALM }, echo).lines;
    assert!(!calm.iter().any(|line| line.contains(" reset ") || line.contains(" stall ")));
}

#[test]
fn a_panic_in_a_task_is_reported_with_its_name() {
    let text = failure(CALM, async |simulation: Simulation| {
        simulation.spawn("careless", async { panic!("planted") }).await?;
        Ok(())
    });
    assert!(text.ends_with("panic in careless: planted"), "{text}");
}

#[test]
fn a_task_that_spins_fails_the_run_and_does_not_hang_it() {
    let text = failure(CALM, async |simulation: Simulation| {
        simulation.spawn("impatient", async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    assert!(text.contains("impatient spins"), "{text}");
}

#[test]
fn a_task_a_stream_or_a_timer_that_stays_behind_is_reported() {
    let task = failure(CALM, async |simulation: Simulation| {
        simulation.spawn("forgotten", std::future::pending::<()>());
        Ok(())
    });
    assert!(task.contains("[\"forgotten\"]"), "{task}");
    let stream = failure(CALM, async |simulation: Simulation| {
        let accept = simulation.network.listen("node-1", 9092);
        let (held, hold) = mpsc::unbounded_channel();
        let _ = held.send((accept, simulation.network.connect("node-1", 9092).await?));
        std::mem::forget((held, hold));
        Ok(())
    });
    assert!(stream.contains("2 ends of streams"), "{stream}");
    let timer = failure(CALM, async |simulation: Simulation| {
        simulation.spawn("late", sleep(Duration::from_secs(60)));
        Ok(())
    });
    assert!(timer.contains("1 polls in an hour"), "{timer}");
}

#[test]
fn a_lost_wake_up_is_found_at_the_next_jump_of_time() {
    let text = failure(CALM, async |simulation: Simulation| {
        let (ready, notify) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (probed, sleeper) = (ready.clone(), notify.clone());
        simulation.probe(Box::new(move || probed.load(Ordering::Relaxed).then(|| "the sleeper".to_string())));
        let task = simulation.spawn("sleeper", async move { sleeper.notified().await });
        sleep(Duration::from_secs(1)).await;
        ready.store(true, Ordering::Relaxed); // and nobody wakes it
        sleep(Duration::from_secs(1)).await;
        ready.store(false, Ordering::Relaxed);
        notify.notify_one();
        task.await?;
        Ok(())
    });
    assert!(text.ends_with("asleep while ready: the sleeper"), "{text}");
}

#[test]
fn a_scenario_that_never_ends_is_reported() {
    let text = failure(CALM, async |_| {
        std::future::pending::<()>().await;
        Ok(())
    });
    assert!(text.contains("never ended"), "{text}");
}

#[test]
fn a_cut_resets_open_streams_and_a_freeze_only_delays() {
    let report = run(1, CALM, async |simulation: Simulation| {
        let mut accept = simulation.network.listen("node-1", 9092);
        let mut near = simulation.network.connect("node-1", 9092).await?;
        let Some(mut far) = accept.recv().await else { ottla_integration_tests::fail!("not accepted") };
        simulation.network.freeze("node-1", 9092, Duration::from_secs(30));
        near.write_u64(7).await?;
        let early = timeout(Duration::from_secs(29), far.read_u64()).await;
        ottla_integration_tests::ensure!(early.is_err(), "a frozen host heard something");
        ottla_integration_tests::ensure!(far.read_u64().await? == 7, "bytes changed");
        simulation.network.cut("node-1", 9092);
        ottla_integration_tests::ensure!(near.read_u64().await.is_err(), "the stream lives on");
        let refused = simulation.network.connect("node-1", 9092).await;
        ottla_integration_tests::ensure!(refused.is_err(), "the host lives on");
        Ok(())
    });
    assert_eq!(report.failure, None);
}

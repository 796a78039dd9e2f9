//! Scenarios under seeds: which scenario a seed runs, each seed twice, in bulk on a few threads.
//!
//! It owns determinism (D1): the second run of a seed, on another thread, must leave the same trace. A run that makes no
//! progress in real time ends the process, for nothing else can end it; the line that replays it is printed first.

use crate::backend::Backend;
use crate::scenarios::Scenario;
use crate::world::{Options, Report, run};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Real time that one run may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A scenario under a seed.
#[derive(Clone, Copy)]
pub struct Case {
    /// What runs.
    pub scenario: &'static Scenario,
    /// What decides everything else.
    pub seed: u64,
    /// A mistake in the client that the run should catch.
    #[cfg(ottla_planted)]
    pub defect: Option<ottla::world::Defect>,
}

/// How a case ended.
pub struct Verdict {
    /// The case.
    pub case: Case,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Virtual time of one run.
    pub simulated: Duration,
    /// Events of one run.
    pub events: u64,
}

impl Case {
    /// A scenario under a seed.
    pub fn new(scenario: &'static Scenario, seed: u64) -> Self {
        Case {
            scenario,
            seed,
            #[cfg(ottla_planted)]
            defect: None,
        }
    }

    /// The command line that runs the case again.
    pub fn replay(&self) -> String {
        format!("simulate --only {} --replay {}", self.scenario.name, self.seed)
    }

    /// Runs the case once.
    pub fn run(&self, lines: bool) -> Report {
        #[cfg(ottla_planted)]
        ottla::world::plant(self.defect);
        let (seed, scenario) = (self.seed, self.scenario);
        let options = Options { heals_after: scenario.stormy.then_some(STORM), lines };
        run(seed, options, move |simulation| async move {
            let backend = Backend::simulated(simulation, seed)?;
            let result = (scenario.run)(backend.clone()).await;
            backend.stop();
            result
        })
    }

    /// Runs the case twice, the second time on another thread, and compares the traces.
    pub fn judge(self) -> Verdict {
        let first = self.run(false);
        #[cfg(ottla_planted)]
        if self.defect.is_some() {
            // Whether a mistake is caught is the question, not whether it is caught twice.
            return Verdict {
                case: self,
                failure: first.failure,
                simulated: first.simulated,
                events: first.events,
            };
        }
        let second = thread::spawn(move || self.run(false)).join();
        let failure = first.failure.or_else(|| match second {
            Ok(second)
                if (second.events_hash, second.polls_hash) == (first.events_hash, first.polls_hash) =>
            {
                None
            }
            Ok(_) => Some("the second run left another trace (D1)".into()),
            Err(_) => Some("the second run panicked".into()),
        });
        Verdict { case: self, failure, simulated: first.simulated, events: first.events }
    }
}

/// How long things break in a stormy scenario.
const STORM: Duration = Duration::from_secs(30);

/// Judges cases on every core and hands the verdicts over as they come. Stops early when `verdict` says false.
#[allow(clippy::print_stderr)] // the last words of a process that hangs
pub fn judge_all(cases: &[Case], mut verdict: impl FnMut(Verdict) -> bool) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let running = Mutex::new(BTreeMap::new());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, running, sender) = (&next, &running, sender.clone());
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(place) else { return };
                    running.lock().insert(place, case.replay());
                    let judged = case.judge();
                    running.lock().remove(&place);
                    if sender.send(judged).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match receiver.recv_timeout(RUN_LIMIT) {
                Ok(judged) => {
                    if !verdict(judged) {
                        next.store(cases.len(), Ordering::Relaxed);
                        return;
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let stuck: Vec<_> = running.lock().values().cloned().collect();
                    eprintln!("no verdict in {RUN_LIMIT:?}; one of these hangs: {}", stuck.join("; "));
                    std::process::exit(1);
                }
            }
        }
    });
}

/// `seeds` cases from seed `from` on; each seed runs one of the scenarios, in turn.
pub fn cases(scenarios: &[&'static Scenario], from: u64, seeds: u64) -> Vec<Case> {
    let turn = scenarios.iter().cycle();
    (from..from + seeds).zip(turn).map(|(seed, scenario)| Case::new(scenario, seed)).collect()
}

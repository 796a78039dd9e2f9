//! Runs scenarios in the simulator under many seeds, replays one, or shows that planted defects are caught.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool speaks on both

use ottla_integration_tests::scenarios::{Scenario, matching};
use ottla_integration_tests::simulate::{Case, cases, judge_all};
use ottla_integration_tests::{Failure, ensure, fail};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
simulate [--seeds 500] [--from 0] [--only FILTER]   run seeds, each twice with equal traces, one scenario in turn a seed
simulate --only NAME --replay SEED                  run one seed and print its trace
simulate --planted [--seeds 2000] [--only FILTER] [--defect NAME]
                                                    plant each known defect and find the seed that catches it
The workloads that a producer is judged by, each a FILTER: acknowledged_records (idempotent, five requests in flight),
many_producers, one_acknowledgement, transactions_of_version_1, transactions_of_version_2, chain_of_pipelines (three stages of
exactly once, with crashes).";

struct Options {
    seeds: Option<u64>,
    from: u64,
    only: String,
    replay: Option<u64>,
    planted: bool,
    defect: String,
}

fn main() -> ExitCode {
    // What a task panics with is in the report of its run.
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = options().and_then(|options| match options {
        Some(options) => run(&options),
        None => {
            println!("{HELP}");
            Ok(true)
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("simulate: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        seeds: None,
        from: 0,
        only: String::new(),
        replay: None,
        planted: false,
        defect: String::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" => return Ok(None),
            "--planted" => {
                options.planted = true;
                continue;
            }
            _ => {}
        }
        let Some(value) = words.next() else { fail!("{word} needs a value; see --help") };
        match word.as_str() {
            "--seeds" => options.seeds = Some(value.parse()?),
            "--from" => options.from = value.parse()?,
            "--only" => options.only = value,
            "--defect" => options.defect = value,
            "--replay" => options.replay = Some(value.parse()?),
            _ => fail!("{word} is unknown; see --help"),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<bool, Failure> {
    let scenarios = matching(&options.only);
    ensure!(!scenarios.is_empty(), "no scenario's name holds {:?}", options.only);
    match options.replay {
        Some(seed) => Ok(replay(&scenarios, seed)),
        None if options.planted => planted(&scenarios, options),
        None => Ok(sweep(&scenarios, options.from, options.seeds.unwrap_or(500))),
    }
}

/// Runs the seeds and says how many, how long and which failed.
fn sweep(scenarios: &[&'static Scenario], from: u64, seeds: u64) -> bool {
    let start = Instant::now();
    let (mut failed, mut simulated, mut events) = (0, Duration::ZERO, 0);
    judge_all(&cases(scenarios, from, seeds), |verdict| {
        simulated += verdict.simulated;
        events += verdict.events;
        if let Some(failure) = verdict.failure {
            failed += 1;
            println!("FAILED {failure}\n       {}", verdict.case.replay());
        }
        true
    });
    println!(
        "{seeds} seeds, each twice, over {} scenarios: {:.0} virtual s and {events} events a pass in {:.1} s",
        scenarios.len(),
        simulated.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    println!("{} passed, {failed} failed", seeds - failed);
    failed == 0
}

fn replay(scenarios: &[&'static Scenario], seed: u64) -> bool {
    let mut passed = true;
    for scenario in scenarios {
        let report = Case::new(scenario, seed).run(true);
        report.lines.iter().for_each(|line| println!("{line}"));
        let hash = report.events_hash;
        println!("{} seed {seed}: {} events, hash {hash:016x}", scenario.name, report.events);
        match report.failure {
            Some(failure) => {
                passed = false;
                println!("FAILED {failure}");
            }
            None => println!("passed"),
        }
    }
    passed
}

#[cfg(not(ottla_planted))]
fn planted(_: &[&'static Scenario], _: &Options) -> Result<bool, Failure> {
    // The switches are compiled in only here, and a target folder of its own keeps the ordinary builds warm.
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg ottla_planted");
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.into(), std::path::PathBuf::from);
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let status = std::process::Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["run", "--quiet", "--profile", profile, "--bin", "simulate", "--"])
        .args(std::env::args().skip(1))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", flags.trim())
        .env("CARGO_TARGET_DIR", target.join("planted"))
        .status()?;
    Ok(status.success())
}

/// The parts of the client whose scenarios can notice a defect. All others would only cost time.
#[cfg(ottla_planted)]
fn areas(defect: ottla::world::Defect) -> &'static [&'static str] {
    use ottla::world::Defect;
    match defect {
        Defect::LostWakeUp
        | Defect::SequenceReused
        | Defect::RetryAtTheBack
        | Defect::WideWindow
        | Defect::FalseNotWritten
        | Defect::SilentExpiry => &["produce"],
        Defect::CommitLent | Defect::CommitAfterRevoke | Defect::StaleFetch | Defect::ErrorIsNoOffset => {
            &["group", "positions", "finishing"]
        }
        _ => &["transactions"],
    }
}

#[cfg(ottla_planted)]
fn planted(scenarios: &[&'static Scenario], options: &Options) -> Result<bool, Failure> {
    let (seeds, mut all_caught) = (options.seeds.unwrap_or(2_000), true);
    let wanted = |defect: &&ottla::world::Defect| format!("{defect:?}").contains(&options.defect);
    for defect in ottla::world::Defect::ALL.iter().filter(wanted) {
        let (mut tried, mut caught) = (0, None);
        let there: Vec<_> =
            scenarios.iter().copied().filter(|scenario| areas(*defect).contains(&scenario.area)).collect();
        let cases: Vec<_> =
            cases(&there, 0, seeds).into_iter().map(|case| Case { defect: Some(*defect), ..case }).collect();
        judge_all(&cases, |verdict| {
            tried += 1;
            if let Some(failure) = verdict.failure {
                // A case that fails without the defect too has caught nothing.
                let sound = Case { defect: None, ..verdict.case }.run(false);
                if sound.failure.is_none() {
                    caught = Some((verdict.case, failure));
                }
            }
            caught.is_none()
        });
        match caught {
            Some((case, failure)) => {
                println!(
                    "{defect:?}: caught by {} at seed {} ({tried} tried): {failure}",
                    case.scenario.name, case.seed
                );
            }
            None => {
                all_caught = false;
                println!("{defect:?}: NOT CAUGHT in {tried} seeds");
            }
        }
    }
    Ok(all_caught)
}

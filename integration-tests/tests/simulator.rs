//! Every scenario in the simulator, under a few seeds each. `simulate` runs as many as there is time for.
//!
//! A test without harness: it must say how many seeds it ran.
#![allow(clippy::print_stdout)]

use ottla_integration_tests::scenarios::matching;
use ottla_integration_tests::simulate::{Case, judge_all};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

const SEEDS: u64 = 12;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let (start, scenarios) = (Instant::now(), matching(&filter));
    // The first seed of each scenario comes first: a broken one shows early.
    let seeds = 0..SEEDS;
    let cases: Vec<_> =
        seeds.flat_map(|seed| scenarios.iter().map(move |scenario| Case::new(scenario, seed))).collect();
    let mut failures = BTreeMap::<_, Vec<_>>::new();
    judge_all(&cases, |verdict| {
        let failures = failures.entry(verdict.case.scenario.name).or_default();
        failures.extend(verdict.failure.map(|failure| format!("{failure}\n    {}", verdict.case.replay())));
        true
    });
    let failed = failures.values().filter(|failures| !failures.is_empty()).count();
    for (name, failures) in &failures {
        println!("test {name} ... {}", if failures.is_empty() { "ok" } else { "FAILED" });
        failures.iter().for_each(|failure| println!("  {failure}"));
    }
    println!("{} simulator seeds, each twice, in {:.1} s", cases.len(), start.elapsed().as_secs_f64());
    println!("{} passed, {failed} failed", failures.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

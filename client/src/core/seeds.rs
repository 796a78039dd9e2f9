//! Runs of a machine alone under many seeds, for the tests of the machines.
//!
//! It owns how many there are (`OTTLA_SEEDS`), what is printed of one that fails, and the search for planted defects. It
//! refuses to know what a run does: a run that panics has failed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "says how to replay a seed, and which defects are caught"
)]

/// Runs seed after seed and returns what they made, with their number. The first that fails is named as a run of `whom`.
pub(super) fn run_seeds<T>(
    whom: &str,
    by_default: u64,
    run: impl Fn(u64) -> T + std::panic::RefUnwindSafe,
) -> (u64, Vec<T>) {
    let seeds = std::env::var("OTTLA_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(by_default);
    let one = |seed| {
        std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|cause| {
            eprintln!("replay: seed {seed} of {whom} alone");
            std::panic::resume_unwind(cause)
        })
    };
    (seeds, (0..seeds).map(one).collect())
}

/// Plants one defect after the other, and fails for those that no seed catches.
#[cfg(ottla_planted)]
pub(super) fn catch_planted<T>(
    defects: &[crate::planted::Defect],
    seeds: u64,
    run: impl Fn(u64) -> T + std::panic::RefUnwindSafe,
) {
    use crate::planted::plant;
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for defect in defects {
        plant(Some(*defect));
        match (0..seeds).find(|seed| std::panic::catch_unwind(|| run(*seed)).is_err()) {
            Some(seed) => println!("{defect:?}: caught at seed {seed}"),
            None => missed.push(defect),
        }
    }
    plant(None);
    std::panic::set_hook(quiet);
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

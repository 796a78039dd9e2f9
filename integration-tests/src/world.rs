//! One simulated run: a paused clock, a network, tasks, and the rules that hold at each jump of time and at the end.
//!
//! It is the `World` of the client and of the broker, so that both run unchanged on one thread. Whatever it draws comes
//! from the run's seed, one random stream for each purpose. Invariants: nothing is asleep that has something to do when
//! time jumps (the probes), and after the end no task, stream or timer is left (L5).

use crate::Failure;
use crate::network::{Network, Weather};
use crate::random::Random;
use crate::tasks::{Tasks, panic_text};
use crate::trace::Trace;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Virtual time that a scenario may take.
const SCENARIO_LIMIT: Duration = Duration::from_secs(3_600);
/// Virtual time in which everything must be gone after a scenario.
const SETTLE: Duration = Duration::from_secs(10);
/// Virtual time in which no timer may fire after that.
const SILENCE: Duration = Duration::from_secs(3_600);
/// The wall clock at the start of each run: 2026-01-01.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// Says who sleeps although there is something to do.
pub type Probe = Box<dyn Fn() -> Option<String> + Send>;

/// What surrounds a client and a broker in one run. Cheap to clone.
#[derive(Clone)]
pub struct Simulation {
    /// The hosts and what goes wrong between them.
    pub network: Network,
    /// The tasks of client, broker and scenario.
    pub tasks: Tasks,
    /// What happened.
    pub trace: Arc<Trace>,
    seed: u64,
    random: Arc<Mutex<Random>>,
    probes: Arc<Mutex<Vec<Probe>>>,
    start: Instant,
}

/// How to run a seed.
#[derive(Clone, Copy)]
pub struct Options {
    /// Whether the network breaks things, and for how long.
    pub heals_after: Option<Duration>,
    /// Whether the report holds a line for each event.
    pub lines: bool,
}

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// Hash of every event with its virtual time.
    pub events_hash: u64,
    /// Hash of every poll with its virtual time.
    pub polls_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// Virtual time that the scenario took.
    pub simulated: Duration,
    /// The first thing that went wrong.
    pub failure: Option<String>,
    /// Each event as text, if asked for.
    pub lines: Vec<String>,
}

/// Runs a scenario under a seed, in this thread, on a runtime of its own.
pub fn run<S, F>(seed: u64, options: Options, scenario: S) -> Report
where
    S: FnOnce(Simulation) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let slot: Arc<Mutex<Option<Simulation>>> = Arc::default();
    let parking = slot.clone();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(move || {
            // A clone: a probe may drop what it holds, and that may want the slot.
            let simulation = parking.lock().clone();
            simulation.iter().for_each(Simulation::jump);
        })
        .build()
        .expect("a runtime without I/O needs nothing that could fail");
    let kept = slot.clone();
    let root = async move {
        let simulation = Simulation::new(seed, options);
        *slot.lock() = Some(simulation.clone());
        let work = simulation.tasks.spawn("scenario", scenario(simulation.clone()));
        tokio::select! {
            biased;
            // What comes after a violation shows nothing more.
            () = simulation.trace.violated() => {}
            ended = timeout(SCENARIO_LIMIT, work) => match ended {
                Ok(Ok(Some(Ok(())) | None)) => {} // None: the panic is a violation already
                Ok(Ok(Some(Err(failure)))) => simulation.trace.violate(failure),
                Ok(Err(ended)) => simulation.trace.violate(ended),
                Err(_) => simulation.trace.violate("the scenario never ended"),
            },
        }
        let simulated = simulation.start.elapsed();
        if simulation.trace.violation().is_none() {
            simulation.check_leaks().await;
        }
        simulation.probes.lock().clear();
        simulated
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(root)));
    let simulation = kept.lock().take().expect("the root's first act is to set it");
    let simulated = ended.unwrap_or_else(|panic| {
        simulation.trace.violate(panic_text(&panic));
        Duration::ZERO
    });
    let (events_hash, polls_hash, events) = simulation.trace.hashes();
    let (failure, lines) = (simulation.trace.violation(), simulation.trace.take_lines());
    Report { events_hash, polls_hash, events, simulated, failure, lines }
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Self {
        let weather = match options.heals_after {
            Some(heals_after) => Weather::draw(&mut Random::new(seed, "weather"), heals_after),
            None => Weather::fair(),
        };
        let trace = Arc::new(Trace::new(options.lines));
        Simulation {
            network: Network::new(Random::new(seed, "network"), weather, trace.clone()),
            tasks: Tasks::new(Random::new(seed, "order"), trace.clone()),
            trace,
            seed,
            random: Arc::new(Mutex::new(Random::new(seed, "world"))),
            probes: Arc::default(),
            start: Instant::now(),
        }
    }

    /// The random stream of a purpose, for what a scenario draws itself.
    pub fn random_for(&self, purpose: &str) -> Random {
        Random::new(self.seed, purpose)
    }

    /// Asked before each jump of time; what it answers is a violation.
    pub fn probe(&self, probe: Probe) {
        self.probes.lock().push(probe);
    }

    /// Milliseconds since the Unix epoch, by a wall clock that never jumps.
    pub fn wall_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(0)
    }

    /// A random number for client or broker: jitter, load balancing, seeds.
    pub fn draw(&self) -> u64 {
        self.random.lock().draw()
    }

    /// Starts a task of a scenario.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.tasks.spawn(name, task)
    }

    /// No task is ready and time is about to jump: nothing may be asleep that has something to do.
    fn jump(&self) {
        self.trace.jump();
        let asleep = self.probes.lock().iter().find_map(|probe| probe());
        if let Some(who) = asleep {
            self.trace.violate(format_args!("asleep while ready: {who}"));
        }
    }

    async fn check_leaks(&self) {
        self.network.thaw(); // a peer that waits for stalled bytes is not a leak
        sleep(SETTLE).await;
        let polls = self.tasks.polls();
        sleep(SILENCE).await;
        let (late, live, ends) = (self.tasks.polls() - polls, self.tasks.live(), self.network.ends());
        let tasks = Handle::current().metrics().num_alive_tasks();
        if late != 0 || !live.is_empty() || ends != 0 || tasks != 0 {
            self.trace.violate(format_args!(
                "left behind: tasks {live:?} ({tasks} in all), {ends} ends of streams, {late} polls in an hour"
            ));
        }
    }
}

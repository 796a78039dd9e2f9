//! The one lock of a producer or consumer, and who sleeps for what.
//!
//! It owns the machine, the wakers of links and supervisor, and the conditions that user tasks wait for. [`Shared::with`]
//! is the only door: lock, decide, find whom that concerns, unlock, wake. Nobody has to remember to wake anybody: after each
//! change every sleeper's own question is asked again. Invariant: no sleeper is left whose question is answered yes.
//! A panic under the lock ends the machine: whoever comes or sleeps is told, and what the machine owed is told by dropping it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::link::Io;
use crate::core::{Link, Machine, Work};
use crate::error::{Error, ErrorKind};
use crate::planted::{Defect, planted};
use crate::world::World;

pub(crate) struct Shared<M: Machine> {
    state: Mutex<State<M>>,
    pub(crate) world: Arc<dyn World>,
}

struct State<M: Machine> {
    /// `None` after a panic under the lock: what it held could not be trusted any more. And when its runtime has ended.
    machine: Option<M>,
    links: BTreeMap<Link, LinkTask<M>>,
    supervisor: Sleeper,
    waiters: Vec<Waiter<M>>,
    next_waiter: u64,
    /// All links and the supervisor are to end.
    stopped: bool,
}

/// The task of a link.
struct LinkTask<M: Machine> {
    sleeper: Sleeper,
    /// While it waits for its socket.
    busy: Option<Waker>,
    /// For those who do its work in its place.
    io: Option<Arc<Mutex<Io<M>>>>,
}

impl<M: Machine> Default for LinkTask<M> {
    fn default() -> Self {
        Self { sleeper: Sleeper::default(), busy: None, io: None }
    }
}

/// Somebody who found nothing to do. The waker is taken by whoever brings work.
#[derive(Default)]
struct Sleeper {
    waker: Option<Waker>,
    /// When it wakes by itself.
    alarm: Option<Instant>,
}

impl Sleeper {
    fn sleep(&mut self, cx: &mut Context<'_>, alarm: Option<Instant>) {
        self.alarm = alarm;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    /// The waker, if there is a reason to wake: something to do, or an alarm that must ring earlier.
    fn wake_if(
        &mut self,
        ready: bool,
        now: Instant,
        alarm: impl FnOnce() -> Option<Instant>,
    ) -> Option<Waker> {
        self.waker.as_ref()?;
        let earlier = |alarm: Instant| alarm > now && self.alarm.is_none_or(|set| alarm < set);
        if ready || alarm().is_some_and(earlier) { self.waker.take() } else { None }
    }
}

type Condition<M> = Box<dyn Fn(&M) -> bool + Send>;

struct Waiter<M> {
    id: u64,
    waker: Waker,
    condition: Condition<M>,
}

/// What a change on the hot path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It concerns nobody else.
    Nothing,
    /// Whoever has something to do now is to be woken.
    Wake,
    /// The same, but for a link: the caller does its work in its place, if it sleeps.
    StandIn,
}

/// What a link finds when it asks for work.
#[expect(clippy::large_enum_variant, reason = "made and used up at once, once a request")]
pub(crate) enum Next {
    Work(Work),
    /// Nothing; ask again at this time, or when woken.
    Sleep(Option<Instant>),
    Stop,
}

impl<M: Machine> Shared<M> {
    pub(crate) fn new(machine: M, world: Arc<dyn World>) -> Arc<Self> {
        let state = State {
            machine: Some(machine),
            links: BTreeMap::new(),
            supervisor: Sleeper::default(),
            waiters: Vec::new(),
            next_waiter: 0,
            stopped: false,
        };
        Arc::new(Self { state: Mutex::new(state), world })
    }

    /// The only door. Fails after a panic under the lock: what the machine holds cannot be trusted then.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut M, Instant) -> T) -> Result<T, Error> {
        let mut guard = self.lock();
        let now = now();
        let result = f(guard.machine()?, now);
        finish(guard, now);
        Ok(result)
    }

    /// The door of the hot path: no clock is read, and sleepers are only asked when `f` says that it changed something
    /// that concerns them.
    #[inline]
    pub(crate) fn with_hot<T>(&self, f: impl FnOnce(&mut M) -> (T, Then)) -> Result<T, Error> {
        let mut guard = self.lock();
        let (result, then) = f(guard.machine()?);
        match then {
            Then::Nothing => {}
            _ if planted(Defect::LostWakeUp) => {}
            Then::Wake => finish(guard, now()),
            Then::StandIn => finish_and_stand_in(guard, now()),
        }
        Ok(result)
    }

    #[inline]
    fn lock(&self) -> Guard<'_, M> {
        Guard { state: self.state.lock(), unwinding: std::thread::panicking() }
    }

    /// What a link is to do next. A link that finds nothing is asleep from here on.
    pub(crate) fn next(&self, link: Link, cx: &mut Context<'_>) -> Next {
        let mut guard = self.lock();
        let State { machine: Some(machine), stopped: false, links, .. } = &mut *guard.state else {
            return Next::Stop;
        };
        let now = now();
        let work = machine.poll_work(now, link);
        let next = match work {
            Some(work) => Next::Work(work),
            None => {
                // What is due already and gives no work waits for something else than time.
                let alarm = machine.ready_at(link).filter(|at| *at > now);
                links.entry(link).or_default().sleeper.sleep(cx, alarm);
                Next::Sleep(alarm)
            }
        };
        finish(guard, now);
        next
    }

    /// A link is busy writing; only the end of everything is to wake it.
    pub(crate) fn busy(&self, link: Link, cx: &mut Context<'_>) {
        self.state.lock().links.entry(link).or_default().busy = Some(cx.waker().clone());
    }

    /// A link's task lets others do its work while it sleeps.
    pub(super) fn lend(&self, link: Link, io: &Arc<Mutex<Io<M>>>) {
        self.state.lock().links.entry(link).or_default().io = Some(io.clone());
    }

    /// A link's task has ended; it sleeps for nothing any more, and nobody does its work from here on.
    pub(crate) fn gone(&self, link: Link) {
        let task = self.state.lock().links.remove(&link);
        if let Some(io) = task.and_then(|task| task.io) {
            io.lock().end();
        }
    }

    /// The supervisor found nothing to do, and has sent a tick at `ticked`: it sleeps from here on, and the alarm is
    /// returned as an error. Or there is something to do.
    pub(crate) fn supervisor_sleeps(
        &self,
        cx: &mut Context<'_>,
        ticked: Instant,
    ) -> Result<(), Option<Instant>> {
        let mut guard = self.lock();
        let State { machine: Some(machine), stopped: false, supervisor, .. } = &mut *guard.state else {
            return Ok(());
        };
        let now = now();
        // A deadline that a tick has not moved must not become a busy loop.
        let alarm = machine.deadline().map(|at| at.max(ticked + Duration::from_millis(1)));
        if machine.wants_dial(now) || alarm.is_some_and(|at| at <= now) {
            return Ok(());
        }
        supervisor.sleep(cx, alarm);
        Err(alarm)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        let state = self.state.lock();
        state.stopped || state.machine.is_none()
    }

    /// Ends the supervisor and every link. Returns at once.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let woken = state.everybody();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Nobody tells the machine of time any more, though it was not stopped: its runtime is gone. Whatever it owed is told now.
    pub(crate) fn abandon(&self) {
        let mut guard = self.lock();
        if !guard.state.stopped {
            guard.give_up();
        }
    }

    /// Waits until the machine answers `condition` with yes. Dropping the future stops waiting and changes nothing.
    pub(crate) fn until(&self, condition: impl Fn(&M) -> bool + Send + 'static) -> Until<'_, M> {
        Until { shared: self, condition: Some(Box::new(condition)), id: None }
    }

    /// For the simulator: who sleeps although there is something to do.
    #[cfg(feature = "unstable-world")]
    pub(crate) fn asleep_while_ready(&self) -> Option<String> {
        let state = self.state.lock();
        let machine = state.machine.as_ref().filter(|_| !state.stopped)?;
        let now = now();
        let link = |(link, task): (&Link, &LinkTask<M>)| {
            (task.sleeper.waker.is_some() && machine.wants(now, *link)).then_some(*link)
        };
        if let Some(link) = state.links.iter().find_map(link) {
            return Some(format!("{link:?} has work"));
        }
        if state.supervisor.waker.is_some() && machine.wants_dial(now) {
            return Some("the supervisor has a link to dial".into());
        }
        let ready = state.waiters.iter().any(|w| (w.condition)(machine));
        ready.then(|| "a waiting call has its answer".into())
    }
}

impl<M: Machine> State<M> {
    /// The wakers of all who have something to do now. Called under the lock, woken after it.
    fn woken(&mut self, now: Instant) -> Vec<Waker> {
        let mut woken = Vec::new();
        let Some(machine) = &self.machine else { return woken };
        for (link, task) in &mut self.links {
            woken.extend(task.sleeper.wake_if(machine.wants(now, *link), now, || machine.ready_at(*link)));
        }
        let due = machine.deadline().is_some_and(|at| at <= now);
        woken.extend(self.supervisor.wake_if(due || machine.wants_dial(now), now, || machine.deadline()));
        self.waiters.retain(|waiter| {
            let ready = (waiter.condition)(machine);
            if ready {
                woken.push(waiter.waker.clone());
            }
            !ready
        });
        woken
    }

    fn everybody(&mut self) -> Vec<Waker> {
        let links = self.links.values_mut();
        let links = links.flat_map(|task| task.sleeper.waker.take().into_iter().chain(task.busy.take()));
        let waiters = self.waiters.drain(..).map(|w| w.waker);
        links.chain(self.supervisor.waker.take()).chain(waiters).collect()
    }
}

/// Asks every sleeper's question again, opens the lock, and wakes and tells whom it concerns.
#[cold]
#[inline(never)]
fn finish<M: Machine>(mut guard: Guard<'_, M>, now: Instant) {
    let state = &mut *guard.state;
    let news = state.machine.as_mut().map(M::take_news).unwrap_or_default();
    let woken = state.woken(now);
    drop(guard);
    news.into_iter().for_each(M::tell);
    woken.into_iter().for_each(Waker::wake);
}

/// As [`finish`]; but of the links that have something to do one is spared the waking: its work is done here.
#[cold]
#[inline(never)]
fn finish_and_stand_in<M: Machine>(mut guard: Guard<'_, M>, now: Instant) {
    let State { machine, links, .. } = &mut *guard.state;
    let idle = machine.as_ref().and_then(|machine| {
        links.iter_mut().find_map(|(link, task)| {
            let ready = task.sleeper.waker.is_some() && task.io.is_some() && machine.wants(now, *link);
            if ready { task.io.clone().zip(task.sleeper.waker.take()) } else { None }
        })
    });
    finish(guard, now);
    if let Some((io, waker)) = idle {
        Io::stand_in(&io, waker);
    }
}

/// Drops the machine when a panic goes through the lock, and lets everybody know.
struct Guard<'a, M: Machine> {
    state: MutexGuard<'a, State<M>>,
    /// The thread was unwinding before it came here, so the machine is not to blame.
    unwinding: bool,
}

impl<M: Machine> Guard<'_, M> {
    #[inline]
    fn machine(&mut self) -> Result<&mut M, Error> {
        self.state.machine.as_mut().ok_or_else(broken)
    }

    #[cold]
    fn give_up(&mut self) {
        let machine = self.state.machine.take();
        let woken = self.state.everybody();
        MutexGuard::unlocked(&mut self.state, || {
            drop(machine);
            woken.into_iter().for_each(Waker::wake);
        });
    }
}

impl<M: Machine> Drop for Guard<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            self.give_up();
        }
    }
}

/// Of every handle whose machine is gone.
#[cold]
pub(crate) fn broken() -> Error {
    Error::new(
        ErrorKind::Fatal,
        "this client is broken: a panic happened inside it, or its runtime has ended; build a new one",
    )
}

/// Tokio's clock, which a paused runtime stops.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// See [`Shared::until`].
pub(crate) struct Until<'a, M: Machine> {
    shared: &'a Shared<M>,
    condition: Option<Condition<M>>,
    id: Option<u64>,
}

impl<M: Machine> Future for Until<'_, M> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut guard = self.shared.lock();
        let state = &mut *guard.state;
        let Some(machine) = &state.machine else { return Poll::Ready(Err(broken())) };
        if let Some(id) = self.id {
            let Some(at) = state.waiters.iter().position(|w| w.id == id) else {
                // Whoever found the condition true has taken it out.
                self.id = None;
                return Poll::Ready(if state.stopped { Err(closed()) } else { Ok(()) });
            };
            state.waiters[at].waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        let Some(condition) = self.condition.take() else { return Poll::Ready(Ok(())) };
        if condition(machine) {
            return Poll::Ready(Ok(()));
        }
        if state.stopped {
            return Poll::Ready(Err(closed()));
        }
        let id = state.next_waiter;
        state.next_waiter += 1;
        state.waiters.push(Waiter { id, waker: cx.waker().clone(), condition });
        self.id = Some(id);
        Poll::Pending
    }
}

impl<M: Machine> Drop for Until<'_, M> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.state.lock().waiters.retain(|w| w.id != id);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "closed while waiting")
}

//! Hooks: whoever is given partitions, and whoever has them taken away, is told in time, and by whom nothing is delivered.

use super::group::{Party, come_and_go};
use crate::backend::Backend;
use crate::checks::History;
use crate::random::Random;
use crate::traffic::write;
use crate::{Failure, ensure, fail};
use ottla::{
    Assignor, Control, ErrorKind, Event, GroupProtocol, Hook, HookError, HookFailure, RebalanceHooks, Reset,
    SeekTo,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLOSE: Duration = Duration::from_secs(60);

/// What a member knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Coming,
    Ready,
    Going,
}

/// What the hooks of all members of a group were told, judged at once.
#[derive(Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// No weather excuses two owners, or a loss.
    fair: bool,
}

#[derive(Default)]
struct State {
    standing: BTreeMap<(u32, i32), Standing>,
    /// The last record of each partition that its member has finished.
    finished: BTreeMap<(u32, i32), i64>,
    /// Before it nobody begins again: a hook has committed it.
    floors: BTreeMap<i32, i64>,
    /// Members that are gone; their hooks may still be at their last step.
    gone: BTreeSet<u32>,
    violation: Option<String>,
    revoked: u32,
}

impl State {
    fn violate(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }
}

impl Ledger {
    /// The hooks of a member.
    pub(super) fn member(
        self: &Arc<Self>,
        backend: &Backend,
        group: &str,
        member: u32,
    ) -> impl RebalanceHooks + use<> {
        let random = Mutex::new(backend.random(&format!("{group} hooks {member}")));
        Told { ledger: self.clone(), member, random, backend: backend.clone() }
    }

    /// A record is finished as soon as the client knows.
    pub(super) fn finished(&self, member: u32, partition: i32, offset: i64) {
        self.state.lock().finished.insert((member, partition), offset);
    }

    /// The partitions that a member has and was told of.
    fn ready(&self, member: u32) -> BTreeSet<i32> {
        let state = self.state.lock();
        let of = state.standing.range((member, 0)..=(member, i32::MAX));
        of.filter(|(_, standing)| **standing == Standing::Ready)
            .map(|((_, partition), _)| *partition)
            .collect()
    }

    /// A record was delivered, while or after these partitions were ready.
    pub(super) fn delivered(
        &self,
        member: u32,
        partition: i32,
        offset: i64,
        before: &BTreeSet<i32>,
    ) -> Result<(), Failure> {
        let ready = before.contains(&partition) || self.ready(member).contains(&partition);
        let state = &mut *self.state.lock();
        let standing = state.standing.get(&(member, partition));
        ensure!(ready, "member {member} got {partition}:{offset} while it is {standing:?}");
        if !state.finished.contains_key(&(member, partition)) {
            let floor = state.floors.get(&partition).copied().unwrap_or(0);
            ensure!(offset >= floor, "{partition} begins again at {offset}, a hook committed {floor}");
        }
        Ok(())
    }

    /// A member is gone; if it was closed it has been told so.
    pub(super) fn gone(&self, member: u32, closed: bool) -> Result<(), Failure> {
        let state = &mut *self.state.lock();
        state.gone.insert(member);
        let left: Vec<_> =
            state.standing.range((member, 0)..=(member, i32::MAX)).map(|(at, _)| *at).collect();
        ensure!(!closed || left.is_empty(), "closed, and nobody was told that {left:?} are gone");
        state.standing.retain(|at, _| !left.contains(at));
        Ok(())
    }

    /// How many revocations were told.
    fn check(&self) -> Result<u32, Failure> {
        let state = self.state.lock();
        match &state.violation {
            Some(violation) => fail!("{violation}"),
            None => Ok(state.revoked),
        }
    }
}

/// Waits for a record, and tells which partitions were ready when it was last looked for.
pub(super) async fn asking<F: Future>(
    ledger: Option<&Ledger>,
    member: u32,
    work: F,
) -> (F::Output, BTreeSet<i32>) {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let ready = ledger.map(|ledger| ledger.ready(member)).unwrap_or_default();
        work.as_mut().poll(cx).map(|done| (done, ready))
    })
    .await
}

/// The hooks of one member: slow, now and then slower than a session lasts.
struct Told {
    ledger: Arc<Ledger>,
    member: u32,
    random: Mutex<Random>,
    backend: Backend,
}

impl Told {
    async fn dawdle(&self) {
        let longest = if self.random.lock().percent(8) { 8_000 } else { 200 };
        let time = self.random.lock().below(longest);
        sleep(Duration::from_millis(time)).await;
    }

    /// Changes what is known of partitions, unless the member is gone.
    fn note(&self, partitions: &[(String, i32)], change: impl Fn(&mut State, (u32, i32))) {
        let state = &mut *self.ledger.state.lock();
        if !state.gone.contains(&self.member) {
            partitions.iter().for_each(|(_, partition)| change(state, (self.member, *partition)));
        }
    }
}

/// However a hook ends, its member has the partitions no more.
struct Departure<'a>(&'a Told, &'a [(String, i32)]);

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        self.0.note(self.1, |state, at| {
            state.standing.remove(&at);
            state.finished.remove(&at);
        });
    }
}

impl RebalanceHooks for Told {
    async fn assigned(&self, _: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
        self.backend.tell(format_args!("member {} assigned {partitions:?}", self.member));
        let fair = self.ledger.fair;
        self.note(partitions, |state, at| {
            let is_owner = |(owner, partition): &(u32, i32)| *partition == at.1 && (fair || *owner == at.0);
            if let Some(((owner, _), standing)) = state.standing.iter().find(|(it, _)| is_owner(it)) {
                let text = format!("{at:?} is assigned, and {standing:?} with member {owner} (C5)");
                state.violate(text);
            }
            state.standing.insert(at, Standing::Coming);
        });
        self.dawdle().await;
        self.note(partitions, |state, at| {
            state.standing.insert(at, Standing::Ready);
        });
        Ok(())
    }

    async fn revoked(&self, control: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
        self.backend.tell(format_args!("member {} revoked {partitions:?}", self.member));
        let _departure = Departure(self, partitions);
        self.note(partitions, |state, at| {
            state.revoked += 1;
            let before = state.standing.insert(at, Standing::Going);
            if before != Some(Standing::Ready) {
                state.violate(format!("{at:?} is revoked, and was {before:?}"));
            }
        });
        self.dawdle().await;
        let finished = self.ledger.state.lock().finished.clone();
        let superseded = control.commit().await?.superseded;
        self.note(partitions, |state, at| {
            let counts = !superseded.iter().any(|(_, partition)| *partition == at.1);
            if let Some(offset) = finished.get(&at).filter(|_| counts) {
                let floor = state.floors.entry(at.1).or_insert(0);
                *floor = (*floor).max(*offset);
            }
        });
        Ok(())
    }

    async fn lost(&self, control: &Control, partitions: &[(String, i32)]) -> Result<(), HookError> {
        self.backend.tell(format_args!("member {} lost {partitions:?}", self.member));
        let fair = self.ledger.fair;
        self.note(partitions, |state, at| {
            if fair {
                state.violate(format!("{at:?} is lost in fair weather"));
            }
            if state.standing.remove(&at).is_none() {
                state.violate(format!("{at:?} is lost, and was not there"));
            }
            state.finished.remove(&at);
        });
        // Given back meanwhile they are held, and nothing is finished of them yet.
        control.commit().await?;
        Ok(())
    }
}

/// Every way to share partitions at once, each in a group of its own.
fn parties(backend: &Backend, fair: bool) -> Vec<Party> {
    let ways = [
        (Assignor::Range, GroupProtocol::Classic),
        (Assignor::CooperativeSticky, GroupProtocol::Classic),
        (Assignor::CooperativeSticky, GroupProtocol::Consumer),
    ];
    let has = |(_, protocol): &(Assignor, GroupProtocol)| {
        *protocol == GroupProtocol::Classic || backend.has_modern_groups()
    };
    let party = |(assignor, protocol)| {
        let ledger = Arc::new(Ledger { fair, ..Ledger::default() });
        Party::new(backend, assignor, Some(protocol)).with_hooks(ledger)
    };
    ways.into_iter().filter(has).map(party).collect()
}

async fn check_hooks(backend: &Backend, fair: bool) -> Result<(), Failure> {
    let parties = parties(backend, fair);
    come_and_go(backend, &parties, 2, !fair).await?;
    let mut revoked = 0;
    for ledger in parties.iter().flat_map(|party| &party.ledger) {
        revoked += ledger.check()?;
    }
    ensure!(revoked > 0, "no hook was told of a revocation");
    Ok(())
}

/// Members come, go and crash, with slow hooks: each partition that is assigned is revoked or lost once, nothing is delivered
/// outside, what a hook commits counts, no slow hook costs a membership, and nobody has what another one is still leaving (C5).
pub(super) async fn hooks_frame_every_ownership(backend: &Backend) -> Result<(), Failure> {
    check_hooks(backend, true).await
}

/// The same while connections break and memberships are lost.
pub(super) async fn hooks_frame_every_ownership_in_trouble(backend: &Backend) -> Result<(), Failure> {
    check_hooks(backend, false).await
}

/// Does one thing when partitions come, and another when they go.
struct Odd {
    assigned: Deed,
    revoked: Deed,
    /// Whoever is called, and when it ends.
    told: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    Panic,
    Fail,
    Hang,
    Close,
    /// Reads partition 0 from record 5 on, and partition 1 not at all.
    SeekAndPause,
}

/// Tells that a call has ended, or was dropped.
struct End(Arc<Mutex<Vec<&'static str>>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().push("end");
    }
}

impl Odd {
    async fn act(&self, deed: Deed, what: &'static str, control: &Control) -> Result<(), HookError> {
        self.told.lock().push(what);
        let _end = End(self.told.clone());
        // The panic, too, comes in the middle.
        sleep(Duration::from_millis(20)).await;
        match deed {
            Deed::Nothing => {}
            // As a panic, without its message.
            Deed::Panic => std::panic::resume_unwind(Box::new("on purpose")),
            Deed::Fail => return Err("on purpose".into()),
            Deed::Hang => std::future::pending::<()>().await,
            Deed::Close => control.close(),
            Deed::SeekAndPause => {
                for (topic, partition) in control.assignment() {
                    control.seek(&topic, partition, SeekTo::Offset(5)).await?;
                    if partition == 1 {
                        control.pause(&topic, partition).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl RebalanceHooks for Odd {
    async fn assigned(&self, control: &Control, _: &[(String, i32)]) -> Result<(), HookError> {
        self.act(self.assigned, "assigned", control).await
    }

    async fn revoked(&self, control: &Control, _: &[(String, i32)]) -> Result<(), HookError> {
        self.act(self.revoked, "revoked", control).await
    }
}

/// A hook that panics, fails, hangs or closes holds nothing up for longer than it may, and one that seeks decides what comes
/// first, with and without a group.
/// Fault 63.
pub(super) async fn a_hook_does_no_harm_and_has_its_way(backend: &Backend) -> Result<(), Failure> {
    let topic = backend.topic("odd", 2).await?;
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..100).await?;
    producer.close(CLOSE).await;
    let cases = [
        (Deed::Panic, Deed::Fail, Some((HookFailure::Panicked, HookFailure::Failed("on purpose".into())))),
        (Deed::Hang, Deed::Hang, Some((HookFailure::Late, HookFailure::Late))),
        (Deed::SeekAndPause, Deed::Nothing, None),
        (Deed::Close, Deed::Nothing, None),
    ];
    for grouped in [true, false] {
        for (assigned, revoked, failures) in &cases {
            let told: Arc<Mutex<Vec<&str>>> = Arc::default();
            let hooks = Odd { assigned: *assigned, revoked: *revoked, told: told.clone() };
            let consumer = client.consumer().rebalance_hooks(hooks).hook_timeout(Duration::from_millis(400));
            let consumer = match grouped {
                true => consumer.group(backend.group("odd")).subscribe([&topic]),
                false => consumer.assign([(&topic, 0), (&topic, 1)]),
            };
            let mut consumer = consumer.build()?;
            backend.watch(consumer.probe());
            let control = consumer.control();
            if *assigned == Deed::Close {
                let ended = timeout(CLOSE, consumer.recv()).await??;
                ensure!(ended.is_none(), "a record came from a consumer that was closed before");
            } else {
                let Some(record) = timeout(CLOSE, consumer.recv()).await?? else { fail!("it ended") };
                let first = if *assigned == Deed::SeekAndPause { (0, 5) } else { (record.partition(), 0) };
                let came = (record.partition(), record.offset());
                ensure!(came == first, "{came:?} came, {first:?} was next");
            }
            consumer.close(CLOSE).await?;
            let mut failed = Vec::new();
            while let Ok(event) = control.next_event().await {
                if let Event::HookFailed { hook, partitions, failure } = event {
                    ensure!(partitions.len() == 2, "{partitions:?} were told");
                    failed.push((hook, failure));
                }
            }
            let expected =
                failures.clone().map(|(first, last)| [(Hook::Assigned, first), (Hook::Revoked, last)]);
            ensure!(failed == expected.into_iter().flatten().collect::<Vec<_>>(), "{failed:?} was told");
            // A call that is late is dropped a moment later.
            sleep(Duration::from_millis(200)).await;
            let told = told.lock().clone();
            ensure!(told == ["assigned", "end", "revoked", "end"], "{told:?}");
        }
    }
    dropped_in_the_middle(backend, &client, &topic).await
}

/// A consumer that is dropped takes its hook with it.
async fn dropped_in_the_middle(
    backend: &Backend,
    client: &ottla::Client,
    topic: &str,
) -> Result<(), Failure> {
    let told: Arc<Mutex<Vec<&str>>> = Arc::default();
    let hooks = Odd { assigned: Deed::Hang, revoked: Deed::Nothing, told: told.clone() };
    let consumer =
        client.consumer().assign([(topic, 0)]).on_no_commit(Reset::Earliest).rebalance_hooks(hooks);
    let mut consumer = consumer.build()?;
    backend.watch(consumer.probe());
    let silence = timeout(Duration::from_secs(2), consumer.recv()).await;
    ensure!(silence.is_err(), "a record came before its hook had returned");
    let control = consumer.control();
    drop(consumer);
    let ended = control.wait_assigned().await.err().map(|error| error.kind());
    ensure!(ended.is_none() || ended == Some(ErrorKind::Closed), "{ended:?}");
    sleep(Duration::from_secs(1)).await;
    let told = told.lock().clone();
    ensure!(told == ["assigned", "end"], "{told:?}");
    Ok(())
}

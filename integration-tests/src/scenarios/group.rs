//! Consumer groups: everything arrives, in order, and only what is finished is committed, whoever comes and goes.

use super::hooks::{Ledger, asking};
use crate::backend::Backend;
use crate::checks::{History, Log};
use crate::random::Random;
use crate::traffic::{read, receive, short_sessions, write};
use crate::{Failure, ensure};
use ottla::{
    Assignor, Client, CloseOptions, Consumer, ErrorKind, GroupProtocol, PartitionAssignor, Subscriber, When,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A stalled connection is given up after `request.timeout.ms`, and then another one has to do.
const CLOSE: Duration = Duration::from_secs(120);
/// After the trouble is over, a group must have read everything by then.
pub(super) const CATCH_UP: Duration = Duration::from_secs(180);
/// The same where members die all the time: who has chosen the classic protocol by itself leaves a ghost of 45 seconds.
pub(super) const CATCH_UP_OVER_GHOSTS: Duration = Duration::from_secs(1_200);

fn consumer(
    backend: &Backend,
    client: &Client,
    group: &str,
    topic: &str,
    records: u32,
) -> Result<Consumer, Failure> {
    let when = When::Hybrid { records, within: Duration::from_secs(2) };
    let consumer = short_sessions(client.consumer(), protocol(backend));
    let consumer = consumer.group(group).subscribe([topic]).commit_when(when).build()?;
    backend.watch(consumer.probe());
    Ok(consumer)
}

/// The protocol that all members of a run speak, where the cluster has more than one.
pub(super) fn protocol(backend: &Backend) -> GroupProtocol {
    draw_protocol(backend, &mut backend.random("group protocol"))
}

fn draw_protocol(backend: &Backend, random: &mut Random) -> GroupProtocol {
    // Who chooses by himself cannot say how long a session of the classic protocol is, and a ghost lives for 45 seconds.
    let protocols = [GroupProtocol::Classic, GroupProtocol::Consumer, GroupProtocol::Auto];
    if backend.has_modern_groups() { random.choose(&protocols) } else { GroupProtocol::Classic }
}

/// Everything of the log has been received by somebody.
pub(super) fn has_all(history: &History, log: &Log) -> bool {
    let received = history.received_ids();
    log.values().flatten().all(|record| received.contains(&record.id))
}

async fn wait_for_all(history: &History, log: &Log) -> Result<(), Failure> {
    let (end, all) = (Instant::now() + CATCH_UP, log.values().map(Vec::len).sum::<usize>());
    while !has_all(history, log) {
        let received = history.received_ids().len();
        ensure!(Instant::now() < end, "no progress (L2): {received} of {all} records received");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Whoever loses a partition with a record in hand has received it, and another one has yet to finish it.
async fn wait_for_commits(history: &History, log: &Log) -> Result<(), Failure> {
    let end = Instant::now() + CATCH_UP;
    while let Err(open) = history.check_all_committed(log) {
        ensure!(Instant::now() < end, "no progress (L2): {open}");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Two members, range assignment, a steady stream of records: C1, C2, C4, and after the end everything is committed.
pub(super) async fn a_group_reads_everything_and_commits_it(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("all", 4).await?, backend.group("group"));
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let watching = backend.watch_commits(&group, &topic, &history);
    let trouble = backend.trouble(&topic);
    let enough = Arc::new(AtomicBool::new(false));
    let members: Vec<_> = (0..2)
        .map(|member| {
            let (backend, client, history, enough) =
                (backend.clone(), client.clone(), history.clone(), enough.clone());
            let (group, topic) = (group.clone(), topic.clone());
            let world = backend.clone();
            world.spawn("member", async move {
                let mut consumer = consumer(&backend, &client, &group, &topic, 20)?;
                read(&backend, &mut consumer, &history, member, || enough.load(Ordering::Relaxed)).await?;
                consumer.close(CLOSE).await?;
                Ok::<_, Failure>(())
            })
        })
        .collect();
    let producer = client.producer().build()?;
    backend.watch(producer.probe());
    write(backend, &producer.topic(&topic), &history, 0, 0..backend.scale(300)).await?;
    producer.close(CLOSE).await;
    trouble.end().await?;
    let log = backend.log(&topic).await?;
    wait_for_commits(&history, &log).await?;
    enough.store(true, Ordering::Relaxed);
    for member in members {
        member.join().await??;
    }
    watching.end().await?;
    backend.look_at_commits(&group, &topic, &history).await?;
    history.check_sends(&log, true)?;
    history.check_receipts(&log, true)?;
    history.check_all_committed(&log)
}

/// Members join, leave and crash while records flow; nobody skips a record, and no commit runs ahead of the work.
pub(super) async fn members_come_and_go_without_a_gap(backend: &Backend) -> Result<(), Failure> {
    come_and_go_alone(backend, Some(protocol(backend))).await
}

/// The same where each member draws a protocol of its own: the group changes from one to the other and back.
/// Fault 69.
pub(super) async fn members_of_both_protocols_come_and_go(backend: &Backend) -> Result<(), Failure> {
    come_and_go_alone(backend, None).await
}

async fn come_and_go_alone(backend: &Backend, protocol: Option<GroupProtocol>) -> Result<(), Failure> {
    let assignors = [
        Assignor::Range,
        Assignor::RoundRobin,
        Assignor::Sticky,
        Assignor::CooperativeSticky,
        Assignor::Custom(Arc::new(Reversed)),
    ];
    let assignor = &assignors[backend.random("assignor").choose(&[0, 1, 2, 3, 4])];
    let party = Party::new(backend, assignor.clone(), protocol);
    come_and_go(backend, &[party], 3, true).await
}

/// A group whose members come and go.
pub(super) struct Party {
    group: String,
    assignor: Assignor,
    /// That of all members, or each draws its own.
    protocol: Option<GroupProtocol>,
    history: Arc<History>,
    /// Where it is written down what hooks were told, if there are any.
    pub(super) ledger: Option<Arc<Ledger>>,
}

impl Party {
    pub(super) fn new(backend: &Backend, assignor: Assignor, protocol: Option<GroupProtocol>) -> Self {
        Self { group: backend.group("group"), assignor, protocol, history: Arc::default(), ledger: None }
    }

    pub(super) fn with_hooks(self, ledger: Arc<Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }
}

/// Several groups read a topic while it is written, each with members in so many places.
pub(super) async fn come_and_go(
    backend: &Backend,
    parties: &[Party],
    places: u32,
    in_trouble: bool,
) -> Result<(), Failure> {
    let topic = backend.topic("come-and-go", 5).await?;
    let client = backend.client().build()?;
    let (calm, enough) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (mut watching, mut members) = (Vec::new(), Vec::new());
    for party in parties {
        watching.push(backend.watch_commits(&party.group, &topic, &party.history));
        for place in 0..places {
            let member = Member {
                place,
                assignor: party.assignor.clone(),
                protocol: party.protocol,
                group: party.group.clone(),
                topic: topic.clone(),
                history: party.history.clone(),
                ledger: party.ledger.clone(),
                calm: calm.clone(),
                enough: enough.clone(),
            };
            let (world, client) = (backend.clone(), client.clone());
            members.push(backend.spawn("member", async move { member.live(&world, &client).await }));
        }
    }
    let trouble = in_trouble.then(|| backend.trouble(&topic));
    let written = parties.iter().map(|party| &party.history);
    let producer = client.producer().build()?;
    backend.watch(producer.probe());
    let records = producer.topic(&topic);
    for part in 0..10 {
        let count = backend.scale(30);
        write(backend, &records, &History::default(), 0, part * count..(part + 1) * count).await?;
        sleep(Duration::from_millis(700)).await;
    }
    producer.close(CLOSE).await;
    if let Some(trouble) = trouble {
        trouble.end().await?;
    }
    calm.store(true, Ordering::Relaxed);
    let log = backend.log(&topic).await?;
    for history in written {
        wait_for_all(history, &log).await?;
    }
    enough.store(true, Ordering::Relaxed);
    for member in members {
        member.join().await??;
    }
    for watch in watching {
        watch.end().await?;
    }
    parties.iter().try_for_each(|party| party.history.check_receipts(&log, true))
}

/// Gives the partitions in turn, the last one first; it moves much, and leaves it to the library to hold that back.
struct Reversed;

impl PartitionAssignor for Reversed {
    fn name(&self) -> &str {
        "reversed"
    }

    fn is_cooperative(&self) -> bool {
        true
    }

    fn assign(&self, members: &[Subscriber], partitions: &BTreeMap<String, i32>) -> Vec<Vec<(String, i32)>> {
        let mut shares = vec![Vec::new(); members.len()];
        for (topic, count) in partitions {
            for (partition, at) in (0..*count).rev().zip((0..members.len()).cycle()) {
                shares[at].push((topic.clone(), partition));
            }
        }
        shares
    }
}

/// A place in a group that is taken by one consumer after the other.
struct Member {
    place: u32,
    assignor: Assignor,
    /// That of all members, or each draws its own.
    protocol: Option<GroupProtocol>,
    group: String,
    topic: String,
    history: Arc<History>,
    ledger: Option<Arc<Ledger>>,
    /// Nobody goes any more.
    calm: Arc<AtomicBool>,
    enough: Arc<AtomicBool>,
}

impl Member {
    async fn live(self, backend: &Backend, client: &Client) -> Result<(), Failure> {
        let mut random = backend.random(&format!("{} member {}", self.group, self.place));
        let mut life = 0;
        while !self.enough.load(Ordering::Relaxed) {
            life += 1;
            let when = When::Hybrid { records: 7, within: Duration::from_millis(500) };
            let protocol = self.protocol.unwrap_or_else(|| draw_protocol(backend, &mut random));
            let mut consumer = short_sessions(client.consumer(), protocol);
            // Where classic members live, whoever may choose is one of them, by the assignor that they all have.
            if self.protocol == Some(GroupProtocol::Classic) {
                consumer = consumer.assignors([self.assignor.clone()]);
            }
            let who = self.place * 1_000 + life;
            let mut consumer = consumer.group(&self.group).subscribe([&self.topic]).commit_when(when);
            if let Some(ledger) = &self.ledger {
                consumer = consumer.rebalance_hooks(ledger.member(backend, &self.group, who));
                // Nothing is committed but by hooks.
                consumer = consumer.commit_when(if random.percent(50) { When::Manual } else { when });
            }
            let mut consumer = consumer.build()?;
            backend.watch(consumer.probe());
            let until = Instant::now() + Duration::from_millis(500 + random.below(6_000));
            let crash = random.percent(30);
            let mut in_hand = None;
            let stays = || self.calm.load(Ordering::Relaxed) || Instant::now() < until;
            while stays() && !self.enough.load(Ordering::Relaxed) {
                if let Some((partition, offset)) = in_hand.take() {
                    self.history.finished(partition, offset);
                    self.ledger.iter().for_each(|ledger| ledger.finished(who, partition, offset));
                }
                let asking = asking(self.ledger.as_deref(), who, consumer.recv());
                let Ok((next, ready)) = timeout(Duration::from_millis(100), asking).await else { continue };
                let Some(record) = next? else { break };
                let (partition, offset) = receive(backend, &record, &self.history, who)?;
                self.ledger.iter().try_for_each(|ledger| ledger.delivered(who, partition, offset, &ready))?;
                in_hand = Some((partition, offset));
                if random.percent(10) {
                    sleep(Duration::from_millis(random.below(200))).await;
                }
            }
            let closed = if crash && !self.enough.load(Ordering::Relaxed) {
                drop(consumer);
                false
            } else {
                // In trouble the group may be out of reach; it notices by itself.
                consumer.close(CLOSE).await.is_ok()
            };
            self.ledger.iter().try_for_each(|ledger| ledger.gone(who, closed))?;
        }
        Ok(())
    }
}

/// A lone member whose session never ends gets each record once and in order, whatever breaks on the way.
pub(super) async fn a_lone_member_gets_each_record_once(backend: &Backend) -> Result<(), Failure> {
    let (topic, group) = (backend.topic("alone", 4).await?, backend.group("group"));
    let history = Arc::new(History::default());
    let watching = backend.watch_commits(&group, &topic, &history);
    let client = backend.client().build()?;
    let trouble = backend.trouble(&topic);
    let producer = client.producer().build()?;
    backend.watch(producer.probe());
    let (world, records, written) = (backend.clone(), producer.topic(&topic), history.clone());
    let count = backend.scale(300);
    let writer = backend.spawn("writer", async move { write(&world, &records, &written, 0, 0..count).await });
    let session = Duration::from_secs(120);
    let mut consumer =
        client.consumer().group(&group).subscribe([&topic]).session_timeout(session).build()?;
    backend.watch(consumer.probe());
    let end = Instant::now() + CATCH_UP;
    let all = count as usize;
    let done = || history.received_ids().len() >= all || Instant::now() > end;
    read(backend, &mut consumer, &history, 0, done).await?;
    writer.join().await??;
    trouble.end().await?;
    producer.close(CLOSE).await;
    consumer.close(CLOSE).await?;
    watching.end().await?;
    let log = backend.log(&topic).await?;
    history.check_sends(&log, true)?;
    history.check_receipts(&log, true)?;
    ensure!(history.redelivered() == 0, "{} records came twice (C4)", history.redelivered());
    backend.look_at_commits(&group, &topic, &history).await?;
    history.check_all_committed(&log)
}

/// What was in hand when a member died is delivered again; what it had finished and committed is not lost.
pub(super) async fn a_crash_repeats_records_and_skips_none(backend: &Backend) -> Result<(), Failure> {
    const EACH: u32 = 5;
    let (topic, group) = (backend.topic("crash", 2).await?, backend.group("group"));
    let history = Arc::new(History::default());
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    let count = backend.scale(60);
    write(backend, &producer.topic(&topic), &history, 0, 0..count).await?;
    producer.close(CLOSE).await;
    let log = backend.log(&topic).await?;
    let mut random = backend.random("crash");
    let mut member = 0;
    let end = Instant::now() + CATCH_UP_OVER_GHOSTS;
    while !has_all(&history, &log) {
        ensure!(Instant::now() < end, "no progress (L2): {} received", history.received_ids().len());
        member += 1;
        let mut consumer = consumer(backend, &client, &group, &topic, EACH)?;
        let mut left = 1 + random.below(u64::from(count) / 2);
        let mut in_hand = None;
        while left > 0 && !has_all(&history, &log) {
            left -= 1;
            if let Some((partition, offset)) = in_hand.take() {
                history.finished(partition, offset);
            }
            let Ok(next) = timeout(Duration::from_secs(20), consumer.recv()).await else { break };
            let Some(record) = next? else { break };
            in_hand = Some(receive(backend, &record, &history, member)?);
            if random.percent(5) {
                sleep(Duration::from_millis(300)).await;
            }
        }
        drop(consumer);
        backend.look_at_commits(&group, &topic, &history).await?;
    }
    let lost: BTreeSet<_> = log.values().flatten().map(|record| record.id).collect();
    ensure!(lost.is_subset(&history.received_ids()), "poll-skip (C4)");
    history.check_repeats(usize::try_from(2 * EACH)?)?;
    history.check_receipts(&log, true)
}

/// KIP-1092: whether a closed member is still in its group depends on its kind and on what it was told. A group with members
/// lets nobody else change its offsets.
pub(super) async fn a_closed_member_is_gone_or_stays_as_it_was_told(
    backend: &Backend,
) -> Result<(), Failure> {
    let topic = backend.topic("close", 1).await?;
    let client = backend.client().build()?;
    let producer = client.producer().build()?;
    write(backend, &producer.topic(&topic), &History::default(), 0, 0..1).await?;
    producer.close(CLOSE).await;
    let options = CloseOptions::within(CLOSE);
    let cases = [
        (None, options, false),
        (None, options.leave_group(), false),
        (None, options.remain_in_group(), true),
        (Some("pod"), options, true),
        (Some("pod"), options.leave_group(), false),
        (Some("pod"), options.remain_in_group(), true),
    ];
    let protocols = [GroupProtocol::Classic, GroupProtocol::Consumer];
    let known = if backend.has_modern_groups() { 2 } else { 1 };
    for protocol in protocols.into_iter().take(known) {
        for (instance, options, stays) in cases {
            let group = backend.group("close");
            let consumer = client.consumer().group_protocol(protocol).group(&group).subscribe([&topic]);
            let consumer = match instance {
                Some(id) => consumer.group_instance_id(id),
                None => consumer,
            };
            let mut consumer = consumer.commit_when(When::Manual).build()?;
            backend.watch(consumer.probe());
            match consumer.recv().await {
                Ok(first) => ensure!(first.is_some(), "the consumer ended"),
                // Before KIP-345 there are no static members.
                Err(error) if instance.is_some() && error.kind() == ErrorKind::UnsupportedVersion => continue,
                Err(error) => return Err(error.into()),
            }
            consumer.close(options).await?;
            let place = (topic.clone(), 0);
            let altered = client.admin().alter_offsets(&group, [(&topic, 0, 1)]).await.take(&place);
            let refused = altered.err().map(|error| error.kind());
            let expected = stays.then_some(ErrorKind::Superseded);
            ensure!(refused == expected, "{protocol:?} {instance:?} {options:?}: {refused:?}");
        }
    }
    Ok(())
}

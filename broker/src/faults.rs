//! Things that go wrong on purpose.
//!
//! A [`Fault`] says on which requests it acts, how often, and what it does. Rules are tried in the order in which they
//! were added; all that match act. Nothing here moves bytes or waits: the server does what the rules say.

use crate::api::{Answer, Call};
use ottla_protocol::api::ApiKey;
use ottla_protocol::error_code::ErrorCode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Changes an answer before it is sent.
pub(crate) type Rewrite = Arc<dyn Fn(&mut Answer) + Send + Sync>;

/// What a fault does to a request.
#[derive(Clone)]
pub(crate) enum Effect {
    Fail(ErrorCode),
    Delay(Duration),
    DelayAnswer(Duration),
    Cut,
    Late(Duration),
    CutAnswer,
    CutWithinAnswer(usize),
    Swallow,
    SwallowAnswer,
    Throttle(Duration),
    Rewrite(Rewrite),
    WrongCorrelation,
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(code) => write!(f, "Fail({code:?})"),
            Self::Delay(delay) => write!(f, "Delay({delay:?})"),
            Self::DelayAnswer(delay) => write!(f, "DelayAnswer({delay:?})"),
            Self::Cut => f.write_str("Cut"),
            Self::Late(delay) => write!(f, "Late({delay:?})"),
            Self::CutAnswer => f.write_str("CutAnswer"),
            Self::CutWithinAnswer(bytes) => write!(f, "CutWithinAnswer({bytes})"),
            Self::Swallow => f.write_str("Swallow"),
            Self::SwallowAnswer => f.write_str("SwallowAnswer"),
            Self::Throttle(time) => write!(f, "Throttle({time:?})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::WrongCorrelation => f.write_str("WrongCorrelation"),
        }
    }
}

/// A rule that makes requests go wrong. It acts once, unless [`Fault::times`] or [`Fault::always`] says otherwise.
///
/// A transaction coordinator writes markers by itself. A fault on `WRITE_TXN_MARKERS` without a topic acts on those too,
/// once a transaction: a delay keeps it prepared for so long, so that its producer meets CONCURRENT_TRANSACTIONS; anything
/// else lets the writing fail and be tried again.
///
/// ```
/// use ottla_broker::Fault;
/// use ottla_protocol::api::ApiKey;
/// use ottla_protocol::error_code::ErrorCode;
///
/// // The second Produce to partition 3 of orders fails, and only that one.
/// Fault::on(ApiKey::PRODUCE).topic("orders").partition(3).skip(1).fail(ErrorCode::NOT_ENOUGH_REPLICAS);
/// // Every answer to a commit gets lost after the commit took effect.
/// Fault::on(ApiKey::OFFSET_COMMIT).always().cut_answer();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a fault acts once it is given to a broker"]
pub struct Fault {
    api: Option<ApiKey>,
    node: Option<i32>,
    topic: Option<String>,
    partition: Option<i32>,
    client_id: Option<String>,
    skip: usize,
    times: usize,
    effect: Effect,
}

impl Fault {
    /// Acts on requests of one API.
    pub fn on(api: ApiKey) -> Self {
        Self { api: Some(api), ..Self::on_anything() }
    }

    /// Acts on every request.
    pub fn on_anything() -> Self {
        Self {
            api: None,
            node: None,
            topic: None,
            partition: None,
            client_id: None,
            skip: 0,
            times: 1,
            effect: Effect::Cut,
        }
    }

    /// Acts only at this node.
    pub fn node(mut self, node: i32) -> Self {
        self.node = Some(node);
        self
    }

    /// Acts only on this topic. An error then hits this topic in the request and nothing else of it, with Produce, Fetch,
    /// ListOffsets, OffsetForLeaderEpoch, OffsetCommit, OffsetFetch, Metadata, AddPartitionsToTxn (whose other partitions
    /// are then not attempted) and TxnOffsetCommit. Other effects hit a whole request that names the topic, which only
    /// Produce and Fetch are looked at for; an incremental fetch names what changed.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Acts only on this partition of the topic.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Acts only on requests of clients with this client id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Lets so many requests that match through first.
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Acts so many times.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Acts until it is taken away.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Answers with this code; nothing takes effect.
    pub fn fail(self, code: ErrorCode) -> Self {
        self.with(Effect::Fail(code))
    }

    /// Waits before the request takes effect.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(Effect::Delay(delay))
    }

    /// Waits between the effect and the answer.
    pub fn delay_answer(self, delay: Duration) -> Self {
        self.with(Effect::DelayAnswer(delay))
    }

    /// Closes the connection before the request takes effect.
    pub fn cut(self) -> Self {
        self.with(Effect::Cut)
    }

    /// Closes the connection at once, and lets the request take effect so much later: as one that waited in a queue of a
    /// network or a broker while its client gave up.
    pub fn late(self, delay: Duration) -> Self {
        self.with(Effect::Late(delay))
    }

    /// Closes the connection after the request took effect, instead of answering.
    pub fn cut_answer(self) -> Self {
        self.with(Effect::CutAnswer)
    }

    /// Closes the connection after so many bytes of the answer.
    pub fn cut_within_answer(self, bytes: usize) -> Self {
        self.with(Effect::CutWithinAnswer(bytes))
    }

    /// Never answers, and the request never takes effect. The connection stays open and serves nothing more.
    pub fn swallow(self) -> Self {
        self.with(Effect::Swallow)
    }

    /// Never answers, though the request takes effect. The connection stays open and serves nothing more.
    pub fn swallow_answer(self) -> Self {
        self.with(Effect::SwallowAnswer)
    }

    /// Tells the client to be silent for so long (KIP-219). The broker does not hold it to that.
    pub fn throttle(self, time: Duration) -> Self {
        self.with(Effect::Throttle(time))
    }

    /// Changes the answer: leaves something out, says it twice, lies.
    pub fn rewrite(self, rewrite: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        self.with(Effect::Rewrite(Arc::new(rewrite)))
    }

    /// Answers under a correlation id that nobody asked with.
    pub fn wrong_correlation(self) -> Self {
        self.with(Effect::WrongCorrelation)
    }

    fn with(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Errors for a topic are looked for where the topic is, not where the request arrives.
    fn hits_partitions(&self) -> bool {
        self.topic.is_some() && matches!(self.effect, Effect::Fail(_))
    }

    fn matches(&self, api: ApiKey, node: i32) -> bool {
        self.api.is_none_or(|it| it == api) && self.node.is_none_or(|it| it == node)
    }
}

/// Names a fault that was given to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Rule {
    id: FaultId,
    fault: Fault,
    seen: usize,
    fired: usize,
}

impl Rule {
    /// A request matches: does the rule act on it?
    fn fires(&mut self) -> bool {
        self.seen += 1;
        let fires = self.seen > self.fault.skip && self.fired < self.fault.times;
        self.fired += usize::from(fires);
        fires
    }
}

/// The rules of one broker.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    added: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> FaultId {
        self.added += 1;
        let id = FaultId(self.added);
        self.rules.push(Rule { id, fault, seen: 0, fired: 0 });
        id
    }

    pub(crate) fn remove(&mut self, id: FaultId) {
        self.rules.retain(|rule| rule.id != id);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn fired(&self, id: FaultId) -> usize {
        self.rules.iter().find(|rule| rule.id == id).map_or(0, |rule| rule.fired)
    }

    /// What happens to a request as a whole.
    pub(crate) fn on_request(&mut self, node: i32, client_id: &str, call: &Call) -> Vec<Effect> {
        let key = call.key();
        let acting = self.rules.iter_mut().filter(|rule| {
            let fault = &rule.fault;
            !fault.hits_partitions()
                && fault.matches(key, node)
                && fault.client_id.as_deref().is_none_or(|it| it == client_id)
                && fault.topic.as_deref().is_none_or(|topic| names(call, topic, fault.partition))
        });
        acting.filter_map(|rule| rule.fires().then(|| rule.fault.effect.clone())).collect()
    }

    /// What happens to a request that a node sends to others by itself.
    pub(crate) fn within(&mut self, key: ApiKey, node: i32) -> Vec<Effect> {
        let acting = self.rules.iter_mut().filter(|rule| {
            let fault = &rule.fault;
            fault.api == Some(key)
                && fault.matches(key, node)
                && fault.topic.is_none()
                && fault.client_id.is_none()
        });
        acting.filter_map(|rule| rule.fires().then(|| rule.fault.effect.clone())).collect()
    }

    /// The error that a partition of a request fails with.
    pub(crate) fn on_partition(
        &mut self,
        api: ApiKey,
        node: i32,
        topic: &str,
        partition: i32,
    ) -> Option<ErrorCode> {
        self.on_place(api, node, topic, Some(partition))
    }

    /// The error that a topic of a request fails with.
    pub(crate) fn on_topic(&mut self, api: ApiKey, node: i32, topic: &str) -> Option<ErrorCode> {
        self.on_place(api, node, topic, None)
    }

    fn on_place(&mut self, api: ApiKey, node: i32, topic: &str, partition: Option<i32>) -> Option<ErrorCode> {
        self.rules.iter_mut().find_map(|rule| {
            let fault = &rule.fault;
            let is_here = fault.topic.as_deref() == Some(topic)
                && (partition.is_none() || fault.partition.is_none_or(|it| Some(it) == partition));
            match fault.effect {
                Effect::Fail(code) if is_here && fault.matches(api, node) => rule.fires().then_some(code),
                _ => None,
            }
        })
    }
}

/// Whether a request names a topic, and a partition of it.
fn names(call: &Call, topic: &str, partition: Option<i32>) -> bool {
    let is_wanted = |index: i32| partition.is_none_or(|it| it == index);
    match call {
        Call::Produce(call) => call
            .request()
            .topic_data
            .iter()
            .any(|it| it.name == *topic && it.partition_data.iter().any(|it| is_wanted(it.index))),
        Call::Fetch(call) => call
            .topics
            .iter()
            .any(|it| it.topic == *topic && it.partitions.iter().any(|it| is_wanted(it.partition))),
        _ => false,
    }
}

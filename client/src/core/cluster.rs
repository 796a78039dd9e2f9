//! The brokers, the links to them, and the metadata that says who leads what.
//!
//! It owns which links exist, which are wanted, when a broker may be dialled again, and whom to ask for metadata. It
//! refuses to know what the links are used for: producer and consumer say [`Cluster::want`] and look at
//! [`Cluster::is_open`]. Invariant: at most one dial a broker at a time, and never before its backoff is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::api::{Request as Api, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use ottla_protocol::wire::Str;

use super::ask::{Ask, version_for};
use super::backoff::{Backoff, Random};
use super::metadata::Metadata;
use super::{Dial, Lane, Link, Request, Work};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
struct Node {
    host: Str,
    port: u16,
    rack: Option<Str>,
    backoff: Backoff,
    /// How long the next dial may take: longer after each that failed (KIP-601).
    setup_timeout: Backoff,
    dial_after: Instant,
    dialling: bool,
}

#[derive(Debug)]
enum Phase {
    /// Somebody has something to send.
    Wanted,
    Dialling,
    Open {
        versions: Versions,
        /// The broker asked for silence (KIP-219).
        muted: Option<Instant>,
        /// To be closed: the broker has moved, or the link is of no more use.
        close: Option<Error>,
    },
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) random: Random,
    pub(crate) metadata: Metadata,
    nodes: BTreeMap<i32, Node>,
    links: BTreeMap<Link, Phase>,
    /// The link that is to carry, or carries, the next metadata request.
    asked: Option<Link>,
    /// Why a broker could not be reached, or does not serve us, last.
    failure: Option<Error>,
    /// A broker said that clients must start again: until metadata has come, only bootstrap addresses are asked (KIP-1102).
    starting_over: bool,
}

impl Cluster {
    pub(crate) fn new(config: Arc<ClientConfig>, seed: u64, now: Instant) -> Self {
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        let auto_create = config.allow_auto_create_topics;
        let metadata = Metadata::new(now, backoff, config.metadata_max_age, auto_create);
        let mut cluster = Self {
            random: Random::new(seed),
            metadata,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            asked: None,
            failure: None,
            starting_over: false,
            config,
        };
        let seeds = cluster.config.bootstrap.clone();
        for (id, (host, port)) in (i32::MIN..).zip(seeds) {
            cluster.add_node(now, id, Str::from(host), port, None);
        }
        cluster
    }

    fn add_node(&mut self, now: Instant, id: i32, host: Str, port: u16, rack: Option<Str>) {
        let config = &self.config;
        let backoff = Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max);
        let setup_timeout = Backoff::new(config.socket_setup_timeout, config.socket_setup_timeout_max);
        match self.nodes.get_mut(&id) {
            Some(node) if node.host == host && node.port == port => node.rack = rack,
            _ => {
                let moved = Error::new(ErrorKind::Connect, format!("broker {id} moved to {host}:{port}"));
                self.close_links(id, &moved);
                let node =
                    Node { host, port, rack, backoff, setup_timeout, dial_after: now, dialling: false };
                self.nodes.insert(id, node);
            }
        }
    }

    fn close_links(&mut self, node: i32, cause: &Error) {
        for (_, phase) in self.links.iter_mut().filter(|(link, _)| link.node == node) {
            if let Phase::Open { close, .. } = phase {
                close.get_or_insert_with(|| cause.clone());
            }
        }
    }

    /// There is something to send on a link: open it, unless it is open or on its way.
    pub(crate) fn want(&mut self, link: Link) {
        if self.nodes.contains_key(&link.node) {
            self.links.entry(link).or_insert(Phase::Wanted);
        }
    }

    /// There is something to ask of any broker: have a control link to one, if there is none.
    pub(crate) fn want_any_control(&mut self, now: Instant) {
        if self.links.keys().any(|link| link.lane == Lane::Control) {
            return;
        }
        let may = |(_, node): &(&i32, &Node)| now >= node.dial_after;
        let nodes: Vec<i32> = self.nodes.iter().filter(may).map(|(id, _)| *id).collect();
        // When all of them wait for their backoff, the first whose wait is over.
        let first = self.nodes.iter().min_by_key(|(_, node)| node.dial_after).map(|(id, _)| *id);
        if let Some(node) = nodes.get(self.random.below(nodes.len())).copied().or(first) {
            self.want(Link { node, lane: Lane::Control });
        }
    }

    pub(crate) fn is_open(&self, link: Link) -> bool {
        matches!(self.links.get(&link), Some(Phase::Open { close: None, .. }))
    }

    /// Open, on its way, or wanted.
    pub(crate) fn is_known(&self, link: Link) -> bool {
        self.links.contains_key(&link)
    }

    /// Open and not muted.
    pub(crate) fn is_writable(&self, now: Instant, link: Link) -> bool {
        match self.links.get(&link) {
            Some(Phase::Open { muted, close: None, .. }) => muted.is_none_or(|until| now >= until),
            _ => false,
        }
    }

    /// Whether a broker of this id is known.
    pub(crate) fn has_node(&self, node: i32) -> bool {
        self.nodes.contains_key(&node)
    }

    pub(crate) fn rack(&self, node: i32) -> Option<&Str> {
        self.nodes.get(&node)?.rack.as_ref()
    }

    /// A broker that another API named: a coordinator, or a leader hint.
    pub(crate) fn learn_node(&mut self, now: Instant, id: i32, host: &Str, port: i32, rack: Option<Str>) {
        if let Ok(port) = u16::try_from(port)
            && id >= 0
            && port > 0
            && !host.is_empty()
        {
            self.add_node(now, id, host.clone(), port, rack);
        }
    }

    /// The version of `R` on a link, at most `cap`. A broker that lacks the API is remembered as the failure.
    pub(crate) fn version<R: Api>(&mut self, link: Link, cap: i16) -> Result<i16, Error> {
        let Some(Phase::Open { versions, .. }) = self.links.get(&link) else {
            return Err(Error::new(ErrorKind::Connect, format!("no connection to broker {}", link.node)));
        };
        version_for::<R>(versions, cap).map_err(|unsupported| {
            let address = self.nodes.get(&link.node).map(|n| format!("{}:{}", n.host, n.port));
            let message = format!("broker {}: {unsupported}", address.unwrap_or_default());
            let error = Error::new(ErrorKind::UnsupportedVersion, message);
            self.failure = Some(error.clone());
            error
        })
    }

    /// Whether an open link has a version of `R` from this one on.
    pub(crate) fn speaks<R: Api>(&self, link: Link, from: i16) -> bool {
        let Some(Phase::Open { versions, .. }) = self.links.get(&link) else { return false };
        version_for::<R>(versions, i16::MAX).is_ok_and(|version| version >= from)
    }

    /// The level at which the cluster has a feature switched on, as the broker of an open link said; 0 where it names none.
    pub(crate) fn feature(&self, link: Link, name: &str) -> Option<i16> {
        match self.links.get(&link) {
            Some(Phase::Open { versions, .. }) => Some(versions.feature(name).unwrap_or(0)),
            _ => None,
        }
    }

    /// What stands in the way of reaching the cluster, as far as anybody knows.
    pub(crate) fn failure(&self) -> Option<Error> {
        let silent = || {
            let asked = self.asked.filter(|_| self.metadata.succeeded.is_none())?;
            let Node { host, port, .. } = self.nodes.get(&asked.node)?;
            Some(Error::new(ErrorKind::Connect, format!("no answer from {host}:{port} so far")))
        };
        self.failure.clone().or_else(silent)
    }

    /// An answer asked for silence; what is already on the way is answered all the same (KIP-219).
    pub(crate) fn throttle(&mut self, now: Instant, link: Link, throttle_ms: i32) {
        let time =
            Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0)).min(self.config.request_timeout);
        if let Some(Phase::Open { muted, .. }) = self.links.get_mut(&link)
            && !time.is_zero()
        {
            *muted = Some(now + time);
        }
    }

    /// Closes an open link: its driver will say `Lost`.
    pub(crate) fn close(&mut self, link: Link, cause: Error) {
        if let Some(Phase::Open { close, .. }) = self.links.get_mut(&link) {
            close.get_or_insert(cause);
        }
    }

    pub(crate) fn opened(&mut self, link: Link, versions: Versions) {
        if let Some(node) = self.nodes.get_mut(&link.node) {
            node.dialling = false;
            node.setup_timeout.reset();
        }
        self.failure = None;
        self.links.insert(link, Phase::Open { versions, muted: None, close: None });
    }

    /// A broker answered: the next dial after a loss need not wait long.
    pub(crate) fn alive(&mut self, link: Link) {
        if let Some(node) = self.nodes.get_mut(&link.node) {
            node.backoff.reset();
        }
    }

    pub(crate) fn lost(&mut self, now: Instant, link: Link, cause: &Error) {
        let dialled = matches!(self.links.remove(&link), Some(Phase::Dialling));
        if let Some(node) = self.nodes.get_mut(&link.node) {
            node.dialling &= !dialled;
            node.dial_after = now + node.backoff.next(&mut self.random);
        }
        if self.asked == Some(link) {
            self.asked = None;
            if self.metadata.in_flight {
                self.metadata.lost(now, &mut self.random);
            }
        }
        self.starting_over |= cause.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED);
        if cause.kind() != ErrorKind::Closed {
            self.failure = Some(cause.clone());
            self.metadata.refresh(now, &mut self.random);
        }
    }

    /// Takes in what the brokers say of themselves; the topics are the metadata's.
    pub(crate) fn answered(&mut self, now: Instant, link: Link, response: &MetadataResponse) {
        self.asked = None;
        self.throttle(now, link, response.throttle_time_ms);
        let refusal = self.refusal(link, response);
        if response.error_code != ErrorCode::NONE || refusal.is_some() {
            self.metadata.lost(now, &mut self.random);
            if let Some(cause) = refusal {
                self.starting_over = true;
                self.close(link, cause.clone());
                self.failure = Some(cause);
            }
            return;
        }
        self.starting_over = false;
        let named: Vec<i32> = response.brokers.iter().map(|b| b.node_id).collect();
        if !named.is_empty() {
            for broker in &response.brokers {
                self.learn_node(now, broker.node_id, &broker.host, broker.port, broker.rack.clone());
            }
            let gone: Vec<i32> =
                self.nodes.keys().copied().filter(|id| *id >= 0 && !named.contains(id)).collect();
            for id in gone {
                let cause = Error::new(ErrorKind::Connect, format!("broker {id} has left the cluster"));
                self.close_links(id, &cause);
                self.links.retain(|link, phase| link.node != id || !matches!(phase, Phase::Wanted));
                self.nodes.remove(&id);
            }
        }
        self.metadata.apply(now, response, &mut self.random);
    }

    /// Why a broker is not to be asked again (KIP-1102), or its answer not to be believed: it is of another cluster.
    fn refusal(&self, link: Link, response: &MetadataResponse) -> Option<Error> {
        let refused = |why: String| {
            let address = self.nodes.get(&link.node).map(|n| format!("{}:{}", n.host, n.port));
            let message = format!("broker {}: {why}", address.unwrap_or_default());
            Some(Error::new(ErrorKind::Connect, message).with_code(ErrorCode::REBOOTSTRAP_REQUIRED))
        };
        if response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
            return refused(ErrorCode::REBOOTSTRAP_REQUIRED.message().to_owned());
        }
        match (&self.metadata.cluster_id, &response.cluster_id) {
            (Some(ours), Some(its)) if self.config.cluster_check && ours != its => {
                refused(format!("it belongs to the cluster {its}, and this client to {ours}"))
            }
            _ => None,
        }
    }

    /// Who may be asked for metadata at all.
    fn askable(&self) -> impl Iterator<Item = (i32, &Node)> {
        let nodes = self.nodes.iter().map(|(id, node)| (*id, node));
        nodes.filter(|(id, _)| !self.starting_over || *id < 0)
    }

    /// Chooses whom to ask for metadata, when it is time: an open link, else a broker that may be dialled.
    pub(crate) fn step(&mut self, now: Instant) {
        if !self.needs_asked(now) {
            return;
        }
        let control = |node: &i32| Link { node: *node, lane: Lane::Control };
        let open = self.askable().map(|(id, _)| control(&id)).filter(|link| self.is_open(*link)).last();
        let may = |(_, node): &(i32, &Node)| now >= node.dial_after;
        let (seeds, known): (Vec<_>, Vec<_>) =
            self.askable().filter(may).map(|(id, _)| id).partition(|id| *id < 0);
        // KIP-1102: after a long time without usable metadata only the bootstrap addresses are believed.
        let stale = |since: Instant| now.saturating_duration_since(since) > self.config.rebootstrap_trigger;
        let start_over = self.metadata.succeeded.is_some_and(stale) && !seeds.is_empty();
        let candidates = if known.is_empty() || start_over { seeds } else { known };
        let dial = candidates.get(self.random.below(candidates.len())).map(control);
        self.asked = open.or(dial);
        if let Some(link) = self.asked {
            self.want(link);
        }
    }

    fn needs_asked(&self, now: Instant) -> bool {
        self.metadata.due().is_some_and(|due| now >= due)
            && self.asked.is_none_or(|link| !self.links.contains_key(&link))
    }

    pub(crate) fn poll_dial(&mut self, now: Instant) -> Option<Dial> {
        self.step(now);
        let link = self.diallable(now)?;
        self.links.insert(link, Phase::Dialling);
        let node = self.nodes.get_mut(&link.node)?;
        node.dialling = true;
        let timeout = node.setup_timeout.next(&mut self.random);
        let cluster_id = self.metadata.cluster_id.clone().filter(|_| self.config.cluster_check);
        Some(Dial { link, host: node.host.clone(), port: node.port, cluster_id, timeout })
    }

    fn diallable(&self, now: Instant) -> Option<Link> {
        let wanted =
            self.links.iter().filter(|(_, phase)| matches!(phase, Phase::Wanted)).map(|(link, _)| *link);
        let may =
            |link: &Link| self.nodes.get(&link.node).is_some_and(|n| !n.dialling && now >= n.dial_after);
        wanted.into_iter().find(may)
    }

    pub(crate) fn wants_dial(&self, now: Instant) -> bool {
        let may = |(id, node): (i32, &Node)| {
            now >= node.dial_after || self.is_open(Link { node: id, lane: Lane::Control })
        };
        self.diallable(now).is_some() || (self.needs_asked(now) && self.askable().any(may))
    }

    /// The metadata request, if this link is to carry it; or the order to close.
    pub(crate) fn poll_work(&mut self, now: Instant, link: Link) -> Option<Work> {
        if let Some(Phase::Open { close: Some(cause), .. }) = self.links.get(&link) {
            return Some(Work::Close(cause.clone()));
        }
        self.step(now);
        if !self.wants(now, link) {
            return None;
        }
        match self.version::<MetadataRequest>(link, i16::MAX) {
            Ok(version) => {
                let mut ask = self.metadata.ask(now);
                if version == 0 {
                    // Where all topics are named by no name.
                    ask.topics.get_or_insert_default();
                }
                let ask = Ask::Metadata(ask);
                Some(Work::Request(Request {
                    ask,
                    version,
                    timeout: self.config.request_timeout,
                    answered: true,
                }))
            }
            Err(cause) => {
                self.close(link, cause.clone());
                Some(Work::Close(cause))
            }
        }
    }

    /// Whether [`Cluster::poll_work`] would give something.
    pub(crate) fn wants(&self, now: Instant, link: Link) -> bool {
        let close = matches!(self.links.get(&link), Some(Phase::Open { close: Some(_), .. }));
        let due = self.metadata.due().is_some_and(|due| now >= due);
        close || (due && self.asked == Some(link) && self.is_writable(now, link))
    }

    /// When a muted link may write again.
    pub(crate) fn muted_until(&self, link: Link) -> Option<Instant> {
        match self.links.get(&link) {
            Some(Phase::Open { muted, close: None, .. }) => *muted,
            _ => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let asked_is_up = self.asked.is_some_and(|link| self.links.contains_key(&link));
        let ask = self.metadata.due().filter(|_| !asked_is_up).map(|due| {
            let control = |(node, _)| self.is_open(Link { node, lane: Lane::Control });
            let dial = self.askable().map(|(_, n)| n.dial_after).min();
            if self.askable().any(control) { due } else { dial.map_or(due, |dial| due.max(dial)) }
        });
        let wanted = self.links.iter().filter(|(_, phase)| matches!(phase, Phase::Wanted));
        let nodes = wanted.filter_map(|(link, _)| self.nodes.get(&link.node));
        nodes.filter(|n| !n.dialling).map(|n| n.dial_after).chain(ask).min()
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::Broker;

    use super::*;

    fn cluster(now: Instant) -> Cluster {
        let mut config = ClientConfig { bootstrap: vec![("far".into(), 9092)], ..ClientConfig::default() };
        config.socket_setup_timeout = Duration::from_millis(100);
        config.socket_setup_timeout_max = Duration::from_millis(300);
        Cluster::new(config.into(), 1, now)
    }

    fn dial(cluster: &mut Cluster, now: &mut Instant) -> Dial {
        *now += Duration::from_secs(10);
        cluster.poll_dial(*now).expect("metadata is wanted")
    }

    #[test]
    fn each_dial_that_fails_gives_the_next_one_more_time() {
        let mut now = Instant::now();
        let mut cluster = cluster(now);
        let check = |dial: &Dial, millis: u32| {
            let middle = Duration::from_millis(u64::from(millis));
            let fifth = middle / 5;
            assert!(dial.timeout >= middle - fifth && dial.timeout <= middle + fifth, "{dial:?}");
        };
        for millis in [100, 200, 300, 300] {
            let dial = dial(&mut cluster, &mut now);
            check(&dial, millis);
            cluster.lost(now, dial.link, &Error::new(ErrorKind::Connect, "refused"));
        }
        let opened = dial(&mut cluster, &mut now).link;
        cluster.opened(opened, Versions::default());
        cluster.lost(now, opened, &Error::new(ErrorKind::Connect, "reset"));
        check(&dial(&mut cluster, &mut now), 100);
    }

    fn metadata(cluster_id: &'static str, node: i32) -> MetadataResponse {
        let host = format!("broker-{node}");
        let broker = Broker { node_id: node, host: Str::from(host), port: 9092, ..Broker::default() };
        let cluster_id = Some(Str::from_static(cluster_id));
        MetadataResponse { cluster_id, brokers: vec![broker], ..MetadataResponse::default() }
    }

    /// A client of cluster `c` whose only link is one to its only broker, 7.
    fn connected(now: &mut Instant) -> (Cluster, Link) {
        let mut cluster = cluster(*now);
        let seed = dial(&mut cluster, now);
        assert_eq!(seed.cluster_id, None, "nothing is known yet");
        cluster.opened(seed.link, Versions::default());
        cluster.answered(*now, seed.link, &metadata("c", 7));
        cluster.lost(*now, seed.link, &Error::new(ErrorKind::Closed, "idle"));
        let link = Link { node: 7, lane: Lane::Control };
        cluster.want(link);
        let known = dial(&mut cluster, now);
        assert_eq!((known.link, known.cluster_id.as_deref()), (link, Some("c")));
        cluster.opened(link, Versions::default());
        (cluster, link)
    }

    /// Fault 77, with brokers that do not check it themselves.
    #[test]
    fn an_answer_of_another_cluster_is_not_believed_and_said_to_be_one() {
        let mut now = Instant::now();
        let (mut cluster, link) = connected(&mut now);
        cluster.answered(now, link, &metadata("another", 8));
        assert!(!cluster.has_node(8) && !cluster.is_open(link));
        let failure = cluster.failure().expect("somebody is another").to_string();
        assert_eq!(failure, "broker broker-7:9092: it belongs to the cluster another, and this client to c");
    }

    /// Faults 76 and 77 (KIP-1102): metadata, or the handshake (KIP-1242), says that the client must start over.
    #[test]
    fn only_bootstrap_addresses_are_asked_when_a_broker_sends_clients_back_to_them() {
        for in_handshake in [false, true] {
            let mut now = Instant::now();
            let (mut cluster, link) = connected(&mut now);
            let error_code = ErrorCode::REBOOTSTRAP_REQUIRED;
            if in_handshake {
                let cause = Error::new(ErrorKind::Connect, "it is not 7").with_code(error_code);
                cluster.lost(now, link, &cause);
            } else {
                cluster.answered(now, link, &MetadataResponse { error_code, ..metadata("c", 7) });
                assert!(!cluster.is_open(link));
                cluster.lost(now, link, &Error::new(ErrorKind::Connect, "it was closed"));
            }
            for _ in 0..20 {
                let seed = dial(&mut cluster, &mut now).link;
                assert!(seed.node < 0, "{seed:?}");
                cluster.lost(now, seed, &Error::new(ErrorKind::Connect, "refused"));
                // In its backoff nobody is asked, and nobody is woken for it.
                assert!(!cluster.wants_dial(now) && cluster.deadline().is_some_and(|at| at > now));
            }
            let seed = dial(&mut cluster, &mut now).link;
            cluster.opened(seed, Versions::default());
            cluster.answered(now, seed, &metadata("c", 9));
            assert!(cluster.has_node(9) && !cluster.starting_over);
        }
    }

    /// Fault 83: all of them lose their broker in the same moment, and it does not come back at once.
    #[test]
    fn a_thousand_clients_come_back_spread_over_their_backoff() {
        let start = Instant::now();
        let config: Arc<ClientConfig> =
            ClientConfig { bootstrap: vec![("far".into(), 9092)], ..ClientConfig::default() }.into();
        let mut attempts = vec![Vec::new(); 4];
        for seed in 0..1_000 {
            let mut now = start;
            let mut cluster = Cluster::new(config.clone(), seed, now);
            for times in &mut attempts {
                let link = cluster.poll_dial(now).expect("metadata is wanted").link;
                cluster.lost(now, link, &Error::new(ErrorKind::Connect, "refused"));
                now = cluster.deadline().expect("it is tried again");
                times.push(now.duration_since(start).as_micros());
            }
        }
        for times in attempts {
            let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
            let tenth = (last - first) / 10 + 1;
            let peak = (0..10).map(|n| times.iter().filter(|at| (*at - first) / tenth == n).count()).max();
            // A tenth of the time would see a hundred of them, were they spread evenly.
            assert!(peak.is_some_and(|peak| peak <= 200) && last - first > 10_000, "{peak:?} in {tenth} us");
        }
    }

    #[test]
    fn who_has_not_answered_yet_is_named_before_anything_has_failed() {
        let mut now = Instant::now();
        let mut cluster = cluster(now);
        dial(&mut cluster, &mut now);
        let failure = cluster.failure().expect("nobody has answered");
        assert_eq!(failure.to_string(), "no answer from far:9092 so far");
    }
}

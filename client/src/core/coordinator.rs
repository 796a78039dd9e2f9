//! Which broker coordinates a group or a transactional id, and how to find out.
//!
//! It owns the answer, the one request that looks for it, and the wait between two of them. It refuses to know what is asked
//! of the coordinator. Invariant: at most one FindCoordinator is out, and never before its backoff is over.

use std::time::{Duration, Instant};

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::wire::Str;

use super::ask::Ask;
use super::backoff::{Backoff, Random};
use super::cluster::Cluster;
use super::{Lane, Link, Request, Work};
use crate::config::ClientConfig;
use crate::error::Error;

#[derive(Debug, Clone, Copy)]
enum Place {
    Unknown { ask_after: Instant },
    Asked(Link),
    Known(i32),
}

/// What is coordinated; the numbers are those of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinated {
    Group = 0,
    Transactions = 1,
}

impl Coordinated {
    fn name(self) -> &'static str {
        match self {
            Coordinated::Group => "group",
            Coordinated::Transactions => "transactional id",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    what: Coordinated,
    key: Str,
    place: Place,
    backoff: Backoff,
    /// Somebody has something to send to it.
    needed: bool,
    /// A member always has.
    always: bool,
    /// How long what may pass is waited out, and until when that is now.
    patience: Duration,
    patient_until: Option<Instant>,
}

impl Coordinator {
    pub(crate) fn new(
        what: Coordinated,
        key: Str,
        always: bool,
        client: &ClientConfig,
        now: Instant,
    ) -> Self {
        let backoff = Backoff::new(client.retry_backoff, client.retry_backoff_max);
        let (place, patience) = (Place::Unknown { ask_after: now }, client.default_api_timeout);
        Self { what, key, place, backoff, needed: always, always, patience, patient_until: None }
    }

    pub(crate) fn node(&self) -> Option<i32> {
        match self.place {
            Place::Known(node) => Some(node),
            _ => None,
        }
    }

    /// There is something to send to it.
    pub(crate) fn need(&mut self, now: Instant, cluster: &mut Cluster) {
        self.needed = true;
        self.step(now, cluster);
    }

    /// Sees to it that there is a link to ask on.
    pub(crate) fn step(&mut self, now: Instant, cluster: &mut Cluster) {
        if let Place::Known(node) = self.place
            && !cluster.has_node(node)
        {
            self.place = Place::Unknown { ask_after: now };
        }
        if self.needed && matches!(self.place, Place::Unknown { .. }) {
            cluster.want_any_control(now);
        }
    }

    /// From when on a link is to carry the question.
    pub(crate) fn ready_at(&self, link: Link) -> Option<Instant> {
        match self.place {
            Place::Unknown { ask_after } if self.needed && link.lane == Lane::Control => Some(ask_after),
            _ => None,
        }
    }

    pub(crate) fn ask(&mut self, link: Link, cluster: &mut Cluster) -> Result<Work, Error> {
        let version = cluster.version::<FindCoordinatorRequest>(link, i16::MAX)?;
        self.place = Place::Asked(link);
        let key_type = self.what as i8;
        let ask = if version < 4 {
            FindCoordinatorRequest { key: self.key.clone(), key_type, ..FindCoordinatorRequest::default() }
        } else {
            FindCoordinatorRequest {
                coordinator_keys: vec![self.key.clone()],
                key_type,
                ..FindCoordinatorRequest::default()
            }
        };
        let timeout = cluster.config.request_timeout;
        Ok(Work::Request(Request { ask: Ask::FindCoordinator(ask), version, timeout, answered: true }))
    }

    /// Takes the answer in. An error is final: asking again would not help.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        link: Link,
        response: &FindCoordinatorResponse,
        cluster: &mut Cluster,
    ) -> Result<(), Error> {
        cluster.throttle(now, link, response.throttle_time_ms);
        if !matches!(self.place, Place::Asked(asked) if asked == link) {
            return Ok(());
        }
        let named = response.coordinators.iter().find(|coordinator| coordinator.key == self.key);
        let (code, node, host, port) = match named {
            Some(c) => (c.error_code, c.node_id, &c.host, c.port),
            None => (response.error_code, response.node_id, &response.host, response.port),
        };
        if code.is_ok() {
            let rack = cluster.rack(node).cloned();
            cluster.learn_node(now, node, host, port, rack);
            if cluster.has_node(node) {
                self.place = Place::Known(node);
                return Ok(());
            }
        }
        self.place = Place::Unknown { ask_after: now + self.backoff.next(&mut cluster.random) };
        if code.is_ok() || code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR {
            return Ok(());
        }
        Err(Error::from_code(code, format_args!("{} {}: no coordinator", self.what.name(), self.key)))
    }

    /// How long a heartbeat waits: late enough for a slow broker, and early enough to try another one within the session.
    pub(crate) fn heartbeat_timeout(client: &ClientConfig, session: Duration) -> Duration {
        client.request_timeout.min(session / 2)
    }

    /// It answered: what fails from now on is a new failure.
    pub(crate) fn alive(&mut self) {
        self.backoff.reset();
        self.patient_until = None;
    }

    /// The question that was out on this link will not be answered.
    pub(crate) fn lost(&mut self, now: Instant, link: Link, random: &mut Random) {
        if matches!(self.place, Place::Asked(asked) if asked == link) {
            self.place = Place::Unknown { ask_after: now + self.backoff.next(random) };
        }
    }

    /// It refuses for a reason that may pass: whether to ask again. Not for ever, counted from the first time since it has
    /// answered otherwise.
    pub(crate) fn may_relent(&mut self, now: Instant) -> bool {
        now < *self.patient_until.get_or_insert(now + self.patience)
    }

    /// It is not where we thought, or cannot be reached.
    pub(crate) fn fail(&mut self, now: Instant, random: &mut Random) {
        self.place = Place::Unknown { ask_after: now + self.backoff.next(random) };
        self.needed = self.always;
    }
}

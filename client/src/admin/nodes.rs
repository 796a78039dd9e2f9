//! The admin client's connections: one to a broker, opened when it is needed, used by one call at a time.
//!
//! It owns the streams, the waits between dials and the silence that a broker asks for (KIP-219). It refuses to retry:
//! the loop around an attempt decides. Invariant: a connection is in its slot only while no answer is on its way, so one
//! whose call failed, ran out of time or was dropped is never used again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::api::Request;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsResponse, AlterUserScramCredentialsResponse, CreateAclsResponse,
    CreateDelegationTokenResponse, CreateTopicsResponse, DeleteAclsResponse, DeleteRecordsResponse,
    DeleteTopicsResponse, DescribeAclsResponse, DescribeDelegationTokenResponse, DescribeGroupsResponse,
    DescribeUserScramCredentialsResponse, ElectLeadersResponse, ExpireDelegationTokenResponse,
    FindCoordinatorResponse, ListGroupsResponse, ListOffsetsResponse, ListPartitionReassignmentsResponse,
    MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, RenewDelegationTokenResponse,
};
use ottla_protocol::wire::Str;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::attempts::{Deadline, first};
use crate::config::ClientConfig;
use crate::core::backoff::{Backoff, Random};
use crate::driver::connection::{Connection, Whom};
use crate::error::{Error, ErrorKind};
use crate::world::World;

/// Host and port of a broker. Brokers are told apart by address: a call looks up who leads what each time anew.
pub(super) type Address = (Str, u16);

/// How many brokers are asked the same at once, when none of them answers.
const AT_ONCE: usize = 3;

pub(super) struct Nodes {
    pub(super) config: Arc<ClientConfig>,
    pub(super) world: Arc<dyn World>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    slots: BTreeMap<Address, Arc<AsyncMutex<Slot>>>,
    /// The brokers that the last metadata answer named.
    known: Vec<(Address, i32)>,
    /// The cluster that answered first.
    cluster_id: Option<Str>,
}

struct Slot {
    connection: Option<Connection>,
    used: Instant,
    /// The broker asked for silence until then (KIP-219).
    quiet_until: Instant,
    backoff: Backoff,
    /// Dials that failed since the last one that did not.
    failures: u32,
    /// Why the last dial failed, and when the next may begin.
    refused: Option<(Error, Instant)>,
}

/// A broker that is connected and has nothing else to do, for one request.
pub(super) struct Node {
    slot: OwnedMutexGuard<Slot>,
    connection: Connection,
    deadline: Deadline,
}

/// The answers that say for how many milliseconds the broker wants to be left alone (KIP-219).
pub(super) trait Throttle {
    fn throttle_ms(&self) -> i32;
}

macro_rules! throttle {
    ($($answer:ident)*) => { $(
        impl Throttle for $answer {
            fn throttle_ms(&self) -> i32 {
                self.throttle_time_ms
            }
        }
    )* };
}

throttle! {
    CreateDelegationTokenResponse DescribeDelegationTokenResponse ExpireDelegationTokenResponse RenewDelegationTokenResponse
    AlterUserScramCredentialsResponse CreateAclsResponse DeleteAclsResponse DescribeAclsResponse DescribeUserScramCredentialsResponse
    CreateTopicsResponse DeleteRecordsResponse DeleteTopicsResponse DescribeGroupsResponse FindCoordinatorResponse ListGroupsResponse
    ListOffsetsResponse MetadataResponse OffsetCommitResponse OffsetFetchResponse
    AlterPartitionReassignmentsResponse ElectLeadersResponse ListPartitionReassignmentsResponse
}

impl Nodes {
    pub(super) fn new(config: Arc<ClientConfig>, world: Arc<dyn World>) -> Self {
        Self { config, world, book: Mutex::default() }
    }

    /// Connects to a broker, or takes the connection that is there, when the calls before this one are done with it.
    pub(super) async fn reach(&self, address: &Address, deadline: Deadline) -> Result<Node, Error> {
        let (host, port) = address;
        let slot = self.slot(address);
        let late = |what| Error::new(ErrorKind::Timeout, format!("broker {host}:{port} {what}"));
        let mut slot = timeout_at(deadline.at, slot.lock_owned())
            .await
            .map_err(|_| late("is still busy with an earlier call"))?;
        if slot.quiet_until > Instant::now() {
            let quiet = sleep_until(slot.quiet_until);
            timeout_at(deadline.at, quiet).await.map_err(|_| late("asks for silence, a quota is used up"))?;
        }
        let connection = match slot.connection.take() {
            Some(mut connection) if connection.is_stale() => {
                let limit = self.config.socket_setup_timeout.min(deadline.remaining());
                connection.renew(&*self.world, limit).await?;
                connection
            }
            Some(connection) => connection,
            None => self.dial(&mut slot, address, deadline).await?,
        };
        Ok(Node { slot, connection, deadline })
    }

    async fn dial(
        &self,
        slot: &mut Slot,
        address: &Address,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        if let Some((cause, until)) = &slot.refused
            && Instant::now() < *until
        {
            return Err(cause.clone());
        }
        let grown = self.config.socket_setup_timeout.saturating_mul(1 << slot.failures.min(16));
        let timeout = grown.min(self.config.socket_setup_timeout_max).min(deadline.remaining());
        let whom = self.whom(address);
        let opened = Connection::open(&*self.world, self.config.clone(), whom, timeout).await;
        match &opened {
            Ok(_) => {
                (slot.failures, slot.refused) = (0, None);
                slot.backoff.reset();
            }
            Err(cause) => {
                let wait = slot.backoff.next(&mut Random::new(self.world.random()));
                slot.failures = slot.failures.saturating_add(1);
                slot.refused = Some((cause.clone(), Instant::now() + wait));
                if cause.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED) {
                    self.start_over();
                }
            }
        }
        opened
    }

    /// Asks any broker. When it has failed, or has not answered within `retry.backoff.max.ms` or its share of the time
    /// that is left, the next one is asked too, up to [`AT_ONCE`]; the first answer counts.
    pub(super) async fn ask_any<R: Request>(
        &self,
        request: &R,
        deadline: Deadline,
    ) -> Result<R::Response, Error>
    where
        R::Response: Throttle,
    {
        let candidates = self.candidates();
        let shares = u32::try_from(candidates.len().clamp(1, AT_ONCE)).unwrap_or(1);
        let patience = self.config.retry_backoff_max.min(deadline.remaining() / shares);
        let mut ahead = candidates.iter();
        let mut asked = Vec::new();
        let mut failure: Option<Error> = None;
        loop {
            if asked.len() < AT_ONCE && (failure.is_none() || !deadline.remaining().is_zero()) {
                asked.extend(ahead.next().map(|address| Box::pin(self.ask(address, request, deadline))));
            }
            if asked.is_empty() {
                return Err(
                    failure.unwrap_or_else(|| Error::new(ErrorKind::Connect, "there is no broker to ask"))
                );
            }
            let answer = if asked.len() < AT_ONCE && ahead.len() > 0 {
                let Ok(answer) = timeout(patience, first(&mut asked)).await else { continue };
                answer
            } else {
                first(&mut asked).await
            };
            match answer {
                Ok(answer) => return Ok(answer),
                // What may pass is worth another round; what will not is told when nobody else is left.
                Err(cause) if failure.as_ref().is_none_or(|f| !f.is_retriable()) => failure = Some(cause),
                Err(_) => {}
            }
        }
    }

    pub(super) async fn ask<R: Request>(
        &self,
        address: &Address,
        request: &R,
        deadline: Deadline,
    ) -> Result<R::Response, Error>
    where
        R::Response: Throttle,
    {
        self.reach(address, deadline).await?.call(request).await
    }

    /// Everybody who may know the cluster: open connections first, then brokers, then the bootstrap addresses, so that
    /// the cluster is found again when all of its brokers have moved (KIP-899). Closes what has been idle for too long.
    fn candidates(&self) -> Vec<Address> {
        let mut random = Random::new(self.world.random());
        let mut book = self.book.lock();
        let idle = self.config.connections_max_idle;
        book.slots.retain(|_, slot| slot.try_lock().map_or(true, |slot| slot.used.elapsed() < idle));
        let mut known: Vec<Address> = book.known.iter().map(|(address, _)| address.clone()).collect();
        let mut seeds: Vec<Address> =
            self.config.bootstrap.iter().map(|(host, port)| (Str::from(host.as_str()), *port)).collect();
        let (first, second) = (random.below(known.len()), random.below(seeds.len()));
        known.rotate_left(first);
        seeds.rotate_left(second);
        seeds.retain(|seed| !known.contains(seed));
        known.append(&mut seeds);
        let open = |address: &Address| {
            let slot = book.slots.get(address).and_then(|slot| slot.try_lock().ok());
            slot.is_some_and(|slot| slot.connection.is_some())
        };
        known.sort_by_cached_key(|address| !open(address));
        known
    }

    /// Takes in which brokers there are.
    ///
    /// # Errors
    /// The answer is of another cluster than the answers before (KIP-1242).
    pub(super) fn learn(&self, answer: &MetadataResponse) -> Result<(), Error> {
        let mut book = self.book.lock();
        match (&book.cluster_id, &answer.cluster_id) {
            (Some(ours), Some(its)) if self.config.cluster_check && ours != its => {
                let message =
                    format!("the broker belongs to the cluster {its}, and this client to the cluster {ours}");
                return Err(
                    Error::new(ErrorKind::Connect, message).with_code(ErrorCode::REBOOTSTRAP_REQUIRED)
                );
            }
            (None, Some(its)) => book.cluster_id = Some(its.clone()),
            _ => {}
        }
        let brokers = answer.brokers.iter();
        book.known = brokers.filter_map(|b| Some((address(&b.host, b.port)?, b.node_id))).collect();
        Ok(())
    }

    /// Only the bootstrap addresses are asked next (KIP-1102).
    pub(super) fn start_over(&self) {
        self.book.lock().known.clear();
    }

    /// Whom an address is to lead to, as far as that is known.
    fn whom<'a>(&self, address: &'a Address) -> Whom<'a> {
        let book = self.book.lock();
        let named = book.known.iter().find(|(known, _)| known == address);
        Whom {
            host: &address.0,
            port: address.1,
            cluster_id: book.cluster_id.clone(),
            node_id: named.map_or(-1, |(_, id)| *id),
        }
    }

    fn slot(&self, address: &Address) -> Arc<AsyncMutex<Slot>> {
        let now = Instant::now();
        let backoff = || Backoff::new(self.config.reconnect_backoff, self.config.reconnect_backoff_max);
        let slot = || Slot {
            connection: None,
            used: now,
            quiet_until: now,
            backoff: backoff(),
            failures: 0,
            refused: None,
        };
        let mut book = self.book.lock();
        book.slots.entry(address.clone()).or_insert_with(|| Arc::new(AsyncMutex::new(slot()))).clone()
    }
}

impl Node {
    /// The highest version of `R` that this broker and we both have.
    pub(super) fn version<R: Request>(&self) -> Result<i16, Error> {
        self.connection.version::<R>()
    }

    /// Sends a request and waits for its answer, for `request.timeout.ms` at most.
    pub(super) async fn call<R: Request>(self, request: &R) -> Result<R::Response, Error>
    where
        R::Response: Throttle,
    {
        let Node { mut slot, mut connection, deadline } = self;
        let answer = connection.call(request, deadline.request_timeout()).await?;
        let quiet = Duration::from_millis(u64::try_from(answer.throttle_ms()).unwrap_or(0));
        let now = Instant::now();
        (slot.used, slot.quiet_until) = (now, now + quiet);
        slot.connection = Some(connection);
        Ok(answer)
    }
}

/// The address that an answer gives for a broker.
pub(super) fn address(host: &Str, port: i32) -> Option<Address> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then(|| (host.clone(), port))
}

//! The admin client on the bundled broker, over pipes and with virtual time: a wait costs nothing and is exact.
//! It owns a world of its own, in which a host's name says what is there.
#![allow(clippy::unwrap_used)]

mod access;
mod cancelled;
mod connections;
mod groups;
mod offsets;
mod placement;
#[path = "../../../tests/polls/mod.rs"]
mod polls;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_broker::{Broker, Builder};
use ottla_protocol::api::{Api, ApiKey, Request, Versions};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Admin, NewTopic};
use crate::client::Client;
use crate::connect::{Connecting, Connector, Stream};
use crate::driver::connection::{Connection, Whom};
use crate::error::{Error, ErrorKind};
use crate::world::{Work, World};

/// A cluster whose nodes are reached as `node-1:9092` and so on, and two hosts that are no brokers: `silence` accepts
/// connections and says nothing, `web` answers as a web server does.
#[derive(Clone)]
struct Cluster {
    broker: Broker,
    pipes: Arc<Pipes>,
}

struct Pipes {
    broker: Broker,
    versions: Mutex<Versions>,
    dials: Mutex<BTreeMap<String, usize>>,
    numbers: Mutex<u64>,
    /// Hosts that nobody is at any more.
    gone: Mutex<BTreeSet<String>>,
    /// Hosts that lead to another node than their name says.
    moved: Mutex<BTreeMap<String, i32>>,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        Self::built(Broker::builder().nodes(nodes))
    }

    fn built(builder: Builder) -> Self {
        let broker = builder.build().unwrap();
        let everything =
            ottla_protocol::messages::APIS.iter().map(|api| (api.key, (api.min, api.max))).collect();
        let pipes = Pipes {
            broker: broker.clone(),
            versions: Mutex::new(everything),
            dials: Mutex::default(),
            numbers: Mutex::new(1),
            gone: Mutex::default(),
            moved: Mutex::default(),
        };
        Self { broker, pipes: Arc::new(pipes) }
    }

    fn client(&self, bootstrap: &str) -> Client {
        let client = Client::builder().bootstrap(bootstrap).build().unwrap();
        Client { world: self.pipes.clone(), ..client }
    }

    fn admin(&self) -> Admin {
        self.client("node-1:9092").admin()
    }

    async fn with_topic(&self, name: &str, partitions: i32) {
        self.admin().create_topics([NewTopic::new(name).partitions(partitions)]).await.all().unwrap();
    }

    /// Clients that connect from now on see no version above this one.
    fn cap(&self, key: ApiKey, version: i16) {
        let mut versions = self.pipes.versions.lock();
        let capped = |(api, (min, max))| (api, (min, if api == key { version } else { max }));
        let capped: Versions = versions.iter().map(capped).collect();
        *versions = capped;
    }

    /// Clients that connect from now on see the versions of a cluster as old as we support.
    fn age(&self) {
        let oldest = |api: &Api| (api.key, (api.min, api.min));
        *self.pipes.versions.lock() = ottla_protocol::messages::APIS.iter().map(oldest).collect();
        // Kafka 2.1 has these.
        for (key, version) in [(ApiKey::METADATA, 7), (ApiKey::OFFSET_FETCH, 5), (ApiKey::LIST_OFFSETS, 4)] {
            self.cap(key, version);
        }
    }

    /// How many connections were opened.
    fn dials(&self) -> usize {
        self.pipes.dials.lock().values().sum()
    }

    /// Asks a node something that the admin client does not ask.
    async fn ask<R: Request>(&self, node: i32, request: R) -> R::Response {
        let config = self.client("node-1:9092").config;
        let limit = Duration::from_secs(5);
        let host = format!("node-{node}");
        let whom = Whom { host: &host, port: 9092, cluster_id: None, node_id: node };
        Connection::open(&*self.pipes, config, whom, limit)
            .await
            .unwrap()
            .call(&request, limit)
            .await
            .unwrap()
    }
}

impl Connector for Pipes {
    fn connect(&self, host: &str, _: u16) -> Connecting {
        *self.dials.lock().entry(host.to_owned()).or_default() += 1;
        let refused = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        if self.gone.lock().contains(host) {
            return Box::pin(async move { refused() });
        }
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        if let Some(node) = host.strip_prefix("node-").and_then(|id| id.parse::<i32>().ok()) {
            let node = self.moved.lock().get(host).copied().unwrap_or(node);
            let (broker, versions) = (self.broker.clone(), self.versions.lock().clone());
            tokio::spawn(async move { broker.serve_versions(node, "a test", versions, theirs).await });
        } else {
            let page = if host == "web" { Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]) } else { None };
            let known = page.is_some() || host.starts_with("silence");
            if !known {
                return Box::pin(async move { refused() });
            }
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                if let Some(page) = page {
                    theirs.write_all(page).await.unwrap();
                }
                std::future::pending::<()>().await;
            });
        }
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
    }
}

impl World for Pipes {
    fn random(&self) -> u64 {
        let mut number = self.numbers.lock();
        *number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *number >> 11
    }

    fn wall_ms(&self) -> i64 {
        1_700_000_000_000
    }

    fn spawn(&self, _: &'static str, task: Work<()>) {
        tokio::spawn(task);
    }

    fn poll_pause(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

fn check_error<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in {:?}", error.to_string());
    }
}

const SECOND: Duration = Duration::from_secs(1);

//! An independent look at a cluster: plain requests, one at a time, that share nothing with the client but the tables.
//!
//! It creates topics, reads a log from its start to its high watermark and asks for committed offsets, so that what a
//! client claims is judged by somebody else. It retries everything until a limit, for it only asks and must not fail
//! because of the chaos around it. Invariant: it never guesses; an error that lasts is a failure.

use crate::{Failure, ensure, fail};
use bytes::{Buf, Bytes, BytesMut};
use ottla_protocol::api::{Request, Versions, negotiate};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame::{Frame, decode, decode_response_header, encode_request, next_frame};
use ottla_protocol::messages::{
    ApiVersionsRequest, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, FetchPartition,
    FetchRequest, FetchTopic, FetchedPartition, FindCoordinatorRequest, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataResponse, MetadataTopic,
    OffsetFetchRequest, OffsetFetchTopic,
};
use ottla_protocol::records::{DECOMPRESSED_BYTES_MAX, Decompressor, batches};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const RETRY_LIMIT: Duration = Duration::from_secs(60);
/// Where Apache Kafka keeps what groups have committed.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// What a request for offsets names the end of a partition.
const LATEST: i64 = -1;
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection on its way.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How to open a connection to a host and port.
pub type Dial = Arc<dyn Fn(&str, u16) -> Opening + Send + Sync>;

/// Opens TCP connections.
pub fn tcp() -> Dial {
    Arc::new(|host, port| {
        let address = (host.to_string(), port);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// A record as it stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// The partition that it is in.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Id and epoch of the producer that wrote it, and the sequence number of its batch.
    pub source: (i64, i16, i32),
}

/// Asks a cluster.
#[derive(Clone)]
pub struct Judge {
    dial: Dial,
    bootstrap: Vec<(String, u16)>,
}

impl Judge {
    /// A judge that finds the cluster at `bootstrap`: `host:port`, separated by commas.
    pub fn new(dial: Dial, bootstrap: &str) -> Result<Self, Failure> {
        let addresses = bootstrap.split(',').map(|address| {
            let Some((host, port)) = address.rsplit_once(':') else { fail!("{address:?} is not host:port") };
            Ok((host.to_string(), port.parse()?))
        });
        Ok(Judge { dial, bootstrap: addresses.collect::<Result<_, Failure>>()? })
    }

    /// Creates a topic with the cluster's default replication and waits until every node knows a leader of every partition: one that
    /// has not heard of the topic yet denies that there is one.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), Failure> {
        retrying(format!("create topic {name}"), || Box::pin(self.try_create(name, partitions, configs)))
            .await?;
        retrying(format!("wait for the leaders of {name}"), || Box::pin(self.try_known(name, partitions)))
            .await
    }

    /// Waits until so many nodes are members of the cluster.
    pub async fn wait_for_nodes(&self, nodes: usize) -> Result<(), Failure> {
        retrying("wait for the nodes".into(), || Box::pin(self.try_count(nodes))).await
    }

    /// The leader of each partition.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>, Failure> {
        retrying(format!("find the leaders of {topic}"), || Box::pin(self.try_leaders(topic))).await
    }

    /// Every record of every partition, from the start to the high watermark.
    pub async fn read(&self, topic: &str) -> Result<BTreeMap<i32, Vec<FoundRecord>>, Failure> {
        retrying(format!("read {topic}"), || Box::pin(self.try_read(topic, Isolation::Uncommitted))).await
    }

    /// Every record that a reader of committed ones sees, partition by partition. Nothing may be open any more: the last
    /// stable offset is waited for.
    pub async fn read_committed(&self, topic: &str) -> Result<Vec<FoundRecord>, Failure> {
        let what = format!("read what is committed of {topic}");
        let log = retrying(what, || Box::pin(self.try_read(topic, Isolation::Committed))).await?;
        Ok(log.into_values().flatten().collect())
    }

    /// The offsets that a group has committed; partitions without a commit are left out.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, Failure> {
        retrying(format!("ask for the offsets of {group}"), || Box::pin(self.try_committed(group, topic)))
            .await
    }

    /// Every commit of a group for a topic, in the order in which the cluster took them: partition and offset. Who is asked for
    /// the last one may be a coordinator that does not know yet that it has been replaced; the log is always right.
    pub async fn commits(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>, Failure> {
        let log = self.read(OFFSETS_TOPIC).await?;
        // A group is kept in one partition.
        let kept = log.into_values().flatten();
        Ok(kept.filter_map(|record| commit(&record, group, topic)).collect())
    }

    async fn try_create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<(), Failure> {
        let metadata = self.metadata(None).await?;
        let mut controller = self.node(&metadata, metadata.controller_id).await?;
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let answer = controller.ask(&request, i16::MAX).await?;
        for topic in answer.topics {
            // An attempt whose answer was lost may have created it.
            let there = topic.error_code == ErrorCode::TOPIC_ALREADY_EXISTS;
            ensure!(there || topic.error_code.is_ok(), "{:?} {:?}", topic.error_code, topic.error_message);
        }
        Ok(())
    }

    async fn try_count(&self, nodes: usize) -> Result<(), Failure> {
        let found = self.metadata(None).await?.brokers.len();
        ensure!(found == nodes, "{found} of {nodes} are there");
        Ok(())
    }

    async fn try_leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>, Failure> {
        leaders(&self.metadata(Some(topic)).await?, topic)
    }

    async fn try_known(&self, topic: &str, partitions: i32) -> Result<(), Failure> {
        let metadata = self.metadata(None).await?;
        for node in &metadata.brokers {
            let mut node = self.node(&metadata, node.node_id).await?;
            let known = leaders(&node.metadata(Some(topic)).await?, topic)?.len();
            ensure!(i32::try_from(known) == Ok(partitions), "{known} of {partitions} have a leader");
        }
        Ok(())
    }

    async fn try_read(
        &self,
        topic: &str,
        isolation: Isolation,
    ) -> Result<BTreeMap<i32, Vec<FoundRecord>>, Failure> {
        let metadata = self.metadata(Some(topic)).await?;
        let mut log = BTreeMap::new();
        for (partition, leader) in leaders(&metadata, topic)? {
            let mut leader = self.node(&metadata, leader).await?;
            log.insert(partition, leader.read(topic, partition, isolation).await?);
        }
        Ok(log)
    }

    async fn try_committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, Failure> {
        let metadata = self.metadata(Some(topic)).await?;
        let partition_indexes = leaders(&metadata, topic)?.into_keys().collect();
        let find = FindCoordinatorRequest { key: group.into(), key_type: 0, ..Default::default() };
        let coordinator = self.any().await?.ask(&find, 3).await?;
        ensure!(coordinator.error_code.is_ok(), "{:?}", coordinator.error_code);
        let mut coordinator = self.node(&metadata, coordinator.node_id).await?;
        let topics = vec![OffsetFetchTopic { name: topic.into(), partition_indexes, ..Default::default() }];
        let request =
            OffsetFetchRequest { group_id: group.into(), topics: Some(topics), ..Default::default() };
        let answer = coordinator.ask(&request, 7).await?;
        ensure!(answer.error_code.is_ok(), "{:?}", answer.error_code);
        let mut committed = BTreeMap::new();
        for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            ensure!(partition.error_code.is_ok(), "{:?}", partition.error_code);
            if partition.committed_offset >= 0 {
                committed.insert(partition.partition_index, partition.committed_offset);
            }
        }
        Ok(committed)
    }

    async fn metadata(&self, topic: Option<&str>) -> Result<MetadataResponse, Failure> {
        self.any().await?.metadata(topic).await
    }

    async fn any(&self) -> Result<Peer, Failure> {
        let mut last = Failure::new("no address");
        for (host, port) in &self.bootstrap {
            match Peer::open(&self.dial, host, *port).await {
                Ok(peer) => return Ok(peer),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn node(&self, metadata: &MetadataResponse, id: i32) -> Result<Peer, Failure> {
        let Some(node) = metadata.brokers.iter().find(|broker| broker.node_id == id) else {
            fail!("node {id} is not in the metadata");
        };
        Peer::open(&self.dial, &node.host, u16::try_from(node.port)?).await
    }
}

/// The partition and the offset, if the record is a commit of the group for the topic: what is deleted has no value.
fn commit(record: &FoundRecord, group: &str, topic: &str) -> Option<(i32, i64)> {
    let (mut key, mut value) = (record.key.clone()?, record.value.clone()?);
    if !matches!(key.try_get_u16().ok()?, 0 | 1) {
        return None;
    }
    let mut text = || {
        let length = usize::from(key.try_get_u16().ok()?);
        (length <= key.len()).then(|| key.split_to(length))
    };
    let is_asked = text()? == group.as_bytes() && text()? == topic.as_bytes();
    let partition = key.try_get_i32().ok()?;
    value.try_get_u16().ok()?;
    Some((partition, value.try_get_i64().ok()?)).filter(|_| is_asked)
}

/// The leader of each partition; a partition without one is a failure.
fn leaders(metadata: &MetadataResponse, topic: &str) -> Result<BTreeMap<i32, i32>, Failure> {
    let Some(topic) = metadata.topics.iter().find(|found| found.name.as_deref() == Some(topic)) else {
        fail!("{topic} is not in the metadata");
    };
    ensure!(topic.error_code.is_ok(), "{:?}", topic.error_code);
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        ensure!(partition.error_code.is_ok(), "{:?}", partition.error_code);
        leaders.insert(partition.partition_index, partition.leader_id);
    }
    Ok(leaders)
}

/// One connection, one request at a time.
struct Peer {
    stream: Box<dyn Stream>,
    inbox: BytesMut,
    versions: Versions,
    asked: i32,
}

impl Peer {
    async fn open(dial: &Dial, host: &str, port: u16) -> Result<Self, Failure> {
        let stream = timeout(ANSWER_LIMIT, dial(host, port)).await??;
        let mut peer = Peer { stream, inbox: BytesMut::new(), versions: Versions::default(), asked: 0 };
        let answer = peer.exchange(&ApiVersionsRequest::default(), 0).await?;
        ensure!(answer.error_code.is_ok(), "{:?}", answer.error_code);
        peer.versions = Versions::from(&answer);
        Ok(peer)
    }

    async fn metadata(&mut self, topic: Option<&str>) -> Result<MetadataResponse, Failure> {
        let topics = topic.map(|name| MetadataTopic { name: Some(name.into()), ..Default::default() });
        let topics = Some(topics.into_iter().collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        // Version 4 is the first that can forbid automatic creation.
        self.ask(&request, 9).await
    }

    /// Asks in the highest version up to `newest` that both sides have.
    async fn ask<R: Request>(&mut self, request: &R, newest: i16) -> Result<R::Response, Failure> {
        let ours = *R::VERSIONS.start()..=newest.min(*R::VERSIONS.end());
        let version = negotiate(R::KEY, ours, self.versions.get(R::KEY))?;
        self.exchange(request, version).await
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Failure> {
        timeout(ANSWER_LIMIT, async {
            self.asked += 1;
            let mut frame = Frame::default();
            encode_request(request, version, self.asked, Some("judge"), &mut frame)?;
            self.stream.write_all(&frame.to_bytes()).await?;
            let flexible = version >= R::FLEXIBLE;
            loop {
                if let Some(mut body) = next_frame(&mut self.inbox, FRAME_BYTES_MAX)? {
                    let answered = decode_response_header(&mut body, R::KEY, flexible)?;
                    ensure!(answered == self.asked, "{answered} is answered, {} was asked", self.asked);
                    return Ok(decode(body, version, flexible)?);
                }
                ensure!(self.stream.read_buf(&mut self.inbox).await? > 0, "the connection ended");
            }
        })
        .await?
    }

    async fn read(
        &mut self,
        topic: &str,
        partition: i32,
        isolation: Isolation,
    ) -> Result<Vec<FoundRecord>, Failure> {
        let end = self.end(topic, partition).await?;
        let (mut records, mut decompressor) = (Vec::new(), Decompressor::new());
        let mut next = 0;
        loop {
            let fetched = self.fetch(topic, partition, next, isolation).await?;
            let stable = fetched.last_stable_offset;
            next = take_records(fetched, next, &mut decompressor, &mut records)?;
            if next >= end {
                return Ok(records);
            }
            let stuck = isolation == Isolation::Committed && next >= stable;
            ensure!(!stuck, "a transaction is open in {topic} {partition} at {next}");
        }
    }

    /// The high watermark. A leader that is new may know less of it than the one before, and what that one acknowledged would
    /// look lost: asked for offsets it says so (KIP-207), a fetch would just end early.
    async fn end(&mut self, topic: &str, partition: i32) -> Result<i64, Failure> {
        let of = ListOffsetsPartition { partition_index: partition, timestamp: LATEST, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![of] }];
        let answer =
            self.ask(&ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }, 7).await?;
        let Some(listed) = answer.topics.into_iter().flat_map(|topic| topic.partitions).next() else {
            fail!("{topic} {partition} is not in the answer");
        };
        ensure!(listed.error_code.is_ok(), "{:?}", listed.error_code);
        Ok(listed.offset)
    }

    async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        fetch_offset: i64,
        isolation: Isolation,
    ) -> Result<FetchedPartition, Failure> {
        let partition_max_bytes = 16 * 1024 * 1024;
        let of = FetchPartition { partition, fetch_offset, partition_max_bytes, ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 100,
            min_bytes: 0,
            isolation_level: isolation as i8,
            topics: vec![FetchTopic { topic: topic.into(), partitions: vec![of], ..Default::default() }],
            ..Default::default()
        };
        let answer = self.ask(&request, 12).await?; // version 13 names topics by their ids
        ensure!(answer.error_code.is_ok(), "{:?}", answer.error_code);
        let Some(fetched) = answer.responses.into_iter().flat_map(|topic| topic.partitions).next() else {
            fail!("{topic} {partition} is not in the answer");
        };
        ensure!(fetched.error_code.is_ok(), "{:?}", fetched.error_code);
        Ok(fetched)
    }
}

/// The records from `next` on, without those that were aborted; returns the offset behind them.
fn take_records(
    fetched: FetchedPartition,
    mut next: i64,
    decompressor: &mut Decompressor,
    records: &mut Vec<FoundRecord>,
) -> Result<i64, Failure> {
    let partition = fetched.partition_index;
    let aborted = fetched.aborted_transactions.unwrap_or_default();
    let mut aborted: Vec<_> = aborted.iter().map(|of| (of.first_offset, of.producer_id)).collect();
    for batch in batches(&fetched.records.0.unwrap_or_default()) {
        let batch = batch?;
        batch.check_checksum()?;
        let header = *batch.header();
        let is_of = |of: &(i64, i64)| of.1 == header.producer_id && of.0 <= header.base_offset;
        let skipped = header.transactional && aborted.iter().any(is_of);
        if header.control && skipped {
            // The end of the oldest of them.
            let oldest = aborted.iter().filter(|of| is_of(of)).min().copied();
            aborted.retain(|of| Some(*of) != oldest);
        }
        let mut open = batch.open(decompressor, DECOMPRESSED_BYTES_MAX)?;
        while let Some(record) = open.next()? {
            if record.offset >= next && !header.control && !skipped {
                let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
                records.push(FoundRecord {
                    partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: owned(record.key),
                    value: owned(record.value),
                    headers: record.headers.map(|h| (h.key.to_string(), owned(h.value))).collect(),
                    source: (header.producer_id, header.producer_epoch, header.base_sequence),
                });
            }
        }
        next = header.last_offset() + 1;
    }
    Ok(next)
}

/// Which records of transactions are read; the numbers are those of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Isolation {
    Uncommitted = 0,
    Committed = 1,
}

type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Tries until it succeeds or the limit is over; then the last failure is told.
async fn retrying<'a, T>(what: String, attempt: impl Fn() -> Attempt<'a, T> + Send) -> Result<T, Failure> {
    let end = Instant::now() + RETRY_LIMIT;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) if Instant::now() >= end => return Err(failure.while_doing(what)),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

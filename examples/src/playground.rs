//! A cluster and a topic to play with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla::{Client, IsolationLevel, NewTopic, OwnedRecord};
use ottla_broker::TestBroker;

use crate::{Arguments, Failure};

const USAGE: &str = "\
Usage: cargo run --example NAME -- [options]

  --brokers HOST:PORT,...  a cluster to run on (default: a broker in this process)
";

/// A client, and a topic and a group that nobody else uses, on the cluster that `--brokers` names or on a broker in this process.
#[derive(Debug)]
pub struct Playground {
    /// Where the cluster is.
    pub bootstrap: String,
    /// A client of the cluster.
    pub client: Client,
    /// The topic's name.
    pub topic: String,
    /// A name for a group.
    pub group: String,
    partitions: i32,
    /// Those that were made besides.
    others: Vec<String>,
    /// It ends with this value.
    _broker: Option<TestBroker>,
}

impl Playground {
    /// Finds or starts the cluster, and makes the topic.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(partitions: i32) -> Result<Playground, Failure> {
        let (bootstrap, broker) = match Arguments::read(USAGE).text("--brokers") {
            Some(brokers) => (brokers.to_owned(), None),
            None => {
                let broker = TestBroker::start().await?;
                (broker.bootstrap(), Some(broker))
            }
        };
        let client = Client::builder().bootstrap(&bootstrap).build()?;
        let topic = fresh_name("example")?;
        client.admin().create_topics([NewTopic::new(&topic).partitions(partitions)]).await.all()?;
        let (group, others) = (fresh_name("example-group")?, Vec::new());
        Ok(Playground { bootstrap, client, topic, group, partitions, others, _broker: broker })
    }

    /// Makes another topic, with as many partitions as the first. Returns its name.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn add_topic(&mut self, what: &str) -> Result<String, Failure> {
        let name = format!("{}-{what}", self.topic);
        let topic = NewTopic::new(&name).partitions(self.partitions);
        self.client.admin().create_topics([topic]).await.all()?;
        self.others.push(name.clone());
        Ok(name)
    }

    /// The records of a topic that readers of committed records see: waits for `count` of them, and returns more where
    /// there are more.
    ///
    /// # Errors
    /// The cluster's, and that the records have not come within ten seconds.
    pub async fn read(&self, topic: &str, count: usize) -> Result<Vec<OwnedRecord>, Failure> {
        let partitions = (0..self.partitions).map(|partition| (topic, partition));
        let consumer = self.client.consumer().assign(partitions);
        let mut consumer = consumer.isolation_level(IsolationLevel::ReadCommitted).build()?;
        let mut records = Vec::new();
        loop {
            let patience = Duration::from_millis(if records.len() < count { 10_000 } else { 200 });
            match tokio::time::timeout(patience, consumer.recv_batch(500, Duration::ZERO)).await {
                Ok(batch) => records.extend(batch?.ok_or("closed")?.records),
                Err(_) if records.len() < count => {
                    return Err(format!("{} of {count} records", records.len()).into());
                }
                Err(_) => return Ok(records),
            }
        }
    }

    /// Deletes the topics.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn close(self) -> Result<(), Failure> {
        let topics = self.others.into_iter().chain([self.topic]);
        self.client.admin().delete_topics(topics).await.all()?;
        Ok(())
    }
}

/// A name that nobody has used before.
///
/// # Errors
/// A clock that stands before 1970.
pub fn fresh_name(prefix: &str) -> Result<String, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{prefix}-{}-{}", now.as_millis(), std::process::id()))
}

//! A cluster and a topic to play with.

use std::time::{SystemTime, UNIX_EPOCH};

use ottla::{Client, NewTopic};
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
        Ok(Playground { bootstrap, client, topic, group: fresh_name("example-group")?, _broker: broker })
    }

    /// Deletes the topic.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn close(self) -> Result<(), Failure> {
        self.client.admin().delete_topics([self.topic]).await.all()?;
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

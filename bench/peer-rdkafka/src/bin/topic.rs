//! Creates or deletes a topic: `topic create|delete BROKERS TOPIC PARTITIONS REPLICATION`.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, brokers, topic, partitions, replication] = &arguments[..] else {
        exit("usage: topic create|delete BROKERS TOPIC PARTITIONS REPLICATION");
    };
    let number = |text: &str| text.parse().unwrap_or_else(|_| exit(format!("not a number: {text}")));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap_or_else(|e| exit(e));
    runtime.block_on(async {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap_or_else(|e| exit(e));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let outcomes = match verb.as_str() {
            "create" => {
                let replication = TopicReplication::Fixed(number(replication));
                admin.create_topics(&[NewTopic::new(topic, number(partitions), replication)], &options).await
            }
            "delete" => admin.delete_topics(&[topic], &options).await,
            other => exit(format!("unknown verb {other}")),
        };
        for outcome in outcomes.unwrap_or_else(|e| exit(e)) {
            if let Err((topic, problem)) = outcome {
                exit(format!("{verb} {topic}: {problem}"));
            }
        }
    });
}

fn exit(why: impl std::fmt::Display) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}

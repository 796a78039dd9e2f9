//! The broker as a program: for development, and for clients of other languages.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use ottla_broker::{Builder, TestBroker};
use std::net::SocketAddr;
use std::process::ExitCode;

const HELP: &str = "\
A Kafka broker for development and tests. Without --data everything is in memory and gone when it stops.

Usage: ottla-broker [options]

  --listen ADDRESS:PORT     where the first node listens; the others take the ports that follow
                            (default 127.0.0.1:9092)
  --nodes N                 how many nodes (default 1)
  --topic NAME[:PARTITIONS] a topic that is there from the start; may be repeated (default 1 partition)
  --user NAME:PASSWORD      a user who can log in from the start, by PLAIN and SCRAM; may be repeated
  --data DIRECTORY          keep everything there, and take up what an earlier broker left there
  --config FILE             settings by Kafka's names, as in server.properties; may be repeated
  --set KEY=VALUE           a setting by Kafka's name; may be repeated
  --transaction-version N   the level of the feature transaction.version, 0 to 2 (default 2)
  --group-version N         the level of the feature group.version, 0 or 1 (default 1)
  --help                    this text
  --version                 the version

It listens on the loopback address unless told otherwise. For TLS and logins set listeners, ssl.* and sasl.* as for Kafka:
  --set listeners=SASL_PLAINTEXT://:9092 --set sasl.enabled.mechanisms=SCRAM-SHA-256 --user alice:secret
";

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ottla-broker: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let Some(builder) = parse(arguments)? else { return Ok(()) };
    let without_effect = builder.without_effect().map_err(|error| error.to_string())?.join(", ");
    let broker = builder.clone().start().await.map_err(|error| error.to_string())?;
    println!("ottla-broker {} listens, connect to {}", env!("CARGO_PKG_VERSION"), broker.bootstrap());
    if !without_effect.is_empty() {
        println!("accepted without effect: {without_effect}");
    }
    until_stopped().await.map_err(|error| format!("cannot wait for signals: {error}"))?;
    broker.stop();
    Ok(())
}

/// What the arguments ask for; `None` when they asked for a text, which is then printed.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Builder>, String> {
    let mut builder = TestBroker::builder().listen(SocketAddr::from(([127, 0, 0, 1], 9092)));
    while let Some(argument) = arguments.next() {
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_string(), Some(value.to_string())),
            _ => (argument, None),
        };
        let mut value = || {
            let value = given.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("{name} needs a value, see --help"))
        };
        builder = match &*name {
            "--listen" => {
                let value = value()?;
                let refuse = || format!("--listen {value}: an IP address and a port, like 127.0.0.1:9092");
                builder.listen(value.parse().map_err(|_| refuse())?)
            }
            "--nodes" => {
                let value = value()?;
                builder.nodes(value.parse().map_err(|_| format!("--nodes {value}: a number"))?)
            }
            "--topic" => {
                let value = value()?;
                let (topic, partitions) = value.split_once(':').unwrap_or((&value, "1"));
                let refuse = || format!("--topic {value}: the number of partitions is no number");
                builder.topic(topic, partitions.parse().map_err(|_| refuse())?)
            }
            "--user" => {
                let value = value()?;
                let pair = value.split_once(':').ok_or("--user: NAME:PASSWORD")?;
                builder.user(pair.0, pair.1)
            }
            "--data" => builder.data(value()?),
            "--config" => {
                let file = value()?;
                let text =
                    std::fs::read_to_string(&file).map_err(|error| format!("--config {file}: {error}"))?;
                builder.properties(&text).map_err(|error| format!("--config {file}: {error}"))?
            }
            "--set" => {
                let value = value()?;
                let pair = value.split_once('=').ok_or_else(|| format!("--set {value}: KEY=VALUE"))?;
                builder.setting(pair.0, pair.1)
            }
            "--transaction-version" => {
                let value = value()?;
                let refuse = |_| format!("--transaction-version {value}: a number");
                builder.transaction_version(value.parse().map_err(refuse)?)
            }
            "--group-version" => {
                let value = value()?;
                let refuse = |_| format!("--group-version {value}: a number");
                builder.group_version(value.parse().map_err(refuse)?)
            }
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            "--version" | "-V" => {
                println!("ottla-broker {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            other => return Err(format!("unknown argument {other}, see --help")),
        };
    }
    Ok(Some(builder))
}

#[cfg(unix)]
async fn until_stopped() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        _ = terminated.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(not(unix))]
async fn until_stopped() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

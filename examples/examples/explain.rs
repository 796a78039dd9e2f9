//! Shows which settings are in force, who said so, and what each trades: of a goal, of a file of properties, or of both.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Duration;

use ottla::{Client, ClientBuilder};
use ottla_examples::{Arguments, Failure};

const USAGE: &str = "\
Usage: cargo run --example explain -- [options]

  --goal GOAL        throughput, latency, durability or availability (default: none)
  --properties FILE  settings as Kafka's Java client or librdkafka have them, a line each
  --linger MS        as a program would set it, to see what that does to the goal
";

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read(USAGE);

    let mut builder = match arguments.text("--properties") {
        None => Client::builder(),
        Some(path) => {
            let file = std::fs::read_to_string(path).map_err(|cause| format!("{path}: {cause}"))?;
            let lines = file.lines().filter(|line| !line.trim_start().starts_with(['#', '!']));
            ClientBuilder::from_properties(lines.filter_map(|line| line.split_once('=')))?
        }
    };
    // What is set by hand or by a file stays as it is; a goal sets the rest.
    if let Some(goal) = arguments.text("--goal") {
        builder = builder.goal(goal.parse()?);
    }
    // Nothing connects before a producer or a consumer is built.
    let client = builder.bootstrap("localhost:9092").build()?;

    match arguments.text("--linger") {
        None => println!("{}", client.explain()?),
        // What works against the goal is told, and does as it is told.
        Some(_) => {
            let linger = Duration::from_millis(arguments.get("--linger", 0));
            println!("{}", client.producer().linger(linger).explain()?);
        }
    }
    Ok(())
}

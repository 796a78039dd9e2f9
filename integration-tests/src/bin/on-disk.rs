//! Starts the bundled broker on a directory, runs a command on it, and kills the broker meanwhile, again and again.
//!
//! Owns the broker's process only: what was lost or doubled is the command's to find, `endure` is one that does. Each kill is a
//! `kill -9` at a random moment of the seed, and the next process takes up the same directory on the same port.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool speaks on both

use ottla_broker::{StartError, TestBroker};
use ottla_integration_tests::random::Random;
use ottla_integration_tests::{Failure, ensure, fail};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use tokio::time::sleep;

const HELP: &str = "\
on-disk [--data DIRECTORY] [--kills 20] [--seed 1] [--every 700] -- COMMAND ...
Runs COMMAND, {brokers} replaced, and kills the broker about every so many milliseconds; COMMAND must outlive that. Without
--data the directory is a temporary one.";

struct Options {
    data: PathBuf,
    is_temporary: bool,
    kills: u32,
    seed: u64,
    every: u64,
    /// Of the broker's own process.
    listen: Option<SocketAddr>,
    command: Vec<String>,
}

fn main() -> ExitCode {
    let done = options().and_then(|options| {
        let Some(options) = options else {
            println!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            match options.listen {
                Some(address) => serve(&options, address).await,
                None => disturb(&options).await,
            }
        })
    });
    done.unwrap_or_else(|failure| {
        eprintln!("on-disk: {failure}");
        ExitCode::FAILURE
    })
}

fn options() -> Result<Option<Options>, Failure> {
    let data = std::env::temp_dir().join(format!("ottla-on-disk-{}", std::process::id()));
    let mut options = Options {
        data,
        is_temporary: true,
        kills: 20,
        seed: 1,
        every: 700,
        listen: None,
        command: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--" {
            options.command = words.by_ref().collect();
            continue;
        }
        if word == "--help" {
            return Ok(None);
        }
        let Some(value) = words.next() else { fail!("{word} needs a value; see --help") };
        match word.as_str() {
            "--data" => (options.data, options.is_temporary) = (value.into(), false),
            "--kills" => options.kills = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--every" => options.every = value.parse()?,
            "--listen" => options.listen = Some(value.parse()?),
            _ => fail!("{word} is unknown; see --help"),
        }
    }
    ensure!(options.listen.is_some() || !options.command.is_empty(), "a command is missing after --");
    Ok(Some(options))
}

/// The broker's own process: it runs until it is killed.
async fn serve(options: &Options, address: SocketAddr) -> Result<ExitCode, Failure> {
    let _broker = loop {
        match TestBroker::builder().listen(address).data(&options.data).start().await {
            Ok(broker) => break broker,
            // The one before has been killed, but may not be gone.
            Err(StartError::Data { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => fail!("{error}"),
        }
    };
    std::future::pending().await
}

async fn disturb(options: &Options) -> Result<ExitCode, Failure> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut broker = start(options, address)?;
    let words = options.command.iter().map(|word| word.replace("{brokers}", &address.to_string()));
    let words: Vec<String> = words.collect();
    let mut command = Command::new(&words[0]).args(&words[1..]).spawn()?;
    let killed = kill(options, address, &mut broker, &mut command).await;
    let ended = match killed {
        Ok(()) => wait(&mut command).await,
        Err(failure) => Err(failure),
    };
    // Whatever came, nothing is left behind.
    let _ = command.kill();
    broker.kill()?;
    broker.wait()?;
    if options.is_temporary {
        std::fs::remove_dir_all(&options.data)?;
    }
    ended
}

fn start(options: &Options, address: SocketAddr) -> Result<Child, Failure> {
    let mut broker = Command::new(std::env::current_exe()?);
    broker.arg("--listen").arg(address.to_string()).arg("--data").arg(&options.data);
    Ok(broker.spawn()?)
}

async fn kill(
    options: &Options,
    address: SocketAddr,
    broker: &mut Child,
    command: &mut Child,
) -> Result<(), Failure> {
    let mut random = Random::new(options.seed, "kills");
    for done in 0..options.kills {
        sleep(Duration::from_millis(options.every / 2 + random.below(options.every))).await;
        ensure!(broker.try_wait()?.is_none(), "the broker ended by itself");
        let ended = command.try_wait()?.is_some();
        ensure!(!ended, "the command ended after {done} of {} kills: give it more to do", options.kills);
        broker.kill()?;
        broker.wait()?;
        *broker = start(options, address)?;
    }
    println!("on-disk: killed the broker {} times", options.kills);
    Ok(())
}

async fn wait(command: &mut Child) -> Result<ExitCode, Failure> {
    loop {
        if let Some(status) = command.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

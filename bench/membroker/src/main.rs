//! membroker: an in-memory broker for client benchmarks, on loopback, fast enough not to be what is measured.
//!
//! It stores produced batches as they came and returns them so, with one thread a connection. It is no Kafka: nothing is
//! replicated, kept on disk or deleted by time, and no CRC is checked. Topics whose name begins with `drop` are
//! acknowledged and thrown away.
//!
//!     membroker [--port 0] [--nodes 1] [--partitions 6] [--delay-ms 0]
//!
//! Each answer leaves `--delay-ms` after it is ready, and holds up none behind it: a long way to the broker. Port 0 takes
//! free ports. The first line of standard output is the bootstrap address; after that each deleted topic
//! says what was produced to it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::decode_request_header_from_buffer;

use crate::api::{API_VERSIONS_MAX, answer};
use crate::broker::Broker;

mod api;
mod broker;
mod codes;
mod log;

const FRAME_BYTES_MAX: usize = 256 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options = BTreeMap::new();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        options.insert(name, value);
    }
    let mut number = |name: &str, default: u16| options.remove(name).map_or(Ok(default), |text| text.parse());
    let (port, nodes, partitions) = (number("--port", 0)?, number("--nodes", 1)?, number("--partitions", 6)?);
    let delay = Duration::from_millis(number("--delay-ms", 0)?.into());
    if let Some(name) = options.keys().next() {
        return Err(format!(
            "unknown option {name}; usage: membroker [--port N] [--nodes N] [--partitions N] [--delay-ms N]"
        )
        .into());
    }
    let listen = |node| TcpListener::bind(("127.0.0.1", if port == 0 { 0 } else { port + node }));
    let listeners = (0..nodes.max(1)).map(listen).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let ports = addresses.iter().map(|address| address.port()).collect();
    let broker = Arc::new(Broker::new(ports, i32::from(partitions)));
    println!("{}", addresses[0]);
    let accepting: Vec<_> = (0..)
        .zip(listeners)
        .map(|(node, listener)| {
            let broker = broker.clone();
            std::thread::spawn(move || accept(&broker, node, &listener, delay))
        })
        .collect();
    accepting.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn accept(broker: &Arc<Broker>, node: i32, listener: &TcpListener, delay: Duration) {
    for stream in listener.incoming().flatten() {
        let broker = broker.clone();
        std::thread::spawn(move || {
            stream.set_nodelay(true).ok();
            if let Err(problem) = serve(&broker, node, stream, delay) {
                eprintln!("connection closed: {problem}");
            }
        });
    }
}

/// Answers the requests of one connection, one after the other, until the client closes it.
fn serve(broker: &Broker, node: i32, mut stream: TcpStream, delay: Duration) -> Result<(), String> {
    let mut late = if delay.is_zero() { None } else { Some(far_away(&stream).map_err(|e| e.to_string())?) };
    let mut out = BytesMut::new();
    let mut length = [0; 4];
    // A client that has measured enough closes its connection in the middle of anything.
    while stream.read_exact(&mut length).is_ok() {
        let length = u32::from_be_bytes(length) as usize;
        if !(8..=FRAME_BYTES_MAX).contains(&length) {
            return Err(format!("frame of {length} bytes"));
        }
        let mut frame = vec![0; length];
        if stream.read_exact(&mut frame).is_err() {
            break;
        }
        if !respond(broker, node, frame.into(), &mut out)? {
            continue;
        }
        let sent = match &mut late {
            None => stream.write_all(&out).is_ok(),
            Some(way) => way.send((Instant::now() + delay, out.split())).is_ok(),
        };
        if !sent {
            break;
        }
    }
    Ok(())
}

/// The way back of a connection whose answers take their time, in a thread of its own.
fn far_away(stream: &TcpStream) -> std::io::Result<Sender<(Instant, BytesMut)>> {
    let mut stream = stream.try_clone()?;
    let (sender, answers) = channel::<(Instant, BytesMut)>();
    std::thread::spawn(move || {
        for (due, answer) in answers {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
    });
    Ok(sender)
}

/// Puts the response, with its length in front, into `out`; false when none is expected.
fn respond(broker: &Broker, node: i32, mut frame: Bytes, out: &mut BytesMut) -> Result<bool, String> {
    let (key, version, correlation_id) = {
        let mut front = &frame[..];
        (front.get_i16(), front.get_i16(), front.get_i32())
    };
    let key = ApiKey::try_from(key).map_err(|()| format!("unknown api key {key}"))?;
    // A header of the future is not decoded, because it is answered all the same.
    let flexible = if key == ApiKey::ApiVersions && version > API_VERSIONS_MAX {
        false
    } else {
        decode_request_header_from_buffer(&mut frame).map_err(|problem| problem.to_string())?;
        key.response_header_version(version) > 0
    };
    out.clear();
    out.put_i32(0);
    out.put_i32(correlation_id);
    if flexible {
        out.put_u8(0);
    }
    let expected = answer(broker, node, (key, version), &mut frame, out)
        .map_err(|problem| format!("{key:?} version {version}: {problem}"))?;
    let length = u32::try_from(out.len() - 4).map_err(|_| "response too long")?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(expected)
}

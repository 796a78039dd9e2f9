//! Reaches the brokers through a proxy (SOCKS5, RFC 1928), by a connector of the program's own. TLS and logins would go through it too.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ottla::{Client, Payload};
use ottla_examples::{Failure, Playground};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Asks a proxy for a connection to a host, by its name: the proxy looks it up.
async fn through(proxy: SocketAddr, host: String, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let length = u8::try_from(host.len()).map_err(|_| io::Error::other("the name is too long for SOCKS"))?;
    // Version 5 without a login; then CONNECT to a name.
    stream.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    let request = [&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&request).await?;
    // The answer of a proxy that listens on IPv4.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await?;
    match (chosen, answer[1]) {
        ([5, 0], 0) => Ok(stream),
        _ => Err(io::Error::other(format!("the proxy refuses: {}", answer[1]))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let playground = Playground::open(1).await?;
    let proxy = start_proxy().await?;
    let client = Client::builder()
        .bootstrap(&playground.bootstrap)
        .connector(move |host: String, port: u16| through(proxy, host, port))
        .build()?;
    let producer = client.producer().build()?;
    let written = producer.topic(&playground.topic).send(Payload::value(b"one cup of coffee")).await?;
    println!("written to partition {} through the proxy", written.partition);
    producer.close(Duration::from_secs(10)).await;
    playground.close().await
}

/// A proxy for this example: it takes everybody, and understands names only.
async fn start_proxy() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Err(cause) = serve(stream).await {
                    println!("the proxy: {cause}");
                }
            });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let (mut hello, mut head) = ([0; 3], [0; 5]);
    stream.read_exact(&mut hello).await?;
    stream.write_all(&[5, 0]).await?;
    stream.read_exact(&mut head).await?;
    let mut name = vec![0; usize::from(head[4])];
    stream.read_exact(&mut name).await?;
    let (host, port) = (String::from_utf8_lossy(&name), stream.read_u16().await?);
    println!("the proxy connects to {host}:{port}");
    let mut there = TcpStream::connect((&*host, port)).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut stream, &mut there).await.map(drop)
}

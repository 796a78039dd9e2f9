//! The broker on TCP: ports open, close and open again.
#![allow(clippy::unwrap_used)]

use ottla_broker::{StartError, TestBroker};
use ottla_protocol::api::ApiKey;
use ottla_protocol::frame::{self, Frame};
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn metadata(address: SocketAddr) -> std::io::Result<MetadataResponse> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = Frame::default();
    frame::encode_request(&MetadataRequest::default(), 12, 1, None, &mut request).unwrap();
    stream.write_all(&request.to_bytes()).await?;
    let mut body = vec![0; usize::try_from(stream.read_i32().await?).unwrap()];
    stream.read_exact(&mut body).await?;
    let mut body = body.into();
    frame::decode_response_header(&mut body, ApiKey::METADATA, true).unwrap();
    Ok(frame::decode(body, 12, true).unwrap())
}

#[tokio::test]
async fn each_node_has_a_port_and_is_advertised_there() {
    let broker = TestBroker::builder().nodes(3).start().await.unwrap();
    let bootstrap = broker.bootstrap();
    for (address, node) in bootstrap.split(',').zip(1..) {
        assert_eq!(broker.address(node), Some(address.parse().unwrap()));
        let answer = metadata(address.parse().unwrap()).await.unwrap();
        let advertised: Vec<_> = answer.brokers.iter().map(|it| format!("{}:{}", it.host, it.port)).collect();
        assert_eq!(advertised.join(","), bootstrap);
    }
}

#[tokio::test]
async fn a_killed_node_refuses_connections_until_it_is_restarted_on_its_port() {
    let broker = TestBroker::builder().nodes(2).start().await.unwrap();
    let address = broker.address(1).unwrap();
    let mut open = TcpStream::connect(address).await.unwrap();
    metadata(address).await.unwrap();
    broker.kill_node(1).await;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let mut rest = Vec::new();
    // The open connection ends; a reset is an end too.
    let _ = open.read_to_end(&mut rest).await;
    let answer = metadata(broker.address(2).unwrap()).await.unwrap();
    assert_eq!(answer.brokers.len(), 1);
    broker.restart_node(1).await.unwrap();
    assert_eq!(metadata(address).await.unwrap().brokers.len(), 2);
    broker.restart_node(1).await.unwrap();
    assert!(broker.restart_node(9).await.is_err());
}

#[tokio::test]
async fn dropping_the_broker_closes_its_ports() {
    let broker = TestBroker::start().await.unwrap();
    let address = broker.address(1).unwrap();
    let mut open = TcpStream::connect(address).await.unwrap();
    metadata(address).await.unwrap();
    drop(broker);
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    // Dropping only signals, so the port closes soon after.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let taken = TestBroker::start().await.unwrap();
    let address = taken.address(1).unwrap();
    let error = TestBroker::builder().listen(address).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    for (builder, expected) in [
        (TestBroker::builder().nodes(0), "0 nodes: there must be 1 to 100"),
        (
            TestBroker::builder().topic("a b", 1),
            "topic \"a b\": a name is 1 to 249 letters, digits, dots, hyphens and underscores",
        ),
        (TestBroker::builder().topic("a", 0), "topic \"a\": a topic has 1 to 10000 partitions"),
        (TestBroker::builder().topic("a", 1).topic("a", 1), "topic \"a\": it is named twice"),
        (
            TestBroker::builder().setting("num.partition", "1"),
            "unknown setting num.partition, did you mean num.partitions?",
        ),
    ] {
        assert_eq!(builder.start().await.unwrap_err().to_string(), expected);
    }
}

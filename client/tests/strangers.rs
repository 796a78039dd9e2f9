//! Peers that are no broker, or one that is too old: the error says who it is and what is wrong with it, and a record is
//! certainly not written.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use ottla::{Client, Error, ErrorKind, Outcome, Payload};
use ottla_broker::{Answer, Fault, TestBroker};
use ottla_protocol::api::ApiKey;

const PATIENCE: Duration = Duration::from_millis(500);

/// What a send and a receive at this address fail with.
async fn failures(address: &str) -> (Error, Error) {
    let client = Client::builder().bootstrap(address).default_api_timeout(PATIENCE).build().expect("valid");
    let producer = client.producer().max_block(PATIENCE).build().expect("valid");
    let sent = producer.topic("t").send(Payload::value(b"v")).await.expect_err("nobody takes it");
    let mut consumer = client.consumer().group("g").subscribe(["t"]).build().expect("valid");
    let received = consumer.recv().await.map(drop).expect_err("nobody gives any");
    (sent, received)
}

/// Says the same to everybody who says something, and hangs up.
fn parrot(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().map_while(Result::ok) {
            let _ = peer.read(&mut [0; 1024]).and_then(|_| peer.write_all(words));
        }
    });
    address
}

async fn check_stranger(words: &'static [u8], expected: &str) {
    let address = parrot(words);
    let (sent, received) = failures(&address).await;
    assert_eq!(sent.outcome(), Some(Outcome::NotWritten), "{sent}");
    for text in [sent.to_string(), received.to_string()] {
        assert!(text.contains(&address) && text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_web_server_is_recognised() {
    check_stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server answers at this address").await;
}

#[tokio::test]
async fn a_peer_that_speaks_tls_is_recognised() {
    check_stranger(b"\x15\x03\x01\x00\x02\x02\x46", "the peer speaks TLS").await;
}

/// Fault 87.
#[tokio::test]
async fn a_frame_of_two_gigabytes_is_refused_by_its_length() {
    check_stranger(b"\x7f\xff\xff\xff....", "2147483647 bytes exceeds the limit").await;
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_refused_by_name() {
    let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
    broker.fault(Fault::on(ApiKey::API_VERSIONS).always().rewrite(|answer| {
        if let Answer::ApiVersions(answer) = answer {
            answer.api_keys.retain(|api| [ApiKey::API_VERSIONS, ApiKey::METADATA].contains(&api.api_key));
        }
    }));
    let (sent, received) = failures(&broker.bootstrap()).await;
    assert_eq!(sent.outcome(), Some(Outcome::NotWritten), "{sent}");
    for error in [sent, received] {
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{error}");
        let text = error.to_string();
        let named = broker.bootstrap().split(',').any(|address| text.contains(address));
        assert!(named && text.contains("does not offer"), "{text}");
    }
}

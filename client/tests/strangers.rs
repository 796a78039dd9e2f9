//! Peers that are no broker, or one that is too old: the error says who it is and what is wrong with it, and a record is
//! certainly not written. And networks that go bad: then a record is written all the same.

mod doorman;
mod wires;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use doorman::{Doorman, refusal};
use ottla::{Client, Error, ErrorKind, Outcome, Payload, Sasl, SecurityProtocol};
use ottla_broker::{Answer, Fault, TestBroker};
use ottla_protocol::api::ApiKey;
use ottla_protocol::messages::SaslAuthenticateResponse;
use wires::Wires;

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

fn challenge(text: &str) -> SaslAuthenticateResponse {
    let auth_bytes = Bytes::copy_from_slice(text.as_bytes());
    SaslAuthenticateResponse { auth_bytes, ..SaslAuthenticateResponse::default() }
}

/// A login at this door is refused, for this reason, and nobody is asked for anything before.
async fn check_login(door: &Doorman, sasl: Sasl, part: &str) {
    let client = Client::builder().bootstrap(&door.address).sasl(sasl);
    let client = client.security_protocol(SecurityProtocol::SaslPlaintext).build().expect("valid");
    let refused = client.admin().describe_cluster().await.expect_err("it must be refused");
    assert_eq!(refused.kind(), ErrorKind::Authentication, "{refused}");
    assert!(refused.to_string().contains(part), "{part:?} is not in {refused}");
    assert_eq!(door.told().others, [0_i16; 0], "nothing but the login");
}

/// SEC7: the mechanism is what is configured, whatever the broker offers in its place; and no credential goes out before.
#[tokio::test]
async fn a_weaker_mechanism_is_not_taken_because_a_broker_offers_it() {
    let door = Doorman::open(&["PLAIN"], |_, _| challenge("")).await;
    check_login(&door, Sasl::scram_sha_512("alice", "wallace"), "it offers PLAIN").await;
    let told = door.told();
    assert!(told.mechanisms.iter().all(|name| name == "SCRAM-SHA-512"), "{:?}", told.mechanisms);
    assert_eq!(told.messages.len(), 0);
}

/// SEC8: what a broker can do wrong in SCRAM. Nobody hashes four billion times for it.
#[tokio::test]
async fn a_broker_that_does_not_do_its_part_of_scram_is_not_believed() {
    fn echo(message: &[u8], rest: &str) -> SaslAuthenticateResponse {
        let text = String::from_utf8_lossy(message);
        challenge(&format!("r={}{rest}", text.rsplit("r=").next().unwrap_or_default()))
    }
    let cases: [(doorman::Judge, &str); 6] = [
        (|_, _| challenge("r=foreign,s=c2FsdHNhbHQ=,i=4096"), "nonce"),
        (|message, _| echo(message, ",s=c2FsdHNhbHQ=,i=4096"), "nonce"),
        (|message, _| echo(message, "more,s=c2FsdHNhbHQ=,i=4"), "4"),
        (|message, _| echo(message, "more,s=c2FsdHNhbHQ=,i=4000000000"), "4000000000"),
        (
            |message, count| match count {
                0 => echo(message, "more,s=c2FsdHNhbHQ=,i=4096"),
                _ => challenge("v=bm8gc2lnbmF0dXJlIG9mIG91cnM="),
            },
            "signature",
        ),
        (
            |message, count| match count {
                0 => echo(message, "more,s=c2FsdHNhbHQ=,i=4096"),
                _ => challenge(""),
            },
            "",
        ),
    ];
    for (judge, part) in cases {
        let door = Doorman::open(&["SCRAM-SHA-256"], judge).await;
        check_login(&door, Sasl::scram_sha_256("alice", "wallace"), part).await;
    }
}

/// A login that is refused is tried again after the backoff only: ten sends in a second are some dials, not ten.
#[tokio::test]
async fn a_refused_login_does_not_become_a_storm() {
    let door = Doorman::open(&["PLAIN"], |_, _| refusal("no")).await;
    let client = Client::builder()
        .bootstrap(&door.address)
        .sasl(Sasl::plain("alice", "wrong"))
        .security_protocol(SecurityProtocol::SaslPlaintext)
        .reconnect_backoff(Duration::from_secs(600), Duration::from_secs(600))
        .build()
        .expect("valid");
    let producer = client.producer().max_block(PATIENCE).build().expect("valid");
    for _ in 0..10 {
        producer.topic("t").send(Payload::value(b"v")).await.expect_err("nobody gets in");
    }
    assert_eq!(door.told().connections, 1);
}

/// A broker that is reached by wires of the test's, under a name that nobody can look up.
struct Site {
    broker: TestBroker,
    wires: Arc<Wires>,
    client: Client,
}

impl Site {
    async fn new() -> Self {
        let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
        let wires = Arc::new(Wires::default());
        let through = wires.clone();
        let bootstrap = broker.bootstrap().replace("127.0.0.1", "kafka.invalid");
        let client = Client::builder()
            .bootstrap(bootstrap)
            .connector(move |host: String, port: u16| through.clone().connect(host, port))
            .request_timeout(PATIENCE)
            .build()
            .expect("valid");
        Site { broker, wires, client }
    }

    /// One record, then what goes wrong, then another one: both are written, once and in order.
    async fn check_mended(&self, harm: impl FnOnce(&Wires)) {
        let producer = self.client.producer().build().expect("valid");
        let topic = producer.topic("t");
        topic.send(Payload::value(b"before")).await.expect("written");
        let dialled = self.names().len();
        harm(&self.wires);
        topic.send(Payload::value(b"after")).await.expect("written by another connection");
        assert!(self.names().len() > dialled, "another connection was opened");
        let log = self.broker.log("t", 0).expect("a readable log");
        let values: Vec<_> = log.iter().filter_map(|record| record.value.as_deref()).collect();
        assert_eq!(values, [&b"before"[..], b"after"]);
    }

    fn names(&self) -> Vec<String> {
        self.wires.names.lock().expect("not poisoned").clone()
    }
}

/// Fault 75: names are the connector's business, each time anew; what brokers say of themselves too.
#[tokio::test]
async fn a_connector_is_asked_for_each_connection_by_the_name_that_was_given() {
    let site = Site::new().await;
    for _ in 0..2 {
        site.client.admin().describe_cluster().await.expect("reached");
    }
    let producer = site.client.producer().build().expect("valid");
    producer.topic("t").send(Payload::value(b"v")).await.expect("written");
    let names = site.names();
    assert!(names.iter().filter(|name| *name == "kafka.invalid").count() >= 3, "{names:?}");
    assert!(names.iter().any(|name| name == "127.0.0.1"), "{names:?}");
}

/// Fault 78: the other end is gone, and nothing says so.
#[tokio::test]
async fn a_half_open_connection_is_left_when_its_request_times_out() {
    Site::new().await.check_mended(Wires::silence).await;
}

/// Fault 79.
#[tokio::test]
async fn bytes_that_come_and_go_one_at_a_time_are_read_and_written_all_the_same() {
    let site = Site::new().await;
    site.wires.drip.store(true, Ordering::Relaxed);
    let producer = site.client.producer().build().expect("valid");
    for number in 0..20_u8 {
        producer.topic("t").send(Payload::value(&[number])).await.expect("written");
    }
    let mut consumer = site.client.consumer().assign([("t", 0)]).build().expect("valid");
    for number in 0..20_u8 {
        let record = consumer.recv().await.expect("readable").expect("open");
        assert_eq!(record.value(), Some(&[number][..]));
    }
}

/// Fault 80.
#[tokio::test]
async fn an_answer_with_another_number_than_its_request_ends_the_connection() {
    let harm = |wires: &Wires| wires.renumber.store(true, Ordering::Relaxed);
    Site::new().await.check_mended(harm).await;
}

/// Fault 84.
#[tokio::test]
async fn a_connection_that_was_reset_while_it_was_idle_is_opened_again_without_a_word() {
    Site::new().await.check_mended(Wires::reset).await;
}

/// Fault 81: the broker has swallowed one request, and its connection serves nothing more.
#[tokio::test]
async fn a_request_that_was_swallowed_is_sent_again_on_another_connection() {
    let site = Site::new().await;
    let fault = Fault::on(ApiKey::PRODUCE).swallow();
    let harm = |_: &Wires| {
        site.broker.fault(fault);
    };
    site.check_mended(harm).await;
}

//! What a subscriber of `tracing` hears of a client: where things happen, and never what is in a record (SEC11).

mod doorman;

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorman::Doorman;
use ottla::{
    Acks, Client, ClientBuilder, Deliveries, ErrorCode, Header, Interceptor, Payload, Sasl, SecurityProtocol,
    Token,
};
use ottla_broker::{Fault, TestBroker};
use ottla_protocol::api::ApiKey;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const SOON: Duration = Duration::from_secs(10);

/// A subscriber that writes everything down: each event with the spans that it is in.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    spans: Vec<String>,
    entered: Vec<u64>,
    events: Vec<(Level, String)>,
}

/// Fields as text.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ottla") && !metadata.target().starts_with("ottla_broker")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().expect("not poisoned");
        let parent = state.entered.last().copied();
        let above = parent.map_or("", |id| &state.spans[id as usize - 1]).to_owned();
        let mut fields = Fields(format!("{above} [{}", attributes.metadata().name()));
        attributes.record(&mut fields);
        state.spans.push(fields.0 + "]");
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.0.lock().expect("not poisoned");
        let parent = state.entered.last().copied();
        let spans = parent.map_or("", |id| &state.spans[id as usize - 1]).to_owned();
        let mut fields = Fields(spans);
        event.record(&mut fields);
        state.events.push((*event.metadata().level(), fields.0));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().expect("not poisoned").entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        self.0.lock().expect("not poisoned").entered.retain(|id| *id != span.into_u64());
    }
}

impl Heard {
    /// The events of a level with all of these parts in them.
    fn with(&self, level: Level, parts: &[&str]) -> usize {
        let state = self.0.lock().expect("not poisoned");
        let has = |text: &str| parts.iter().all(|part| text.contains(part));
        state.events.iter().filter(|(of, text)| *of == level && has(text)).count()
    }

    #[track_caller]
    fn check(&self, level: Level, parts: &[&str]) {
        assert!(self.with(level, parts) > 0, "no {level} event with {parts:?} in:\n{}", self.all());
    }

    fn all(&self) -> String {
        let state = self.0.lock().expect("not poisoned");
        let events = state.events.iter().map(|(level, text)| format!("{level} {text}\n"));
        state.spans.iter().map(|span| format!("{span}\n")).chain(events).collect()
    }
}

/// Listens to everything that this thread does: the runtime of a test has no other.
fn listen() -> (Heard, tracing::subscriber::DefaultGuard) {
    let heard = Heard::default();
    (heard.clone(), tracing::subscriber::set_default(heard))
}

async fn cluster(set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (TestBroker, Client) {
    let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
    let builder = set(Client::builder().bootstrap(broker.bootstrap()).client_id("audit"));
    (broker, builder.build().expect("valid settings"))
}

#[tokio::test]
async fn a_subscriber_sees_client_broker_topic_and_partition() {
    let (heard, _guard) = listen();
    let (_broker, client) = cluster(|client| client).await;
    let producer = client.producer().build().expect("valid settings");
    producer.topic("t").send(Payload::value(b"tea")).await.expect("written");
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
    consumer.recv().await.expect("readable").expect("open");
    producer.close(SOON).await;

    let place = ["[client client_id=audit]", "[connection broker=1", "lane=Produce", "peer=127.0.0.1:"];
    heard.check(Level::DEBUG, &[&place[..], &["connected"]].concat());
    heard.check(
        Level::TRACE,
        &[&place[..], &["a batch is sent", "topic=t", "partition=0", "bytes="]].concat(),
    );
    heard.check(Level::TRACE, &[&place[..], &["an answer", "api=\"Produce\"", "took="]].concat());
    heard.check(Level::TRACE, &["fetched records are read", "topic=t", "partition=0", "offset=0"]);
}

#[tokio::test]
async fn a_record_costs_no_event_and_a_request_at_most_three() {
    let (heard, _guard) = listen();
    let (_broker, client) = cluster(|client| client).await;
    let producer =
        client.producer().linger(Duration::from_millis(50)).batch_size(1 << 20).build().expect("valid");
    let topic = producer.topic("t");
    for n in 0..5_000_u32 {
        drop(topic.enqueue(Payload::value(&n.to_be_bytes())).await.expect("accepted"));
    }
    producer.flush(SOON).await.expect("acknowledged");
    let produced = heard.with(Level::TRACE, &["a request", "api=\"Produce\""]);
    let batches = heard.with(Level::TRACE, &["a batch is sent"]);
    assert!((1..=50).contains(&produced) && batches <= produced, "{}", heard.all());
    let state = heard.0.lock().expect("not poisoned");
    // The client, its connections, and nothing for a request.
    assert!(state.spans.len() <= 5, "{:#?}", state.spans);
}

/// Breaks at each record.
struct Clumsy;

impl Interceptor for Clumsy {
    fn on_send(&self, _: &str, record: &mut ottla::Outgoing<'_>) {
        assert!(record.partition.is_some(), "this panic is a test's");
    }

    fn on_outcome(&self, _: &str, _: &ottla::Result<ottla::RecordMetadata>) {
        panic!("this panic is a test's");
    }
}

/// SEC11, at every level.
#[tokio::test]
async fn no_payload_is_in_any_trace_or_error_whatever_goes_wrong() {
    let (heard, _guard) = listen();
    let (broker, client) = cluster(|client| client).await;
    let producer = client.producer().delivery_timeout(SOON * 4).interceptor(Clumsy).build().expect("valid");
    let topic = producer.topic("t");
    let headers = [Header { key: "s3cret", value: Some(b"s3cret") }];
    let payload = Payload { headers: &headers, partition: Some(0), ..Payload::new(b"s3cret", b"s3cret") };
    topic.send(payload).await.expect("written");
    broker.fault(Fault::on(ApiKey::PRODUCE).cut());
    topic.send(payload).await.expect("written by a retry");

    let mut errors = Vec::new();
    for code in [
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::INVALID_RECORD,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_TIMESTAMP,
    ] {
        broker.fault(Fault::on(ApiKey::PRODUCE).fail(code));
        errors.extend(topic.send(payload).await.err());
    }
    assert!(errors.len() >= 3, "{errors:?}");
    let huge = b"s3cret".repeat(1 << 20);
    errors.extend(topic.send(Payload { partition: Some(0), ..Payload::value(&huge) }).await.err());
    errors.extend(topic.send(Payload { partition: Some(9), ..payload }).await.err());
    errors.extend(topic.send(Payload { partition: None, ..payload }).await.err());
    errors.extend(topic.try_enqueue(Payload { partition: Some(-1), ..payload }).err().and_then(|full| {
        match full {
            ottla::Full::Failed(error) => Some(error),
            _ => None,
        }
    }));
    let unheard = client.producer().acks(Acks::None).build().expect("valid");
    unheard.topic("t").send(payload).await.expect("sent");
    let mut consumer = client.consumer().assign([("t", 0)]).build().expect("valid");
    consumer.recv().await.expect("readable").expect("open");
    let (topic, delivery) = (topic.clone(), topic.enqueue(payload).await.expect("accepted"));
    drop((producer, topic));
    errors.extend(delivery.await.err());

    let mut text = heard.all();
    assert!(text.contains("an interceptor panicked") && text.contains("were not delivered"), "{text}");
    for error in &errors {
        let _ = write!(text, "{error} {error:?} {:?}", std::error::Error::source(error));
    }
    let bytes = format!("{:?}", b"s3cret");
    assert!(!text.contains("s3cret") && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
}

/// A subscriber that asks the client for its numbers whenever it is told something: it would wait for ever under the lock.
struct Nosy(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    producer: Option<ottla::Producer>,
    control: Option<ottla::Control>,
    warnings: Vec<String>,
}

impl Subscriber for Nosy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("ottla::")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut asked = self.0.lock().expect("not poisoned");
        asked.producer.as_ref().map(ottla::Producer::metrics);
        asked.control.as_ref().map(ottla::Control::metrics);
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        asked.warnings.push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn nothing_is_logged_under_the_lock() {
    let (tell, done) = std::sync::mpsc::channel();
    // On a thread of its own, so that a lock that is waited for does not keep the test from failing.
    std::thread::spawn(move || {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let _guard = tracing::subscriber::set_default(Nosy(asked.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (broker, client) = cluster(|client| client).await;
            let producer = client.producer().build().expect("valid settings");
            let topic = producer.topic("t");
            topic.send(Payload::value(b"tea")).await.expect("written");
            let consumer = client.consumer().assign([("t", 0)]).build().expect("valid settings");
            {
                let mut asked = asked.lock().expect("not poisoned");
                (asked.producer, asked.control) = (Some(producer.clone()), Some(consumer.control()));
            }
            broker.fault(Fault::on(ApiKey::PRODUCE).fail(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
            topic.send(Payload::value(b"tea")).await.expect_err("not allowed");
            let mut consumer = consumer;
            consumer.recv().await.expect("readable").expect("open");
            consumer.control().seek("t", 0, ottla::SeekTo::Offset(99)).await.expect("assigned");
            consumer.recv().await.map(drop).expect_err("there is no such offset");
        });
        let warnings = asked.lock().expect("not poisoned").warnings.clone();
        tell.send(warnings).expect("somebody waits");
    });
    let warnings = done.recv_timeout(SOON).expect("a subscriber was called under the lock");
    let found = |part: &str| warnings.iter().any(|warning| warning.contains(part));
    assert!(found("records were not delivered") && found("out of range"), "{warnings:?}");
}

/// Rule 19.
#[tokio::test]
async fn memory_for_less_than_a_batch_of_each_partition_is_warned_of_once() {
    let (heard, _guard) = listen();
    let broker = TestBroker::builder().topic("t", 2).topic("u", 2).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let warned = || heard.with(Level::WARN, &["buffer.memory holds less than a batch"]);
    let producer =
        client.producer().batch_size(10_000).buffer_memory(20_000).build().expect("valid settings");
    producer.topic("t").send(Payload::value(b"tea")).await.expect("written");
    assert_eq!(warned(), 0, "two batches fit");
    producer.topic("u").send(Payload::value(b"tea")).await.expect("written");
    producer.topic("u").send(Payload::value(b"tea")).await.expect("written");
    assert_eq!(warned(), 1, "{}", heard.all());
    heard.check(Level::WARN, &["partitions=4", "batch_size=10000", "buffer_memory=20000"]);
}

const CANARY: &str = "canary-s3cret";

/// An error with all that is behind it, in both forms.
fn whole(error: &ottla::Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, " {error} {error:?}");
        cause = error.source();
    }
    text
}

/// SEC10, at every level, with a peer that repeats whatever it is told.
#[tokio::test]
async fn no_secret_of_a_login_is_in_any_setting_trace_or_error() {
    let (heard, _guard) = listen();
    let echo =
        |message: &[u8], _: usize| doorman::refusal(&format!("no: {}", String::from_utf8_lossy(message)));
    let offers = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
    let door = Doorman::open(offers, echo).await;
    let kept = || async { Ok(Token::new(CANARY).valid_for(SOON).extension("logicalCluster", "lkc-1")) };
    let failing = || async { Err(format!("there is none for {}", "alice").into()) };
    for sasl in [
        Sasl::plain("alice", CANARY),
        Sasl::scram_sha_256("alice", CANARY),
        Sasl::scram_sha_512("alice", CANARY),
        Sasl::delegation_token("id", CANARY),
        Sasl::oauth_bearer(|| async { Ok(Token::new(CANARY)) }),
        Sasl::oauth_bearer(kept),
        Sasl::oauth_bearer(failing),
    ] {
        let mut texts = vec![format!("{sasl:?}")];
        let builder = Client::builder().bootstrap(&door.address).sasl(sasl);
        let builder = builder.security_protocol(SecurityProtocol::SaslPlaintext);
        texts.push(format!("{builder:?}"));
        let client = builder.build().expect("valid settings");
        texts.push(format!("{client:?} {}", client.explain().expect("valid settings")));
        let admin = client.admin();
        texts.push(format!("{admin:?}"));
        texts.push(whole(&admin.describe_cluster().await.expect_err("nobody gets in")));
        let producer = client.producer().build().expect("valid settings");
        let sent = producer.topic("t").send(Payload::value(b"tea")).await.expect_err("nobody gets in");
        texts.extend([format!("{producer:?}"), whole(&sent)]);
        let mut consumer = client.consumer().group("g").subscribe(["t"]).build().expect("valid settings");
        let received = consumer.recv().await.map(drop).expect_err("nobody gets in");
        texts.extend([format!("{consumer:?} {:?}", consumer.control().health()), whole(&received)]);
        for text in texts {
            assert!(!text.contains(CANARY), "{text}");
        }
    }
    assert!(door.told().messages.iter().any(|message| String::from_utf8_lossy(message).contains(CANARY)));
    assert!(heard.with(Level::DEBUG, &["disconnected"]) > 0, "somebody listens");
    assert!(!heard.all().contains(CANARY), "{}", heard.all());
}

/// SEC10: the values of a file, right or wrong, and whatever becomes of them.
#[test]
fn no_secret_of_a_file_is_in_any_error_or_warning() {
    let plain = format!("x.PlainLoginModule required username=\"alice\" password=\"{CANARY}\";");
    let cut_off = plain.replace(';', "");
    let token = format!("https://alice:{CANARY}@idp.example.com/");
    let keys = [
        ("sasl.jaas.config", plain.as_str()),
        ("sasl.jaas.config", cut_off.as_str()),
        ("sasl.password", CANARY),
        ("ssl.key.password", CANARY),
        ("ssl.keystore.password", CANARY),
        ("ssl.truststore.password", CANARY),
        ("ssl.keystore.key", CANARY),
        ("ssl.keystore.certificate.chain", CANARY),
        ("ssl.truststore.certificates", CANARY),
        ("sasl.oauthbearer.client.credentials.client.secret", CANARY),
        ("sasl.oauthbearer.assertion.private.key.passphrase", CANARY),
        ("sasl.oauthbearer.token.endpoint.url", token.as_str()),
    ];
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER", "GSSAPI", "unknown"] {
        for protocol in ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] {
            for (key, value) in keys {
                let file = [
                    ("bootstrap.servers", "a:1"),
                    ("security.protocol", protocol),
                    ("sasl.mechanism", mechanism),
                    (key, value),
                ];
                let text = match ClientBuilder::from_properties(file) {
                    Err(error) => whole(&error),
                    Ok(builder) => {
                        let said = format!("{builder:?} {:?}", builder.warnings());
                        match builder.build() {
                            Err(error) => said + &whole(&error),
                            Ok(client) => format!("{said} {client:?} {:?}", client.explain()),
                        }
                    }
                };
                assert!(!text.contains(CANARY), "{protocol}, {mechanism}, {key}: {text}");
            }
        }
    }
}

/// A token that nobody has signed, and that ends in a second or two.
fn short_token(made: &AtomicUsize) -> Result<Token, ottla::TokenError> {
    made.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let end = Duration::from_secs(now.as_secs() + 2);
    let claims = format!(r#"{{"sub":"alice","iat":{},"exp":{}}}"#, now.as_secs(), end.as_secs());
    let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    Ok(Token::new(format!("{header}.{claims}.")).valid_for(end - now))
}

/// Fault 82 (SEC16): sessions end with their tokens; each is replaced ahead of time, and the connection logs in again amid its
/// requests.
#[tokio::test]
async fn sessions_are_renewed_amid_traffic_and_nobody_notices() {
    let (heard, _guard) = listen();
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
        unsecuredLoginStringClaim_sub=\"node\";";
    let broker = TestBroker::builder()
        .topic("t", 1)
        .setting("listeners", "SASL_PLAINTEXT://127.0.0.1:0")
        .setting("sasl.enabled.mechanisms", "OAUTHBEARER")
        .setting("sasl.jaas.config", module)
        .setting("connections.max.reauth.ms", "60000");
    let broker = broker.start().await.expect("a broker");
    let made = Arc::new(AtomicUsize::new(0));
    let makes = made.clone();
    let client = Client::builder()
        .bootstrap(broker.bootstrap())
        .sasl(Sasl::oauth_bearer(move || std::future::ready(short_token(&makes))))
        .security_protocol(SecurityProtocol::SaslPlaintext)
        .build()
        .expect("valid settings");
    let producer = client.producer().linger(Duration::ZERO).build().expect("valid settings");
    let (topic, mut window, mut sent) = (producer.topic("t"), Deliveries::default(), 0_u32);
    let renewed = || heard.with(Level::DEBUG, &["lane=Produce", "the session is renewed"]);
    let start = Instant::now();
    // Whatever it takes on a loaded machine, to a limit.
    while renewed() < 3 && start.elapsed() < Duration::from_secs(60) {
        window.push(topic.enqueue(Payload::value(&sent.to_be_bytes())).await.expect("accepted"));
        sent += 1;
        if sent.is_multiple_of(8) {
            window.next().await.expect("one is out").expect("written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    while let Some(written) = window.next().await {
        written.expect("written");
    }
    assert!(renewed() >= 3, "{}", heard.all());
    assert!(made.load(Ordering::Relaxed) >= 3, "a session ends with its token, so each has its own");
    let log = broker.log("t", 0).expect("a readable log");
    let values: Vec<_> = log.iter().filter_map(|it| it.value.as_deref()).map(<[u8]>::to_vec).collect();
    assert_eq!(values, (0..sent).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

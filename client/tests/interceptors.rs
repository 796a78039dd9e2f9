//! Interceptors on the bundled broker: what they change is what is written, what they are told is what happened, and what they
//! break is theirs alone.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{
    Client, Error, ErrorKind, Full, Interceptor, Outcome, Outgoing, Payload, Producer, ProducerBuilder,
    RecordMetadata,
};
use ottla_broker::TestBroker;

const SOON: Duration = Duration::from_secs(10);

async fn producer(set: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> (TestBroker, Producer) {
    let broker = TestBroker::builder().topic("t", 1).start().await.expect("a broker");
    let client = Client::builder().bootstrap(broker.bootstrap()).build().expect("valid settings");
    let producer = set(client.producer()).build().expect("valid settings");
    (broker, producer)
}

/// Appends its mark to the value, and a header.
struct Mark(u8);

impl Interceptor for Mark {
    fn on_send(&self, topic: &str, record: &mut Outgoing<'_>) {
        assert_eq!(topic, "t");
        record.value.get_or_insert_default().to_mut().push(self.0);
        record.headers.push(("marked".into(), Some(vec![self.0].into())));
    }
}

/// The offset of a record, or why there is none.
type End = Result<Option<i64>, ErrorKind>;

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<End>>>);

impl Told {
    fn all(&self) -> Vec<End> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl Interceptor for Told {
    fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, Error>) {
        assert_eq!(topic, "t");
        self.0
            .lock()
            .expect("not poisoned")
            .push(outcome.as_ref().map(|written| written.offset).map_err(Error::kind));
    }
}

/// Panics where its record says so.
struct Clumsy;

impl Interceptor for Clumsy {
    fn on_send(&self, _: &str, record: &mut Outgoing<'_>) {
        assert_ne!(record.value.as_deref(), Some(&b"break on_send"[..]), "this panic is a test's");
    }

    fn on_outcome(&self, _: &str, _: &Result<RecordMetadata, Error>) {
        panic!("this panic is a test's");
    }
}

#[tokio::test]
async fn what_interceptors_make_of_a_record_is_what_is_written_in_their_order() {
    let (broker, producer) = producer(|p| p.interceptor(Mark(b'1')).interceptor(Mark(b'2'))).await;
    let topic = producer.topic("t");
    let headers = [ottla::Header { key: "own", value: None }];
    topic.send(Payload { headers: &headers, ..Payload::new(b"key", b"tea") }).await.expect("written");
    let _ = topic.try_enqueue(Payload::new(b"key", b"milk")).expect("metadata is there").await;
    topic.send(Payload::default()).await.expect("written");
    let log = broker.log("t", 0).expect("a readable log");
    let values: Vec<_> = log.iter().map(|record| record.value.as_deref().unwrap_or_default()).collect();
    assert_eq!(values, [&b"tea12"[..], b"milk12", b"12"]);
    assert_eq!(log[0].key.as_deref(), Some(&b"key"[..]));
    let names: Vec<_> = log[0].headers.iter().map(|header| format!("{header:?}")).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names[0].contains("own") && names[1].contains("marked") && names[2].contains("marked"),
        "{names:?}"
    );
}

#[tokio::test]
async fn every_outcome_is_told_once_whether_or_not_somebody_waits() {
    let told = Told::default();
    let (_broker, producer) = producer(|p| p.interceptor(told.clone()).batch_size(100)).await;
    let topic = producer.topic("t");
    for n in 0..50_u8 {
        // Nobody waits for these.
        drop(topic.enqueue(Payload::value(&[n; 30])).await.expect("accepted"));
    }
    let huge = vec![0; 2 << 20];
    topic.enqueue(Payload::value(&huge)).await.map(drop).expect_err("too large");
    let refused = topic.try_enqueue(Payload::value(&huge)).map(drop).expect_err("too large");
    assert!(matches!(refused, Full::Failed(_)));
    producer.close(SOON).await;
    topic.send(Payload::value(b"late")).await.expect_err("closed");

    let (written, failed): (Vec<_>, Vec<_>) = told.all().into_iter().partition(Result::is_ok);
    let mut offsets: Vec<_> = written.into_iter().filter_map(|written| written.ok().flatten()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..50).collect::<Vec<i64>>());
    let failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed, [ErrorKind::RecordTooLarge, ErrorKind::RecordTooLarge, ErrorKind::Closed]);
}

#[tokio::test]
async fn a_record_that_is_never_acknowledged_is_told_too() {
    let told = Told::default();
    let (_broker, producer) = producer(|p| p.interceptor(told.clone()).linger(SOON)).await;
    let topic = producer.topic("t");
    let delivery = topic.enqueue(Payload::value(b"open")).await.expect("accepted");
    assert_eq!(told.all(), []);
    drop((producer, topic));
    assert_eq!(delivery.await.expect_err("the producer is gone").outcome(), Some(Outcome::NotWritten));
    assert_eq!(told.all(), [Err(ErrorKind::Closed)]);
}

/// Fault 100.
#[tokio::test]
async fn a_panic_fails_that_record_and_no_other() {
    let told = Told::default();
    let (broker, producer) = producer(|p| p.interceptor(Clumsy).interceptor(told.clone())).await;
    let topic = producer.topic("t");
    topic.send(Payload::value(b"one")).await.expect("written, whatever happens to who is told");
    let error = topic.send(Payload::value(b"break on_send")).await.expect_err("nobody knows what it is");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidArgument, Some(Outcome::NotWritten)));
    assert_eq!(error.to_string(), "an interceptor panicked at a record for topic t");
    topic.send(Payload::value(b"two")).await.expect("written");
    assert_eq!(broker.log("t", 0).expect("a readable log").len(), 2);
    // The next in the chain hears of each all the same.
    assert_eq!(told.all(), [Ok(Some(0)), Err(ErrorKind::InvalidArgument), Ok(Some(1))]);
}

/// Sends a record for each that was written, up to three, and reads the producer's metrics.
struct Echo {
    producer: Arc<Mutex<Option<Producer>>>,
    left: AtomicUsize,
}

impl Interceptor for Echo {
    fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, Error>) {
        let producer = self.producer.lock().expect("not poisoned").clone();
        let (Some(producer), Ok(_)) = (producer, outcome) else { return };
        assert!(producer.metrics().records_written > 0);
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            drop(producer.topic(topic).try_enqueue(Payload::value(b"echo")).expect("there is room"));
        }
    }
}

#[tokio::test]
async fn an_interceptor_may_use_its_own_producer() {
    let slot = Arc::new(Mutex::new(None));
    let echo = Echo { producer: slot.clone(), left: AtomicUsize::new(3) };
    let (broker, producer) = producer(|p| p.interceptor(echo)).await;
    *slot.lock().expect("not poisoned") = Some(producer.clone());
    let topic = producer.topic("t");
    let all = async {
        topic.send(Payload::value(b"first")).await.expect("written");
        while broker.end_offset("t", 0) != Some(4) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.expect("nothing is called under the lock");
    slot.lock().expect("not poisoned").take();
}

//! The client of the registry: what it asks, how often, and what it does when there is no good answer.

use std::time::Duration;

use ottla_serde::{
    Choose, Compatibility, FakeRegistry, Mode, Registered, Registry, RegistryErrorKind, RegistrySchema,
    SchemaType, Subject, Trouble, Version,
};

use crate::{ORDER, avro, encode, fake, order};

fn schema() -> RegistrySchema {
    RegistrySchema::new(SchemaType::Avro, ORDER)
}

#[tokio::test]
async fn each_call_of_the_registry_is_answered() {
    let (_fake, registry) = fake().await;
    let registered = registry.register("orders-value", &schema(), true).await.expect("it is new");
    let guid = registered.guid.expect("the fake has guids");
    assert_eq!(registry.schema(registered.id).await.expect("it is there"), schema());
    assert_eq!(registry.schema_by_guid(&guid).await.expect("it is there"), schema());
    let found = registry.lookup("orders-value", &schema(), false).await.expect("it is there");
    assert_eq!((found.version, found.id, found.subject.as_str()), (1, registered.id, "orders-value"));
    let latest = registry.version("orders-value", Version::Latest).await.expect("it is there");
    assert_eq!(latest, registry.version("orders-value", Version::Number(1)).await.expect("it is there"));
    assert_eq!(registry.subjects(false).await.expect("a list"), ["orders-value"]);
    assert_eq!(registry.versions("orders-value").await.expect("a list"), [1]);
    assert_eq!(registry.contexts().await.expect("a list"), ["."]);

    let level = async |subject| registry.compatibility(subject).await.expect("a level");
    assert_eq!(level(None).await, Compatibility::Backward);
    registry.set_compatibility(Some("orders-value"), Compatibility::Full).await.expect("it is set");
    assert_eq!(level(Some("orders-value")).await, Compatibility::Full);
    assert_eq!(level(Some("other")).await, Compatibility::Backward);
    let text = RegistrySchema::new(SchemaType::Avro, r#""string""#);
    assert!(!registry.is_compatible("orders-value", Version::Latest, &text).await.expect("an answer"));
    assert!(registry.is_compatible("orders-value", Version::Latest, &schema()).await.expect("an answer"));

    registry.set_mode(Some("orders-value"), Mode::ReadOnly).await.expect("it is set");
    assert_eq!(registry.mode(Some("orders-value")).await.expect("a mode"), Mode::ReadOnly);
    let refused = registry.register("orders-value", &text, false).await.expect_err("it is read-only");
    assert_eq!(refused.code(), Some(42205));

    assert_eq!(registry.delete_subject("orders-value", false).await.expect("it is deleted"), [1]);
    assert!(registry.subjects(false).await.expect("a list").is_empty());
    assert_eq!(registry.subjects(true).await.expect("a list"), ["orders-value"]);
    assert_eq!(registry.delete_subject("orders-value", true).await.expect("it is deleted"), [1]);
    let gone = registry.versions("orders-value").await.expect_err("it is gone");
    assert_eq!((gone.kind(), gone.code()), (RegistryErrorKind::NotFound, Some(40401)));
}

#[tokio::test]
async fn references_are_found_in_the_order_in_which_they_are_needed() {
    let (_fake, registry) = fake().await;
    let named = |name: &str, field: &str| {
        let text =
            format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"inner","type":"{field}"}}]}}"#);
        RegistrySchema::new(SchemaType::Avro, text)
    };
    let leaf = named("Leaf", "long");
    let branch = named("Branch", "Leaf").reference("Leaf", "leaf", 1);
    let tree = named("Tree", "Branch").reference("Branch", "branch", 1).reference("Leaf", "leaf", 1);
    for (subject, schema) in [("leaf", &leaf), ("branch", &branch), ("tree", &tree)] {
        registry.register(subject, schema, false).await.expect("its references are there");
    }
    let found = registry.references(&tree).await.expect("all are there");
    assert_eq!(found.iter().map(|version| version.subject.as_str()).collect::<Vec<_>>(), ["leaf", "branch"]);
    assert_eq!(registry.referenced_by("leaf", 1).await.expect("a list"), [2, 3]);

    let texts = found.into_iter().map(|version| version.schema.schema);
    let format = ottla_serde::Avro::with_references(&tree.schema, texts).expect("they fit");
    let format = format.reference("Branch", "branch", 1).reference("Leaf", "leaf", 1).json();
    let format = Registered::new(&registry, format)
        .choose(Choose::Lookup)
        .subject(Subject::custom(|_, _, _| "tree".to_owned()));
    let value = serde_json::json!({"inner": {"inner": {"inner": 7}}});
    let (bytes, _) = encode(&format, &value).await.expect("it fits");
    assert_eq!(bytes, [0, 0, 0, 0, 3, 14]);
    let back: serde_json::Value = crate::decode(&format, &bytes).await.expect("it is ours");
    assert_eq!(back, value);
}

#[tokio::test]
async fn a_schema_is_asked_for_once_however_many_ask_and_whoever_gives_up() {
    let (fake, registry) = fake().await;
    let format = Registered::new(&registry, avro());
    fake.trouble(Trouble::Slow(Duration::from_millis(50)));
    let first = tokio::spawn({
        let format = format.clone();
        async move { encode(&format, &order(1)).await.map(|_| ()) }
    });
    while fake.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..64)
        .map(|_| {
            let format = format.clone();
            tokio::spawn(async move { encode(&format, &order(2)).await.expect("it is registered").0 })
        })
        .collect();
    tokio::task::yield_now().await;
    first.abort();
    let mut bytes = Vec::new();
    for other in others {
        bytes.push(other.await.expect("it ends"));
    }
    assert!(bytes.iter().all(|one| *one == bytes[0]) && bytes.len() == 64);
    // The first was given up, and one of the others went on in its place: at most two requests, not 65.
    assert!(fake.requests().len() <= 2, "{:?}", fake.requests());
}

#[tokio::test]
async fn what_is_known_is_not_asked_again_and_caches_have_an_end() {
    let (fake, _) = fake().await;
    let registry = Registry::builder([fake.url()]).cached(2).build().expect("good settings");
    for number in 0..3 {
        let text = format!(r#"{{"type":"enum","name":"E{number}","symbols":["A"]}}"#);
        let schema = RegistrySchema::new(SchemaType::Avro, text);
        registry.register(&format!("s{number}"), &schema, false).await.expect("it is new");
    }
    let before = fake.requests().len();
    for id in [1, 1, 2, 2, 1] {
        registry.schema(id).await.expect("it is there");
    }
    assert_eq!(fake.requests().len() - before, 2);
    registry.schema(3).await.expect("it is there");
    assert!(registry.cached_schema(1).is_none() && registry.cached_schema(2).is_some());
}

#[tokio::test]
async fn the_next_url_is_asked_where_one_does_not_answer() {
    let (bad, good) = (fake().await.0, fake().await.0);
    let registry = Registry::builder([bad.url(), good.url()]).build().expect("good settings");
    for trouble in [Trouble::Status(503), Trouble::Html(502), Trouble::Closes] {
        bad.trouble(trouble);
        assert!(registry.subjects(false).await.expect("the other answers").is_empty(), "{trouble:?}");
    }
    // The one that answered is asked first from then on.
    assert_eq!(good.requests().len(), 3);
    assert_eq!(
        bad.requests().iter().filter(|(_, path)| path.starts_with("/subjects")).count(),
        bad.requests().len()
    );
}

#[tokio::test]
async fn a_registry_that_recovers_is_asked_again() {
    let (fake, _) = fake().await;
    let registry = Registry::builder([fake.url()]).retries(1_000).backoff(Duration::from_millis(1));
    let registry = registry.build().expect("good settings");
    fake.trouble(Trouble::Status(500));
    let asking = tokio::spawn(async move { registry.subjects(false).await });
    while fake.requests().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.trouble(None);
    assert!(asking.await.expect("it ends").is_ok());
}

/// What a registry in trouble leads to.
async fn check_trouble(trouble: Trouble, kind: RegistryErrorKind, said: &str) {
    let fake = FakeRegistry::start().await.expect("there is a port");
    fake.trouble(trouble);
    let registry = Registry::builder([fake.url()]).retries(1).backoff(Duration::from_millis(1));
    let registry = registry.deadline(Duration::from_millis(400)).build().expect("good settings");
    let error = registry.subjects(false).await.expect_err("it is in trouble");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(said), "{error}");
}

#[tokio::test]
async fn trouble_is_told_by_its_kind() {
    check_trouble(Trouble::Html(200), RegistryErrorKind::NotARegistry, "is no schema registry: status 200")
        .await;
    check_trouble(Trouble::Html(404), RegistryErrorKind::NotARegistry, "status 404").await;
    check_trouble(Trouble::Html(502), RegistryErrorKind::Refused, "answered 502").await;
    check_trouble(Trouble::Status(500), RegistryErrorKind::Refused, "answered 500: in trouble").await;
    check_trouble(Trouble::Closes, RegistryErrorKind::Unreachable, "no schema registry answers at http")
        .await;
    check_trouble(Trouble::Slow(Duration::from_secs(3_600)), RegistryErrorKind::Timeout, "within 400ms")
        .await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_told() {
    let gone = fake().await.0.url();
    let registry = Registry::builder([gone]).retries(0).build().expect("good settings");
    let error = registry.subjects(false).await.expect_err("nobody listens");
    assert_eq!(error.kind(), RegistryErrorKind::Unreachable);
    for urls in [vec![], vec!["localhost:8081"], vec!["https://localhost:8081"]] {
        let error = Registry::builder(urls).build().expect_err("the urls are wrong");
        assert_eq!(error.kind(), RegistryErrorKind::Config, "{error}");
    }
}

#[tokio::test]
async fn who_asks_is_said_and_a_refusal_is_told() {
    let (fake, nobody) = fake().await;
    fake.expect_authorization("Basic cmVhZGVyOnNlY3JldA==");
    let error = nobody.subjects(false).await.expect_err("who is that");
    assert_eq!(error.kind(), RegistryErrorKind::Unauthorized);
    let reader = Registry::builder([fake.url()]).basic("reader", "secret").build().expect("good settings");
    assert!(reader.subjects(false).await.is_ok());
    assert!(!format!("{reader:?}").contains("secret"));

    fake.expect_authorization("Bearer t0ken");
    let bearer =
        Registry::builder([fake.url()]).bearer(|| "t0ken".to_owned()).build().expect("good settings");
    assert!(bearer.subjects(false).await.is_ok());
}

#[tokio::test]
async fn a_context_keeps_its_subjects_apart() {
    let (fake, registry) = fake().await;
    let other = Registry::builder([fake.url()]).context(".other").build().expect("good settings");
    other.register("orders-value", &schema(), false).await.expect("it is new");
    assert_eq!(other.versions("orders-value").await.expect("a list"), [1]);
    assert_eq!(
        registry.versions("orders-value").await.expect_err("it is elsewhere").kind(),
        RegistryErrorKind::NotFound
    );
    assert_eq!(registry.contexts().await.expect("a list"), [".", ".other"]);
}

#[tokio::test]
async fn the_schema_is_chosen_and_its_subject_is_named_as_asked() {
    let (fake, registry) = fake().await;
    let format = || Registered::new(&registry, avro());
    let missing = encode(&format().choose(Choose::Lookup), &order(1)).await.expect_err("nothing is there");
    assert!(missing.to_string().contains("subject orders-value"), "{missing}");
    for (subject, name) in [
        (Subject::Topic, "orders-value"),
        (Subject::Record, "shop.Order"),
        (Subject::TopicRecord, "orders-shop.Order"),
        (
            Subject::custom(|topic, part, record| format!("{topic}/{part}/{record:?}")),
            r#"orders/value/Some("shop.Order")"#,
        ),
    ] {
        encode(&format().subject(subject), &order(1)).await.expect("it is registered");
        assert_eq!(registry.versions(name).await.expect(name), [1]);
    }
    for choose in [Choose::Lookup, Choose::Latest, Choose::Version(1)] {
        let (bytes, _) = encode(&format().choose(choose), &order(1)).await.expect("it is there");
        assert_eq!(bytes[..5], [0, 0, 0, 0, 1], "{choose:?}");
    }
    let before = fake.requests().len();
    let ready = format();
    for id in 0..10 {
        encode(&ready, &order(id)).await.expect("it is registered");
    }
    assert_eq!(fake.requests().len(), before, "the answer of registering was known");
}

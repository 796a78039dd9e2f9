//! TLS between the client and the bundled broker: who is believed, who is not, and what the user is told (SEC5, SEC6).
//!
//! Owns an authority that issues any certificate, good or bad, and a broker behind TLS.
#![allow(clippy::unwrap_used)]

use ottla::{Client, ClientBuilder, Error, ErrorKind, Payload, SecurityProtocol, Tls};
use ottla_broker::Broker;
use ottla_integration_tests::backend::Backend;
use ottla_integration_tests::doors;
use ottla_integration_tests::scenarios::ALL;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

type Versions = &'static [&'static SupportedProtocolVersion];
static BOTH: Versions = &[&TLS13, &TLS12];
static NEW: Versions = &[&TLS13];
static OLD: Versions = &[&TLS12];

/// Long enough for a loaded machine, and much shorter than the deadline of a call: what is refused is refused at once.
const AT_ONCE: Duration = Duration::from_secs(20);
/// For a scenario.
const LIMIT: Duration = Duration::from_secs(120);

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone)]
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }

    fn server(&self) -> Identity {
        self.issue(&["127.0.0.1"], |_| {})
    }

    fn client(&self) -> Identity {
        let usage = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&["alice"], |params| params.extended_key_usages = usage)
    }
}

/// How a broker is to be met.
struct Door {
    identity: Identity,
    /// Whose certificates clients must show.
    clients: Option<String>,
    versions: Versions,
}

impl Door {
    fn of(identity: Identity) -> Self {
        Door { identity, clients: None, versions: BOTH }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(self.versions).unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain =
            CertificateDer::pem_slice_iter(self.identity.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).unwrap();
        builder.with_single_cert(chain, key).unwrap()
    }

    /// A broker behind this door, for as long as the test's runtime lives: its port.
    async fn open(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Broker::builder().advertise(1, "127.0.0.1", port).topic("t", 1).build().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(self.config()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (broker, acceptor) = (broker.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        broker.serve(1, "a test", stream).await;
                    }
                });
            }
        });
        port
    }
}

fn builder(port: u16, tls: Tls) -> ClientBuilder {
    Client::builder().bootstrap(format!("127.0.0.1:{port}")).tls(tls)
}

/// A record goes to the broker and is acknowledged.
async fn produce(client: &Client) -> Result<(), Error> {
    let producer = client.producer().build()?;
    producer.topic("t").send(Payload::value(b"a record")).await?;
    producer.close(Duration::from_secs(5)).await;
    Ok(())
}

/// Every way to use a client ends at once, with this kind and a text that has this in it.
async fn check_refused(builder: ClientBuilder, kind: ErrorKind, part: &str) {
    let client = builder.build().unwrap();
    let check = |what: &str, error: Error| {
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(part), "{what}: {part:?} is not in {error}");
    };
    let work = async {
        check("admin", client.admin().describe_cluster().await.expect_err("it must be refused"));
        check("producer", produce(&client).await.expect_err("it must be refused"));
        let mut consumer = client.consumer().group("g").subscribe(["t"]).build().unwrap();
        check("consumer", consumer.recv().await.map(drop).expect_err("it must be refused"));
    };
    tokio::time::timeout(AT_ONCE, work).await.unwrap_or_else(|_| panic!("not refused at once: {part}"));
}

#[tokio::test]
async fn who_has_a_certificate_of_the_authority_is_believed() {
    let authority = Authority::new();
    for versions in [BOTH, OLD, NEW] {
        let door = Door { versions, ..Door::of(authority.server()) };
        let tls = Tls::new().roots_pem(authority.pem());
        produce(&builder(door.open().await, tls).build().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_wanted() {
    let authority = Authority::new();
    let door = Door { clients: Some(authority.pem()), ..Door::of(authority.server()) };
    let port = door.open().await;
    let tls = || Tls::new().roots_pem(authority.pem());
    let Identity { chain, key } = authority.client();
    produce(&builder(port, tls().identity_pem(chain, key)).build().unwrap()).await.unwrap();
    check_refused(builder(port, tls()), ErrorKind::Authentication, "it wants to see a certificate").await;
    let Identity { chain, key } = Authority::new().client();
    let foreign = tls().identity_pem(chain, key);
    check_refused(builder(port, foreign), ErrorKind::Authentication, "it does not accept our certificate")
        .await;
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_not_believed() {
    let authority = Authority::new();
    let of = |names: &[&str], change: fn(&mut CertificateParams)| authority.issue(names, change);
    let cases: [(&str, Identity); 6] = [
        ("for another host", of(&["broker.example.com"], |_| {})),
        ("for another host", of(&["127.0.0.2"], |_| {})),
        ("has expired", of(&["127.0.0.1"], |params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not valid yet", of(&["127.0.0.1"], |params| params.not_before = date_time_ymd(2090, 1, 1))),
        ("is not one for servers", authority.client()),
        ("signed by nobody who is believed", Authority::new().server()),
    ];
    for (part, identity) in cases {
        let port = Door::of(identity).open().await;
        let tls = Tls::new().roots_pem(authority.pem());
        check_refused(builder(port, tls), ErrorKind::Authentication, part).await;
    }
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_believed_when_it_is_a_root() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let identity = Identity { chain: certificate.pem(), key: key.serialize_pem() };
    let port = Door::of(identity.clone()).open().await;
    let strange = Tls::new().roots_pem(Authority::new().pem());
    check_refused(builder(port, strange), ErrorKind::Authentication, "signed by nobody").await;
    produce(&builder(port, Tls::new().roots_pem(identity.chain)).build().unwrap()).await.unwrap();
}

/// The name is not looked at any more, all else is.
#[tokio::test]
async fn any_host_is_taken_only_where_that_is_asked_for_and_only_with_a_chain() {
    let authority = Authority::new();
    let tls = || Tls::new().roots_pem(authority.pem()).danger_accept_any_host();
    let port = Door::of(authority.issue(&["elsewhere"], |_| {})).open().await;
    produce(&builder(port, tls()).build().unwrap()).await.unwrap();
    let port = Door::of(Authority::new().issue(&["elsewhere"], |_| {})).open().await;
    check_refused(builder(port, tls()), ErrorKind::Authentication, "signed by nobody").await;
}

#[tokio::test]
async fn a_broker_without_a_version_of_tls_that_is_allowed_is_refused() {
    let authority = Authority::new();
    let port = Door { versions: OLD, ..Door::of(authority.server()) }.open().await;
    let tls = Tls::new().roots_pem(authority.pem()).tls13_only();
    check_refused(builder(port, tls), ErrorKind::Authentication, "version").await;
}

/// Whoever takes the wrong port learns it, in both directions, and nothing falls back to less.
#[tokio::test]
async fn the_wrong_port_is_told() {
    let plain = ottla_broker::TestBroker::start().await.unwrap();
    let port = plain.address(1).unwrap().port();
    let tls = Tls::new().roots_pem(Authority::new().pem());
    let client = builder(port, tls).default_api_timeout(Duration::from_secs(2)).build().unwrap();
    let error = client.admin().describe_cluster().await.expect_err("nobody speaks TLS there").to_string();
    assert!(error.contains("PLAINTEXT listener"), "{error}");

    let port = Door::of(Authority::new().server()).open().await;
    let client = Client::builder().bootstrap(format!("127.0.0.1:{port}"));
    let client = client.default_api_timeout(Duration::from_secs(2)).build().unwrap();
    let error = client.admin().describe_cluster().await.expect_err("only TLS is spoken there").to_string();
    assert!(error.contains("it may want TLS"), "{error}");
}

/// A folder of its own, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ottla-tls-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// New connections go by the new files; those that are open stay; a file that cannot be read changes nothing.
#[tokio::test]
async fn certificates_that_were_replaced_are_read_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    let roots = folder.write("ca.pem", &old.pem());
    let old_port = Door::of(old.server()).open().await;
    let client = builder(old_port, Tls::new().roots_file(&roots)).build().unwrap();
    let producer = client.producer().build().unwrap();
    producer.topic("t").send(Payload::value(b"before")).await.unwrap();

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    std::fs::write(&roots, "half a certif").unwrap();
    produce(&client).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    std::fs::write(&roots, new.pem()).unwrap();
    let error = produce(&client).await.expect_err("the old authority is not believed any more");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    producer.topic("t").send(Payload::value(b"on the open connection")).await.unwrap();
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_refused_by_name_when_the_client_is_built() {
    let folder = Folder::new();
    let authority = Authority::new();
    let ca = folder.write("ca.pem", &authority.pem());
    let empty = folder.write("empty.pem", "");
    let Identity { chain, key } = authority.client();
    let chain = folder.write("chain.pem", &chain);
    let key = folder.write("key.pem", &key);
    let foreign = folder.write("foreign.pem", &authority.client().key);
    let missing = folder.0.join("missing.pem");
    let check = |tls: Tls, parts: &[&str]| {
        let error = builder(1, tls).build().expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in {text}"));
    };
    check(Tls::new().roots_file(&missing), &["ssl.truststore.location", "missing.pem"]);
    check(Tls::new().roots_file(&empty), &["ssl.truststore.location", "empty.pem"]);
    check(Tls::new().roots_pem("nothing"), &["ssl.truststore.certificates"]);
    check(Tls::new().roots_file(&key), &["ssl.truststore.location", "there is none in it"]);
    let tls = || Tls::new().roots_file(&ca);
    check(tls().identity_files(&chain, &missing), &["ssl.keystore.location", "missing.pem"]);
    check(tls().identity_files(&key, &key), &["there is no certificate in it"]);
    check(tls().identity_files(&chain, &foreign), &["a key and its certificate"]);
    builder(1, tls().identity_files(&chain, &key)).build().unwrap();
}

/// As `openssl` encrypts it.
#[tokio::test]
async fn an_encrypted_key_needs_its_password() {
    let authority = Authority::new();
    let port = Door { clients: Some(authority.pem()), ..Door::of(authority.server()) }.open().await;
    let Identity { chain, key } = authority.client();
    let plain = pkcs8::SecretDocument::from_pem(&key).unwrap().1;
    let plain = pkcs8::PrivateKeyInfoRef::try_from(plain.as_bytes()).unwrap();
    let salt = [7; 16];
    let parameters =
        pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(4_096, &salt, [9; 16]).unwrap();
    let encrypted = plain.encrypt_with_params(parameters, "open sesame").unwrap();
    let key = encrypted.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap().to_string();
    let tls = || Tls::new().roots_pem(authority.pem()).identity_pem(&chain, key.as_str());
    for (tls, part) in [
        (tls(), "ssl.key.password is not set"),
        (tls().key_password("open barley"), "ssl.key.password is wrong"),
    ] {
        let error = builder(port, tls).build().expect_err("the key is locked").to_string();
        assert!(error.contains(part), "{error}");
    }
    produce(&builder(port, tls().key_password("open sesame")).build().unwrap()).await.unwrap();
}

/// A file as people have it for Java or librdkafka; PEM in one line as well.
#[tokio::test]
async fn properties_lead_to_the_same_connections() {
    let authority = Authority::new();
    let port = Door { clients: Some(authority.pem()), ..Door::of(authority.server()) }.open().await;
    let folder = Folder::new();
    let Identity { chain, key } = authority.client();
    let ca = folder.write("ca.pem", &authority.pem()).display().to_string();
    let both = folder.write("client.pem", &format!("{key}{chain}")).display().to_string();
    let chain_file = folder.write("chain.pem", &chain).display().to_string();
    let key_file = folder.write("key.pem", &key).display().to_string();
    let one_line = |pem: &str| pem.trim().replace('\n', " ");
    let (ca_text, chain, key) = (one_line(&authority.pem()), one_line(&chain), one_line(&key));
    let files: [&[(&str, &str)]; 3] = [
        &[("ssl.truststore.location", &ca), ("ssl.truststore.type", "PEM"), ("ssl.keystore.location", &both)],
        &[
            ("ssl.ca.location", &ca),
            ("ssl.certificate.location", &chain_file),
            ("ssl.key.location", &key_file),
        ],
        &[
            ("ssl.truststore.certificates", &ca_text),
            ("ssl.keystore.certificate.chain", &chain),
            ("ssl.keystore.key", &key),
        ],
    ];
    for file in files {
        let server = format!("127.0.0.1:{port}");
        let common = [("bootstrap.servers", server.as_str()), ("security.protocol", "SSL")];
        let client = ClientBuilder::from_properties([&common[..], file].concat()).unwrap().build().unwrap();
        assert!(client.explain().unwrap().to_string().contains("SSL"));
        produce(&client).await.unwrap();
    }
}

/// No client is believed to have chosen TLS because a port speaks it.
#[tokio::test]
async fn a_protocol_without_tls_opens_no_tls_connection() {
    let error = builder(1, Tls::new().roots_pem(Authority::new().pem()))
        .security_protocol(SecurityProtocol::Plaintext)
        .build()
        .expect_err("they contradict each other");
    assert!(error.to_string().contains("PLAINTEXT is without TLS"), "{error}");
}

/// Half a handshake and then silence ends with the time for setting a connection up.
#[tokio::test]
async fn a_peer_that_falls_silent_in_the_handshake_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held: Vec<TcpStream> = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap().0);
        }
    });
    let limit = Duration::from_millis(200);
    let client = builder(port, Tls::new().roots_pem(Authority::new().pem()))
        .socket_setup_timeout(limit, limit)
        .default_api_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    let error = client.admin().describe_cluster().await.expect_err("nobody answers").to_string();
    assert!(error.contains("no TLS handshake with"), "{error}");
}

/// Runs the first scenario by each door of the bundled broker, then tries to come in without being anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_of_the_bundled_broker_opens_to_those_who_may_come_in() {
    let certificates = tempdir("doors");
    for (door, seed) in doors::Door::all(true, true).into_iter().zip(1..) {
        let broker = doors::bundled(&certificates, true).await.unwrap();
        let backend = Backend::bundled_behind(broker, door, &certificates, seed).unwrap();
        let scenario = ALL.first().unwrap();
        let ended = tokio::time::timeout(LIMIT, (scenario.run)(backend.clone())).await;
        backend.stop();
        if let Err(failure) = ended.unwrap() {
            panic!("{} by {door}: {failure}", scenario.name);
        }
    }
    let broker = doors::bundled(&certificates, true).await.unwrap();
    let bootstrap = broker.bootstrap_at("SASL_PLAINTEXT").unwrap();
    for (what, sasl) in doors::false_logins() {
        let checked = doors::check_false_login(&bootstrap, sasl).await;
        assert!(checked.is_ok(), "{what}: {}", checked.unwrap_err());
    }
    let checked = doors::check_access(&broker.bootstrap(), &bootstrap, "bob").await;
    assert!(checked.is_ok(), "{}", checked.unwrap_err());
    let checked = doors::check_tokens(&bootstrap).await;
    assert!(checked.is_ok(), "{}", checked.unwrap_err());
    std::fs::remove_dir_all(certificates).unwrap();
}

fn tempdir(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ottla-{name}-{}", std::process::id()))
}

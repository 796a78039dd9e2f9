//! The doors of a secured cluster: its listeners, its users, and the certificates that both sides show.
//!
//! Owns what Apache Kafka is told of them and how a client comes in by each. It knows no process and no scenario.

use crate::{Failure, ensure, fail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ottla::{
    Acl, AclFilter, AclOperation, AclResource, ClientBuilder, ErrorKind, NewDelegationToken, NewTopic,
    Payload, Sasl, ScramChange, ScramMechanism, SecurityProtocol, Tls, Token,
};
use ottla_broker::TestBroker;
use ottla_protocol::error_code::ErrorCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, timeout};

const USER: &str = "alice";
const PASSWORD: &str = "alice-secret";
/// Short, so that each connection of a scenario logs in again several times (KIP-368).
const SESSION_MS: u32 = 5_000;

/// The deadlines of these calls are a minute.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// The listener that needs nothing, for the nodes among themselves and for the judge.
pub const PLAINTEXT: &str = "PLAINTEXT";

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody may, and everybody may listen.
    Plaintext,
    /// TLS, and nobody is asked who he is.
    Ssl,
    /// TLS, with a certificate on either side.
    MutualTls,
    /// A login by a mechanism, with TLS or without.
    Login(Mechanism, bool),
}

/// How a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password.
    Plain,
    /// SCRAM-SHA-256.
    Scram256,
    /// SCRAM-SHA-512.
    Scram512,
    /// A token, unsigned.
    OAuthBearer,
}

const MECHANISMS: [Mechanism; 4] =
    [Mechanism::Plain, Mechanism::Scram256, Mechanism::Scram512, Mechanism::OAuthBearer];

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Login(mechanism, _) => write!(f, "{} {mechanism:?}", self.listener()),
            _ => f.pad(self.listener()),
        }
    }
}

impl Door {
    /// The doors that a cluster with these kinds of security has besides the plain one.
    pub fn all(tls: bool, sasl: bool) -> Vec<Door> {
        let mut doors = Vec::new();
        if tls {
            doors.extend([Door::Ssl, Door::MutualTls]);
        }
        if sasl {
            doors.extend(MECHANISMS.map(|mechanism| Door::Login(mechanism, false)));
        }
        if tls && sasl {
            doors.extend(MECHANISMS.map(|mechanism| Door::Login(mechanism, true)));
        }
        doors
    }

    /// The listener behind which it is.
    pub fn listener(self) -> &'static str {
        match self {
            Door::Plaintext => PLAINTEXT,
            Door::Ssl => "SSL",
            Door::MutualTls => "MTLS",
            Door::Login(_, false) => "SASL_PLAINTEXT",
            Door::Login(_, true) => "SASL_SSL",
        }
    }

    /// Settings of a client that comes in by this door. `certificates` is where [`issue`] has put them.
    pub fn enter(self, builder: ClientBuilder, certificates: &Path) -> ClientBuilder {
        let tls = || Tls::new().roots_file(certificates.join("ca.pem"));
        match self {
            Door::Plaintext => builder,
            Door::Ssl => builder.tls(tls()),
            Door::MutualTls => builder.tls(tls().identity_file(certificates.join("client.pem"))),
            Door::Login(mechanism, true) => builder.sasl(mechanism.sasl()).tls(tls()),
            Door::Login(mechanism, false) => {
                builder.sasl(mechanism.sasl()).security_protocol(SecurityProtocol::SaslPlaintext)
            }
        }
    }
}

impl Mechanism {
    fn sasl(self) -> Sasl {
        match self {
            Mechanism::Plain => Sasl::plain(USER, PASSWORD),
            Mechanism::Scram256 => Sasl::scram_sha_256(USER, PASSWORD),
            Mechanism::Scram512 => Sasl::scram_sha_512(USER, PASSWORD),
            Mechanism::OAuthBearer => Sasl::oauth_bearer(|| async { unsigned_token() }),
        }
    }
}

/// Logins that every broker must refuse, each with what it is.
pub fn false_logins() -> Vec<(&'static str, Sasl)> {
    let expired = || async { token_until(SystemTime::now() - Duration::from_secs(3_600)) };
    vec![
        ("PLAIN with a wrong password", Sasl::plain(USER, "wrong")),
        ("PLAIN with an unknown user", Sasl::plain("nobody", PASSWORD)),
        ("SCRAM-SHA-256 with a wrong password", Sasl::scram_sha_256(USER, "wrong")),
        ("SCRAM-SHA-512 with a wrong password", Sasl::scram_sha_512(USER, "wrong")),
        ("SCRAM-SHA-512 with an unknown user", Sasl::scram_sha_512("nobody", PASSWORD)),
        ("a delegation token that nobody has issued", Sasl::delegation_token("token", "hmac")),
        ("OAUTHBEARER with an expired token", Sasl::oauth_bearer(expired)),
        ("OAUTHBEARER with what is no token", Sasl::oauth_bearer(|| async { Ok(Token::new("no token")) })),
    ]
}

/// What only a broker for tests believes.
fn unsigned_token() -> Result<Token, ottla::TokenError> {
    token_until(SystemTime::now() + Duration::from_secs(600))
}

fn token_until(end: SystemTime) -> Result<Token, ottla::TokenError> {
    let end = end.duration_since(UNIX_EPOCH)?.as_secs();
    let claims = format!(r#"{{"sub":"{USER}","iat":{},"exp":{end}}}"#, end - 600);
    let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    Ok(Token::new(format!("{header}.{claims}.")))
}

/// Tries a login that is false: whoever uses the client learns it at once, by whatever he called, without the secret.
pub async fn check_false_login(bootstrap: &str, sasl: Sasl) -> Result<(), Failure> {
    let client = ottla::Client::builder().bootstrap(bootstrap).sasl(sasl);
    let client = client.security_protocol(SecurityProtocol::SaslPlaintext).build()?;
    let check = |what: &str, error: Option<ottla::Error>| {
        let Some(error) = error else { fail!("{what}: the login was believed") };
        let text = format!("{error} {error:?}");
        ensure!(error.kind() == ErrorKind::Authentication, "{what} is told {error:?}");
        ensure!(!text.contains("wrong") && !text.contains("hmac"), "{what} is told the secret: {text}");
        Ok(())
    };
    let calls = async {
        check("admin", client.admin().describe_cluster().await.err())?;
        let producer = client.producer().build()?;
        check("producer", producer.topic("any").send(Payload::value(b"v")).await.err())?;
        let mut consumer = client.consumer().group("any").subscribe(["any"]).build()?;
        check("consumer", consumer.recv().await.err())
    };
    timeout(REFUSED_WITHIN, calls).await?
}

/// Makes a user by the wire, lets him do one thing after the other, and takes it back: where an authorizer is asked. `bootstrap`
/// is where a super user comes in without a login, `login` where SCRAM is asked for. `name` is new to the cluster.
pub async fn check_access(bootstrap: &str, login: &str, name: &str) -> Result<(), Failure> {
    let admin = ottla::Client::builder().bootstrap(bootstrap).build()?.admin();
    let topic = format!("{name}-topic");
    admin.create_topics([NewTopic::new(&topic)]).await.all()?;
    admin
        .alter_user_scram_credentials([ScramChange::set(name, ScramMechanism::Sha256, PASSWORD)])
        .await
        .all()?;
    let user = ottla::Client::builder().bootstrap(login).sasl(Sasl::scram_sha_256(name, PASSWORD));
    let user = user.security_protocol(SecurityProtocol::SaslPlaintext);
    let user = user.build()?;
    let theirs = user.admin().with_deadline(REFUSED_WITHIN);
    // A credential is not known everywhere at once.
    eventually(async || theirs.describe_cluster().await.map(|_| ())).await?;
    let known = admin.describe_user_scram_credentials(&[name]).await?.take(name)?;
    ensure!(known == [(ScramMechanism::Sha256, 4_096)].into(), "{name} has {known:?}");
    let send = async || {
        let producer = user.producer().build()?;
        producer.topic(&topic).send(Payload::value(b"v")).await.map(|_| ())
    };
    let refused = |what: &str, result: ottla::Result<()>| {
        let Err(error) = result else { fail!("{name} may {what} without a rule") };
        ensure!(is_denied(&error), "{name} may not {what}, and is told {error:?}");
        Ok(())
    };
    refused("write", send().await)?;
    let hidden = theirs.list_topics().await?;
    ensure!(!hidden.contains_key(&topic), "{name} sees a topic that is hidden");
    let principal = format!("User:{name}");
    let write = Acl::allow(&principal, AclOperation::Write, AclResource::Topic, &topic);
    let read = Acl::allow(&principal, AclOperation::Read, AclResource::Topic, name).prefixed();
    let never = Acl::deny(&principal, AclOperation::All, AclResource::Topic, "*");
    admin.create_acls([write.clone(), read.clone()]).await.all()?;
    eventually(send).await?;
    ensure!(theirs.list_topics().await?.contains_key(&topic), "{name} does not see his topic");
    let of_name = AclFilter { principal: Some(principal), ..AclFilter::default() };
    let mut expected = vec![write, read];
    expected.sort();
    let described = admin.describe_acls(&of_name).await?;
    ensure!(described == expected, "the rules are {described:?}");
    let group = user.consumer().group(format!("{name}-group")).subscribe([topic.as_str()]);
    refused("join a group", group.build()?.recv().await.map(|_| ()))?;
    // What is denied is denied, whatever is allowed.
    admin.create_acls([never.clone()]).await.all()?;
    until_refused(send).await?;
    expected.push(never);
    expected.sort();
    let deleted = admin.delete_acls([of_name.clone()]).await.take(&of_name)?;
    ensure!(deleted == expected, "deleted were {deleted:?}");
    ensure!(admin.describe_acls(&of_name).await?.is_empty(), "deleted rules are still there");
    admin.alter_user_scram_credentials([ScramChange::delete(name, ScramMechanism::Sha256)]).await.all()?;
    Ok(())
}

/// Makes a delegation token, logs in by it, renews it and ends it (KIP-48). `login` is where SCRAM is asked for.
pub async fn check_tokens(login: &str) -> Result<(), Failure> {
    let enter = |sasl| {
        let client = ottla::Client::builder().bootstrap(login).sasl(sasl);
        let client = client.security_protocol(SecurityProtocol::SaslPlaintext).build()?;
        Ok::<_, Failure>(client.admin().with_deadline(REFUSED_WITHIN))
    };
    let admin = enter(Sasl::scram_sha_256(USER, PASSWORD))?;
    let max_lifetime = Some(Duration::from_secs(3_600));
    let renewers = vec!["User:carol".to_string()];
    let new = NewDelegationToken { renewers, max_lifetime, ..NewDelegationToken::default() };
    let token = admin.create_delegation_token(&new).await?;
    ensure!(token.owner == format!("User:{USER}") && token.requester == token.owner, "of whom is {token:?}");
    ensure!(token.max_ms - token.issued_ms == 3_600_000 && token.expires_ms == token.max_ms, "{token:?}");
    let by_token = enter(token.sasl())?;
    // A token is not known everywhere at once.
    eventually(async || by_token.describe_cluster().await.map(|_| ())).await?;
    let described = admin.describe_delegation_tokens(Some(&[&*token.owner])).await?;
    ensure!(described.iter().any(|it| it.id == token.id && it.renewers == token.renewers), "{described:?}");
    let code = |result: ottla::Result<()>| result.err().and_then(|error| error.code());
    let again = by_token.create_delegation_token(&new).await.map(|_| ());
    let again = code(again);
    ensure!(
        again == Some(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED),
        "a token makes a token: {again:?}"
    );
    let soon = admin.renew_delegation_token(&token, Some(Duration::from_secs(60))).await?;
    ensure!(soon < token.expires_ms, "it was to expire earlier");
    let late = admin.renew_delegation_token(&token, Some(Duration::from_secs(86_400))).await?;
    ensure!(late == token.max_ms, "it was renewed beyond its end");
    admin.expire_delegation_token(&token, None).await?;
    let end = Instant::now() + REFUSED_WITHIN;
    while admin.describe_delegation_tokens(None).await?.iter().any(|it| it.id == token.id) {
        ensure!(Instant::now() < end, "a token that was ended is still there");
        sleep(Duration::from_millis(100)).await;
    }
    let gone = admin.renew_delegation_token(&token, None).await;
    ensure!(
        code(gone.clone().map(|_| ())) == Some(ErrorCode::DELEGATION_TOKEN_NOT_FOUND),
        "a token that was ended is renewed: {gone:?}"
    );
    until_no_login(async || enter(token.sasl())?.describe_cluster().await.map(|_| ()).map_err(Failure::from))
        .await
}

/// Tries until nobody is let in any more.
async fn until_no_login(attempt: impl AsyncFn() -> Result<(), Failure>) -> Result<(), Failure> {
    let end = Instant::now() + REFUSED_WITHIN;
    while attempt().await.is_ok() {
        ensure!(Instant::now() < end, "a token that was ended still logs in");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Which of his rights a producer lacks depends on what it asks for first: the topic, or its id.
fn is_denied(error: &ottla::Error) -> bool {
    let of_cluster = error.code() == Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    error.kind() == ErrorKind::Authorization || of_cluster
}

/// Tries until it succeeds: what was decided takes a moment to be known by every node.
async fn eventually(attempt: impl AsyncFn() -> ottla::Result<()>) -> Result<(), Failure> {
    let end = Instant::now() + REFUSED_WITHIN;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn until_refused(attempt: impl AsyncFn() -> ottla::Result<()>) -> Result<(), Failure> {
    let end = Instant::now() + REFUSED_WITHIN;
    loop {
        match attempt().await {
            Err(error) if is_denied(&error) => return Ok(()),
            other if Instant::now() > end => fail!("it is still allowed: {other:?}"),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Makes an authority and a certificate of it for each side: `ca.pem`, `server.pem`, `client.pem`.
pub fn issue(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "ottla's tests");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.distinguished_name.push(DnType::CommonName, if name == "client" { USER } else { name });
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let identity = format!("{}{}", key.serialize_pem(), certificate.pem());
        fs::write(directory.join(format!("{name}.pem")), identity)?;
    }
    Ok(())
}

/// What `kafka.tools.StorageTool format` is told of the users.
pub fn scram_users() -> Vec<String> {
    let user = |hash| ["--add-scram".into(), format!("SCRAM-SHA-{hash}=[name={USER},password={PASSWORD}]")];
    [256, 512].into_iter().flat_map(user).collect()
}

/// A bundled broker with all doors: the plain one is the first.
pub async fn bundled(certificates: &Path, acl: bool) -> Result<TestBroker, Failure> {
    issue(certificates)?;
    let doors = Door::all(true, true);
    let listeners: Vec<_> = [PLAINTEXT, "SSL", "MTLS", "SASL_PLAINTEXT", "SASL_SSL"]
        .iter()
        .map(|name| format!("{name}://127.0.0.1:0"))
        .collect();
    let broker = TestBroker::builder()
        .setting("listeners", listeners.join(","))
        .setting("listener.security.protocol.map", "MTLS:SSL")
        .properties(&properties(&doors, acl, certificates))?
        .user(USER, PASSWORD);
    Ok(broker.start().await?)
}

/// The settings of a node with these doors.
pub fn properties(doors: &[Door], acl: bool, certificates: &Path) -> String {
    let mut text = String::new();
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    let file = |name: &str| -> PathBuf { certificates.join(name) };
    set("ssl.keystore.type", "PEM");
    set("ssl.keystore.location", &file("server.pem").to_string_lossy());
    set("ssl.truststore.type", "PEM");
    set("ssl.truststore.location", &file("ca.pem").to_string_lossy());
    set("listener.name.mtls.ssl.client.auth", "required");
    set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER");
    let modules = [
        ("plain", format!("plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";")),
        ("scram-sha-256", "scram.ScramLoginModule required;".into()),
        ("scram-sha-512", "scram.ScramLoginModule required;".into()),
        (
            "oauthbearer",
            "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"node\";".into(),
        ),
    ];
    let mut listeners: Vec<_> = doors.iter().map(|door| door.listener().to_ascii_lowercase()).collect();
    listeners.dedup();
    for listener in listeners.iter().filter(|listener| listener.starts_with("sasl")) {
        for (mechanism, module) in &modules {
            let key = format!("listener.name.{listener}.{mechanism}");
            let module = format!("org.apache.kafka.common.security.{module}");
            set(&format!("{key}.sasl.jaas.config"), &module);
            set(&format!("{key}.connections.max.reauth.ms"), &SESSION_MS.to_string());
        }
    }
    if listeners.iter().any(|listener| listener.starts_with("sasl")) {
        set("delegation.token.secret.key", "known to the nodes alone");
    }
    if acl {
        set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
        set("super.users", &format!("User:ANONYMOUS;User:{USER};User:CN={USER}"));
        set("allow.everyone.if.no.acl.found", "false");
    }
    text
}

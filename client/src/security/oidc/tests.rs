//! Identity providers over loopback: honest ones, and those that are slow, huge, lying or closed. Each answers one request a
//! connection, and keeps what it was asked.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const CANARY: &str = "canary-secret";
const SECOND: Duration = Duration::from_secs(1);

/// What a provider was asked: whole requests.
type Asked = Arc<Mutex<Vec<String>>>;

/// Reads one request to its end.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(count > 0, "a request ends early: {text}");
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

/// A provider that gives this answer to everybody: its URL.
async fn provider(answer: impl Into<Vec<u8>>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let (answer, asked) = (answer.into(), Asked::default());
    let kept = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let text = request(&mut stream).await;
            kept.lock().unwrap().push(text);
            // Whoever has read enough hangs up.
            let _ = stream.write_all(&answer).await;
        }
    });
    (url, asked)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn get(oidc: Oidc) -> Result<Token, TokenError> {
    oidc.danger_allow_http().provider().expect("is well made").token().await
}

fn credentials(url: &str) -> Oidc {
    Oidc::client_credentials(url, "billing", CANARY)
}

#[tokio::test]
async fn client_credentials_are_shown_in_the_header_and_bring_a_token_with_its_end() {
    let (url, asked) = provider(answer("200 OK", r#"{"access_token":"a.b.c","expires_in":90}"#)).await;
    let token = get(credentials(&url).scope("kafka all").extension("logicalCluster", "lkc-1")).await.unwrap();
    assert!(token.value == Secret::from("a.b.c"));
    assert_eq!(token.lifetime, Some(90 * SECOND));
    assert_eq!(token.extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
    let asked = asked.lock().unwrap().remove(0);
    assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+all"), "{asked}");
    let basic = STANDARD.encode(format!("billing:{CANARY}"));
    assert!(
        asked.to_ascii_lowercase().contains(&format!("authorization: basic {basic}").to_ascii_lowercase())
    );
}

#[test]
fn id_and_secret_are_encoded_in_the_header_where_that_is_asked_for() {
    let shown = |encoded| {
        let header = header("a:b", &Secret::from("c d"), encoded);
        let text = String::from_utf8(header.expose().to_vec()).unwrap();
        STANDARD.decode(text.strip_prefix("Basic ").unwrap()).unwrap()
    };
    assert_eq!(shown(false), b"a:b:c d");
    assert_eq!(shown(true), b"a%3Ab:c+d");
}

/// SEC9: each is refused, by an error that says what to do and holds nothing that was sent or received.
#[tokio::test]
async fn an_endpoint_that_does_not_do_its_work_is_told_from_one_that_refuses() {
    let huge = format!("HTTP/1.1 200 OK\r\n\r\n{{\"access_token\":\"{}", "a".repeat(2 << 20));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    let of = |token: &str| answer("200 OK", &format!(r#"{{"access_token":{token}}}"#));
    // What comes, what is told, and whether it may pass.
    let cases: [(String, &str, bool); 17] = [
        (answer("400 Bad Request", r#"{"error":"invalid_scope"}"#), "it refuses: invalid_scope", false),
        (answer("401 Unauthorized", r#"{"error":"canary-secret"}"#), "it does not say why", false),
        (answer("403 Forbidden", "<html>canary-secret</html>"), "(status 403)", false),
        (answer("302 Found", ""), "elsewhere", false),
        (answer("500 Internal Server Error", "canary-secret"), "out of order", true),
        (answer("503 Service Unavailable", ""), "out of order", true),
        (answer("429 Too Many Requests", ""), "busy", true),
        (answer("200 OK", "canary-secret"), "no JSON", false),
        (answer("200 OK", "{}"), "no token", false),
        (of("17"), "no token", false),
        (of(r#""""#), "no token", false),
        (of(r#""canary-secret\u0001auth=other""#), "no token", false),
        (answer("200 OK", r#"{"access_token":"a","token_type":"mac"}"#), "another kind", false),
        (answer("200 OK", r#"{"access_token":"a","expires_in":-5}"#), "ended already", false),
        (huge, "longer than", false),
        (many_headers, "127.0.0.1", true),
        ("SSH-2.0-canary-secret\r\n\r\n".into(), "127.0.0.1", true),
    ];
    for (answer, part, passes) in cases {
        let start: String = answer.chars().take(60).collect();
        let (url, _) = provider(answer).await;
        let error = get(credentials(&url)).await.expect_err(&start);
        assert_eq!(error.downcast_ref::<std::io::Error>().is_some(), passes, "{start}: {error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(part) && !text.contains(CANARY), "{start}: {text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_slow_or_gone_ends_in_time() {
    let limit = Duration::from_millis(100);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = get(credentials(&url).timeouts(10 * SECOND, limit)).await.expect_err("nobody answers");
    assert!(silent.to_string().contains("has not answered in time"), "{silent}");
    assert!(silent.downcast_ref::<std::io::Error>().is_some());
    drop(listener);
    let gone = get(credentials(&url)).await.expect_err("nobody is there");
    assert!(gone.downcast_ref::<std::io::Error>().is_some(), "{gone}");
}

#[test]
fn what_would_be_read_on_the_way_is_not_built() {
    for url in ["http://idp.example.com/canary", "file:///canary", "canary"] {
        let oidc = credentials(url);
        assert!(!format!("{oidc:?}").contains(CANARY));
        let error = oidc.build().err().expect("it is not https").to_string();
        assert!(error.contains(URL) && error.contains("https") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn a_token_ends_when_the_answer_says_or_else_when_it_says_itself() {
    let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
    let lifetime = |answer: Value| read(&answer, 1_000_000).map(|token| token.lifetime);
    let jwt = token(r#"{"exp":1060}"#);
    assert_eq!(lifetime(serde_json::json!({"access_token": jwt})).unwrap(), Some(60 * SECOND));
    let both = serde_json::json!({"access_token": jwt, "expires_in": "7"});
    assert_eq!(lifetime(both).unwrap(), Some(7 * SECOND));
    assert_eq!(lifetime(serde_json::json!({"id_token": "opaque"})).unwrap(), None);
    lifetime(serde_json::json!({"access_token": token(r#"{"exp":999}"#)})).expect_err("it has ended");
    // Beyond all bounds, which whoever keeps it cuts.
    lifetime(serde_json::json!({"access_token": "a", "expires_in": 1e300})).expect("is a number");
    for odd in ["a.b", "a.!.c", "a.e30.c", "...", ""] {
        assert_eq!(expiry(odd), None);
    }
}

/// A folder that goes with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ottla-oidc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const EC_KEY: &str = include_str!("ec.key");
const RSA_KEY: &str = include_str!("rsa.key");

/// The parts of a JWT, without its signature: header and payload, and the length of the signature.
fn parts(statement: &Secret) -> (Value, Value, usize) {
    let text = String::from_utf8(statement.expose().to_vec()).unwrap();
    let parts: Vec<Vec<u8>> = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let json = |part: &[u8]| serde_json::from_slice(part).unwrap();
    (json(&parts[0]), json(&parts[1]), parts[2].len())
}

/// KIP-1139.
#[test]
fn an_assertion_says_what_is_configured_and_is_signed_by_the_key() {
    let folder = Folder::new("assertion");
    let (ec, rsa) = (folder.write("ec.key", EC_KEY), folder.write("rsa.key", RSA_KEY));
    let template = r#"{"header":{"kid":"k1"},"payload":{"team":"billing","iss":"nobody"}}"#;
    let template = folder.write("template.json", template);
    for (key, algorithm, name, length) in
        [(&rsa, AssertionAlgorithm::Rs256, "RS256", 256), (&ec, AssertionAlgorithm::Es256, "ES256", 64)]
    {
        let assertion = Assertion::signed_by(key).algorithm(algorithm).template(&template);
        let assertion =
            assertion.issuer("me").subject("you").audience("them").with_id().lifetime(60 * SECOND);
        let signer = assertion.build().unwrap();
        let (header, mut payload, signature) = parts(&signer.statement(1_000_999).unwrap());
        assert_eq!(header, serde_json::json!({"alg": name, "typ": "JWT", "kid": "k1"}));
        let id = payload.as_object_mut().unwrap().remove("jti").expect("it has a number");
        assert_ne!(id, parts(&signer.statement(1_000_999).unwrap()).1["jti"], "of its own");
        let expected = serde_json::json!({
            "team": "billing", "iss": "me", "sub": "you", "aud": "them", "iat": 1_000, "exp": 1_060, "nbf": 940,
        });
        assert_eq!((payload, signature), (expected, length));
    }
}

#[test]
fn a_key_that_cannot_sign_so_is_refused_when_the_client_is_set_up() {
    let folder = Folder::new("keys");
    let (ec, rsa) = (folder.write("ec.key", EC_KEY), folder.write("rsa.key", RSA_KEY));
    let none = folder.write("none.key", "canary");
    let check = |assertion: Assertion, part: &str| {
        let error = Oidc::jwt_bearer("https://idp.example.com/", assertion);
        let error = error.tls(Tls::new().roots_pem(include_str!("../../config/tests/ca.pem"))).build();
        let error = error.err().unwrap_or_else(|| panic!("{part} is taken")).to_string();
        assert!(error.contains(part) && !error.contains("canary"), "{error}");
    };
    check(Assertion::signed_by(&ec), "a key for RS256");
    check(Assertion::signed_by(&rsa).algorithm(AssertionAlgorithm::Es256), "a key for ES256");
    check(Assertion::signed_by(none), "assertion.private.key.file");
    check(Assertion::signed_by(folder.0.join("nowhere")), "assertion.private.key.file");
    check(Assertion::signed_by(&rsa).lifetime(86_401 * SECOND), "assertion.claim.exp.seconds");
    check(Assertion::signed_by(&rsa).not_before(3_601 * SECOND), "assertion.claim.nbf.seconds");
}

/// KIP-1139 and KIP-1258: the statement takes the place of the secret, or is what the token is got for.
#[tokio::test]
async fn assertions_are_shown_in_the_form() {
    let folder = Folder::new("shown");
    let statement = folder.write("statement.jwt", "a.b.c\n");
    let (url, asked) = provider(answer("200 OK", r#"{"access_token":"t"}"#)).await;
    get(Oidc::jwt_bearer(&url, Assertion::file(&statement))).await.unwrap();
    get(Oidc::client_assertion(&url, Some("me".into()), Assertion::file(&statement))).await.unwrap();
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b.c";
    let shown = "grant_type=client_credentials&client_assertion_type=\
        urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c&client_id=me";
    for (asked, form) in asked.lock().unwrap().iter().zip([grant, shown]) {
        assert!(asked.ends_with(&format!("\r\n\r\n{form}")), "{asked}");
        assert!(!asked.to_ascii_lowercase().contains("authorization"), "{asked}");
    }
}

//! Tokens for Amazon MSK with IAM: a URL that is signed by Signature Version 4, as OAUTHBEARER carries it.
//!
//! It owns the form of the URL and its signature. It refuses to find credentials anywhere but in the environment: a provider does
//! that. Invariant: a token is made without asking anybody, and holds no key.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Secret;
use super::token::{Token, TokenError, TokenFuture, TokenProvider};
use crate::world::wall_ms;

const SERVICE: &str = "kafka-cluster";
/// How long brokers of MSK take a token, in seconds.
const EXPIRES: u64 = 900;

/// Keys of an AWS identity.
#[derive(Clone)]
pub struct AwsCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl AwsCredentials {
    /// The id of the key, and the key.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret>) -> Self {
        let (access_key_id, secret_access_key) = (access_key_id.into(), secret_access_key.into());
        AwsCredentials { access_key_id, secret_access_key, session_token: None }
    }

    /// What comes with the keys of a role.
    pub fn session_token(mut self, token: impl Into<Secret>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, and `AWS_SESSION_TOKEN` if it is there.
    ///
    /// # Errors
    /// The name of the variable that is missing.
    pub fn from_environment() -> Result<Self, TokenError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, TokenError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| set(name).ok_or_else(|| TokenError::from(format!("{name} is not set")));
        let credentials = AwsCredentials::new(needed("AWS_ACCESS_KEY_ID")?, needed("AWS_SECRET_ACCESS_KEY")?);
        Ok(AwsCredentials { session_token: set("AWS_SESSION_TOKEN").map(Secret::from), ..credentials })
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Gets the keys of an AWS identity, once a token. Closures that return a future are providers; with the AWS SDK at hand, one that
/// asks its chain of credentials.
pub trait AwsCredentialsProvider: Send + Sync + 'static {
    /// Keys that are valid now.
    fn credentials(&self) -> Pin<Box<dyn Future<Output = Result<AwsCredentials, TokenError>> + Send>>;
}

impl<F, Fut> AwsCredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<AwsCredentials, TokenError>> + Send + 'static,
{
    fn credentials(&self) -> Pin<Box<dyn Future<Output = Result<AwsCredentials, TokenError>> + Send>> {
        Box::pin(self())
    }
}

/// Makes tokens for Amazon MSK, port 9098, by the keys of an AWS identity. Needs the feature `msk-iam`.
///
/// ```
/// use ottla::{Client, MskIam, Sasl, Tls};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let client = Client::builder()
///     .bootstrap("b-1.mycluster.abc123.c2.kafka.eu-central-1.amazonaws.com:9098")
///     .tls(Tls::new())
///     .sasl(Sasl::oauth_bearer(MskIam::new("eu-central-1")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MskIam {
    region: String,
    provider: Arc<dyn AwsCredentialsProvider>,
}

impl MskIam {
    /// For a cluster in this region, with the keys that are in the environment; see [`AwsCredentials::from_environment`].
    pub fn new(region: impl Into<String>) -> Self {
        let provider = Arc::new(|| async { AwsCredentials::from_environment() });
        MskIam { region: region.into(), provider }
    }

    /// Gets the keys elsewhere.
    pub fn credentials(mut self, provider: impl AwsCredentialsProvider) -> Self {
        self.provider = Arc::new(provider);
        self
    }
}

impl fmt::Debug for MskIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MskIam").field("region", &self.region).finish_non_exhaustive()
    }
}

impl TokenProvider for MskIam {
    fn token(&self) -> TokenFuture {
        let (region, credentials) = (self.region.clone(), self.provider.credentials());
        Box::pin(async move {
            let url = sign(&credentials.await?, &region, wall_ms())?;
            let value = URL_SAFE_NO_PAD.encode(url);
            Ok(Token::new(value).valid_for(Duration::from_secs(EXPIRES)))
        })
    }
}

/// The URL that says: this identity may connect, at this time, for a quarter of an hour.
fn sign(credentials: &AwsCredentials, region: &str, wall_ms: i64) -> Result<String, TokenError> {
    if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("{region:?} is not the name of a region").into());
    }
    let (date, time) = date_and_time(wall_ms);
    let (host, stamp) = (format!("kafka.{region}.amazonaws.com"), format!("{date}T{time}Z"));
    let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
    // In the order of their names, as the signature wants them.
    let mut query = "Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256".to_owned();
    let mut field = |name: &str, value: &[u8]| {
        query.push_str(&format!("&{name}="));
        encode(value, &mut query);
    };
    field("X-Amz-Credential", format!("{}/{scope}", credentials.access_key_id).as_bytes());
    field("X-Amz-Date", stamp.as_bytes());
    field("X-Amz-Expires", EXPIRES.to_string().as_bytes());
    if let Some(token) = &credentials.session_token {
        field("X-Amz-Security-Token", token.expose());
    }
    field("X-Amz-SignedHeaders", b"host");
    let request = format!("GET\n/\n{query}\nhost:{host}\n\nhost\n{}", hex(&Sha256::digest(b"")));
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let mut key = zeroize::Zeroizing::new([b"AWS4", credentials.secret_access_key.expose()].concat());
    for part in [date.as_str(), region, SERVICE, "aws4_request"] {
        *key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &text));
    let agent = concat!("ottla%2F", env!("CARGO_PKG_VERSION"));
    Ok(format!("https://{host}/?{query}&X-Amz-Signature={signature}&User-Agent={agent}"))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As RFC 3986 has it.
fn encode(value: &[u8], out: &mut String) {
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// `20261130` and `235959`, in the Gregorian calendar and UTC.
fn date_and_time(wall_ms: i64) -> (String, String) {
    let seconds = wall_ms.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March here, so that the day that comes and goes is their last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    (format!("{year:04}{month:02}{day:02}"), format!("{hour:02}{minute:02}{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (wall_ms, date, time) in [
            (0, "19700101", "000000"),
            (951_782_400_000, "20000229", "000000"),
            (1_709_251_199_999, "20240229", "235959"),
            (1_709_251_200_000, "20240301", "000000"),
            (4_107_542_399_000, "21000228", "235959"),
            (4_107_542_400_000, "21000301", "000000"),
        ] {
            assert_eq!(date_and_time(wall_ms), (date.to_owned(), time.to_owned()));
        }
    }

    /// What botocore's `SigV4QueryAuth` signs, the signer inside of aws-msk-iam-sasl-signer: its URLs for the same keys and time.
    #[test]
    fn a_url_is_signed_as_amazons_own_signer_signs_it() {
        let plain = AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let of_role = plain.clone().session_token("IQoJb3JpZ2lu//with+signs==");
        for (credentials, region, expected) in
            [(&plain, "us-east-1", PLAIN), (&of_role, "eu-central-1", OF_ROLE)]
        {
            let url = sign(credentials, region, 1_796_017_021_000).expect("nothing is missing");
            let expected = format!("{expected}&User-Agent=ottla%2F{}", env!("CARGO_PKG_VERSION"));
            // Theirs has them in another order, which the signature does not cover.
            let fields =
                |url: &str| url.split('&').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(fields(&url), fields(&expected));
        }
    }

    #[tokio::test]
    async fn keys_come_from_the_environment_or_from_who_gives_them() {
        let variables = |names: &'static [&str]| {
            AwsCredentials::from_variables(|name| names.contains(&name).then(|| format!("canary-{name}")))
        };
        for (names, missing) in [
            (&[][..], "AWS_ACCESS_KEY_ID is not set"),
            (&["AWS_ACCESS_KEY_ID"], "AWS_SECRET_ACCESS_KEY is not set"),
        ] {
            assert_eq!(variables(names).expect_err("one is missing").to_string(), missing);
        }
        let found = variables(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]).unwrap();
        assert!(!format!("{found:?}").contains("canary-AWS_S"), "{found:?}");
        let given = MskIam::new("eu-central-1").credentials(move || std::future::ready(Ok(found.clone())));
        let token = given.token().await.unwrap();
        assert_eq!(token.lifetime, Some(Duration::from_secs(900)));
        let url = URL_SAFE_NO_PAD.decode(token.value.expose()).unwrap();
        let url = String::from_utf8(url).unwrap();
        assert!(url.contains("canary-AWS_SESSION_TOKEN") && !url.contains("canary-AWS_SECRET"), "{url}");
        let error = MskIam::new("evil.example/")
            .credentials(|| async { AwsCredentials::from_variables(|_| Some("a".into())) });
        error.token().await.expect_err("it is no region");
    }

    const PLAIN: &str = "https://kafka.us-east-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20261130%2Fus-east-1%2Fkafka-cluster%2Faws4_request&X-Amz-Date=20261130T053701Z\
        &X-Amz-Expires=900&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=34779baeafde9f3fac1ab108e4661f9681e0b85029cc88ad27729e1ee5969a78";
    const OF_ROLE: &str = "https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect\
        &X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20261130%2Feu-central-1%2Fkafka-cluster%2Faws4_request&X-Amz-Date=20261130T053701Z\
        &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=IQoJb3JpZ2lu%2F%2Fwith%2Bsigns%3D%3D\
        &X-Amz-Signature=464ee146e4f88a5238c8f5ff84d3d26945ae7748794f46079110a9bac36cf243";
}

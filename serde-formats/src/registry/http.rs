//! Requests to a registry that has several URLs.
//!
//! It owns which URL is asked next, how often, and how long. It refuses to know what is asked. Invariant: a request ends within the
//! deadline, and an answer takes no more memory than [`ANSWER_BYTES_MAX`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{RegistryError, RegistryErrorKind};

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";
/// The longest wait between two rounds of attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The most that an answer may have; schemas of megabytes exist.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub(super) struct Http {
    pub(super) client: Client,
    pub(super) urls: Vec<String>,
    pub(super) login: Login,
    /// Rounds after the first.
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) deadline: Duration,
    /// The URL that answered last.
    pub(super) good: AtomicUsize,
}

/// Who asks.
pub(super) enum Login {
    Nobody,
    Basic(String, String),
    Bearer(Box<dyn Fn() -> String + Send + Sync>),
}

/// What is asked.
pub(super) struct Ask {
    pub(super) method: Method,
    /// Below the URL, with its escapes and its query.
    pub(super) path: String,
    pub(super) body: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Http {
    /// The answer, from any of the URLs.
    pub(super) async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, RegistryError> {
        let late = || {
            let message =
                format!("the schema registry has not answered {} within {:?}", ask.path, self.deadline);
            RegistryError::new(RegistryErrorKind::Timeout, message)
        };
        tokio::time::timeout(self.deadline, self.rounds(&ask)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn rounds<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, RegistryError> {
        let mut round = 0;
        loop {
            match self.round(ask).await {
                Err(error) if error.is_retriable() && round < self.retries => {
                    tracing::debug!(%error, path = %ask.path, "the schema registry is asked again");
                    let pause = self.backoff.saturating_mul(1 << round.min(16)).min(BACKOFF_MAX);
                    tokio::time::sleep(spread(pause)).await;
                    round += 1;
                }
                done => return done,
            }
        }
    }

    /// Asks each URL once, until one answers.
    async fn round<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, RegistryError> {
        let first = self.good.load(Ordering::Relaxed);
        let mut last = RegistryError::new(RegistryErrorKind::Config, "a schema registry needs a url");
        for step in 0..self.urls.len() {
            let at = (first + step) % self.urls.len();
            match self.once(&self.urls[at], ask).await {
                Err(error) if error.is_retriable() => last = error,
                done => {
                    self.good.store(at, Ordering::Relaxed);
                    return done;
                }
            }
        }
        Err(last)
    }

    async fn once<T: DeserializeOwned>(&self, url: &str, ask: &Ask) -> Result<T, RegistryError> {
        let request = self.client.request(ask.method.clone(), format!("{url}{}", ask.path));
        let mut request = self.sign(request).header("accept", ACCEPT);
        if let Some(body) = &ask.body {
            request = request.header("content-type", CONTENT).body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| unreachable(url, error))?;
        let status = response.status();
        let body = whole(&mut response).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| stranger(url, status));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(RegistryError::answered(refusal.error_code, &refusal.message)),
            // A proxy says that it is alone, in its own words.
            Err(_) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(RegistryError::answered(u32::from(status.as_u16()), "without saying why"))
            }
            Err(_) if matches!(status.as_u16(), 401 | 403) => {
                Err(RegistryError::answered(u32::from(status.as_u16()), "without saying why"))
            }
            Err(_) => Err(stranger(url, status)),
        }
    }

    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Login::Nobody => request,
            Login::Basic(user, password) => request.basic_auth(user, Some(password)),
            Login::Bearer(token) => request.bearer_auth(token()),
        }
    }
}

async fn whole(response: &mut Response) -> Result<Vec<u8>, RegistryError> {
    let mut body = Vec::new();
    let lost = |error| {
        RegistryError::caused(RegistryErrorKind::Unreachable, "the schema registry's answer ended", error)
    };
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let message = format!("the schema registry's answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err(RegistryError::new(RegistryErrorKind::NotARegistry, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Half of a time or more, so that those who failed together do not come back together.
fn spread(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = RandomState::new().hash_one(0) % 512;
    pause / 2 + pause.mul_f64(share as f64 / 1024.0)
}

fn stranger(url: &str, status: StatusCode) -> RegistryError {
    let message = format!("what answers at {url} is no schema registry: status {status}, and not its json");
    RegistryError::new(RegistryErrorKind::NotARegistry, message)
}

fn unreachable(url: &str, error: reqwest::Error) -> RegistryError {
    let kind = if error.is_timeout() { RegistryErrorKind::Timeout } else { RegistryErrorKind::Unreachable };
    RegistryError::caused(kind, format!("no schema registry answers at {url}"), error.without_url())
}

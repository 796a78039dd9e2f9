//! The client of a schema registry that speaks Confluent's API.
//!
//! It owns the settings and the caches. It refuses to know what schemas say: formats read them. Invariant: a question that never
//! changes its answer is asked once, however many tasks ask it, and every question ends within its deadline.

mod calls;
mod error;
mod flight;
mod http;
mod references;
mod schema;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub use error::{RegistryError, RegistryErrorKind};
use flight::Flights;
use http::{Http, Login};
pub use schema::{
    Compatibility, Mode, Registration, RegistrySchema, SchemaReference, SchemaType, SchemaVersion, Version,
};

/// A schema registry. Cheap to clone; clones share connections and caches.
///
/// ```no_run
/// # async fn run() -> Result<(), ottla_serde::RegistryError> {
/// use ottla_serde::{Registry, RegistrySchema, SchemaType};
///
/// let registry = Registry::builder(["http://127.0.0.1:8081"]).build()?;
/// let schema = RegistrySchema::new(SchemaType::Avro, r#""string""#);
/// let registration = registry.register("greetings-value", &schema, false).await?;
/// assert_eq!(registry.schema(registration.id).await?, schema);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    context: Option<String>,
    by_id: Flights<u32, RegistrySchema>,
    by_guid: Flights<String, RegistrySchema>,
    versions: Flights<(String, i32), SchemaVersion>,
    registered: Flights<(String, RegistrySchema, bool), Registration>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("urls", &self.0.http.urls).finish_non_exhaustive()
    }
}

/// The settings of a [`Registry`].
///
/// ```no_run
/// # fn run() -> Result<(), ottla_serde::RegistryError> {
/// use std::time::Duration;
/// use ottla_serde::Registry;
///
/// let registry = Registry::builder(["https://one:8081", "https://two:8081"])
///     .basic("reader", "secret")
///     .deadline(Duration::from_secs(10))
///     .build()?;
/// # drop(registry);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct RegistryBuilder {
    urls: Vec<String>,
    login: Login,
    context: Option<String>,
    retries: u32,
    backoff: Duration,
    request_timeout: Duration,
    deadline: Duration,
    cached: usize,
    #[cfg(feature = "registry-tls")]
    tls: Option<rustls::ClientConfig>,
}

impl std::fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryBuilder").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry at these URLs, which are tried one after the other; the one that answered last comes first.
    pub fn builder<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> RegistryBuilder {
        RegistryBuilder {
            urls: urls.into_iter().map(|url| url.into().trim_end_matches('/').to_owned()).collect(),
            login: Login::Nobody,
            context: None,
            retries: 3,
            backoff: Duration::from_millis(100),
            request_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            cached: 1_000,
            #[cfg(feature = "registry-tls")]
            tls: None,
        }
    }

    /// A schema, if it was fetched before. Never waits.
    pub fn cached_schema(&self, id: u32) -> Option<RegistrySchema> {
        self.0.by_id.peek(&id)
    }
}

impl RegistryBuilder {
    /// Logs in with a name and a password.
    pub fn basic(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { login: Login::Basic(user.into(), password.into()), ..self }
    }

    /// Logs in with a token, which is asked for at each request: the function must not block, and may return another one when the
    /// last is about to expire.
    pub fn bearer(self, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { login: Login::Bearer(Box::new(token)), ..self }
    }

    /// Works in this context of the registry, whose name begins with a dot.
    pub fn context(self, name: impl Into<String>) -> Self {
        Self { context: Some(name.into()), ..self }
    }

    /// How often all URLs are asked once more when none has answered: default 3.
    pub fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// The pause before that, doubled each time up to 10 seconds, and shortened by chance: default 100 ms.
    pub fn backoff(self, backoff: Duration) -> Self {
        Self { backoff, ..self }
    }

    /// How long one URL may take to answer: default 10 seconds.
    pub fn request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }

    /// How long a call may take, with all attempts: default 30 seconds.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// How many answers each cache keeps; the oldest goes first: default 1,000. There are four: by number, by GUID, by version,
    /// and by subject and schema.
    pub fn cached(self, cached: usize) -> Self {
        Self { cached, ..self }
    }

    /// TLS for URLs that begin with `https`: roots, certificates, versions.
    #[cfg(feature = "registry-tls")]
    pub fn tls(self, config: rustls::ClientConfig) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Checks the settings. Connections are opened when they are needed. No proxy is used.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Config`]: no URL, one that is none, or one with `https` where there is no TLS.
    pub fn build(self) -> Result<Registry, RegistryError> {
        let wrong = |message: String| Err(RegistryError::new(RegistryErrorKind::Config, message));
        if self.urls.is_empty() {
            return wrong("a schema registry needs a url".to_owned());
        }
        for url in &self.urls {
            let scheme = reqwest::Url::parse(url).map(|url| url.scheme().to_owned()).unwrap_or_default();
            match scheme.as_str() {
                "http" => {}
                #[cfg(feature = "registry-tls")]
                "https" if self.tls.is_some() => {}
                "https" => return wrong(format!("{url} needs tls: set it, with the feature registry-tls")),
                _ => return wrong(format!("{url} is no url with http or https")),
            }
        }
        let client = reqwest::Client::builder().no_proxy().timeout(self.request_timeout);
        let client = client.redirect(reqwest::redirect::Policy::limited(3));
        #[cfg(feature = "registry-tls")]
        let client = client.tls_backend_preconfigured(self.tls.unwrap_or_else(no_tls));
        let no_client = |error| {
            RegistryError::caused(RegistryErrorKind::Config, "no http client for a schema registry", error)
        };
        let http = Http {
            client: client.build().map_err(no_client)?,
            urls: self.urls,
            login: self.login,
            retries: self.retries,
            backoff: self.backoff,
            deadline: self.deadline,
            good: AtomicUsize::new(0),
        };
        Ok(Registry(Arc::new(Inner {
            http,
            context: self.context,
            by_id: Flights::new(self.cached),
            by_guid: Flights::new(self.cached),
            versions: Flights::new(self.cached),
            registered: Flights::new(self.cached),
        })))
    }
}

/// For a registry that has no URL with TLS: the HTTP client wants a provider of cryptography all the same.
#[cfg(feature = "registry-tls")]
fn no_tls() -> rustls::ClientConfig {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the protocol versions that are the default")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

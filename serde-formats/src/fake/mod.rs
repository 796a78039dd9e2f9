//! A schema registry in this process, for tests.
//!
//! It owns the port, and the troubles that a test may want. What it knows of subjects is in `store`, its HTTP in `server`. It honours
//! of Confluent's API what [`Registry`](crate::Registry) asks; contexts are names in front of subjects and share one list of numbers, and
//! only Avro is checked for compatibility. Invariant: it listens on the loopback interface alone, on a port that the system chose.

mod compatible;
mod server;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use store::Store;

/// A registry for tests. It ends when it is dropped.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_serde::{FakeRegistry, Registry, RegistrySchema, SchemaType};
///
/// let fake = FakeRegistry::start().await?;
/// let registry = Registry::builder([fake.url()]).build()?;
/// let schema = RegistrySchema::new(SchemaType::Avro, r#""string""#);
/// let registration = registry.register("greetings-value", &schema, false).await?;
/// assert_eq!(registry.schema(registration.id).await?, schema);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FakeRegistry {
    address: SocketAddr,
    inside: Arc<Inside>,
    listening: AbortHandle,
}

#[derive(Debug, Default)]
struct Inside {
    store: Mutex<Store>,
    trouble: Mutex<Option<Trouble>>,
    requests: Mutex<Vec<(String, String)>>,
    /// `Authorization` as each request must have it.
    login: Mutex<Option<String>>,
}

/// What can be wrong with a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// It answers with a page for people, and this status.
    Html(u16),
    /// It answers with this status, and JSON.
    Status(u16),
    /// It answers late.
    Slow(Duration),
    /// It closes each connection in the place of an answer.
    Closes,
}

impl FakeRegistry {
    /// Starts a registry on a free port of 127.0.0.1, on the current tokio runtime.
    ///
    /// # Errors
    /// What the system says when there is no port.
    pub async fn start() -> std::io::Result<FakeRegistry> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, inside) = (listener.local_addr()?, Arc::new(Inside::default()));
        let listening = tokio::spawn(server::listen(listener, inside.clone())).abort_handle();
        Ok(FakeRegistry { address, inside, listening })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes trouble from the next request on, or ends it.
    pub fn trouble(&self, trouble: impl Into<Option<Trouble>>) {
        *self.inside.trouble.lock() = trouble.into();
    }

    /// The requests so far, in order: method, and path with its query.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.inside.requests.lock().clone()
    }

    /// Refuses requests from now on whose `Authorization` is not this.
    pub fn expect_authorization(&self, value: impl Into<String>) {
        *self.inside.login.lock() = Some(value.into());
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

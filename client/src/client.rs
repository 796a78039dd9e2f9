//! The handle from which everything else is built.
//!
//! It owns the checked settings and the way to the outside. It opens no connection: producers, consumers and admin clients
//! each have their own, because a broker answers a connection's requests one at a time.

use std::fmt;
use std::sync::Arc;

use crate::config::{ClientBuilder, ClientConfig, ProducerBuilder};
use crate::connect::Tcp;
use crate::error::Error;
use crate::world::World;

/// The settings and credentials that producers, consumers and admin clients share. Cheap to clone.
///
/// ```
/// # fn main() -> Result<(), ottla::Error> {
/// let client = ottla::Client::builder().bootstrap("localhost:9092").build()?;
/// let again = client.clone();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) builder: Arc<ClientBuilder>,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) world: Arc<dyn World>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("bootstrap", &self.config.bootstrap).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the settings of a client. See [`ClientBuilder`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Starts the settings of a producer. Building it opens no connection.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::of(self)
    }

    /// The client's settings with a name for one of its parts, where the user has given none.
    pub(crate) fn named(&self, part: impl FnOnce() -> String) -> Arc<ClientConfig> {
        if self.config.client_id.is_empty() {
            Arc::new(ClientConfig { client_id: part().as_str().into(), ..ClientConfig::clone(&self.config) })
        } else {
            self.config.clone()
        }
    }
}

impl ClientBuilder {
    /// Checks the settings. No connection is opened: that happens when a producer or consumer needs one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the settings that are wrong.
    pub fn build(mut self) -> Result<Client, Error> {
        let warnings = self.config.check()?;
        for warning in &warnings {
            tracing::warn!(%warning, "client settings");
        }
        self.warnings.extend(warnings);
        self.settle_goal();
        let config = Arc::new(self.config.clone());
        let tcp = Tcp {
            send_buffer_bytes: config.send_buffer_bytes,
            receive_buffer_bytes: config.receive_buffer_bytes,
        };
        let world = self.outside.0.clone().unwrap_or_else(|| Arc::new(tcp));
        Ok(Client { builder: Arc::new(self), config, world })
    }
}

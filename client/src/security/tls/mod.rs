//! TLS by rustls: which certificates are believed, which one is shown, and when either is read again.
//!
//! It owns the settings of TLS and what was made of them. It refuses to speak Kafka. Invariants: chain and host name are
//! verified unless a method whose name begins with `danger` was called (SEC5); nothing older than TLS 1.2 (SEC6); files
//! that cannot be read again leave in force what was read before.

mod explain;
mod material;
#[cfg(all(test, feature = "keystores"))]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Secret;
use crate::config::ConfigError;
use crate::connect::Stream;

pub(crate) use explain::explain;

/// Files are looked at again when a connection opens, no more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How brokers are recognised, and what is shown to them: the `ssl.` settings.
///
/// The chain and the host name of a broker's certificate are verified. Files are read when the client is built, and again
/// when they have changed and a connection opens: connections that are open stay as they are. Sessions are resumed.
///
/// ```no_run
/// use ottla::{Client, Tls};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let tls = Tls::new().roots_file("ca.pem").identity_files("client.pem", "client.key");
/// let client = Client::builder().bootstrap("broker.example.com:9093").tls(tls).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    roots: Vec<Source>,
    roots_password: Option<Secret>,
    chain: Option<Source>,
    key: Option<Source>,
    identity_password: Option<Secret>,
    key_password: Option<Secret>,
    tls13_only: bool,
    any_host: bool,
}

/// Where keys and certificates are.
#[derive(Clone)]
pub(super) enum Source {
    File(PathBuf),
    Text(Secret),
}

impl Tls {
    /// The certificates that the operating system believes, and none to show.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Believes the certificates of this file, and no longer the operating system's (`ssl.truststore.location`): PEM, or with
    /// the feature `keystores` PKCS#12 or JKS, which its content tells. Calling it again adds more.
    pub fn roots_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Source::File(path.as_ref().to_owned()));
        self
    }

    /// As [`roots_file`](Self::roots_file), from PEM text (`ssl.truststore.certificates`).
    pub fn roots_pem(mut self, pem: impl AsRef<str>) -> Self {
        self.roots.push(Source::Text(Secret::from(pem.as_ref())));
        self
    }

    /// The password of the files with roots (`ssl.truststore.password`). PEM needs none.
    pub fn roots_password(mut self, password: impl Into<Secret>) -> Self {
        self.roots_password = Some(password.into());
        self
    }

    /// Shows the certificate of this file, which has its key as well (`ssl.keystore.location`): PEM, or with the feature
    /// `keystores` PKCS#12 or JKS.
    pub fn identity_file(mut self, path: impl AsRef<Path>) -> Self {
        (self.chain, self.key) = (Some(Source::File(path.as_ref().to_owned())), None);
        self
    }

    /// Shows the certificate of a PEM file, whose key is in another.
    pub fn identity_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.chain = Some(Source::File(chain.as_ref().to_owned()));
        self.key = Some(Source::File(key.as_ref().to_owned()));
        self
    }

    /// As [`identity_files`](Self::identity_files), from PEM texts (`ssl.keystore.certificate.chain`, `ssl.keystore.key`).
    pub fn identity_pem(mut self, chain: impl AsRef<str>, key: impl Into<Secret>) -> Self {
        self.chain = Some(Source::Text(Secret::from(chain.as_ref())));
        self.key = Some(Source::Text(key.into()));
        self
    }

    /// The password of the file with the identity (`ssl.keystore.password`).
    pub fn identity_password(mut self, password: impl Into<Secret>) -> Self {
        self.identity_password = Some(password.into());
        self
    }

    /// The password of the key (`ssl.key.password`), where it is encrypted by itself. Default: that of the file.
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// Refuses brokers without TLS 1.3 (`ssl.enabled.protocols`). Default: TLS 1.2 and 1.3.
    pub fn tls13_only(mut self) -> Self {
        self.tls13_only = true;
        self
    }

    /// Takes a certificate whose chain is believed for every host (an empty `ssl.endpoint.identification.algorithm`). Whoever
    /// has any certificate of that chain can then stand between client and broker.
    pub fn danger_accept_any_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    fn files(&self) -> Vec<PathBuf> {
        let sources = self.roots.iter().chain(&self.chain).chain(&self.key);
        let path = |source: &Source| match source {
            Source::File(path) => Some(path.clone()),
            Source::Text(_) => None,
        };
        sources.filter_map(path).collect()
    }

    fn load(&self) -> Result<ClientConfig, ConfigError> {
        let provider = Arc::new(provider());
        let versions: &[_] = if self.tls13_only {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let bad = |key, expected: String| ConfigError::BadValue {
            key,
            value: "what was given".into(),
            expected,
            nearest: None,
        };
        let roots = Arc::new(self.load_roots()?);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|cause| bad("ssl.enabled.protocols", cause.to_string()))?;
        let builder = if self.any_host {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let verifier =
                verifier.map_err(|cause| bad("ssl.truststore.location", format!("usable ({cause})")))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost(verifier)))
        } else {
            builder.with_root_certificates(roots)
        };
        let Some(chain) = &self.chain else { return Ok(builder.with_no_client_auth()) };
        let store = self.identity_password.as_ref();
        let password = self.key_password.as_ref().or(store);
        let (chain, key) = material::identity(chain, self.key.as_ref(), store, password)?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|cause| bad("ssl.keystore.location", format!("a key and its certificate ({cause})")))
    }

    fn load_roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        if self.roots.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            let (taken, _) = roots.add_parsable_certificates(found.certs);
            if taken == 0 {
                return Err(ConfigError::Missing { key: "ssl.truststore.location" });
            }
        }
        for source in &self.roots {
            for certificate in material::roots(source, self.roots_password.as_ref())? {
                roots
                    .add(certificate)
                    .map_err(|cause| source.bad("ssl.truststore", "certificates", cause))?;
            }
        }
        Ok(roots)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tls");
        debug.field("files", &self.files()).field("tls13_only", &self.tls13_only);
        debug.field("danger_accept_any_host", &self.any_host).finish_non_exhaustive()
    }
}

/// The cryptography that was compiled in.
fn provider() -> CryptoProvider {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "tls", not(feature = "tls-aws-lc")))]
    return rustls::crypto::ring::default_provider();
    #[cfg(all(feature = "tls-graviola", not(any(feature = "tls", feature = "tls-aws-lc"))))]
    return rustls_graviola::default_provider();
}

/// A private key that signs for us, from a PEM file.
#[cfg(feature = "oidc")]
pub(super) fn signing_key(
    path: &Path,
    passphrase: Option<&Secret>,
) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let pem = std::fs::read(path).map(zeroize::Zeroizing::new).map_err(|cause| cause.to_string())?;
    let setting = "sasl.oauthbearer.assertion.private.key.passphrase";
    let key = material::private_key(&pem, passphrase, setting)?;
    provider().key_provider.load_private_key(key).map_err(|cause| cause.to_string())
}

/// Settings of TLS in force.
pub(crate) struct Trust {
    tls: Tls,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ClientConfig>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// What tells a file from what it was: when it was written, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.iter().map(stamp).collect()
}

impl Trust {
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub(crate) fn load(tls: Tls) -> Result<Self, ConfigError> {
        let stamps = stamps(&tls.files());
        let config = Arc::new(tls.load()?);
        let loaded = Mutex::new(Loaded { config, stamps, looked: Instant::now() });
        Ok(Trust { tls, loaded })
    }

    /// What is in force now: read again, when a file has changed.
    fn current(&self) -> Arc<ClientConfig> {
        let mut loaded = self.loaded.lock();
        if loaded.looked.elapsed() >= LOOK_AGAIN {
            loaded.looked = Instant::now();
            let stamps = stamps(&self.tls.files());
            if stamps != loaded.stamps {
                match self.tls.load() {
                    Ok(config) => {
                        tracing::info!("certificates were read again");
                        loaded.config = Arc::new(config);
                        loaded.stamps = stamps;
                    }
                    // Half written, perhaps: the next connection looks again.
                    Err(error) => tracing::warn!(%error, "changed certificates cannot be read"),
                }
            }
        }
        loaded.config.clone()
    }

    /// The handshake, as the client. `host` is what the certificate must be for.
    ///
    /// # Errors
    /// Those of the stream, and those of rustls inside of them, which [`explain`] tells.
    pub(crate) async fn wrap(&self, host: &str, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|cause| io::Error::new(io::ErrorKind::InvalidInput, cause))?;
        let stream = TlsConnector::from(self.current()).connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tls.fmt(f)
    }
}

/// Verifies all but the name.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // The name is what is looked at last.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

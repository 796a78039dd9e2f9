//! TLS of a listener: which certificate it shows, whose certificates it wants to see, and who they say comes in.
//!
//! It owns the settings `ssl.*` of a listener, as PEM. It refuses to know sockets. Invariant: no error holds what was read
//! of a key.

use super::subject::{self, Mapping};
use super::{Scope, refused};
use crate::core::settings::SettingError;
use ottla_protocol::wire::Str;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Whoever has not shaken hands by then never will.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// See the head of the file.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    mapping: Arc<Mapping>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Where there are logins as well, nobody is asked for a certificate, as in Kafka, unless this listener says so.
    pub(super) fn load(scope: Scope<'_>, with_sasl: bool) -> Result<Self, SettingError> {
        let location = "ssl.keystore.location";
        let named = |name: &'static str| scope.get(name).map(|value| (name, value));
        let (chain_name, chain) = pem(scope, location, "ssl.keystore.certificate.chain")?
            .ok_or_else(|| refused(location, "", "a certificate with its key, for TLS"))?;
        let key = named("ssl.keystore.key").map_or(chain.clone(), |(_, text)| lines(text).into_bytes());
        let bad = |cause: &dyn fmt::Display| {
            let value = scope.get(location).unwrap_or("...");
            refused(chain_name, value, format!("a certificate with its key, unencrypted PEM ({cause})"))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|cause| bad(&cause))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|cause| bad(&cause))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let protocols = scope.get("ssl.enabled.protocols").unwrap_or("TLSv1.2,TLSv1.3");
        let has = |name: &str| protocols.split(',').any(|it| it.trim() == name);
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        versions.extend(has("TLSv1.3").then_some(&rustls::version::TLS13));
        versions.extend(has("TLSv1.2").then_some(&rustls::version::TLS12));
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
        let builder =
            builder.map_err(|cause| refused("ssl.enabled.protocols", protocols, cause.to_string()))?;
        let wanted = match with_sasl {
            false => scope.get("ssl.client.auth"),
            true => scope.own("ssl.client.auth"),
        };
        let builder = match wanted {
            None | Some("none") => builder.with_no_client_auth(),
            Some(wanted) => {
                let roots = Arc::new(roots(scope)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if wanted == "required" { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|cause| {
                    refused("ssl.truststore.location", "...", format!("certificates to believe ({cause})"))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|cause| bad(&cause))?;
        let rules = scope.get("ssl.principal.mapping.rules").unwrap_or("DEFAULT");
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), mapping: Arc::new(Mapping::parse(rules)?) })
    }

    /// The handshake, as the server: the stream, and who the client's certificate says comes in, if it has one.
    pub(crate) async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Option<Str>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = timeout(HANDSHAKE_LIMIT, self.acceptor.accept(stream)).await;
        let stream = accepted.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = certificate.and_then(|certificate| subject::distinguished_name(certificate));
        let principal = name.map(|name| Str::from(format!("User:{}", self.mapping.name(&name))));
        Ok((stream, principal))
    }
}

fn roots(scope: Scope<'_>) -> Result<RootCertStore, SettingError> {
    let location = "ssl.truststore.location";
    let (name, bytes) = pem(scope, location, "ssl.truststore.certificates")?
        .ok_or_else(|| refused(location, "", "the certificates to believe, for ssl.client.auth"))?;
    let bad = |cause: &dyn fmt::Display| {
        refused(name, scope.get(location).unwrap_or("..."), format!("certificates as PEM ({cause})"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|cause| bad(&cause))?;
        roots.add(certificate).map_err(|cause| bad(&cause))?;
    }
    Ok(roots)
}

/// What a file holds, or a setting itself.
fn pem(
    scope: Scope<'_>,
    location: &'static str,
    text: &'static str,
) -> Result<Option<(&'static str, Vec<u8>)>, SettingError> {
    if let Some(text_given) = scope.get(text) {
        return Ok(Some((text, lines(text_given).into_bytes())));
    }
    let Some(path) = scope.get(location) else { return Ok(None) };
    let read = std::fs::read(path);
    let bytes =
        read.map_err(|cause| refused(location, path, format!("a file that can be read ({cause})")))?;
    Ok(Some((location, bytes)))
}

/// PEM in one line, as property files have it, with the lines that it should have.
fn lines(pem: &str) -> String {
    match pem.contains('\n') {
        true => pem.to_string(),
        false => pem.replace(" -----END", "\n-----END").replace("----- ", "-----\n"),
    }
}

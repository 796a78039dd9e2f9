//! How connections are protected, and who the client says it is.
//!
//! It owns what `security.protocol` means, the credentials, and the checks of both. It refuses to open connections: the
//! driver does, and asks here. Invariant: nothing here falls back to less than what was asked for (SEC6, SEC7).

use std::fmt;

mod keeper;
#[cfg(feature = "msk-iam")]
mod msk;
#[cfg(all(feature = "oidc", feature = "_tls"))]
mod oidc;
mod sasl;
mod scram;
mod secret;
#[cfg(feature = "_tls")]
mod tls;
mod token;

#[cfg(all(feature = "oidc", not(feature = "_tls")))]
compile_error!(
    "the feature oidc needs one of tls, tls-aws-lc and tls-graviola: tokens are got by https only"
);

pub use keeper::TokenRefresh;
#[cfg(feature = "msk-iam")]
pub use msk::{AwsCredentials, AwsCredentialsProvider, MskIam};
#[cfg(all(feature = "oidc", feature = "_tls"))]
pub use oidc::{Assertion, AssertionAlgorithm, Oidc};
pub use sasl::Sasl;
pub(crate) use sasl::{Login, Next};
pub(crate) use scram::Hash;
pub use secret::Secret;
#[cfg(feature = "_tls")]
pub use tls::Tls;
#[cfg(feature = "_tls")]
pub(crate) use tls::{Trust, explain};
pub use token::{Token, TokenError, TokenFile, TokenFuture, TokenProvider};

/// What a connection is made of (`security.protocol`).
///
/// ```
/// assert_eq!(ottla::SecurityProtocol::SaslSsl.to_string(), "SASL_SSL");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// Nothing is encrypted, nobody logs in.
    Plaintext,
    /// TLS; the client may show a certificate.
    Ssl,
    /// The client logs in, and everything can be read on the way.
    SaslPlaintext,
    /// TLS, and the client logs in.
    SaslSsl,
}

impl SecurityProtocol {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("PLAINTEXT", Self::Plaintext),
        ("SSL", Self::Ssl),
        ("SASL_PLAINTEXT", Self::SaslPlaintext),
        ("SASL_SSL", Self::SaslSsl),
    ];

    pub(crate) fn of(tls: bool, sasl: bool) -> Self {
        match (tls, sasl) {
            (false, false) => Self::Plaintext,
            (true, false) => Self::Ssl,
            (false, true) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    pub(crate) fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, protocol)| protocol == self).map_or("", |(name, _)| name);
        f.pad(name)
    }
}

//! JWTs that a client signs itself, to show to an identity provider who it is (RFC 7523, KIP-1139, KIP-1258).
//!
//! It owns their claims and signatures. It refuses to know what is asked with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use serde_json::{Map, Value, json};

use super::super::Secret;
use super::super::tls::signing_key;
use super::super::token::{TokenError, read_text};
use crate::config::ConfigError;

/// How a client signs: `sasl.oauthbearer.assertion.algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSA with SHA-256.
    #[default]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// A signed statement of who the client is: the `sasl.oauthbearer.assertion.` settings.
///
/// ```no_run
/// use ottla::{Assertion, Oidc, Sasl};
///
/// # fn main() -> Result<(), ottla::Error> {
/// let assertion = Assertion::signed_by("client.key")
///     .issuer("billing")
///     .subject("billing")
///     .audience("https://idp.example.com");
/// let sasl = Sasl::oauth_bearer(Oidc::jwt_bearer("https://idp.example.com/token", assertion).build()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Assertion {
    made: Made,
    algorithm: AssertionAlgorithm,
    passphrase: Option<Secret>,
    template: Option<PathBuf>,
    claims: Map<String, Value>,
    lifetime: Duration,
    not_before: Duration,
    with_id: bool,
}

#[derive(Clone)]
enum Made {
    Elsewhere(PathBuf),
    ByKey(PathBuf),
}

impl Assertion {
    fn new(made: Made) -> Self {
        Assertion {
            made,
            algorithm: AssertionAlgorithm::default(),
            passphrase: None,
            template: None,
            claims: Map::new(),
            lifetime: Duration::from_secs(300),
            not_before: Duration::from_secs(60),
            with_id: false,
        }
    }

    /// A JWT that somebody else signs and keeps in this file (`sasl.oauthbearer.assertion.file`); it is read each time. What the
    /// other methods say counts for nothing then.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Assertion::new(Made::Elsewhere(path.as_ref().to_owned()))
    }

    /// A JWT that this client signs with the private key in this file, PEM (`sasl.oauthbearer.assertion.private.key.file`).
    pub fn signed_by(key: impl AsRef<Path>) -> Self {
        Assertion::new(Made::ByKey(key.as_ref().to_owned()))
    }

    /// What the key is encrypted with (`sasl.oauthbearer.assertion.private.key.passphrase`).
    pub fn passphrase(mut self, passphrase: impl Into<Secret>) -> Self {
        self.passphrase = Some(passphrase.into());
        self
    }

    /// How to sign. Default: [`Rs256`](AssertionAlgorithm::Rs256).
    pub fn algorithm(mut self, algorithm: AssertionAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// A JSON file with objects `header` and `payload`, whose fields are taken over
    /// (`sasl.oauthbearer.assertion.template.file`); it is read each time.
    pub fn template(mut self, path: impl AsRef<Path>) -> Self {
        self.template = Some(path.as_ref().to_owned());
        self
    }

    /// Whom the statement is for (`sasl.oauthbearer.assertion.claim.aud`).
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience.into())
    }

    /// Who states it (`sasl.oauthbearer.assertion.claim.iss`).
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer.into())
    }

    /// Of whom it is (`sasl.oauthbearer.assertion.claim.sub`).
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject.into())
    }

    fn claim(mut self, name: &str, value: String) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// How long it holds (`sasl.oauthbearer.assertion.claim.exp.seconds`). Default 5 min, up to a day.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How long before it is made it holds already, for clocks that differ (`sasl.oauthbearer.assertion.claim.nbf.seconds`).
    /// Default 1 min, up to an hour.
    pub fn not_before(mut self, not_before: Duration) -> Self {
        self.not_before = not_before;
        self
    }

    /// Gives each a number of its own (`sasl.oauthbearer.assertion.claim.jti.include`). Default: no number.
    pub fn with_id(mut self) -> Self {
        self.with_id = true;
        self
    }

    /// # Errors
    /// The key cannot be read, or does not fit the algorithm; or a time is out of its range.
    pub(super) fn build(self) -> Result<Signer, ConfigError> {
        let bad = |key, value: String, expected: &str| ConfigError::BadValue {
            key,
            value,
            expected: expected.to_owned(),
            nearest: None,
        };
        for (key, time, max) in [
            ("sasl.oauthbearer.assertion.claim.exp.seconds", self.lifetime, 86_400),
            ("sasl.oauthbearer.assertion.claim.nbf.seconds", self.not_before, 3_600),
        ] {
            if time > Duration::from_secs(max) {
                return Err(bad(key, time.as_secs().to_string(), &format!("at most {max}")));
            }
        }
        let key = match &self.made {
            Made::Elsewhere(_) => None,
            Made::ByKey(path) => {
                let setting = "sasl.oauthbearer.assertion.private.key.file";
                let key = signing_key(path, self.passphrase.as_ref())
                    .map_err(|cause| bad(setting, path.display().to_string(), &format!("a key ({cause})")))?;
                if key.choose_scheme(&[self.algorithm.scheme()]).is_none() {
                    let expected = format!("a key for {}", self.algorithm.name());
                    return Err(bad(setting, path.display().to_string(), &expected));
                }
                Some(key)
            }
        };
        Ok(Signer { assertion: self, key })
    }
}

impl std::fmt::Debug for Assertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Made::Elsewhere(path) | Made::ByKey(path)) = &self.made;
        f.debug_struct("Assertion").field("file", path).field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl AssertionAlgorithm {
    fn scheme(self) -> SignatureScheme {
        match self {
            AssertionAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            AssertionAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }

    fn name(self) -> &'static str {
        match self {
            AssertionAlgorithm::Rs256 => "RS256",
            AssertionAlgorithm::Es256 => "ES256",
        }
    }
}

type Claims = Map<String, Value>;

/// Makes one assertion after the other.
pub(super) struct Signer {
    assertion: Assertion,
    /// None where assertions are made elsewhere.
    key: Option<Arc<dyn SigningKey>>,
}

impl Signer {
    /// A statement that holds at this time, in milliseconds since the Unix epoch.
    pub(super) fn statement(&self, wall_ms: i64) -> Result<Secret, TokenError> {
        let it = &self.assertion;
        let Some(key) = &self.key else {
            let (Made::Elsewhere(path) | Made::ByKey(path)) = &it.made;
            return read_text(path).map_err(|cause| format!("{}: {cause}", path.display()).into());
        };
        let (mut header, mut payload) = self.template()?;
        header.insert("alg".into(), it.algorithm.name().into());
        header.entry("typ").or_insert_with(|| "JWT".into());
        let now = wall_ms.div_euclid(1_000);
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(0);
        payload.extend(it.claims.clone());
        payload.insert("iat".into(), now.into());
        payload.insert("exp".into(), (now + seconds(it.lifetime)).into());
        payload.insert("nbf".into(), (now - seconds(it.not_before)).into());
        if it.with_id {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|_| "no random numbers")?;
            payload.insert("jti".into(), URL_SAFE_NO_PAD.encode(id).into());
        }
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(json!(part).to_string()));
        let signed = format!("{header}.{payload}");
        let signer = key.choose_scheme(&[it.algorithm.scheme()]).ok_or("the key does not fit")?;
        let signature =
            signer.sign(signed.as_bytes()).map_err(|cause| format!("it cannot be signed: {cause}"))?;
        let signature = match it.algorithm {
            AssertionAlgorithm::Rs256 => signature,
            AssertionAlgorithm::Es256 => fixed(&signature).ok_or("the signature is not one of P-256")?,
        };
        Ok(Secret::from(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    fn template(&self) -> Result<(Claims, Claims), TokenError> {
        let Some(path) = &self.assertion.template else { return Ok(Default::default()) };
        let bad = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
        let text = read_text(path).map_err(|cause| bad(&cause))?;
        let mut whole: Map<String, Value> =
            serde_json::from_slice(text.expose()).map_err(|cause| bad(&cause))?;
        let mut part = |name| match whole.remove(name) {
            None => Ok(Map::new()),
            Some(Value::Object(part)) => Ok(part),
            Some(_) => Err(bad(&format!("{name} is no object"))),
        };
        Ok((part("header")?, part("payload")?))
    }
}

/// The two numbers of an ECDSA signature as JWTs have them, 32 bytes each (RFC 7518, section 3.4), out of their DER form.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let (0x30, rest) = der.split_first().map(|(tag, rest)| (*tag, rest))? else { return None };
    let (length, mut rest) = rest.split_first()?;
    if usize::from(*length) != rest.len() {
        return None;
    }
    let mut both = Vec::with_capacity(64);
    for _ in 0..2 {
        let (2, after) = rest.split_first().map(|(tag, rest)| (*tag, rest))? else { return None };
        let (length, after) = after.split_first()?;
        let (number, after) = after.split_at_checked(usize::from(*length))?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        both.extend(std::iter::repeat_n(0, 32usize.checked_sub(number.len())?));
        both.extend_from_slice(number);
        rest = after;
    }
    rest.is_empty().then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecdsa_signature_has_64_bytes_whatever_its_numbers_begin_with() {
        let der = |r: &[u8], s: &[u8]| {
            let number = |n: &[u8]| [&[2, n.len() as u8], n].concat();
            let both = [number(r), number(s)].concat();
            [&[0x30, both.len() as u8], &both[..]].concat()
        };
        let high = [&[0][..], &[0xff; 32]].concat();
        let taken = fixed(&der(&high, &[7; 31])).expect("it is one");
        assert_eq!(taken, [&[0xff; 32][..], &[0], &[7; 31]].concat());
        for bad in
            [&[][..], &[0x30], &[0x30, 2, 2, 9], &der(&[1; 33], &[1]), &[der(&[1], &[1]), vec![0]].concat()]
        {
            assert_eq!(fixed(bad), None, "{bad:?}");
        }
    }
}

//! The tokens of OAUTHBEARER (RFC 7519, KIP-255, KIP-768): whose signature counts, and what a token must say.
//!
//! It owns the keys of `sasl.oauthbearer.jwks.endpoint.url`, a file, and the checks of the claims. It refuses to fetch
//! anything. Invariant (SEC9): a token is believed when everything that is asked for was checked, and an unsigned one only
//! where `sasl.jaas.config` says `unsecured` of itself.

use super::exchange::Proven;
use super::{Scope, refused};
use crate::core::settings::SettingError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeMap;

const JWKS: &str = "sasl.oauthbearer.jwks.endpoint.url";
/// How the options begin by which a broker asks for tokens without a signature.
const UNSECURED: &str = "unsecured";

/// See the head of the file.
pub(crate) struct Verifier {
    keys: Keys,
    issuer: Option<String>,
    /// One of these must be meant; anybody may be when there are none.
    audience: Vec<String>,
    subject: String,
    skew_ms: i64,
}

enum Keys {
    /// Whoever says who he is, is believed.
    Unsecured,
    #[cfg(feature = "tls")]
    Signed(Vec<signature::Key>),
}

type Checked<T> = Result<T, &'static str>;

impl Verifier {
    pub(super) fn new(scope: Scope<'_>, options: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let is_unsecured = options.keys().any(|name| name.starts_with(UNSECURED));
        let keys = match scope.get(JWKS) {
            Some(url) => Keys::load(url)?,
            None if is_unsecured => Keys::Unsecured,
            None => {
                let expected =
                    "set for OAUTHBEARER, or unsecured...=... in sasl.jaas.config, which believes everybody";
                return Err(refused(JWKS, "", expected));
            }
        };
        let audience = scope.get("sasl.oauthbearer.expected.audience").unwrap_or_default();
        let seconds = scope.number("sasl.oauthbearer.clock.skew.seconds", 30);
        Ok(Self {
            keys,
            issuer: scope.get("sasl.oauthbearer.expected.issuer").map(str::to_string),
            audience: audience
                .split(',')
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(str::to_string)
                .collect(),
            subject: scope.get("sasl.oauthbearer.sub.claim.name").unwrap_or("sub").to_string(),
            skew_ms: i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX),
        })
    }

    /// Who a token is for, if it is to be believed at this time.
    pub(super) fn verify(&self, token: &str, now_ms: i64) -> Checked<Proven> {
        let (covered, signature) = token.rsplit_once('.').ok_or("it has no three parts")?;
        let (header, claims) = covered.split_once('.').ok_or("it has no three parts")?;
        let header = json(header).ok_or("its header cannot be read")?;
        let claims = json(claims).ok_or("its claims cannot be read")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature cannot be read")?;
        self.keys.check(&header, covered.as_bytes(), &signature)?;
        self.check_claims(&claims, now_ms)
    }

    fn check_claims(&self, claims: &Value, now_ms: i64) -> Checked<Proven> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let time =
            |name: &str| claims.get(name).map(|it| milliseconds(it).ok_or("a time of it is no number"));
        let ends_ms = time("exp").ok_or("it does not say when it expires")??;
        let skew_ms = self.skew_ms;
        if ends_ms.saturating_add(skew_ms) <= now_ms {
            return Err("it has expired");
        }
        for name in ["nbf", "iat"] {
            if time(name).transpose()?.is_some_and(|from| from > now_ms.saturating_add(skew_ms)) {
                return Err("it is not valid yet");
            }
        }
        if self.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
            return Err("it is of another issuer");
        }
        let meant: Vec<&str> = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            one => one.and_then(Value::as_str).into_iter().collect(),
        };
        if !self.audience.is_empty() && !self.audience.iter().any(|it| meant.contains(&&**it)) {
            return Err("it is for another audience");
        }
        let name =
            text(&self.subject).filter(|name| !name.is_empty()).ok_or("it does not say who it is for")?;
        Ok(Proven { name: name.to_string(), ends_ms: Some(ends_ms), by_token: false })
    }
}

fn json(part: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

/// From seconds, which may have a fraction.
fn milliseconds(seconds: &Value) -> Option<i64> {
    match seconds.as_i64() {
        Some(seconds) => Some(seconds.saturating_mul(1000)),
        #[expect(clippy::cast_possible_truncation, reason = "what is too large is the largest")]
        None => Some((seconds.as_f64()? * 1000.0) as i64),
    }
}

impl Keys {
    fn load(url: &str) -> Result<Self, SettingError> {
        let Some(file) = url.strip_prefix("file://") else {
            return Err(refused(JWKS, url, "a file: URL; this broker fetches nothing"));
        };
        #[cfg(not(feature = "tls"))]
        return Err(refused(
            JWKS,
            file,
            "nothing: built without the feature tls, which has the cryptography",
        ));
        #[cfg(feature = "tls")]
        {
            let bad = |reason: String| refused(JWKS, url, format!("a file with keys ({reason})"));
            let bytes = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
            let set: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
            let keys = set.get("keys").and_then(Value::as_array);
            let keys: Vec<_> = keys.into_iter().flatten().filter_map(signature::Key::read).collect();
            if keys.is_empty() {
                return Err(bad("there is no RSA or EC key in it".to_string()));
            }
            Ok(Self::Signed(keys))
        }
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing can be verified"))]
    fn check(&self, header: &Value, covered: &[u8], signature: &[u8]) -> Checked<()> {
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or("it names no algorithm")?;
        match self {
            Self::Unsecured if algorithm == "none" && signature.is_empty() => Ok(()),
            Self::Unsecured => Err("it is signed, and nobody here knows the keys"),
            #[cfg(feature = "tls")]
            Self::Signed(keys) => {
                let id = header.get("kid").and_then(Value::as_str);
                let named = |key: &&signature::Key| id.is_none() || key.id.as_deref() == id;
                let signed =
                    keys.iter().filter(named).any(|key| key.has_signed(algorithm, covered, signature));
                // SEC9: neither the algorithm that a token names nor the lack of one makes it less.
                if signed { Ok(()) } else { Err("none of our keys has signed it") }
            }
        }
    }
}

#[cfg(feature = "tls")]
mod signature {
    //! The public keys of an issuer (RFC 7517), and what they have signed (RFC 7518).

    use super::{Engine, URL_SAFE_NO_PAD, Value};
    use ring::signature as sign;

    pub(super) struct Key {
        pub(super) id: Option<String>,
        numbers: Numbers,
    }

    enum Numbers {
        Rsa {
            n: Vec<u8>,
            e: Vec<u8>,
        },
        /// A curve, and a point on it, uncompressed.
        Ec(String, Vec<u8>),
    }

    impl Key {
        pub(super) fn read(key: &Value) -> Option<Self> {
            let text = |name: &str| key.get(name).and_then(Value::as_str);
            let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
            let numbers = match text("kty")? {
                "RSA" => Numbers::Rsa { n: number("n")?, e: number("e")? },
                "EC" => {
                    let point = [vec![4], number("x")?, number("y")?].concat();
                    Numbers::Ec(text("crv")?.to_string(), point)
                }
                _ => return None,
            };
            Some(Self { id: text("kid").map(str::to_string), numbers })
        }

        /// Whether it has signed this, by this algorithm.
        pub(super) fn has_signed(&self, algorithm: &str, covered: &[u8], signature: &[u8]) -> bool {
            match &self.numbers {
                Numbers::Rsa { n, e } => {
                    let by: &sign::RsaParameters = match algorithm {
                        "RS256" => &sign::RSA_PKCS1_2048_8192_SHA256,
                        "RS384" => &sign::RSA_PKCS1_2048_8192_SHA384,
                        "RS512" => &sign::RSA_PKCS1_2048_8192_SHA512,
                        "PS256" => &sign::RSA_PSS_2048_8192_SHA256,
                        "PS384" => &sign::RSA_PSS_2048_8192_SHA384,
                        "PS512" => &sign::RSA_PSS_2048_8192_SHA512,
                        _ => return false,
                    };
                    sign::RsaPublicKeyComponents { n, e }.verify(by, covered, signature).is_ok()
                }
                Numbers::Ec(curve, point) => {
                    let by: &dyn sign::VerificationAlgorithm = match (algorithm, &**curve) {
                        ("ES256", "P-256") => &sign::ECDSA_P256_SHA256_FIXED,
                        ("ES384", "P-384") => &sign::ECDSA_P384_SHA384_FIXED,
                        _ => return false,
                    };
                    sign::UnparsedPublicKey::new(by, point).verify(covered, signature).is_ok()
                }
            }
        }
    }
}

#[cfg(feature = "tls")]
#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    const NOW_MS: i64 = 1_000_000;

    fn key() -> EcdsaKeyPair {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
    }

    fn signed(key: &EcdsaKeyPair, header: &str, claims: &str) -> String {
        let covered = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = key.sign(&SystemRandom::new(), covered.as_bytes()).unwrap();
        format!("{covered}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verifier(key: &EcdsaKeyPair) -> Verifier {
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|number| URL_SAFE_NO_PAD.encode(number));
        let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
        let file = std::env::temp_dir().join(format!("ottla-jwks-{}-{}", std::process::id(), x));
        std::fs::write(&file, set).unwrap();
        let settings = [
            (JWKS, format!("file://{}", file.display())),
            ("sasl.oauthbearer.expected.issuer", "us".to_string()),
            ("sasl.oauthbearer.expected.audience", "kafka,other".to_string()),
        ];
        let given = settings.map(|(name, value)| (name.to_string(), value)).into();
        let verifier = Verifier::new(Scope { given: &given, listener: "L" }, &BTreeMap::new()).unwrap();
        std::fs::remove_file(file).unwrap();
        verifier
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;
    const CLAIMS: &str = r#"{"sub":"alice","iss":"us","aud":["x","kafka"],"exp":1060,"iat":1000}"#;

    #[test]
    fn a_token_of_ours_says_who_it_is_for_and_until_when() {
        let key = key();
        let proven = verifier(&key).verify(&signed(&key, HEADER, CLAIMS), NOW_MS).unwrap();
        assert_eq!((&*proven.name, proven.ends_ms), ("alice", Some(1_060_000)));
    }

    /// SEC9: it is believed when everything was checked.
    #[test]
    fn a_token_that_lacks_anything_is_refused() {
        let (ours, other) = (key(), key());
        let verifier = verifier(&ours);
        let refused = |token: &str| verifier.verify(token, NOW_MS).unwrap_err();
        let with = |from: &str, to: &str| signed(&ours, HEADER, &CLAIMS.replace(from, to));
        assert_eq!(refused(&with("1060", "969")), "it has expired");
        assert!(verifier.verify(&with("1060", "971"), NOW_MS).is_ok(), "clocks may differ by 30 s");
        assert_eq!(refused(&with("1000", "1031")), "it is not valid yet");
        assert_eq!(refused(&with("\"us\"", "\"them\"")), "it is of another issuer");
        assert_eq!(refused(&with("\"kafka\"", "\"y\"")), "it is for another audience");
        assert_eq!(refused(&with("\"sub\"", "\"name\"")), "it does not say who it is for");
        assert_eq!(refused(&with("\"exp\"", "\"end\"")), "it does not say when it expires");
        assert_eq!(refused(&with("1060", "\"never\"")), "a time of it is no number");
        let unsigned = "none of our keys has signed it";
        assert_eq!(refused(&signed(&other, HEADER, CLAIMS)), unsigned);
        assert_eq!(refused(&signed(&ours, &HEADER.replace("\"k\"", "\"q\""), CLAIMS)), unsigned);
        for algorithm in ["none", "HS256", "RS256", "ES384"] {
            assert_eq!(refused(&signed(&ours, &HEADER.replace("ES256", algorithm), CLAIMS)), unsigned);
        }
        let token = signed(&ours, HEADER, CLAIMS);
        let (covered, _) = token.rsplit_once('.').unwrap();
        assert_eq!(refused(&format!("{covered}.")), unsigned);
        let forged = token.replacen('.', &format!(".{}", URL_SAFE_NO_PAD.encode(" ")), 1);
        assert!(verifier.verify(&forged, NOW_MS).is_err());
        for junk in ["", ".", "..", "a.b.c", "e30.e30.", "!.!.!"] {
            assert!(verifier.verify(junk, NOW_MS).is_err(), "{junk}");
        }
    }

    #[test]
    fn oauth_is_not_offered_by_mistake() {
        let new = |url: &str, option: &str| {
            let given = [(JWKS.to_string(), url.to_string())].into();
            let options = [(option.to_string(), String::new())].into();
            Verifier::new(Scope { given: &given, listener: "L" }, &options)
                .map(|_| ())
                .map_err(|it| it.to_string())
        };
        assert!(new("", "").unwrap_err().contains("believes everybody"));
        assert!(new("https://issuer/keys", "").unwrap_err().contains("fetches nothing"));
        assert!(new("file:///nowhere/at/all", "").unwrap_err().contains("a file with keys"));
        assert_eq!(new("", "unsecuredLoginStringClaim_sub"), Ok(()));
    }
}

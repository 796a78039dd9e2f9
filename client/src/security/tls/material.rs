//! Keys and certificates as people keep them: PEM, PKCS#12, JKS.
//!
//! It owns the forms and their passwords. It refuses to judge a certificate. Invariant: an error names the setting and the
//! file, and holds nothing that was read.

use std::fmt::Display;

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{Secret, Source};
use crate::config::ConfigError;

type Chain = Vec<CertificateDer<'static>>;

const JKS: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];
/// How every DER structure of that size begins, PKCS#12 among them.
const DER: u8 = 0x30;
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

impl Source {
    pub(super) fn bad(&self, setting: &'static str, what: &str, cause: impl Display) -> ConfigError {
        let (key, value) = match (self, setting) {
            (Source::File(path), "ssl.truststore") => ("ssl.truststore.location", path.display().to_string()),
            (Source::Text(_), "ssl.truststore") => ("ssl.truststore.certificates", "a text".into()),
            (Source::File(path), _) => ("ssl.keystore.location", path.display().to_string()),
            (Source::Text(_), _) => ("ssl.keystore.key", "a text".into()),
        };
        ConfigError::BadValue { key, value, expected: format!("{what} ({cause})"), nearest: None }
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, std::io::Error> {
        match self {
            Source::File(path) => std::fs::read(path).map(Zeroizing::new),
            Source::Text(text) => Ok(Zeroizing::new(lines(text.expose()))),
        }
    }
}

/// PEM in one line, as property files have it, with the lines that it should have.
fn lines(pem: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(pem) {
        Ok(text) if !text.contains('\n') => {
            text.replace(" -----END", "\n-----END").replace("----- ", "-----\n").into_bytes()
        }
        _ => pem.to_vec(),
    }
}

/// The certificates to believe.
pub(super) fn roots(source: &Source, password: Option<&Secret>) -> Result<Chain, ConfigError> {
    let bad = |cause: &dyn Display| source.bad("ssl.truststore", "certificates that can be read", cause);
    let bytes = source.read().map_err(|cause| bad(&cause))?;
    let found = match Form::of(&bytes) {
        Form::Pem => certificates(&bytes),
        Form::Store(store) => store.open(&bytes, password).map(|opened| opened.trusted),
        Form::Unknown => Err("neither PEM nor PKCS#12 nor JKS".to_owned()),
    };
    match found {
        Ok(found) if found.is_empty() => Err(bad(&"there is none in it")),
        found => found.map_err(|cause| bad(&cause)),
    }
}

/// The certificate to show, what leads from it to a root, and its key: in one source or in two.
pub(super) fn identity(
    chain: &Source,
    key: Option<&Source>,
    store_password: Option<&Secret>,
    key_password: Option<&Secret>,
) -> Result<(Chain, PrivateKeyDer<'static>), ConfigError> {
    let bad = |cause: &dyn Display| chain.bad("ssl.keystore", "a certificate with its key", cause);
    let bytes = chain.read().map_err(|cause| bad(&cause))?;
    let identity = match Form::of(&bytes) {
        Form::Pem => {
            let key = key.unwrap_or(chain);
            let private = key.read().map_err(|cause| key.bad("ssl.keystore", "a private key", cause))?;
            let private = private_key(&private, key_password, "ssl.key.password")
                .map_err(|cause| key.bad("ssl.keystore", "a private key", cause))?;
            certificates(&bytes).map(|chain| (chain, private))
        }
        Form::Store(store) => store
            .open_with(&bytes, store_password, key_password)
            .and_then(|opened| opened.identity.ok_or_else(|| "there is no key in it".to_owned())),
        Form::Unknown => Err("neither PEM nor PKCS#12 nor JKS".to_owned()),
    };
    match identity {
        Ok((chain, _)) if chain.is_empty() => Err(bad(&"there is no certificate in it")),
        identity => identity.map_err(|cause| bad(&cause)),
    }
}

fn certificates(pem: &[u8]) -> Result<Chain, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|cause| cause.to_string())
}

/// `setting` is where the password comes from.
pub(super) fn private_key(
    pem: &[u8],
    password: Option<&Secret>,
    setting: &str,
) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "not a text".to_owned())?;
    let Some(at) = text.find(&format!("-----BEGIN {ENCRYPTED}-----")) else {
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("encrypted in OpenSSL's old way; openssl pkcs8 -topk8 makes it PKCS#8".into());
        }
        return PrivateKeyDer::from_pem_slice(pem).map_err(|cause| cause.to_string());
    };
    let Some(password) = password else {
        return Err(format!("it is encrypted, and {setting} is not set"));
    };
    let end = format!("-----END {ENCRYPTED}-----");
    let stop = text[at..].find(&end).map_or(text.len(), |stop| at + stop + end.len());
    let (_, document) = SecretDocument::from_pem(&text[at..stop]).map_err(|cause| cause.to_string())?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|cause| cause.to_string())?;
    let key = encrypted
        .decrypt(password.expose())
        .map_err(|_| format!("it cannot be decrypted: {setting} is wrong, or the cipher is not known"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

enum Form {
    Pem,
    Store(Store),
    Unknown,
}

#[derive(Clone, Copy)]
enum Store {
    Pkcs12,
    Jks,
}

/// What a store holds.
#[derive(Default)]
struct Opened {
    trusted: Chain,
    identity: Option<(Chain, PrivateKeyDer<'static>)>,
}

impl Form {
    fn of(bytes: &[u8]) -> Form {
        if bytes.starts_with(JKS) {
            Form::Store(Store::Jks)
        } else if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            Form::Pem
        } else if bytes.first() == Some(&DER) {
            Form::Store(Store::Pkcs12)
        } else {
            Form::Unknown
        }
    }
}

impl Store {
    fn open(self, bytes: &[u8], password: Option<&Secret>) -> Result<Opened, String> {
        self.open_with(bytes, password, password)
    }

    #[cfg(not(feature = "keystores"))]
    fn open_with(self, _: &[u8], _: Option<&Secret>, _: Option<&Secret>) -> Result<Opened, String> {
        let name = match self {
            Store::Pkcs12 => "PKCS#12",
            Store::Jks => "JKS",
        };
        Err(format!("{name} needs the feature keystores of the crate ottla; PEM needs nothing"))
    }

    #[cfg(feature = "keystores")]
    fn open_with(
        self,
        bytes: &[u8],
        password: Option<&Secret>,
        key_password: Option<&Secret>,
    ) -> Result<Opened, String> {
        let text = |secret: Option<&Secret>| {
            let bytes = secret.map(|secret| secret.expose().to_vec()).unwrap_or_default();
            String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| "the password is not text".to_owned())
        };
        match self {
            Store::Pkcs12 => open_pkcs12(bytes, &text(password)?),
            Store::Jks => open_jks(bytes, text(password)?.as_bytes(), text(key_password)?.as_bytes()),
        }
    }
}

#[cfg(feature = "keystores")]
fn open_pkcs12(bytes: &[u8], password: &str) -> Result<Opened, String> {
    use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Relaxed)
        .map_err(|_| "it cannot be opened: the password is wrong, or it is damaged")?;
    let mut opened = Opened::default();
    for (_, entry) in store.entries() {
        match entry {
            KeyStoreEntry::Certificate(certificate) => {
                opened.trusted.push(certificate.as_der().to_vec().into());
            }
            KeyStoreEntry::PrivateKeyChain(chain) => {
                let certificates = chain.certs().iter().map(|it| it.as_der().to_vec().into()).collect();
                let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
                opened.identity.get_or_insert((certificates, key.into()));
            }
            _ => {}
        }
    }
    Ok(opened)
}

#[cfg(feature = "keystores")]
fn open_jks(mut bytes: &[u8], password: &[u8], key_password: &[u8]) -> Result<Opened, String> {
    let mut store = jks::KeyStore::new();
    store
        .load(&mut bytes, password)
        .map_err(|_| "it cannot be opened: the password is wrong, or it is damaged")?;
    let mut opened = Opened::default();
    let mut aliases = store.aliases();
    aliases.sort_unstable();
    for alias in aliases {
        if store.is_trusted_certificate_entry(&alias) {
            let entry = store.get_trusted_certificate_entry(&alias).map_err(|cause| cause.to_string())?;
            opened.trusted.push(entry.certificate.content.into());
        } else if store.is_private_key_entry(&alias) && opened.identity.is_none() {
            let entry = store
                .get_private_key_entry(&alias, key_password)
                .map_err(|_| "the key cannot be decrypted: ssl.key.password is wrong")?;
            let chain = entry.certificate_chain.iter().map(|it| it.content.clone().into()).collect();
            opened.identity = Some((chain, PrivatePkcs8KeyDer::from(entry.private_key.clone()).into()));
        }
    }
    Ok(opened)
}

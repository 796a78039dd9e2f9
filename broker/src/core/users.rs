//! The users that log in by SCRAM, and the arithmetic of their credentials (RFC 5802, KIP-84).
//!
//! It owns what the cluster keeps of a password: salt, rounds and two keys, never the password. It refuses to know how a
//! login goes. Invariant: what is kept does not let anybody log in who has read it.

use hmac::{Hmac, KeyInit, Mac};
use ottla_protocol::wire::Str;
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeMap;
use std::fmt;

/// Fewest rounds that a credential may have, as in Kafka.
pub(crate) const ITERATIONS_MIN: i32 = 4096;
/// Most rounds that a credential may have, as in Kafka.
pub(crate) const ITERATIONS_MAX: i32 = 16_384;

/// A mechanism of SCRAM, by its hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

macro_rules! by_hash {
    ($hash:expr, $Hash:ident => $body:expr) => {
        match $hash {
            Hash::Sha256 => {
                type $Hash = Sha256;
                $body
            }
            Hash::Sha512 => {
                type $Hash = Sha512;
                $body
            }
        }
    };
}

impl Hash {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// By its number on the wire (KIP-554).
    pub(crate) fn of_wire(number: i8) -> Option<Self> {
        match number {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(crate) fn wire(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        by_hash!(self, H => <H as Digest>::output_size())
    }

    /// The plain hash.
    pub(crate) fn digest(self, text: &[u8]) -> Vec<u8> {
        by_hash!(self, H => H::digest(text).to_vec())
    }

    /// The hash with a key.
    pub(crate) fn keyed(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        by_hash!(self, H => {
            let mut mac = Hmac::<H>::new_from_slice(key).expect("a key of any length is taken");
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        })
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: i32,
    pub(crate) stored_key: Vec<u8>,
    pub(crate) server_key: Vec<u8>,
}

impl Credential {
    /// Thousands of rounds: not for where others wait.
    pub(crate) fn of_password(hash: Hash, password: &[u8], salt: Vec<u8>) -> Self {
        let mut salted = vec![0; hash.bytes()];
        let rounds = ITERATIONS_MIN.unsigned_abs();
        by_hash!(hash, H => pbkdf2::pbkdf2_hmac::<H>(password, &salt, rounds, &mut salted));
        Self::of_salted(hash, &salted, salt, ITERATIONS_MIN)
    }

    /// From what an administrator's client has made of the password.
    pub(crate) fn of_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: i32) -> Self {
        let stored_key = hash.digest(&hash.keyed(salted, b"Client Key"));
        Self { salt, iterations, stored_key, server_key: hash.keyed(salted, b"Server Key") }
    }
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Users {
    credentials: BTreeMap<(Str, Hash), Credential>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("credentials", &self.credentials.len()).finish_non_exhaustive()
    }
}

impl Users {
    pub(crate) fn get(&self, user: &str, hash: Hash) -> Option<&Credential> {
        self.credentials.get(&(Str::from(user), hash))
    }

    pub(crate) fn insert(&mut self, user: &str, hash: Hash, credential: Credential) {
        self.credentials.insert((Str::from(user), hash), credential);
    }

    /// False when there was none.
    pub(crate) fn remove(&mut self, user: &str, hash: Hash) -> bool {
        self.credentials.remove(&(Str::from(user), hash)).is_some()
    }

    /// The names of all, each once, in order.
    pub(crate) fn names(&self) -> Vec<Str> {
        let mut names: Vec<Str> = self.credentials.keys().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user `user` with the password `pencil` of RFC 7677, section 3.
    #[test]
    fn the_keys_are_those_of_the_rfc() {
        let salt = vec![
            0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81,
        ];
        let credential = Credential::of_password(Hash::Sha256, b"pencil", salt);
        let covered = concat!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        );
        let signature = Hash::Sha256.keyed(&credential.server_key, covered.as_bytes());
        let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}

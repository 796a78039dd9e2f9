//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), the client's side, as Kafka speaks it (KIP-84, tokens: KIP-48).
//!
//! It owns the messages and what must be true of the broker's. It refuses to know connections, and where the time for the
//! key derivation comes from. Invariant: nobody is trusted who has not shown, by the server's signature, that he knows the
//! password as well (SEC8).

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Secret;

/// Fewer rounds make guessing cheap; more are a way to keep a client busy.
const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;
/// "No channel binding", in base64, as the first message says it.
const NO_BINDING: &str = "biws";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

/// The conversation up to the broker's challenge.
pub(crate) struct Scram {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// The first message without its header, which the proof covers.
    bare: String,
}

/// The broker's challenge, understood. Answering it takes thousands of rounds of hashing.
pub(crate) struct Challenge {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
    without_proof: String,
    covered: String,
}

/// What a broker must show at the end.
pub(crate) struct Expected {
    signature: Zeroizing<Vec<u8>>,
}

impl Scram {
    /// `nonce` must be printable, without commas, and never used before.
    pub(crate) fn new(hash: Hash, user: &str, password: Secret, is_token: bool, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let extension = if is_token { ",tokenauth=true" } else { "" };
        let bare = format!("n={user},r={nonce}{extension}");
        Scram { hash, password, nonce, bare }
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// # Errors
    /// What is wrong with the broker's message.
    pub(crate) fn challenged(self, message: &[u8]) -> Result<Challenge, String> {
        let text = std::str::from_utf8(message).map_err(|_| "the challenge is not text".to_owned())?;
        if let Some(reason) = text.strip_prefix("e=") {
            return Err(format!("the broker refuses: {reason:?}"));
        }
        let mut parts = text.split(',');
        let mut part = |name: &str| {
            let value = parts.next().and_then(|part| part.strip_prefix(name));
            value.ok_or_else(|| format!("the challenge has no {name} where one is due"))
        };
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker answers another login: its nonce does not continue ours".into());
        }
        let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64".to_owned())?;
        let iterations: u32 = iterations.parse().map_err(|_| "the iterations are no number".to_owned())?;
        if !ITERATIONS.contains(&iterations) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            return Err(format!(
                "the broker asks for {iterations} iterations; {least} to {most} are accepted"
            ));
        }
        let without_proof = format!("c={NO_BINDING},r={nonce}");
        let covered = format!("{},{text},{without_proof}", self.bare);
        let Self { hash, password, .. } = self;
        Ok(Challenge { hash, password, salt, iterations, without_proof, covered })
    }
}

impl Challenge {
    /// The answer, and what must follow. Takes milliseconds to a second.
    pub(crate) fn answer(self) -> (Vec<u8>, Expected) {
        let (proof, signature) = match self.hash {
            Hash::Sha256 => self.derive_sha256(),
            Hash::Sha512 => self.derive_sha512(),
        };
        let answer = format!("{},p={}", self.without_proof, STANDARD.encode(&proof[..]));
        (answer.into_bytes(), Expected { signature })
    }
}

/// Proof and server's signature, by one hash function.
macro_rules! derive {
    ($name:ident, $Hash:ty) => {
        impl Challenge {
            fn $name(&self) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
                let keyed = |key: &[u8], message: &[u8]| {
                    let mut mac = Hmac::<$Hash>::new_from_slice(key).expect("a key of any length is taken");
                    mac.update(message);
                    Zeroizing::new(mac.finalize().into_bytes().to_vec())
                };
                let mut salted = Zeroizing::new(vec![0; <$Hash as Digest>::output_size()]);
                pbkdf2::pbkdf2_hmac::<$Hash>(
                    self.password.expose(),
                    &self.salt,
                    self.iterations,
                    &mut salted,
                );
                let client_key = keyed(&salted, b"Client Key");
                let signature = keyed(&<$Hash>::digest(&client_key[..]), self.covered.as_bytes());
                let proof = client_key.iter().zip(signature.iter()).map(|(key, sign)| key ^ sign).collect();
                let server_key = keyed(&salted, b"Server Key");
                (Zeroizing::new(proof), keyed(&server_key, self.covered.as_bytes()))
            }
        }
    };
}

derive!(derive_sha256, Sha256);
derive!(derive_sha512, Sha512);

impl Expected {
    /// # Errors
    /// The broker refuses, or could not show that it knows the password.
    pub(crate) fn check(&self, message: &[u8]) -> Result<(), String> {
        let text =
            std::str::from_utf8(message).map_err(|_| "the broker's last word is not text".to_owned())?;
        if let Some(reason) = text.strip_prefix("e=") {
            return Err(format!("the broker refuses: {reason:?}"));
        }
        let Some(signature) = text.strip_prefix("v=").and_then(|rest| rest.split(',').next()) else {
            return Err("the broker does not sign: it may not know the password".into());
        };
        let signature = STANDARD.decode(signature).unwrap_or_default();
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err("the broker's signature is wrong: it does not know the password".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn pencil(hash: Hash) -> Scram {
        Scram::new(hash, "user", Secret::from("pencil"), false, NONCE.into())
    }

    fn refused(challenge: &str) -> String {
        pencil(Hash::Sha256).challenged(challenge.as_bytes()).err().expect("it must be refused")
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let scram = pencil(Hash::Sha256);
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (answer, expected) = scram.challenged(CHALLENGE.as_bytes()).expect("is well made").answer();
        assert_eq!(
            String::from_utf8(answer).expect("is text"),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(expected.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    /// SEC8: who does not know the password is not talked to.
    #[test]
    fn a_broker_without_the_right_signature_is_not_trusted() {
        for hash in [Hash::Sha256, Hash::Sha512] {
            let (_, expected) = pencil(hash).challenged(CHALLENGE.as_bytes()).expect("is well made").answer();
            for last in
                ["v=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=AAAA", "", "x", "e=other-error"]
            {
                assert!(expected.check(last.as_bytes()).is_err(), "{last:?} is believed");
            }
        }
    }

    /// SEC8.
    #[test]
    fn a_challenge_that_is_odd_is_refused_with_its_reason() {
        let with =
            |nonce: &str, iterations: &str| format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}");
        assert!(refused(&with(NONCE, "4096")).contains("nonce"), "our own nonce, unchanged");
        assert!(refused(&with("somebody else's", "4096")).contains("nonce"));
        let longer = format!("{NONCE}more");
        for iterations in ["4", "4095", "1000001", "4000000000"] {
            assert!(refused(&with(&longer, iterations)).contains("4096 to 1000000 are accepted"));
        }
        assert!(refused(&with(&longer, "many")).contains("no number"));
        assert!(refused("s=AAAA,i=4096").contains("no r="));
        assert!(refused("e=unknown-user").contains("unknown-user"));
    }

    #[test]
    fn a_name_with_reserved_signs_is_escaped_and_a_token_says_so() {
        let scram = Scram::new(Hash::Sha512, "a=b,c", Secret::from("x"), true, "1".into());
        assert_eq!(scram.first(), b"n,,n=a=3Db=2Cc,r=1,tokenauth=true");
    }
}

//! Users that log in by SCRAM: described, given passwords, deleted (KIP-554).
//!
//! It owns what is made of a password before it is sent: the broker never sees the password itself. Any broker is asked.

use std::collections::BTreeMap;

use ottla_protocol::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, ScramCredentialDeletion,
    ScramCredentialUpsertion, ScramUser,
};
use ottla_protocol::wire::Str;
use sha2::{Sha256, Sha512};
use tokio::sync::oneshot;

use super::attempts::Pending;
use super::{Admin, Results, checked};
use crate::error::{Error, ErrorKind};
use crate::security::Secret;

/// Rounds of a credential, unless they are set: as Kafka's tools have them.
const ITERATIONS: i32 = 4_096;
const SALT_BYTES: usize = 24;
/// More would be for ever.
const ROUNDS_MAX: u32 = 1_000_000;

/// A mechanism of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    fn wire(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn of_wire(number: i8) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|it| it.wire() == number)
    }

    /// What a broker is told of a password (RFC 5802). Takes milliseconds.
    fn salted(self, password: &Secret, salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.expose(), salt, rounds).to_vec(),
            Self::Sha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.expose(), salt, rounds).to_vec(),
        }
    }
}

/// A change of a user's credential (Java: `UserScramCredentialAlteration`).
///
/// ```
/// use ottla::{ScramChange, ScramMechanism};
///
/// let change = ScramChange::set("alice", ScramMechanism::Sha512, "alice-secret").iterations(8_192);
/// assert!(!format!("{change:?}").contains("alice-secret"));
/// let gone = ScramChange::delete("bob", ScramMechanism::Sha256);
/// # drop(gone);
/// ```
#[derive(Clone)]
pub struct ScramChange {
    user: String,
    mechanism: ScramMechanism,
    /// None: it goes.
    password: Option<Secret>,
    iterations: i32,
}

impl std::fmt::Debug for ScramChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramChange")
            .field("user", &self.user)
            .field("mechanism", &self.mechanism)
            .field("deletes", &self.password.is_none())
            .finish_non_exhaustive()
    }
}

impl ScramChange {
    /// Gives a user this password for a mechanism, in 4,096 rounds, instead of the one that he had.
    pub fn set(user: impl Into<String>, mechanism: ScramMechanism, password: impl Into<Secret>) -> Self {
        Self { user: user.into(), mechanism, password: Some(password.into()), iterations: ITERATIONS }
    }

    /// Takes the password of a mechanism away from a user.
    pub fn delete(user: impl Into<String>, mechanism: ScramMechanism) -> Self {
        Self { user: user.into(), mechanism, password: None, iterations: ITERATIONS }
    }

    /// Another number of rounds; Kafka takes 4,096 to 16,384.
    #[must_use]
    pub fn iterations(self, iterations: i32) -> Self {
        Self { iterations, ..self }
    }
}

impl Admin {
    /// Asks which mechanisms users have a password for, and with how many rounds; without users, of all. A user of whom
    /// nothing is known is left out of the answer for all.
    ///
    /// # Errors
    /// For each user its own; [`Error::code`] says `RESOURCE_NOT_FOUND` for one that does not exist. The call as a whole fails with
    /// [`ErrorKind::Authorization`] without `Describe` on the cluster. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for (user, credentials) in admin.describe_user_scram_credentials(&[]).await? {
    ///     println!("{user}: {credentials:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_user_scram_credentials(
        &self,
        users: &[&str],
    ) -> Result<Results<String, BTreeMap<ScramMechanism, i32>>, Error> {
        let named = users.iter().map(|name| ScramUser { name: Str::from(*name) }).collect();
        let users = if users.is_empty() { None } else { Some(named) };
        let request = DescribeUserScramCredentialsRequest { users };
        let mut attempts = self.attempts();
        loop {
            let answer = self.nodes.ask_any(&request, attempts.deadline).await.and_then(|answer| {
                checked(answer.error_code, answer.error_message.as_ref(), "SCRAM credentials")?;
                Ok(answer.results)
            });
            let results = match answer {
                Ok(results) => results,
                Err(cause) => {
                    attempts.pause(cause).await?;
                    continue;
                }
            };
            let described = results.iter().map(|it| {
                let subject = format_args!("user {}", it.user);
                let known = it.credential_infos.iter();
                let known =
                    known.filter_map(|it| Some((ScramMechanism::of_wire(it.mechanism)?, it.iterations)));
                let whole = checked(it.error_code, it.error_message.as_ref(), subject);
                (it.user.to_string(), whole.map(|()| known.collect()))
            });
            return Ok(Results(described.collect()));
        }
    }

    /// Sets and deletes the passwords of users. The client makes a salted hash of each, in as many rounds as it says, and sends
    /// that; the hashing runs beside the tasks.
    ///
    /// # Errors
    /// For each user its own, of all his changes together: [`ErrorKind::Authorization`] without `Alter` on the cluster;
    /// [`Error::code`] says `RESOURCE_NOT_FOUND` for a deletion of what is not there, and `UNACCEPTABLE_CREDENTIAL` for rounds
    /// out of range. Cancelling may leave some of it done; doing it again does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{ScramChange, ScramMechanism};
    ///
    /// let change = ScramChange::set("alice", ScramMechanism::Sha512, "alice-secret");
    /// admin.alter_user_scram_credentials([change]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_user_scram_credentials(
        &self,
        changes: impl IntoIterator<Item = ScramChange>,
    ) -> Results<String, ()> {
        let mut by_user: BTreeMap<String, Vec<ScramChange>> = BTreeMap::new();
        for change in changes {
            by_user.entry(change.user.clone()).or_default().push(change);
        }
        let mut attempts = self.attempts();
        let mut pending = Pending::new(by_user.keys().cloned());
        let mut request = AlterUserScramCredentialsRequest::default();
        for change in by_user.values().flatten() {
            match self.upsertion(change).await {
                Ok(Some(upsertion)) => request.upsertions.push(upsertion),
                Ok(None) => request.deletions.push(deletion(change)),
                Err(cause) => pending.settle(&change.user, Err(cause)),
            }
        }
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let is_open = |name: &Str| open.iter().any(|user| **user == **name);
            request.upsertions.retain(|it| is_open(&it.name));
            request.deletions.retain(|it| is_open(&it.name));
            match self.nodes.ask_any(&request, attempts.deadline).await {
                Ok(answer) => {
                    for it in &answer.results {
                        let subject = format_args!("user {}", it.user);
                        let result = checked(it.error_code, it.error_message.as_ref(), subject);
                        pending.answer(&it.user.to_string(), result);
                    }
                }
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    /// What is sent of a password; nothing where it goes.
    async fn upsertion(&self, change: &ScramChange) -> Result<Option<ScramCredentialUpsertion>, Error> {
        let ScramChange { user, mechanism, password: Some(password), iterations } = change.clone() else {
            return Ok(None);
        };
        let rounds = u32::try_from(iterations).ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds));
        let Some(rounds) = rounds else {
            let message = format!("user {user}: {iterations} rounds; there are 4096 to 16384");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        let world = &self.nodes.world;
        let mut salt = vec![0; SALT_BYTES];
        let failed =
            |cause: &dyn std::fmt::Display| Error::new(ErrorKind::Config, format!("no salt: {cause}"));
        world.unguessable(&mut salt).map_err(|cause| failed(&cause))?;
        let (done, salted) = oneshot::channel();
        let by = salt.clone();
        world.compute(Box::new(move || {
            // Whoever asked may have gone.
            let _ = done.send(mechanism.salted(&password, &by, rounds));
        }));
        let salted_password = salted.await.map_err(|cause| failed(&cause))?.into();
        let (name, mechanism) = (Str::from(&*user), mechanism.wire());
        Ok(Some(ScramCredentialUpsertion { name, mechanism, iterations, salt: salt.into(), salted_password }))
    }
}

fn deletion(change: &ScramChange) -> ScramCredentialDeletion {
    ScramCredentialDeletion { name: Str::from(&*change.user), mechanism: change.mechanism.wire() }
}

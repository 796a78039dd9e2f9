//! AlterUserScramCredentials and DescribeUserScramCredentials: who logs in by SCRAM (KIP-554).
//!
//! Versions: both 0, whole, as Kafka judges them: a user is altered or refused as a whole, rounds are 4096 to 16384, and salt
//! and password must be there. Any node answers. Credentials are kept as the storage of the broker is: in memory only, so far.

use super::{Caller, Refuse};
use crate::core::users::{Credential, Hash, ITERATIONS_MAX, ITERATIONS_MIN};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult, ScramCredentialInfo, ScramCredentialUpsertion,
};
use ottla_protocol::wire::Str;
use std::collections::{BTreeMap, BTreeSet};

/// An error code and what to tell the administrator.
type Refused = (ErrorCode, String);

impl Refuse for AlterUserScramCredentialsRequest {
    type Response = AlterUserScramCredentialsResponse;

    fn refuse(&self, code: ErrorCode) -> AlterUserScramCredentialsResponse {
        let refused = || Err((code, code.message().to_string()));
        let results = named(self).into_iter().map(|user| altered(user, refused())).collect();
        AlterUserScramCredentialsResponse { results, ..AlterUserScramCredentialsResponse::default() }
    }
}

/// The users of a request, each once.
fn named(request: &AlterUserScramCredentialsRequest) -> BTreeSet<&Str> {
    let deleted = request.deletions.iter().map(|it| &it.name);
    deleted.chain(request.upsertions.iter().map(|it| &it.name)).collect()
}

fn altered(user: &Str, outcome: Result<(), Refused>) -> AlterUserScramCredentialsResult {
    let (error_code, error_message) = match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err((code, message)) => (code, Some(Str::from(message))),
    };
    AlterUserScramCredentialsResult { user: user.clone(), error_code, error_message }
}

impl Refuse for DescribeUserScramCredentialsRequest {
    type Response = DescribeUserScramCredentialsResponse;

    fn refuse(&self, error_code: ErrorCode) -> DescribeUserScramCredentialsResponse {
        let error_message = Some(Str::from_static(error_code.message()));
        DescribeUserScramCredentialsResponse {
            error_code,
            error_message,
            ..DescribeUserScramCredentialsResponse::default()
        }
    }
}

impl Cluster {
    pub(crate) fn alter_user_scram_credentials(
        &mut self,
        _: Now,
        _: &Caller,
        request: AlterUserScramCredentialsRequest,
    ) -> AlterUserScramCredentialsResponse {
        let mut refused: BTreeMap<&Str, Refused> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let changes = request.deletions.iter().map(|it| (&it.name, it.mechanism, None));
        let changes = changes.chain(request.upsertions.iter().map(|it| (&it.name, it.mechanism, Some(it))));
        let changes: Vec<_> = changes.collect();
        for (user, mechanism, upsertion) in &changes {
            let checked = match seen.insert((*user, *mechanism)) {
                false => Err((
                    ErrorCode::DUPLICATE_RESOURCE,
                    "A user credential cannot be altered twice in the same request".to_string(),
                )),
                true => self.check_credential(user, *mechanism, *upsertion),
            };
            if let Err(reason) = checked {
                refused.entry(*user).or_insert(reason);
            }
        }
        for (user, mechanism, upsertion) in &changes {
            let Some(hash) = Hash::of_wire(*mechanism).filter(|_| !refused.contains_key(user)) else {
                continue;
            };
            match upsertion {
                None => {
                    self.users.remove(user, hash);
                }
                Some(it) => {
                    let salt = it.salt.to_vec();
                    let credential = Credential::of_salted(hash, &it.salted_password, salt, it.iterations);
                    self.users.insert(user, hash, credential);
                }
            }
        }
        let outcome = |user: &Str| refused.get(user).cloned().map_or(Ok(()), Err);
        let results = named(&request).into_iter().map(|user| altered(user, outcome(user))).collect();
        AlterUserScramCredentialsResponse { results, ..AlterUserScramCredentialsResponse::default() }
    }

    fn check_credential(
        &self,
        user: &Str,
        mechanism: i8,
        upsertion: Option<&ScramCredentialUpsertion>,
    ) -> Result<(), Refused> {
        let unacceptable = |reason: &str| Err((ErrorCode::UNACCEPTABLE_CREDENTIAL, reason.to_string()));
        if user.is_empty() {
            return unacceptable("Username must not be empty");
        }
        let Some(hash) = Hash::of_wire(mechanism) else {
            return Err((ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism".to_string()));
        };
        match upsertion {
            None if self.users.get(user, hash).is_none() => {
                let reason = "Attempt to delete a user credential that does not exist";
                Err((ErrorCode::RESOURCE_NOT_FOUND, reason.to_string()))
            }
            None => Ok(()),
            Some(it) if it.iterations < ITERATIONS_MIN => unacceptable("Too few iterations"),
            Some(it) if it.iterations > ITERATIONS_MAX => unacceptable("Too many iterations"),
            Some(it) if it.salt.is_empty() => unacceptable("Empty salt"),
            Some(it) if it.salted_password.is_empty() => unacceptable("Empty salted password"),
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn describe_user_scram_credentials(
        &mut self,
        _: Now,
        _: &Caller,
        request: DescribeUserScramCredentialsRequest,
    ) -> DescribeUserScramCredentialsResponse {
        let asked: Option<Vec<Str>> = request
            .users
            .filter(|users| !users.is_empty())
            .map(|users| users.into_iter().map(|user| user.name).collect());
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<Str> =
            asked.iter().flatten().filter(|name| !seen.insert((*name).clone())).cloned().collect();
        let all = asked.is_none();
        let mut names = asked.unwrap_or_else(|| self.users.names());
        names.sort();
        names.dedup();
        let describe = |user: Str| {
            let kept = |hash| self.users.get(&user, hash).map(|it| (hash, it.iterations));
            let infos = Hash::ALL.into_iter().filter_map(kept);
            let credential_infos: Vec<_> = infos
                .map(|(hash, iterations)| ScramCredentialInfo { mechanism: hash.wire(), iterations })
                .collect();
            let (error_code, message) = match () {
                () if twice.contains(&user) => (
                    ErrorCode::DUPLICATE_RESOURCE,
                    Some(format!(
                        "Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
                    )),
                ),
                () if credential_infos.is_empty() && !all => (
                    ErrorCode::RESOURCE_NOT_FOUND,
                    Some(format!("Attempt to describe a user credential that does not exist: {user}")),
                ),
                () => (ErrorCode::NONE, None),
            };
            let credential_infos = if error_code.is_ok() { credential_infos } else { Vec::new() };
            let error_message = message.map(Str::from);
            DescribeUserScramCredentialsResult { user, error_code, error_message, credential_infos }
        };
        let results = names.into_iter().map(describe).collect();
        DescribeUserScramCredentialsResponse {
            results,
            error_message: None,
            ..DescribeUserScramCredentialsResponse::default()
        }
    }
}

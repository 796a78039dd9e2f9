//! ApiVersions: what the broker speaks.
//!
//! Versions 0 to 5. Honoured: the name and version of the client's software must be well formed (KIP-511); a cluster id
//! or node id that is not ours is answered REBOOTSTRAP_REQUIRED (KIP-1242). A version that is too new is answered in
//! version 0 with UNSUPPORTED_VERSION, by the server, since the body cannot be read. The features are
//! `group.version` and `transaction.version`; a broker that shows only older versions of the APIs shows the levels that go with
//! them. Unstable versions are shown with unstable.api.versions.enable only.

use super::{Caller, Refuse, SERVED};
use crate::core::{Cluster, Now};
use crate::core::{group, transactions};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeature, SupportedFeature,
};
use ottla_protocol::wire::Str;

/// The feature that says whether there are consumer groups (KIP-848).
const GROUP_VERSION: &str = "group.version";

/// The feature that says which protocol of transactions clients use.
const TRANSACTION_VERSION: &str = "transaction.version";

/// Above it InitProducerId is unstable in Apache Kafka 4.4 (KIP-939).
const INIT_PRODUCER_ID_STABLE: i16 = 5;

impl Refuse for ApiVersionsRequest {
    type Response = ApiVersionsResponse;

    fn refuse(&self, error_code: ErrorCode) -> ApiVersionsResponse {
        ApiVersionsResponse { error_code, api_keys: advertised(None), ..ApiVersionsResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn api_versions(
        &mut self,
        _: Now,
        caller: &Caller,
        request: ApiVersionsRequest,
    ) -> ApiVersionsResponse {
        let named = [&request.client_software_name, &request.client_software_version];
        if caller.version >= 3 && !named.iter().all(|name| is_software_name(name)) {
            return request.refuse(ErrorCode::INVALID_REQUEST);
        }
        let other_cluster = request.cluster_id.as_ref().is_some_and(|id| *id != self.id);
        let other_node = request.node_id >= 0 && request.node_id != caller.node;
        if other_cluster || other_node {
            return request.refuse(ErrorCode::REBOOTSTRAP_REQUIRED);
        }
        let features = [
            (GROUP_VERSION, self.group_version, group::VERSION_MAX),
            (TRANSACTION_VERSION, self.transaction_version, transactions::VERSION_MAX),
        ];
        let supported = features.iter().map(|(name, _, max)| SupportedFeature {
            name: Str::from_static(name),
            min_version: 0,
            max_version: *max,
        });
        let finalized = features.iter().filter(|(_, level, _)| *level > 0).map(|(name, level, _)| {
            let name = Str::from_static(name);
            FinalizedFeature { name, max_version_level: *level, min_version_level: *level }
        });
        ApiVersionsResponse {
            api_keys: advertised(None),
            // Clients of before take a lowest level of zero for an error.
            supported_features: if caller.version >= 4 { supported.collect() } else { Vec::new() },
            finalized_features: finalized.collect(),
            finalized_features_epoch: self.features_epoch,
            ..ApiVersionsResponse::default()
        }
    }

    /// Changes the level of the feature `transaction.version`, as an administrator does.
    pub(crate) fn set_transaction_version(&mut self, level: i16) -> Result<(), ErrorCode> {
        let finalized = &mut self.transaction_version;
        set_level(finalized, level, transactions::VERSION_MAX, &mut self.features_epoch)
    }

    /// Changes the level of the feature `group.version`, as an administrator does.
    pub(crate) fn set_group_version(&mut self, level: i16) -> Result<(), ErrorCode> {
        set_level(&mut self.group_version, level, group::VERSION_MAX, &mut self.features_epoch)
    }
}

fn set_level(finalized: &mut i16, level: i16, max: i16, epoch: &mut i64) -> Result<(), ErrorCode> {
    if !(0..=max).contains(&level) {
        return Err(ErrorCode::INVALID_UPDATE_VERSION);
    }
    if level != *finalized {
        *finalized = level;
        *epoch += 1;
    }
    Ok(())
}

/// Narrows an answer to what an older broker would say.
pub(crate) fn narrow(answer: &mut ApiVersionsResponse, caps: &Versions) {
    answer.api_keys = advertised(Some(caps));
    let has = |key, version| served(key, Some(caps)).is_some_and(|(_, max)| max >= version);
    // KIP-890 is whole only with these versions.
    let needed = [(ApiKey::PRODUCE, 12), (ApiKey::END_TXN, 5), (ApiKey::TXN_OFFSET_COMMIT, 5)];
    let transactions = if needed.iter().all(|(key, version)| has(*key, *version)) { 2 } else { 1 };
    // KIP-848 came with epochs in the commits of members.
    let needed =
        [(ApiKey::CONSUMER_GROUP_HEARTBEAT, 0), (ApiKey::OFFSET_COMMIT, 9), (ApiKey::OFFSET_FETCH, 9)];
    let groups = i16::from(needed.iter().all(|(key, version)| has(*key, *version)));
    let most = |name: &str| if name == GROUP_VERSION { groups } else { transactions };
    answer.supported_features.retain_mut(|feature| {
        feature.max_version = feature.max_version.min(most(&feature.name));
        feature.max_version > 0
    });
    answer.finalized_features.retain_mut(|feature| {
        feature.max_version_level = feature.max_version_level.min(most(&feature.name));
        feature.min_version_level = feature.min_version_level.min(feature.max_version_level);
        feature.max_version_level > 0
    });
}

/// The same without versions that Kafka may still change.
pub(crate) fn stable(caps: Option<Versions>) -> Versions {
    let caps = caps.unwrap_or_default();
    let (min, max) = caps.get(ApiKey::INIT_PRODUCER_ID).unwrap_or((0, i16::MAX));
    caps.iter().chain([(ApiKey::INIT_PRODUCER_ID, (min, max.min(INIT_PRODUCER_ID_STABLE)))]).collect()
}

/// The ranges that are served; `caps` narrows them.
pub(crate) fn advertised(caps: Option<&Versions>) -> Vec<ApiVersion> {
    let served = SERVED.iter().filter_map(|&(api_key, ..)| {
        let (min_version, max_version) = served(api_key, caps)?;
        Some(ApiVersion { api_key, min_version, max_version })
    });
    served.collect()
}

/// The versions of an API that are served, if it is; `caps` narrows them.
pub(crate) fn served(key: ApiKey, caps: Option<&Versions>) -> Option<(i16, i16)> {
    let &(_, min, max) = SERVED.iter().find(|(served, ..)| *served == key)?;
    let (lowest, highest) = caps.and_then(|caps| caps.get(key)).unwrap_or((min, max));
    Some((min.max(lowest), max.min(highest))).filter(|(min, max)| min <= max)
}

/// Letters and digits; dots and hyphens within.
fn is_software_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && name.chars().all(|c| is_plain(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::api::Api;

    #[test]
    fn what_is_served_is_within_what_the_tables_describe() {
        for (key, min, max) in SERVED {
            let api = Api::find(*key).unwrap_or_else(|| panic!("{key} has no messages"));
            assert!(api.min <= *min && *max <= api.max, "{key} {min} to {max}");
        }
    }

    #[test]
    fn caps_narrow_a_range_and_may_remove_an_api() {
        let caps: Versions = [(ApiKey::FETCH, (0, 5)), (ApiKey::METADATA, (90, 99))].into_iter().collect();
        assert_eq!(served(ApiKey::FETCH, Some(&caps)), Some((4, 5)));
        assert_eq!(served(ApiKey::METADATA, Some(&caps)), None);
        assert_eq!(served(ApiKey::PRODUCE, Some(&caps)), Some((3, 13)));
    }
}

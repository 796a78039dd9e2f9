//! ApiVersions: what the broker speaks.
//!
//! Versions 0 to 5. Honoured: the name and version of the client's software must be well formed (KIP-511); a cluster id
//! or node id that is not ours is answered REBOOTSTRAP_REQUIRED (KIP-1242). A version that is too new is answered in
//! version 0 with UNSUPPORTED_VERSION, by the server, since the body cannot be read. The one feature is
//! `transaction.version`; a broker that shows only older versions of the APIs shows the level that goes with them.

use super::{Caller, Refuse, SERVED};
use crate::core::transactions::VERSION_MAX;
use crate::core::{Cluster, Now};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeature, SupportedFeature,
};
use ottla_protocol::wire::Str;

/// The feature that says which protocol of transactions clients use.
const TRANSACTION_VERSION: &str = "transaction.version";

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
        let level = self.transaction_version;
        let finalized = FinalizedFeature {
            name: Str::from_static(TRANSACTION_VERSION),
            max_version_level: level,
            min_version_level: level,
        };
        let supported = SupportedFeature {
            name: Str::from_static(TRANSACTION_VERSION),
            min_version: 0,
            max_version: VERSION_MAX,
        };
        ApiVersionsResponse {
            api_keys: advertised(None),
            // Clients of before take a lowest level of zero for an error.
            supported_features: if caller.version >= 4 { vec![supported] } else { Vec::new() },
            finalized_features: if level > 0 { vec![finalized] } else { Vec::new() },
            finalized_features_epoch: self.features_epoch,
            ..ApiVersionsResponse::default()
        }
    }

    /// Changes the level of the feature `transaction.version`, as an administrator does.
    pub(crate) fn set_transaction_version(&mut self, level: i16) -> Result<(), ErrorCode> {
        if !(0..=VERSION_MAX).contains(&level) {
            return Err(ErrorCode::INVALID_UPDATE_VERSION);
        }
        if level != self.transaction_version {
            self.transaction_version = level;
            self.features_epoch += 1;
        }
        Ok(())
    }
}

/// Narrows an answer to what an older broker would say.
pub(crate) fn narrow(answer: &mut ApiVersionsResponse, caps: &Versions) {
    answer.api_keys = advertised(Some(caps));
    // KIP-890 is whole only with these versions.
    let needed = [(ApiKey::PRODUCE, 12), (ApiKey::END_TXN, 5), (ApiKey::TXN_OFFSET_COMMIT, 5)];
    if needed.iter().all(|(key, version)| served(*key, Some(caps)).is_some_and(|(_, max)| max >= *version)) {
        return;
    }
    for feature in &mut answer.supported_features {
        feature.max_version = feature.max_version.min(1);
    }
    for feature in &mut answer.finalized_features {
        feature.max_version_level = feature.max_version_level.min(1);
        feature.min_version_level = feature.min_version_level.min(1);
    }
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

//! ApiVersions: what the broker speaks.
//!
//! Versions 0 to 5. Honoured: the name and version of the client's software must be well formed (KIP-511); a cluster id
//! or node id that is not ours is answered REBOOTSTRAP_REQUIRED (KIP-1242). A version that is too new is answered in
//! version 0 with UNSUPPORTED_VERSION, by the server, since the body cannot be read. There are no features.

use super::{Caller, Refuse, SERVED};
use crate::core::{Cluster, Now};
use ottla_protocol::api::{ApiKey, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

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
        ApiVersionsResponse { api_keys: advertised(None), ..ApiVersionsResponse::default() }
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

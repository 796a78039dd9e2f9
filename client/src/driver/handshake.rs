//! The first words on a connection: which versions does the broker speak (KIP-35, KIP-511), and is it the one we mean (KIP-1242)?
//!
//! Beside the login it is the one place where a driver reads an answer. Invariant: it ends; a broker that refuses our version is asked
//! once more in the version that it names, or in the oldest.

use ottla_protocol::api::{Request, Versions};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::frame;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::wire::Str;

use super::connection::{Connection, Whom, undecodable};
use crate::error::{Error, ErrorKind};

/// The client's name as brokers log it (KIP-511).
const SOFTWARE: &str = "ottla";

pub(super) async fn api_versions(connection: &mut Connection, whom: &Whom<'_>) -> Result<Versions, Error> {
    let check = connection.config.cluster_check;
    let request = ApiVersionsRequest {
        cluster_id: whom.cluster_id.clone().filter(|_| check),
        node_id: if check { whom.node_id } else { -1 },
        client_software_name: Str::from(SOFTWARE),
        client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
    };
    let newest = *ApiVersionsRequest::VERSIONS.end();
    let mut version = newest;
    loop {
        let body = connection.exchange(&request, version).await?;
        // A broker that does not know the version answers in version 0, which says so in its first two bytes.
        let refused = body.get(..2) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()[..]);
        let spoken = if refused { 0 } else { version };
        let answer: ApiVersionsResponse = frame::decode(body, spoken, spoken >= ApiVersionsRequest::FLEXIBLE)
            .map_err(|e| undecodable(&connection.peer, ApiVersionsRequest::NAME, e))?;
        if answer.error_code.is_ok() {
            return Ok(Versions::from(&answer));
        }
        if answer.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
            return Err(misrouted(&connection.peer, whom));
        }
        if answer.error_code != ErrorCode::UNSUPPORTED_VERSION || version == 0 {
            let message = format!("broker {} refuses ApiVersions: {}", connection.peer, answer.error_code);
            return Err(Error::new(ErrorKind::Broker, message).with_code(answer.error_code));
        }
        let named = answer.api_keys.iter().find(|api| api.api_key == ApiVersionsRequest::KEY);
        version = named.map_or(0, |api| api.max_version.clamp(0, version - 1));
    }
}

/// Passes, since the broker that is meant may be found by the bootstrap servers.
fn misrouted(peer: &str, whom: &Whom<'_>) -> Error {
    let node = if whom.node_id < 0 { "a broker".to_owned() } else { format!("broker {}", whom.node_id) };
    let cluster = whom.cluster_id.as_ref().map(|id| format!(" of the cluster {id}")).unwrap_or_default();
    let message = format!("{peer} is not {node}{cluster}: it sends clients back to their bootstrap servers");
    Error::new(ErrorKind::Connect, message).with_code(ErrorCode::REBOOTSTRAP_REQUIRED)
}

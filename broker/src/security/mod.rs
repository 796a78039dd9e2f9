//! Who comes in, and by which door: listeners, TLS, logins.
//!
//! It owns what the settings say of a listener, and the conversation of a login. It refuses to know sockets, and what a
//! principal may do once it is in: that is the authorizer's. Invariant: what a listener asks for is fixed when the broker
//! starts, and nothing that a client says makes it less.

pub(crate) mod exchange;
pub(crate) mod sasl;
pub(crate) mod session;
#[cfg(feature = "tls")]
pub(crate) mod subject;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod token;

use crate::core::settings::{Given, SettingError};
use sasl::Sasl;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Who has not said who he is.
pub(crate) const ANONYMOUS: &str = "User:ANONYMOUS";

/// The listener that there is unless others are named.
const PLAINTEXT: &str = "PLAINTEXT";

/// A door of every node. The nodes after the first listen on the ports that follow.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::Tls>,
    pub(crate) sasl: Option<Arc<Sasl>>,
}

/// What is set for a listener, and for a mechanism of it.
#[derive(Clone, Copy)]
struct Scope<'a> {
    given: &'a Given,
    listener: &'a str,
}

impl<'a> Scope<'a> {
    /// The value that is nearest: of the mechanism at this listener, of this listener, of all.
    fn of(&self, mechanism: &str, name: &str) -> Option<&'a str> {
        let listener = self.listener.to_ascii_lowercase();
        let mechanism = mechanism.to_ascii_lowercase();
        let names = [
            format!("listener.name.{listener}.{mechanism}.{name}"),
            format!("listener.name.{listener}.{name}"),
            name.to_string(),
        ];
        names.iter().find_map(|name| self.given.get(name)).map(|value| value.trim())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.of("", name).filter(|value| !value.is_empty())
    }

    /// What is set for this listener and no other.
    #[cfg(feature = "tls")]
    fn own(&self, name: &str) -> Option<&'a str> {
        let name = format!("listener.name.{}.{name}", self.listener.to_ascii_lowercase());
        self.given.get(&name).map(|value| value.trim())
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

/// Says what is wrong with a setting, but for its value where that is nobody's business.
fn refused(name: &str, value: &str, expected: impl Into<String>) -> SettingError {
    SettingError::Value { name: name.to_string(), value: value.to_string(), expected: expected.into() }
}

/// The listeners that are set; without any, a plain one at `first`. `users` may log in by PLAIN at each.
pub(crate) fn listeners(
    given: &Given,
    first: SocketAddr,
    users: &[(String, String)],
) -> Result<Vec<Listener>, SettingError> {
    let words = |name: &str| {
        let text = given.get(name).map_or("", |text| text.as_str());
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    let (asked, controllers) = (words("listeners"), words("controller.listener.names"));
    let protocols = words("listener.security.protocol.map");
    let mut listeners: Vec<Listener> = Vec::new();
    for word in asked {
        let bad = |expected: &str| refused("listeners", word, expected);
        let (name, place) = word.split_once("://").ok_or_else(|| bad("NAME://HOST:PORT"))?;
        if controllers.contains(&name) {
            continue;
        }
        let address = address(place).ok_or_else(|| bad("an IP address and a port behind NAME://"))?;
        if listeners.iter().any(|other| other.name == name) {
            return Err(bad("each name once"));
        }
        let mapped = protocols.iter().filter_map(|pair| pair.split_once(':')).find(|(it, _)| *it == name);
        let protocol = mapped.map_or(name, |(_, protocol)| protocol.trim());
        listeners.push(Listener::new(Scope { given, listener: name }, protocol, address, users)?);
    }
    if listeners.is_empty() {
        listeners.push(Listener::new(Scope { given, listener: PLAINTEXT }, PLAINTEXT, first, users)?);
    }
    Ok(listeners)
}

/// Nobody from elsewhere comes in unless an address says so: no host at all is this one.
fn address(place: &str) -> Option<SocketAddr> {
    let (host, port) = place.rsplit_once(':')?;
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(host, port.parse().ok()?))
}

impl Listener {
    fn new(
        scope: Scope<'_>,
        protocol: &str,
        address: SocketAddr,
        users: &[(String, String)],
    ) -> Result<Self, SettingError> {
        let (with_tls, with_sasl) = match protocol {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                let expected =
                    "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, by listener.security.protocol.map";
                return Err(refused("listeners", scope.listener, expected));
            }
        };
        #[cfg(not(feature = "tls"))]
        if with_tls {
            return Err(refused("listeners", scope.listener, "no TLS: built without the feature tls"));
        }
        Ok(Self {
            name: scope.listener.to_string(),
            address,
            #[cfg(feature = "tls")]
            tls: if with_tls { Some(tls::Tls::load(scope, with_sasl)?) } else { None },
            sasl: if with_sasl { Some(Arc::new(Sasl::new(scope, users)?)) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners_of(settings: &[(&str, &str)]) -> Result<Vec<Listener>, SettingError> {
        let given =
            settings.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        listeners(&given, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092), &[])
    }

    #[test]
    fn listeners_are_read_as_kafka_writes_them() {
        let found = listeners_of(&[
            ("listeners", "IN://:9094, CONTROLLER://:9093,OUT://[::1]:0"),
            ("controller.listener.names", "CONTROLLER"),
            ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,IN:PLAINTEXT,OUT:SASL_PLAINTEXT"),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
        ]);
        let found: Vec<_> = found
            .unwrap()
            .into_iter()
            .map(|it| (it.name, it.address.to_string(), it.sasl.is_some()))
            .collect();
        let expected = [("IN", "127.0.0.1:9094", false), ("OUT", "[::1]:0", true)];
        assert_eq!(found, expected.map(|(name, address, sasl)| (name.into(), address.into(), sasl)));
        assert_eq!(listeners_of(&[]).unwrap()[0].address.port(), 9092);
    }

    #[test]
    fn what_makes_no_listener_is_refused() {
        for (settings, expected) in [
            (vec![("listeners", "PLAINTEXT:9092")], "NAME://HOST:PORT"),
            (vec![("listeners", "PLAINTEXT://nowhere:9092")], "an IP address"),
            (vec![("listeners", "PLAINTEXT://:1,PLAINTEXT://:2")], "each name once"),
            (vec![("listeners", "IN://:1")], "listener.security.protocol.map"),
            (vec![("listeners", "SASL_PLAINTEXT://:1")], "sasl.enabled.mechanisms"),
        ] {
            let error = listeners_of(&settings).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

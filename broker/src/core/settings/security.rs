//! The settings of who may come in and what he may do: listeners, TLS, logins, access.
//!
//! It owns their names and their values as text. What is made of those of listeners is in [`crate::security`]. Some of them
//! may be set for one listener, or one mechanism of it, by a prefix, as in Kafka.

use super::value::Kind;
use ottla_protocol::wire::Str;
use std::time::Duration;

pub(super) type Row = (&'static str, Kind, &'static str);

const ANY: Kind = Kind::Text;
const BOOLEAN: Kind = Kind::Boolean;
const MS: Kind = Kind::Long(0, 0xffff_ffff);
const PEM: Kind = Kind::Choice(&["PEM"]);
const AUTHORIZERS: Kind = Kind::Choice(&["", STANDARD]);
const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const MECHANISMS: Kind = Kind::List(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]);

pub(super) const HONOURED: &[Row] = &[
    ("allow.everyone.if.no.acl.found", BOOLEAN, "false"),
    ("authorizer.class.name", AUTHORIZERS, ""),
    ("connection.failed.authentication.delay.ms", Kind::Int(0, i32::MAX), "100"),
    ("connections.max.reauth.ms", MS, "0"),
    ("controller.listener.names", ANY, ""),
    ("delegation.token.expiry.time.ms", Kind::Long(1, i64::MAX), "86400000"),
    ("delegation.token.max.lifetime.ms", Kind::Long(1, i64::MAX), "604800000"),
    ("delegation.token.secret.key", Kind::Password, ""),
    ("listener.security.protocol.map", ANY, ""),
    ("listeners", ANY, ""),
    ("sasl.enabled.mechanisms", MECHANISMS, ""),
    ("sasl.jaas.config", Kind::Password, ""),
    ("sasl.oauthbearer.clock.skew.seconds", Kind::Int(0, i32::MAX), "30"),
    ("sasl.oauthbearer.expected.audience", ANY, ""),
    ("sasl.oauthbearer.expected.issuer", ANY, ""),
    ("sasl.oauthbearer.jwks.endpoint.url", ANY, ""),
    ("sasl.oauthbearer.sub.claim.name", ANY, "sub"),
    ("sasl.server.max.receive.size", Kind::Int(1, i32::MAX), "524288"),
    ("ssl.client.auth", Kind::Choice(&["none", "requested", "required"]), "none"),
    ("ssl.enabled.protocols", Kind::List(&["TLSv1.2", "TLSv1.3"]), "TLSv1.2,TLSv1.3"),
    ("ssl.keystore.certificate.chain", Kind::Password, ""),
    ("ssl.keystore.key", Kind::Password, ""),
    ("ssl.keystore.location", ANY, ""),
    ("ssl.keystore.type", PEM, "PEM"),
    ("ssl.principal.mapping.rules", ANY, "DEFAULT"),
    ("ssl.truststore.certificates", Kind::Password, ""),
    ("ssl.truststore.location", ANY, ""),
    ("ssl.truststore.type", PEM, "PEM"),
    ("super.users", ANY, ""),
];

/// The beginnings of those that may be set for one listener.
const SCOPED: &[&str] = &["ssl.", "sasl.", "connections.max.reauth.ms"];

/// The name of a setting without the listener, and perhaps the mechanism, that it is for.
pub(super) fn unscoped(name: &str) -> &str {
    let Some(scoped) = name.strip_prefix("listener.name.") else { return name };
    let Some((_, rest)) = scoped.split_once('.') else { return name };
    let mechanisms = ["plain.", "scram-sha-256.", "scram-sha-512.", "oauthbearer."];
    let rest = mechanisms.iter().find_map(|it| rest.strip_prefix(it)).unwrap_or(rest);
    if SCOPED.iter().any(|beginning| rest.starts_with(beginning)) { rest } else { name }
}

/// What the machine knows of access.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AccessSettings {
    /// Whether anybody is asked what he may do.
    pub(crate) authorizer: bool,
    /// Principals that may do everything.
    pub(crate) super_users: Vec<Str>,
    /// What nobody has made a rule for is free.
    pub(crate) free_without_rules: bool,
    pub(crate) tokens: TokenSettings,
}

/// How long delegation tokens live.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenSettings {
    /// Without it there are no tokens.
    pub(crate) secret: Option<String>,
    pub(crate) lifetime_max: Duration,
    pub(crate) expiry: Duration,
}

impl std::fmt::Debug for AccessSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessSettings")
            .field("authorizer", &self.authorizer)
            .field("super_users", &self.super_users)
            .field("free_without_rules", &self.free_without_rules)
            .field("tokens", &(self.tokens.lifetime_max, self.tokens.expiry))
            .finish_non_exhaustive()
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            authorizer: false,
            super_users: Vec::new(),
            free_without_rules: false,
            tokens: TokenSettings {
                secret: None,
                lifetime_max: Duration::from_secs(7 * 24 * 3600),
                expiry: Duration::from_secs(24 * 3600),
            },
        }
    }
}

impl AccessSettings {
    pub(super) fn apply(&mut self, name: &str, value: &str, time: Duration) {
        match name {
            "authorizer.class.name" => self.authorizer = !value.is_empty(),
            "super.users" => {
                let users = value.split(';').map(str::trim).filter(|user| !user.is_empty());
                self.super_users = users.map(Str::from).collect();
            }
            "allow.everyone.if.no.acl.found" => self.free_without_rules = value == "true",
            "delegation.token.secret.key" => {
                self.tokens.secret = Some(value.to_string()).filter(|secret| !secret.is_empty());
            }
            "delegation.token.max.lifetime.ms" => self.tokens.lifetime_max = time,
            "delegation.token.expiry.time.ms" => self.tokens.expiry = time,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_one_listener_is_known_by_its_own_name() {
        for (name, own) in [
            ("listener.name.mtls.ssl.client.auth", "ssl.client.auth"),
            ("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", "sasl.jaas.config"),
            ("listener.name.a.plain.connections.max.reauth.ms", "connections.max.reauth.ms"),
            ("listener.name.a.num.partitions", "listener.name.a.num.partitions"),
            ("listener.name.a", "listener.name.a"),
            ("ssl.client.auth", "ssl.client.auth"),
        ] {
            assert_eq!(unscoped(name), own);
        }
    }
}

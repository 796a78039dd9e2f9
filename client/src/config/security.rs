//! `security.protocol`, and the `sasl.` and `ssl.` keys: what they mean together.
//!
//! It owns the rules between them and the form of `sasl.jaas.config`. It refuses to know how a login or a handshake works.

use std::collections::BTreeMap;
#[cfg(feature = "_tls")]
use std::sync::Arc;

use super::client::ClientBuilder;
use super::problem::{ConfigError, Findings};
use super::tokens::{self, OfModule, Tokens};
use crate::security::{Hash, Sasl, Secret, SecurityProtocol};
#[cfg(feature = "_tls")]
use crate::security::{Tls, Trust};

/// What was asked for, and what it comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// As named; settled by [`Security::check`].
    pub(crate) protocol: Option<SecurityProtocol>,
    pub(crate) sasl: Option<Sasl>,
    #[cfg(feature = "_tls")]
    pub(crate) tls: Option<Tls>,
    /// TLS in force, once everything is checked.
    #[cfg(feature = "_tls")]
    pub(crate) trust: Option<Arc<Trust>>,
}

impl ClientBuilder {
    /// What connections are made of (`security.protocol`). Default: what [`tls`](Self::tls) and [`sasl`](Self::sasl) say,
    /// and PLAINTEXT without them. Logging in without TLS shows passwords or tokens to everybody on the way, and has to be named:
    /// [`SecurityProtocol::SaslPlaintext`].
    pub fn security_protocol(mut self, protocol: SecurityProtocol) -> Self {
        self.config.security.protocol = Some(protocol);
        self.config.called.insert("security_protocol");
        self
    }

    /// Encrypts connections, and says how brokers are recognised.
    #[cfg(feature = "_tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.security.tls = Some(tls);
        self.config.called.insert("tls");
        self
    }

    /// Logs in on every connection, and again before a session ends (KIP-368).
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.config.security.sasl = Some(sasl);
        self.config.called.insert("sasl");
        self
    }
}

impl Security {
    #[cfg(feature = "_tls")]
    fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "_tls"))]
    fn has_tls(&self) -> bool {
        false
    }

    /// The settings of TLS, as people may see them.
    #[cfg(feature = "_tls")]
    pub(super) fn show_tls(&self) -> String {
        self.tls.as_ref().map_or_else(|| "operating system's roots".into(), |tls| format!("{tls:?}"))
    }

    #[cfg(not(feature = "_tls"))]
    pub(super) fn show_tls(&self) -> String {
        "not compiled in".into()
    }

    /// What connections are made of.
    pub(crate) fn protocol(&self) -> SecurityProtocol {
        self.protocol.unwrap_or(SecurityProtocol::of(self.has_tls(), self.sasl.is_some()))
    }

    /// Rules that hold for a draft as well.
    pub(super) fn check_values(&self, found: &mut Findings) {
        let protocol = self.protocol();
        if self.protocol.is_none() && protocol == SecurityProtocol::SaslPlaintext {
            found.contradiction(
                &["sasl.mechanism", "security.protocol"],
                "everybody on the way could read what is sent: use TLS, or name SASL_PLAINTEXT",
            );
        }
        if self.has_tls() && !protocol.has_tls() {
            found.contradiction(
                &["security.protocol"],
                format!("{protocol} is without TLS, and settings of TLS are there"),
            );
        }
        if self.sasl.is_some() && !protocol.has_sasl() {
            found.contradiction(
                &["security.protocol", "sasl.mechanism"],
                format!("{protocol} is without a login, and credentials are there"),
            );
        }
        if let Some(refresh) = self.sasl.as_ref().and_then(Sasl::refresh) {
            tokens::check(refresh, found);
        }
        #[cfg(not(feature = "_tls"))]
        if protocol.has_tls() {
            found.add(ConfigError::NotCompiledIn {
                key: "security.protocol",
                value: protocol.to_string(),
                reason: "this build of the crate ottla is without its feature tls".into(),
            });
        }
    }

    /// What must be there in the end, when everything was said; reads the files.
    pub(super) fn settle(&mut self, found: &mut Findings) {
        let protocol = self.protocol();
        self.protocol = Some(protocol);
        if protocol.has_sasl() && self.sasl.is_none() {
            found.add(ConfigError::Missing { key: "sasl.jaas.config" });
        }
        #[cfg(feature = "_tls")]
        if protocol.has_tls() && self.trust.is_none() {
            match Trust::load(self.tls.clone().unwrap_or_default()) {
                Ok(trust) => self.trust = Some(Arc::new(trust)),
                Err(error) => found.add(error),
            }
        }
    }
}

/// The keys as a file has them.
#[derive(Default)]
pub(super) struct Written {
    pub(super) protocol: Option<SecurityProtocol>,
    pub(super) mechanism: String,
    pub(super) jaas: String,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) truststore: String,
    pub(super) truststore_password: String,
    pub(super) truststore_pem: String,
    pub(super) keystore: String,
    pub(super) keystore_password: String,
    pub(super) chain_file: String,
    pub(super) key_file: String,
    pub(super) chain_pem: String,
    pub(super) key_pem: String,
    pub(super) key_password: String,
    pub(super) tls13_only: bool,
    pub(super) any_host: bool,
    pub(super) tokens: Tokens,
}

impl Written {
    pub(super) fn settle(self, found: &mut Findings) -> Security {
        let sasl = self.sasl().unwrap_or_else(|error| {
            found.add(error);
            None
        });
        let mut security = Security {
            sasl,
            protocol: self.protocol,
            #[cfg(feature = "_tls")]
            tls: self.tls(found),
            #[cfg(feature = "_tls")]
            trust: None,
        };
        if security.has_tls() || security.sasl.is_some() {
            // What Java does with a file that names none; here that is an error, as somebody expects more.
            security.protocol.get_or_insert(SecurityProtocol::Plaintext);
        }
        security
    }

    fn sasl(&self) -> Result<Option<Sasl>, ConfigError> {
        let login = Jaas::read(&self.jaas)?;
        let wanted = self.protocol.is_some_and(SecurityProtocol::has_sasl);
        if !wanted && self.mechanism.is_empty() && self.jaas.is_empty() && self.user.is_empty() {
            return Ok(None);
        }
        // Java's default.
        let mechanism = if self.mechanism.is_empty() { "GSSAPI" } else { &self.mechanism };
        let bad = |expected: &str| ConfigError::BadValue {
            key: "sasl.mechanism",
            value: mechanism.to_owned(),
            expected: expected.to_owned(),
            nearest: None,
        };
        if mechanism.eq_ignore_ascii_case("AWS_MSK_IAM") {
            return msk_iam().map(Some);
        }
        let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        let mechanism = match known.iter().find(|name| name.eq_ignore_ascii_case(mechanism)) {
            Some(name) => *name,
            None if mechanism.eq_ignore_ascii_case("GSSAPI") => {
                return Err(bad(
                    "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER: Kerberos is not there, in no feature of ottla",
                ));
            }
            None => return Err(bad("one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER")),
        };
        login.check_module(mechanism)?;
        if mechanism == "OAUTHBEARER" {
            let module = OfModule {
                id: login.option("clientId"),
                secret: login.option("clientSecret"),
                scope: login.option("scope"),
                extensions: login.extensions(),
            };
            // None: the program gives the tokens, by `ClientBuilder::sasl`.
            return self.tokens.sasl(&module);
        }
        let user = login.option("username").unwrap_or(&self.user).to_owned();
        let password = Secret::from(login.option("password").unwrap_or(&self.password));
        if user.is_empty() {
            return Err(ConfigError::Missing { key: "sasl.jaas.config" });
        }
        let is_token = login.option("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Some(match mechanism {
            "PLAIN" => Sasl::plain(user, password),
            "SCRAM-SHA-256" => Sasl::scram(Hash::Sha256, user, password, is_token),
            _ => Sasl::scram(Hash::Sha512, user, password, is_token),
        }))
    }

    #[cfg(feature = "_tls")]
    fn tls(&self, found: &mut Findings) -> Option<Tls> {
        let mut tls = Tls::new();
        let mut given = self.tls13_only || self.any_host;
        let mut with = |text: &str, change: &dyn Fn(Tls, &str) -> Tls| {
            if !text.is_empty() {
                given = true;
                tls = change(std::mem::take(&mut tls), text);
            }
        };
        with(&self.truststore, &|tls, path| tls.roots_file(path));
        with(&self.truststore_pem, &|tls, pem| tls.roots_pem(pem));
        with(&self.truststore_password, &|tls, secret| tls.roots_password(secret));
        with(&self.keystore, &|tls, path| tls.identity_file(path));
        with(&self.chain_file, &|tls, path| tls.identity_files(path, &self.key_file));
        with(&self.chain_pem, &|tls, pem| tls.identity_pem(pem, self.key_pem.as_str()));
        with(&self.keystore_password, &|tls, secret| tls.identity_password(secret));
        with(&self.key_password, &|tls, secret| tls.key_password(secret));
        for (chain, key, keys) in [
            (&self.chain_file, &self.key_file, ["ssl.certificate.location", "ssl.key.location"]),
            (&self.chain_pem, &self.key_pem, ["ssl.keystore.certificate.chain", "ssl.keystore.key"]),
        ] {
            if chain.is_empty() != key.is_empty() {
                found.contradiction(&keys, "they are of use only together");
            }
        }
        let identities = [&self.keystore, &self.chain_file, &self.chain_pem];
        if identities.iter().filter(|identity| !identity.is_empty()).count() > 1 {
            found.contradiction(
                &["ssl.keystore.location", "ssl.certificate.location", "ssl.keystore.certificate.chain"],
                "there is one identity; keep one",
            );
        }
        if self.tls13_only {
            tls = tls.tls13_only();
        }
        if self.any_host {
            tls = tls.danger_accept_any_host();
        }
        given.then_some(tls)
    }
}

/// `sasl.jaas.config`: a login module of Java with its options, which people have in their files.
#[derive(Default)]
struct Jaas {
    module: String,
    options: BTreeMap<String, String>,
}

impl Jaas {
    fn read(text: &str) -> Result<Jaas, ConfigError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Jaas::default());
        }
        // Never the text itself: it holds the password.
        let bad = |what: &str| ConfigError::BadValue {
            key: "sasl.jaas.config",
            value: "not shown here".into(),
            expected: format!("`module required name=\"value\" ...;`: {what}"),
            nearest: None,
        };
        let body = text.strip_suffix(';').ok_or_else(|| bad("the semicolon at the end is missing"))?;
        let mut words = words(body).map_err(bad)?.into_iter();
        let module = words.next().ok_or_else(|| bad("there is no module"))?;
        let control = words.next().unwrap_or_default();
        if !["required", "requisite", "sufficient", "optional"]
            .iter()
            .any(|flag| control.eq_ignore_ascii_case(flag))
        {
            return Err(bad("`required` is missing behind the module"));
        }
        let option = |word: String| match word.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(bad("an option has no value")),
        };
        let module = module.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Jaas { module, options: words.map(option).collect::<Result<_, _>>()? })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// What a broker is told beside a token (KIP-342).
    fn extensions(&self) -> Vec<(&str, &str)> {
        let options = self.options.iter();
        options.filter_map(|(name, value)| Some((name.strip_prefix("extension_")?, value.as_str()))).collect()
    }

    fn check_module(&self, mechanism: &str) -> Result<(), ConfigError> {
        let module = match mechanism {
            "PLAIN" => "PlainLoginModule",
            "OAUTHBEARER" => "OAuthBearerLoginModule",
            _ => "ScramLoginModule",
        };
        if self.module.is_empty() || self.module == module {
            return Ok(());
        }
        let reason = format!("{} is not the module of {mechanism}; {module} is", self.module);
        Err(ConfigError::Contradiction { keys: vec!["sasl.jaas.config", "sasl.mechanism"], reason })
    }
}

/// The login at Amazon MSK, as Amazon's library for Java is configured: all of it comes from the environment.
#[cfg(feature = "msk-iam")]
fn msk_iam() -> Result<Sasl, ConfigError> {
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok());
    let region = region.ok_or_else(|| ConfigError::BadValue {
        key: "sasl.mechanism",
        value: "AWS_MSK_IAM".into(),
        expected: "used where AWS_REGION is set".into(),
        nearest: None,
    })?;
    Ok(Sasl::oauth_bearer(crate::security::MskIam::new(region)))
}

#[cfg(not(feature = "msk-iam"))]
fn msk_iam() -> Result<Sasl, ConfigError> {
    Err(ConfigError::NotCompiledIn {
        key: "sasl.mechanism",
        value: "AWS_MSK_IAM".into(),
        reason: "this build of the crate ottla is without its feature msk-iam".into(),
    })
}

/// Words with blanks between; quotes of either kind hold blanks together, and a backslash takes the next sign as it is.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match (quote, sign) {
            (Some(_), '\\') => word.push(signs.next().ok_or("it ends behind a backslash")?),
            (Some(open), _) if sign == open => quote = None,
            (Some(_), _) => word.push(sign),
            (None, '"' | '\'') => (quote, begun) = (Some(sign), true),
            (None, _) if sign.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, _) => {
                word.push(sign);
                begun = true;
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_module_is_read_as_java_reads_it() {
        let jaas = Jaas::read(
            "org.apache.kafka.common.security.scram.ScramLoginModule  required username=\"al ice\" password='a\\'\"b' tokenauth=true;",
        )
        .expect("is well made");
        assert_eq!(jaas.module, "ScramLoginModule");
        assert_eq!(jaas.option("username"), Some("al ice"));
        assert_eq!(jaas.option("password"), Some("a'\"b"));
        assert_eq!(jaas.option("tokenauth"), Some("true"));
    }

    /// SEC10.
    #[test]
    fn a_login_module_that_is_not_well_made_is_refused_without_its_password() {
        for text in [
            "PlainLoginModule required password=\"canary\"",
            "PlainLoginModule password=\"canary\";",
            "PlainLoginModule required password=\"canary;",
            "PlainLoginModule required canary;",
            ";",
        ] {
            let error = Jaas::read(text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}

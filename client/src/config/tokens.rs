//! The keys of OAUTHBEARER: where tokens come from, and when the next one is got.
//!
//! It owns what they mean together. It refuses to know how a token is asked for.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::{ConfigError, Findings};
use crate::security::{Sasl, TokenFile, TokenRefresh};

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";

/// The keys as a file has them.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) url: String,
    pub(super) allowed_urls: Vec<String>,
    pub(super) retriever: Retriever,
    pub(super) method_is_oidc: bool,
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) scope: String,
    /// As librdkafka has them: `name=value`.
    pub(super) extensions: Vec<String>,
    pub(super) encode_header: bool,
    pub(super) refresh: TokenRefresh,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) assertion: AssertionKeys,
}

/// The keys of assertions, as a file has them.
#[derive(Default)]
pub(super) struct AssertionKeys {
    pub(super) file: String,
    pub(super) key_file: String,
    pub(super) passphrase: String,
    pub(super) template: String,
    pub(super) es256: bool,
    pub(super) exp_seconds: u64,
    pub(super) nbf_seconds: u64,
    pub(super) with_id: bool,
    pub(super) audience: String,
    pub(super) issuer: String,
    pub(super) subject: String,
}

/// `sasl.oauthbearer.jwt.retriever.class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Retriever {
    #[default]
    Default,
    File,
    ClientCredentials,
    JwtBearer,
}

impl Retriever {
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("DefaultJwtRetriever", Self::Default),
        ("FileJwtRetriever", Self::File),
        ("ClientCredentialsJwtRetriever", Self::ClientCredentials),
        ("JwtBearerJwtRetriever", Self::JwtBearer),
        // librdkafka's words, of another key.
        ("client_credentials", Self::ClientCredentials),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", Self::JwtBearer),
        ("", Self::Default),
    ];
}

/// What `sasl.jaas.config` says beside these keys, as Kafka's clients did before KIP-1139.
pub(super) struct OfModule<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) secret: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    pub(super) extensions: Vec<(&'a str, &'a str)>,
}

impl Tokens {
    /// The login that the keys describe; none where the program is to give the tokens.
    pub(super) fn sasl(&self, module: &OfModule<'_>) -> Result<Option<Sasl>, ConfigError> {
        let sasl = match (self.url.strip_prefix("file:"), self.retriever) {
            (Some(path), Retriever::File) => {
                // file:/a, file:///a
                let path = PathBuf::from(format!("/{}", path.trim_start_matches('/')));
                Sasl::oauth_bearer(TokenFile::new(path))
            }
            (Some(_), _) => return Err(bad(URL, format!("https, as {RETRIEVER} is not FileJwtRetriever"))),
            (None, Retriever::File) => return Err(bad(URL, "file:///path/of/the/token".into())),
            (None, _)
                if self.url.is_empty() && (self.method_is_oidc || self.retriever != Retriever::Default) =>
            {
                return Err(ConfigError::Missing { key: URL });
            }
            (None, _) if self.url.is_empty() => return Ok(None),
            (None, _) => self.oidc(module)?,
        };
        Ok(Some(sasl.token_refresh(self.refresh)))
    }

    #[cfg(not(all(feature = "oidc", feature = "_tls")))]
    fn oidc(&self, module: &OfModule<'_>) -> Result<Sasl, ConfigError> {
        // What would be asked, and of whom.
        let _ = (&module.id, &module.secret, &module.scope, &module.extensions);
        Err(ConfigError::NotCompiledIn {
            key: URL,
            value: "what was given".into(),
            reason: "this build of the crate ottla is without its features oidc and tls".into(),
        })
    }

    #[cfg(all(feature = "oidc", feature = "_tls"))]
    fn oidc(&self, module: &OfModule<'_>) -> Result<Sasl, ConfigError> {
        use crate::security::{Oidc, Secret};
        let listed = self.allowed_urls.contains(&self.url);
        if !self.allowed_urls.is_empty() && !listed {
            return Err(bad(URL, format!("one of those that {ALLOWED} lists")));
        }
        let given = |own: &str, of_module: Option<&str>| match own {
            "" => of_module.unwrap_or_default().to_owned(),
            own => own.to_owned(),
        };
        let (id, secret) = (given(&self.id, module.id), given(&self.secret, module.secret));
        let has_assertion = !(self.assertion.file.is_empty() && self.assertion.key_file.is_empty());
        let mut oidc = match self.retriever {
            Retriever::JwtBearer if !has_assertion => {
                return Err(ConfigError::Missing { key: "sasl.oauthbearer.assertion.private.key.file" });
            }
            Retriever::JwtBearer => Oidc::jwt_bearer(&self.url, self.assertion.settle()),
            _ if has_assertion && secret.is_empty() => {
                let id = Some(id).filter(|id| !id.is_empty());
                Oidc::client_assertion(&self.url, id, self.assertion.settle())
            }
            _ => {
                for (value, key) in [
                    (&id, "sasl.oauthbearer.client.credentials.client.id"),
                    (&secret, "sasl.oauthbearer.client.credentials.client.secret"),
                ] {
                    if value.is_empty() {
                        return Err(ConfigError::Missing { key });
                    }
                }
                Oidc::client_credentials(&self.url, id, Secret::from(secret))
            }
        };
        oidc = oidc.scope(given(&self.scope, module.scope));
        let of_key = self.extensions.iter().filter_map(|extension| extension.split_once('='));
        for (name, value) in of_key.chain(module.extensions.iter().copied()) {
            oidc = oidc.extension(name, value);
        }
        if self.encode_header {
            oidc = oidc.encode_header();
        }
        if listed {
            oidc = oidc.danger_allow_http();
        }
        let limit = |time: Option<Duration>| time.unwrap_or(Duration::from_secs(10));
        oidc = oidc.timeouts(limit(self.connect_timeout), limit(self.read_timeout));
        Ok(Sasl::oauth_bearer(oidc.provider()?))
    }
}

#[cfg(all(feature = "oidc", feature = "_tls"))]
impl AssertionKeys {
    fn settle(&self) -> crate::security::Assertion {
        use crate::security::{Assertion, AssertionAlgorithm};
        if !self.file.is_empty() {
            return Assertion::file(&self.file);
        }
        let mut assertion = Assertion::signed_by(&self.key_file)
            .lifetime(Duration::from_secs(self.exp_seconds))
            .not_before(Duration::from_secs(self.nbf_seconds));
        if self.es256 {
            assertion = assertion.algorithm(AssertionAlgorithm::Es256);
        }
        if self.with_id {
            assertion = assertion.with_id();
        }
        let mut with = |text: &str, change: &dyn Fn(Assertion, &str) -> Assertion| {
            if !text.is_empty() {
                assertion = change(assertion.clone(), text);
            }
        };
        with(&self.passphrase, &|it, text| it.passphrase(text));
        with(&self.template, &|it, text| it.template(text));
        with(&self.audience, &|it, text| it.audience(text));
        with(&self.issuer, &|it, text| it.issuer(text));
        with(&self.subject, &|it, text| it.subject(text));
        assertion
    }
}

/// Java's name of the list of URLs; there it is a property of the virtual machine.
#[cfg(all(feature = "oidc", feature = "_tls"))]
const ALLOWED: &str = "org.apache.kafka.sasl.oauthbearer.allowed.urls";

/// Never with the value: people put secrets into URLs.
fn bad(key: &'static str, expected: String) -> ConfigError {
    ConfigError::BadValue { key, value: "what was given".into(), expected, nearest: None }
}

/// Kafka's ranges.
pub(super) fn check(refresh: &TokenRefresh, found: &mut Findings) {
    found.within("sasl.login.refresh.window.factor", refresh.window_factor, 0.5..=1.0);
    found.within("sasl.login.refresh.window.jitter", refresh.window_jitter, 0.0..=0.25);
    found.within("sasl.login.refresh.min.period.seconds", refresh.min_period.as_secs(), 0..=900);
    found.within("sasl.login.refresh.buffer.seconds", refresh.buffer.as_secs(), 0..=3_600);
}

#[cfg(test)]
mod tests {
    use crate::ClientBuilder;

    const HTTPS: &str = "https://idp.example.com/token";

    fn file<'a>(keys: &[(&'a str, &'a str)]) -> Result<ClientBuilder, String> {
        let common = [
            ("bootstrap.servers", "a:1"),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "OAUTHBEARER"),
        ];
        let builder = ClientBuilder::from_properties([&common[..], keys].concat());
        builder.map_err(|error| error.to_string())
    }

    fn check_refused(keys: &[(&str, &str)], part: &str) {
        let error = file(keys).err().unwrap_or_else(|| panic!("{keys:?} are taken"));
        assert!(error.contains(part) && !error.contains("canary"), "{error}");
    }

    #[test]
    fn a_token_file_is_named_as_one_or_it_is_not_read() {
        let (url, class) = (super::URL, super::RETRIEVER);
        let long = "org.apache.kafka.common.security.oauthbearer.FileJwtRetriever";
        for (path, class_name) in [("file:///run/token", "FileJwtRetriever"), ("file:/run/token", long)] {
            drop(file(&[(url, path), (class, class_name)]).expect("it is well made"));
        }
        check_refused(&[(url, "file:///etc/canary")], "https");
        check_refused(&[(url, HTTPS), (class, "FileJwtRetriever")], "file:///path");
        check_refused(&[(class, "FileJwtRetriever")], "file:///path");
    }

    #[test]
    fn the_refresh_is_held_to_kafkas_ranges() {
        let token = [(super::URL, "file:///run/token"), (super::RETRIEVER, "FileJwtRetriever")];
        let with = |key, value| file(&[&token[..], &[(key, value)]].concat());
        for (key, good, bad) in [
            ("sasl.login.refresh.window.factor", "0.5", "0.4"),
            ("sasl.login.refresh.window.jitter", "0.25", "0.3"),
            ("sasl.login.refresh.min.period.seconds", "900", "901"),
            ("sasl.login.refresh.buffer.seconds", "3600", "3601"),
        ] {
            drop(with(key, good).expect(key));
            let error = with(key, bad).err().unwrap_or_else(|| panic!("{key}={bad} is taken"));
            assert!(error.contains(key), "{error}");
            drop(with(key, "NaN").expect_err("is no number"));
        }
    }

    #[cfg(not(all(feature = "oidc", feature = "_tls")))]
    #[test]
    fn an_endpoint_names_the_feature_that_is_missing() {
        check_refused(&[(super::URL, HTTPS)], "oidc");
    }

    #[cfg(all(feature = "oidc", feature = "_tls"))]
    #[test]
    fn an_endpoint_is_https_or_listed_and_gets_what_it_needs() {
        let id = ("sasl.oauthbearer.client.credentials.client.id", "billing");
        let secret = ("sasl.oauthbearer.client.credentials.client.secret", "canary");
        let allowed = |urls| ("org.apache.kafka.sasl.oauthbearer.allowed.urls", urls);
        let (url, http) = ((super::URL, HTTPS), (super::URL, "http://localhost:1/token"));
        drop(
            file(&[http, id, secret, allowed("https://a, http://localhost:1/token")])
                .expect("it is well made"),
        );
        check_refused(&[http, id, secret], "https");
        check_refused(&[url, id, secret, allowed("https://idp.example.com/other")], "allowed.urls");
        check_refused(&[url, secret], "client.id is not set");
        check_refused(&[url, id], "client.secret is not set");
        check_refused(&[url, (super::RETRIEVER, "JwtBearerJwtRetriever")], "assertion.private.key.file");
        check_refused(&[("sasl.oauthbearer.method", "oidc")], "token.endpoint.url is not set");
        // As Kafka's clients before 4.1, and librdkafka, have it.
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=\"billing\" \
            clientSecret=\"canary\" scope=\"kafka\" extension_logicalCluster=\"lkc-1\";";
        drop(file(&[http, ("sasl.jaas.config", module), allowed(http.1)]).expect("it is well made"));
        let of_librdkafka = [
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "billing"),
            http,
            allowed(http.1),
        ];
        check_refused(&of_librdkafka, "client.secret is not set");
        let whole =
            [("sasl.oauthbearer.client.secret", "canary"), ("sasl.oauthbearer.extensions", "a=b,c=d")];
        drop(file(&[&of_librdkafka[..], &whole].concat()).expect("it is well made"));
    }
}

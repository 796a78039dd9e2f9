//! Tokens of an identity provider, and who gets them.
//!
//! It owns what a token is and one that is read from a file. It refuses to know how long it is used: the keeper does.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use super::Secret;

/// A future that a [`TokenProvider`] returns.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send>>;

/// Why there is no token; it becomes the source of the error that a login fails with. A [`std::io::Error`] says that nobody
/// could be asked, and the login is tried again; everything else ends it, with
/// [`ErrorKind::Authentication`](crate::ErrorKind::Authentication).
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing that is longer is taken for a token.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// What an identity provider has signed, for [`Sasl::oauth_bearer`](crate::Sasl::oauth_bearer).
#[derive(Clone)]
pub struct Token {
    pub(super) value: Secret,
    pub(super) extensions: Vec<(String, String)>,
    pub(super) lifetime: Option<Duration>,
}

impl Token {
    /// A token as it was received. It is used once, for one login.
    pub fn new(value: impl Into<Secret>) -> Self {
        Token { value: value.into(), extensions: Vec::new(), lifetime: None }
    }

    /// Tells the broker something beside the token (KIP-342), like Confluent Cloud's `logicalCluster`.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// How long it can be used from now on: it is kept for all logins of the client, and another one is there before it ends
    /// ([`TokenRefresh`](crate::TokenRefresh)).
    pub fn valid_for(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Whether it can stand in a login without changing what follows (RFC 6750, section 2.1; KIP-342).
    pub(super) fn check(&self) -> Result<(), TokenError> {
        let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        let value = self.value.expose();
        if value.is_empty() || !value.iter().all(of_token) {
            return Err("it is empty, or has signs that no token has".into());
        }
        for (name, value) in &self.extensions {
            let named =
                !name.is_empty() && name != "auth" && name.bytes().all(|byte| byte.is_ascii_alphabetic());
            let of_value = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
            if !named || !value.bytes().all(of_value) {
                return Err(format!("{name:?} cannot be an extension, or its value cannot be one").into());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Token");
        debug.field("extensions", &self.extensions).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Gets tokens for OAUTHBEARER: at each login, or ahead of time where tokens say how long they are
/// [valid](Token::valid_for). Closures that return a future are providers.
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is valid now. Dropped when the time for setting up the connection is over.
    fn token(&self) -> TokenFuture;
}

impl<F, Fut> TokenProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, TokenError>> + Send + 'static,
{
    fn token(&self) -> TokenFuture {
        Box::pin(self())
    }
}

/// A token in a file that somebody else keeps up to date, as Kubernetes and Vault do. It is read at each login.
///
/// ```
/// use ottla::{Sasl, TokenFile};
///
/// let sasl = Sasl::oauth_bearer(TokenFile::new("/var/run/secrets/kafka/token"));
/// ```
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// The file need not be there yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        TokenFile { path: path.as_ref().to_owned() }
    }

    fn read(&self) -> Result<Token, TokenError> {
        let bad = |cause: &dyn fmt::Display| format!("{}: {cause}", self.path.display());
        let text = read_text(&self.path).map_err(|cause| bad(&cause))?;
        let token = Token::new(text);
        token.check().map_err(|cause| bad(&cause))?;
        Ok(token)
    }
}

impl TokenProvider for TokenFile {
    fn token(&self) -> TokenFuture {
        // Short and local, as certificates are: no task is worth it.
        let token = self.read();
        Box::pin(async move { token })
    }
}

/// A secret in a file, without the blanks around it.
pub(super) fn read_text(path: &Path) -> std::io::Result<Secret> {
    use std::io::Read;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TOKEN_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is too long for a token"));
    }
    Ok(Secret::from(bytes.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC10: a token that could end its own field would write the rest of the login.
    #[test]
    fn what_no_token_can_be_is_refused_without_being_shown() {
        for value in ["", "canary\x01auth=other", "canary canary", "canary\r\n", "canar\u{ff}y"] {
            let error = Token::new(value).check().expect_err("it is no token").to_string();
            assert!(!error.contains("canar"), "{error}");
        }
        Token::new("eyJ.e30.-_~+/==").check().expect("it is one");
        let with = |name: &str, value: &str| Token::new("a").extension(name, value).check();
        with("logicalCluster", "lkc-1 and more").expect("it may be told");
        for (name, value) in [("auth", "Bearer other"), ("", "a"), ("a=b", "c"), ("a", "b\x01c=d")] {
            with(name, value).expect_err("it would be read as something else");
        }
    }

    #[tokio::test]
    async fn a_token_file_is_read_at_each_login() {
        let path = std::env::temp_dir().join(format!("ottla-token-{}", std::process::id()));
        let file = TokenFile::new(&path);
        let missing = file.token().await.expect_err("there is no file").to_string();
        assert!(missing.contains("ottla-token-"), "{missing}");
        for token in ["a.b.c", "d.e.f"] {
            std::fs::write(&path, format!("\n{token}\n")).unwrap();
            assert!(file.token().await.unwrap().value == Secret::from(token));
        }
        std::fs::write(&path, vec![b'a'; (TOKEN_BYTES_MAX + 1) as usize]).unwrap();
        file.token().await.expect_err("it is too long");
        std::fs::remove_file(&path).unwrap();
    }
}

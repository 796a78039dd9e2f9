//! One POST to a token endpoint, and its answer.
//!
//! It owns the URL, the connection and its limits. It refuses to know what is asked and what the answer means. Invariants (SEC9):
//! https unless danger was named, no redirect is followed, an answer is read up to a limit, and everything ends in time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::token::TokenError;
use super::super::{Secret, Trust, explain};
use crate::connect::{Connector, Stream, Tcp};
use crate::error::ErrorKind;

/// No answer of an honest endpoint is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Status line and headers of an answer fit into this.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where tokens come from.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    /// As the header `Host` has it.
    authority: String,
    path: String,
    trust: Option<Arc<Trust>>,
    connect_timeout: Duration,
    read_timeout: Duration,
}

/// What is asked by a form.
pub(super) struct Form(Zeroizing<String>);

impl Form {
    pub(super) fn new() -> Self {
        Form(Zeroizing::new(String::with_capacity(8 * 1024)))
    }

    /// Adds a field, encoded as browsers encode forms.
    pub(super) fn field(mut self, name: &str, value: &[u8]) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        encode(value, &mut self.0);
        self
    }
}

/// `application/x-www-form-urlencoded`, for RFC 6749 in headers too.
pub(super) fn encode(value: &[u8], out: &mut String) {
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                out.push(char::from(*byte))
            }
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

impl Endpoint {
    /// # Errors
    /// What the URL should have been.
    pub(super) fn new(
        url: &str,
        https_only: bool,
        trust: Option<Arc<Trust>>,
        connect_timeout: Duration,
        read_timeout: Duration,
    ) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "an https URL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("an https URL, with scheme and host");
        };
        let secure = match scheme {
            "https" => true,
            "http" if !https_only => false,
            "http" => return Err("an https URL: everybody on the way could read secrets and tokens"),
            _ => return Err("an https URL"),
        };
        if authority.as_str().contains('@') {
            return Err("an https URL without a name and a password in it");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = authority.as_str().to_owned();
        let trust = trust.filter(|_| secure);
        Ok(Endpoint { host, port, authority, path, trust, connect_timeout, read_timeout })
    }

    /// Posts a form. The answer is what came with status 200; with a status that may pass, nobody was reached.
    pub(super) async fn post(&self, form: Form, login: Option<&Secret>) -> Result<Answer, TokenError> {
        let late =
            |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{}: {what}", self.authority));
        let opened = timeout(self.connect_timeout, self.open()).await;
        let stream = opened.map_err(|_| late("it cannot be reached in time"))??;
        let exchange = timeout(self.read_timeout, self.exchange(stream, form, login)).await;
        exchange.map_err(|_| late("it has not answered in time"))?
    }

    async fn open(&self) -> Result<Box<dyn Stream>, TokenError> {
        let lost = |cause: io::Error| io::Error::new(cause.kind(), format!("{}: {cause}", self.authority));
        let stream = Tcp::default().connect(&self.host, self.port).await.map_err(lost)?;
        let Some(trust) = &self.trust else { return Ok(stream) };
        trust.wrap(&self.host, stream).await.map_err(|cause| match explain(&cause) {
            // Another attempt would meet the same certificate.
            Some((ErrorKind::Authentication, advice)) => format!("{}: {advice}", self.authority).into(),
            _ => lost(cause).into(),
        })
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        Form(body): Form,
        login: Option<&Secret>,
    ) -> Result<Answer, TokenError> {
        let lost = |cause: hyper::Error| io::Error::other(format!("{}: {cause}", self.authority));
        let mut request = Request::post(self.path.as_str())
            .header(header::HOST, self.authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::CONNECTION, "close");
        if let Some(login) = login {
            let mut value = header::HeaderValue::from_bytes(login.expose())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(String::clone(&body))?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(lost)?;
            let status = answer.status();
            let body = read(answer.into_body(), &self.authority).await?;
            Ok(Answer { status, body, authority: self.authority.clone() })
        };
        // Moves the bytes of the exchange, which learns how the connection ends.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            never = drive => match never {},
        }
    }
}

/// The whole body, if it is not too long.
async fn read(mut body: Incoming, authority: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let mut whole = Zeroizing::new(Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|cause| io::Error::other(format!("{authority}: {cause}")))?;
        let Some(part) = frame.data_ref() else { continue };
        if whole.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(format!("{authority}: its answer is longer than {ANSWER_BYTES_MAX} bytes").into());
        }
        whole.extend_from_slice(part);
    }
    Ok(whole)
}

/// What an endpoint says.
pub(super) struct Answer {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
    authority: String,
}

impl Answer {
    /// The body as JSON, if it is an answer at all.
    ///
    /// # Errors
    /// A refusal; or an [`io::Error`], where it may be answered later.
    pub(super) fn json(&self) -> Result<serde_json::Value, TokenError> {
        let of = |what: &str| format!("{}: {what} (status {})", self.authority, self.status.as_u16());
        let parsed = serde_json::from_slice(&self.body);
        match self.status {
            // What it was is not said: it may hold a token.
            StatusCode::OK => parsed.map_err(|_| of("its answer is no JSON").into()),
            status if status.is_redirection() => Err(of("it sends us elsewhere, where we do not go").into()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(io::Error::other(of("it is busy")).into())
            }
            status if status.is_server_error() => Err(io::Error::other(of("it is out of order")).into()),
            _ => {
                let code =
                    parsed.ok().and_then(|it: serde_json::Value| it["error"].as_str().map(str::to_owned));
                // One of the words of RFC 6749, and never what a liar may echo.
                let code = code.filter(|code| WORDS.contains(&code.as_str()));
                Err(of(&format!("it refuses: {}", code.as_deref().unwrap_or("it does not say why"))).into())
            }
        }
    }
}

/// RFC 6749, section 5.2.
const WORDS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, https_only: bool) -> Result<Endpoint, &'static str> {
        Endpoint::new(url, https_only, None, Duration::from_secs(1), Duration::from_secs(1))
    }

    /// SEC9.
    #[test]
    fn only_https_leads_to_an_endpoint() {
        for url in [
            "http://idp.example.com/token",
            "file:///etc/passwd",
            "ftp://idp.example.com/",
            "idp.example.com",
            "//idp.example.com/token",
            "https://",
            "https://user:canary@idp.example.com/token",
            "https://idp example/",
            "",
        ] {
            let error = endpoint(url, true).err().unwrap_or_else(|| panic!("{url:?} is taken"));
            assert!(error.contains("https") && !error.contains("canary"), "{error}");
        }
        let taken = endpoint("https://[::1]/a?b=c", true).unwrap();
        assert_eq!((taken.host.as_str(), taken.port, taken.path.as_str()), ("::1", 443, "/a?b=c"));
        let taken = endpoint("http://idp.example.com:8080", false).unwrap();
        assert_eq!((taken.port, taken.path.as_str()), (8080, "/"));
    }

    #[test]
    fn a_field_of_a_form_cannot_become_two() {
        let form = Form::new().field("a", "b&c=d é+".as_bytes()).field("e", b" ");
        assert_eq!(form.0.as_str(), "a=b%26c%3Dd+%C3%A9%2B&e=+");
    }
}

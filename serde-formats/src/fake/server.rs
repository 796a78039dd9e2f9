//! As much of HTTP as the client of a registry needs: requests with a length, one after the other on a connection.
//!
//! Invariant: what a test sends it by mistake is bounded too.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::store::Answer;
use super::{Inside, Trouble};

const BODY_BYTES_MAX: usize = 4 << 20;
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Serves until it is aborted, and its connections with it.
pub(super) async fn listen(listener: TcpListener, inside: Arc<Inside>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, inside.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, inside: Arc<Inside>) {
    // A connection that breaks has nobody to tell.
    let _ = converse(stream, &inside).await;
}

#[derive(Default)]
struct Request {
    method: String,
    target: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

async fn converse(stream: TcpStream, inside: &Inside) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        inside.requests.lock().push((request.method.clone(), request.target.clone()));
        let trouble = *inside.trouble.lock();
        match trouble {
            Some(Trouble::Closes) => return Ok(()),
            Some(Trouble::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let Answer { status, body } = match trouble {
            Some(Trouble::Html(status)) => {
                Answer { status, body: "<html><body>Sign in to continue</body></html>".to_owned() }
            }
            Some(Trouble::Status(status)) => Answer::refusal(status, u32::from(status), "in trouble"),
            _ => answer(inside, &request),
        };
        let kind = if body.starts_with('<') { "text/html" } else { "application/vnd.schemaregistry.v1+json" };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} .\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn answer(inside: &Inside, request: &Request) -> Answer {
    let expected = inside.login.lock().clone();
    if expected.is_some() && expected != request.authorization {
        return Answer::refusal(401, 40101, "unauthorized");
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let parts: Vec<String> = path.split('/').skip(1).map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    inside.store.lock().answer(&request.method, &parts, query, &request.body)
}

/// The next request; `None` when the client has closed.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (mut request, mut length) = (Request { method: word(), target: word(), ..Request::default() }, 0);
    while let Some(line) = line(stream).await?.filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(usize::MAX),
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    if length > BODY_BYTES_MAX {
        return Ok(None);
    }
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    match stream.take(LINE_BYTES_MAX).read_line(&mut line).await? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end().to_owned())),
    }
}

/// A part of a path without its escapes.
fn unescaped(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! The smallest HTTP client that can talk to a daemon's socket: one request, one connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A daemon's answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Header names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in answer {} {:?}", self.status, self.text()))
    }

    /// The `message` of an error answer, else the text.
    pub fn message(&self) -> String {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|document| document["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| self.text())
    }

    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends one request and reads its whole answer.
///
/// # Errors
/// When the socket cannot be reached, the answer is no HTTP, or nothing comes for 60 s.
pub fn request(socket: &Path, method: &str, target: &str, body: Option<&[u8]>) -> std::io::Result<Reply> {
    begin(socket, method, target, body)?.finish()
}

/// A request that was sent, and what of its answer is there.
#[derive(Debug)]
pub struct Begun {
    stream: UnixStream,
    raw: Vec<u8>,
}

impl Begun {
    /// Reads the rest.
    ///
    /// # Errors
    /// As [`request`].
    pub fn finish(mut self) -> std::io::Result<Reply> {
        let read = self.stream.read_to_end(&mut self.raw);
        if self.raw.is_empty() {
            read?;
        }
        parse(&self.raw).ok_or_else(|| {
            std::io::Error::other(format!("no HTTP answer: {:?}", String::from_utf8_lossy(&self.raw)))
        })
    }
}

/// Sends one request and waits for the answer's first bytes: the daemon has it in hand.
///
/// # Errors
/// As [`request`].
pub fn begin(socket: &Path, method: &str, target: &str, body: Option<&[u8]>) -> std::io::Result<Begun> {
    let mut begun = send(socket, method, target, body)?;
    begun.raw = vec![0; 1];
    let read = begun.stream.read(&mut begun.raw)?;
    begun.raw.truncate(read);
    Ok(begun)
}

/// Sends one request and waits for nothing: the daemon need not even be awake.
///
/// # Errors
/// As [`request`].
pub fn send(socket: &Path, method: &str, target: &str, body: Option<&[u8]>) -> std::io::Result<Begun> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(crate::client::patience(Duration::from_secs(60))))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
    if let Some(body) = body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    } else if method == "POST" || method == "PUT" {
        head += "Content-Length: 0\r\n";
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // A daemon may refuse without reading the body; its answer is what counts.
    let _ = stream.write_all(body.unwrap_or_default());
    Ok(Begun { stream, raw: Vec::new() })
}

pub(crate) fn parse(raw: &[u8]) -> Option<Reply> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &raw[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { dechunk(rest)? } else { rest.to_vec() };
    Some(Reply { status, headers, body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

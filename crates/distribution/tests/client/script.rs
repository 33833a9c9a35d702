//! A server that answers with exactly the bytes that a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, or whatever the request line names.
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// What is done on the connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    /// These bytes again and again, with a pause, until the client has had enough.
    Endless(Vec<u8>, Duration),
    /// Nothing until the client goes.
    Silence,
    Close,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Reply(pub(crate) Vec<Step>);

impl Reply {
    pub(crate) fn raw(text: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Bytes(text.into())])
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}

/// An answer with headers and a body of known length.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut bytes = head(status, headers, &format!("Content-Length: {}", body.len()));
    bytes.extend_from_slice(body);
    Reply::raw(bytes)
}

/// The head of an answer alone; `framing` is the header that says how long the body is.
pub(crate) fn head(status: &str, headers: &[(&str, &str)], framing: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n{framing}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A registry's error document, with the detail that makes clients show the message.
pub(crate) fn refuse(status: &str, code: &str, message: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{{}}}}]}}"#);
    answer(status, &[("Content-Type", "application/json")], body.as_bytes())
}

type Rule = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server in the test's own runtime; ends with it.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    pub(crate) async fn start(rule: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", None, rule).await
    }

    pub(crate) async fn start_tls(
        config: Arc<ServerConfig>,
        rule: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", Some(config), rule).await
    }

    pub(crate) async fn start_at(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        rule: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, rule): (_, Arc<Rule>) = (Arc::clone(&seen), Arc::new(rule));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, rule, tls) = (Arc::clone(&log), Arc::clone(&rule), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &log, &*rule).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, &log, &*rule).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    /// The requests until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.starts_with(path)).count()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, log: &Mutex<Vec<Seen>>, rule: &Rule) {
    while let Some(request) = read(&mut stream).await {
        log.lock().unwrap().push(request.clone());
        for step in rule(&request).0 {
            let done = match step {
                Step::Bytes(bytes) => stream.write_all(&bytes).await.is_ok(),
                Step::Endless(bytes, pause) => {
                    while stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() {
                        tokio::time::sleep(pause).await;
                    }
                    false
                }
                Step::Silence => {
                    let _ = stream.read(&mut [0; 1]).await;
                    false
                }
                Step::Close => {
                    let _ = stream.shutdown().await;
                    false
                }
            };
            if !done {
                return;
            }
        }
        let _ = stream.flush().await;
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        // A TLS hello where none is understood.
        if bytes[0] == 0x16 {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut line = head.lines().next()?.split(' ');
    let mut seen = Seen {
        method: line.next()?.to_owned(),
        path: line.next()?.to_owned(),
        head: head.clone(),
        body: bytes.split_off(end),
    };
    let length: usize = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while seen.body.len() < length {
        if stream.read_buf(&mut seen.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(seen)
}

//! A registry that misbehaves: it passes requests on, and spoils the answers it was told to spoil.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Registry;
use super::wire::{Chunked, Head, send_chunked};

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is closed without an answer.
    Drop,
    /// No answer comes for this long; then the connection is closed.
    Hang(Duration),
    /// This answer, and nothing of the registry's.
    Answer {
        /// Its status.
        status: u16,
        /// Its headers; the length is added.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// The connection is cut after this many bytes of the answer's body.
    CutAfter(u64),
    /// The connection is cut after this many bytes of the request's body were passed on.
    CutRequestAfter(u64),
    /// The byte at this place of the body is another one.
    WrongByte(u64),
    /// The body ends early, and the headers say so too.
    ShortenTo(u64),
    /// The headers announce another length than the body has, which is cut or left open there.
    AnnounceLength(u64),
    /// The headers name another digest.
    AnnounceDigest(String),
    /// The headers name another media type.
    MediaType(String),
    /// The body never ends (or ends when the client goes), without a length.
    Endless,
    /// The body comes this many bytes at a time.
    Slow {
        /// How many.
        bytes: usize,
        /// And then this pause.
        pause: Duration,
    },
    /// The client is sent to the same path at another host: `http://HOST:PORT`.
    RedirectTo(String),
    /// The whole blob comes although a part was asked for.
    IgnoreRange,
}

impl Fault {
    /// A status with an error document, and how many seconds the client is asked to wait.
    #[must_use]
    pub fn status(status: u16, retry_after: Option<u64>) -> Self {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string())));
        let body = br#"{"errors":[{"code":"UNKNOWN","message":"a fault that the test asked for"}]}"#.to_vec();
        Self::Answer { status, headers, body }
    }

    /// A whole other document: an oversize manifest, an index that amplifies.
    #[must_use]
    pub fn document(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let headers = vec![
            ("content-type".to_owned(), media_type.to_owned()),
            ("docker-content-digest".to_owned(), super::digest(&body)),
        ];
        Self::Answer { status: 200, headers, body }
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers with lower-case names.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first header of that (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

type Rule = Arc<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

/// What the threads share.
struct Shared {
    behind: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    ended: AtomicBool,
}

/// A registry in front of another that misbehaves as told; plain HTTP, one request a connection.
pub struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({} before {})", self.address, self.shared.behind)
    }
}

impl Faulty {
    /// One in front of `registry`, at 127.0.0.1.
    #[must_use]
    pub fn before(registry: &Registry) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, registry.address())
    }

    /// One at another loopback address (127.0.0.2): another host to every client.
    #[must_use]
    pub fn at(address: Ipv4Addr, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(IpAddr::V4(address), 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            behind,
            rules: Mutex::default(),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Acquire) {
                    return;
                }
                let shared = serving.clone();
                // What a client does to a spoiled connection is the test's business.
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in references: `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Decides by code: the first rule that gives a fault wins. It may wait: other requests go on.
    pub fn rule(&self, rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(rule));
    }

    /// Spoils every request of `method` whose path and query contain `part`.
    pub fn every(&self, method: &'static str, part: impl Into<String>, fault: Fault) {
        self.first(u64::MAX, method, part, fault);
    }

    /// Spoils the first `times` of them.
    pub fn first(&self, times: u64, method: &'static str, part: impl Into<String>, fault: Fault) {
        let (part, used) = (part.into(), AtomicU64::new(0));
        self.rule(move |seen| {
            let fits = seen.method == method && seen.target.contains(&part);
            (fits && used.fetch_add(1, Ordering::Relaxed) < times).then(|| fault.clone())
        });
    }

    /// Behaves from now on.
    pub fn behave(&self) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The requests that came so far, in their order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests of `method` came whose path and query contain `part`.
    #[must_use]
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(stream);
    let Some(head) = Head::read(&mut client)? else { return Ok(()) };
    let mut words = head.first.split(' ');
    let seen = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: head.headers.clone(),
    };
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    let rules = shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let fault = rules.iter().find_map(|rule| rule(&seen));
    let done = pass(&mut client, stream, head, &seen, fault, shared);
    // What was sent must arrive before the connection ends: reading the rest keeps the kernel from resetting it.
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = io::copy(&mut client.take(64 << 20), &mut io::sink());
    done
}

fn pass(
    client: &mut BufReader<&TcpStream>,
    mut stream: &TcpStream,
    mut head: Head,
    seen: &Seen,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let mut request_limit = u64::MAX;
    match &fault {
        Some(Fault::Drop) => return stream.shutdown(Shutdown::Both),
        Some(Fault::Hang(time)) => {
            std::thread::sleep(*time);
            return stream.shutdown(Shutdown::Both);
        }
        Some(Fault::Answer { status, headers, body }) => {
            return answer(
                stream,
                *status,
                headers,
                if seen.method == "HEAD" { &[] } else { body },
                body.len(),
            );
        }
        Some(Fault::RedirectTo(base)) => {
            let location = ("location".to_owned(), format!("{base}{}", seen.target));
            return answer(stream, 307, &[location], &[], 0);
        }
        Some(Fault::CutRequestAfter(limit)) => request_limit = *limit,
        Some(Fault::IgnoreRange) => head.remove("range"),
        _ => {}
    }
    let mut registry = TcpStream::connect(shared.behind)?;
    if head.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        head.remove("expect");
    }
    head.set("connection", "close");
    head.write(&mut registry)?;
    let sent = send_body(client, &head, &mut registry, request_limit);
    if matches!(fault, Some(Fault::CutRequestAfter(_))) {
        registry.shutdown(Shutdown::Both)?;
        return stream.shutdown(Shutdown::Both);
    }
    let mut registry = BufReader::new(registry);
    let Some(answer) = Head::read(&mut registry)? else { return sent };
    spoil(answer, &mut registry, stream, fault, seen.method == "HEAD")
}

fn send_body(
    client: &mut BufReader<&TcpStream>,
    head: &Head,
    registry: &mut TcpStream,
    limit: u64,
) -> io::Result<()> {
    if head.is_chunked() {
        return send_chunked(Chunked::new(client).take(limit), registry);
    }
    io::copy(&mut client.take(head.length().unwrap_or(0).min(limit)), registry).map(drop)
}

fn answer(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    length: usize,
) -> io::Result<()> {
    let mut head = Head { first: format!("HTTP/1.1 {status} Told"), headers: headers.to_vec() };
    head.set("content-length", &length.to_string());
    head.set("connection", "close");
    head.write(&mut stream)?;
    stream.write_all(body)
}

/// Passes an answer on, spoiled.
fn spoil(
    mut head: Head,
    registry: &mut impl BufRead,
    mut stream: &TcpStream,
    fault: Option<Fault>,
    bodyless: bool,
) -> io::Result<()> {
    head.set("connection", "close");
    let mut limit = u64::MAX;
    match &fault {
        Some(Fault::CutAfter(bytes)) => limit = *bytes,
        Some(Fault::ShortenTo(bytes)) => {
            limit = *bytes;
            head.set("content-length", &bytes.to_string());
        }
        Some(Fault::AnnounceLength(bytes)) => head.set("content-length", &bytes.to_string()),
        Some(Fault::AnnounceDigest(digest)) => head.set("docker-content-digest", digest),
        Some(Fault::MediaType(kind)) => head.set("content-type", kind),
        Some(Fault::Endless) => {
            head.remove("content-length");
            head.set("transfer-encoding", "chunked");
        }
        _ => {}
    }
    head.write(&mut stream)?;
    if bodyless {
        return Ok(());
    }
    match fault {
        Some(Fault::Endless) => send_chunked(registry.chain(io::repeat(b'x')), &mut stream),
        Some(Fault::WrongByte(at)) => {
            io::copy(&mut registry.take(at), &mut stream)?;
            let mut byte = [0];
            if registry.read(&mut byte)? == 1 {
                stream.write_all(&[byte[0] ^ 0x55])?;
            }
            io::copy(registry, &mut stream).map(drop)
        }
        Some(Fault::Slow { bytes, pause }) => {
            let mut buffer = vec![0; bytes.max(1)];
            loop {
                let read = registry.read(&mut buffer)?;
                if read == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..read])?;
                std::thread::sleep(pause);
            }
        }
        _ => io::copy(&mut registry.take(limit), &mut stream).map(drop),
    }
}

//! One call of a plugin: a request over a fresh connection, with an end.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;

use super::discover::Address;
use crate::volume::host;

/// The longest answer that is read, in bytes, and the longest head of one.
const ANSWER: u64 = 16 << 20;
const HEAD: u64 = 64 << 10;
/// What the protocol calls itself.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// How long a plugin that is not there yet is tried again, by calls that are not in a hurry.
const STARTING: Duration = Duration::from_secs(3);
const HURRY: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug)]
pub(in crate::volume) enum Fault {
    /// The plugin was not reached, or broke off.
    Lost { method: &'static str, address: Address, error: io::Error },
    /// It did not answer in time.
    Late { method: &'static str, patience: Duration },
    /// It answered with an error of its own; with a status where that was not 200.
    Refused { method: &'static str, status: u16, words: String },
    /// What it said is no answer.
    Nonsense { method: &'static str, why: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Docker's client for plugins words it.
        let post = |method: &str| format!("Post \"http://plugin.moby.localhost/{method}\"");
        match self {
            Self::Lost { method, address: Address::Unix(path), error } => {
                let why =
                    Errno::from_io_error(error).map_or_else(|| error.to_string(), wharf_sys::error::describe);
                write!(out, "{}: dial unix {}: connect: {why}", post(method), path.display())
            }
            Self::Lost { method, address: Address::Tcp(host), error } => {
                write!(out, "{}: dial tcp {host}: connect: {error}", post(method))
            }
            Self::Late { method, patience } => {
                write!(out, "{}: context deadline exceeded after {} s", post(method), patience.as_secs())
            }
            Self::Refused { status: 200, words, .. } => write!(out, "{words}"),
            Self::Refused { method, words, .. } => write!(out, "{method}: {words}"),
            Self::Nonsense { method, why } => write!(out, "{method}: {why}"),
        }
    }
}

/// Calls `method`, and gives what it answered. Sleeps, at most for `patience`.
pub(super) fn call(
    address: &Address,
    method: &'static str,
    ask: &Value,
    patience: Duration,
) -> Result<Value, Fault> {
    let deadline = Instant::now() + patience;
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fault::Late { method, patience },
        _ => Fault::Lost { method, address: address.clone(), error },
    };
    let nonsense = |why: String| Fault::Nonsense { method, why };
    let stream = connect(address, deadline).map_err(fault)?;
    let mut connection = BufReader::new(Timed { stream, deadline });
    let body = if ask.is_null() { String::new() } else { ask.to_string() };
    let request = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin\r\nAccept: {MEDIA_TYPE}\r\nContent-Type: {MEDIA_TYPE}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes()).map_err(fault)?;
    let (status, framing) = head(&mut connection).map_err(fault)?;
    let bytes = content(&mut connection, framing).map_err(fault)?;
    if status != 200 {
        let words = serde_json::from_slice::<Value>(&bytes).ok().and_then(|answer| said(&answer));
        let words = words.unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
        return Err(Fault::Refused { method, status, words });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(&bytes).map_err(|error| nonsense(error.to_string()))?;
    match said(&answer) {
        Some(words) => Err(Fault::Refused { method, status, words }),
        None => Ok(answer),
    }
}

/// The error in an answer.
fn said(answer: &Value) -> Option<String> {
    answer["Err"].as_str().filter(|words| !words.is_empty()).map(str::to_owned)
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection whose reads and writes end when the whole call has to.
#[derive(Debug)]
struct Timed {
    stream: Stream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buffer)),
            Stream::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buffer)),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.stream {
            Stream::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(bytes)),
            Stream::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects. A plugin that is just being started is given a moment.
fn connect(address: &Address, deadline: Instant) -> io::Result<Stream> {
    let now = Instant::now();
    let patience = if deadline - now > HURRY { now + STARTING } else { now };
    loop {
        let error = match address {
            Address::Unix(path) => match connect_unix(path) {
                Ok(stream) => return Ok(Stream::Unix(stream)),
                Err(error) => error,
            },
            Address::Tcp(host) => match connect_tcp(host, deadline) {
                Ok(stream) => return Ok(Stream::Tcp(stream)),
                Err(error) => error,
            },
        };
        // A queue that is full is one of a program that hangs: that may take as long as the call.
        let full = error.kind() == io::ErrorKind::WouldBlock;
        let starting = error.kind() == io::ErrorKind::ConnectionRefused;
        if Instant::now() >= if full { deadline } else { patience } || !(full || starting) {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Connects without waiting for room in the listener's queue.
fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn connect_tcp(place: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let (name, port) = place.rsplit_once(':').unwrap_or((place, ""));
    let port =
        port.parse().map_err(|_| io::Error::other(format!("address {place}: missing port in address")))?;
    for address in host::addresses(name.trim_matches(['[', ']']))? {
        let address = SocketAddr::new(address, port);
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed HTTP response: {what}"))
}

fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(HEAD).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(bad("a line without an end")) }
}

fn head(input: &mut impl BufRead) -> io::Result<(u16, Framing)> {
    let first = line(input)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let mut framing = Framing::ToTheEnd;
    let mut read = 0;
    loop {
        let line = line(input)?;
        read += line.len() as u64;
        if line.is_empty() {
            return Ok((status, framing));
        }
        if read > HEAD {
            return Err(bad("a head without an end"));
        }
        let Some((name, value)) = line.split_once(':') else { return Err(bad("a header without a value")) };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            framing = Framing::Length(value.parse().map_err(|_| bad("a length that is no number"))?);
        }
    }
}

fn content(input: &mut impl BufRead, framing: Framing) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut take = |input: &mut dyn BufRead, length: u64| -> io::Result<u64> {
        let got = input.take(length).read_to_end(&mut bytes)? as u64;
        if bytes.len() as u64 > ANSWER { Err(bad("it is too long")) } else { Ok(got) }
    };
    match framing {
        Framing::ToTheEnd => drop(take(input, ANSWER + 1)?),
        Framing::Length(length) => {
            if take(input, length.min(ANSWER + 1))? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Framing::Chunked => loop {
            let size = line(input)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk without a size"))?;
            if size == 0 {
                break;
            }
            if take(input, size.min(ANSWER + 1))? < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line(input)?;
        },
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What comes of a plugin that answers with exactly these bytes.
    fn answered(bytes: &'static [u8]) -> Result<Value, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let plugin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let ask = serde_json::json!({ "Name": "v" });
        let answer = call(&Address::Unix(path), "VolumeDriver.Get", &ask, Duration::from_secs(5));
        let request = plugin.join().unwrap();
        assert!(request.starts_with("POST /VolumeDriver.Get HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"Name\":\"v\"}"), "{request}");
        answer
    }

    #[test]
    fn answers_come_in_every_framing() {
        let whole = serde_json::json!({ "a": 1 });
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}").unwrap(), whole);
        assert_eq!(answered(b"HTTP/1.0 200 OK\r\n\r\n{\"a\":1}").unwrap(), whole);
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x\r\n\":1}\r\n0\r\n\r\n";
        assert_eq!(answered(chunked).unwrap(), whole);
    }

    #[test]
    fn errors_are_told_in_the_plugin_s_words() {
        let text = |bytes| answered(bytes).unwrap_err().to_string();
        assert_eq!(text(b"HTTP/1.1 200 OK\r\n\r\n{\"Err\":\"no room\"}"), "no room");
        assert_eq!(text(b"HTTP/1.1 500 No\r\n\r\n{\"Err\":\"no room\"}"), "VolumeDriver.Get: no room");
        assert_eq!(text(b"HTTP/1.1 404 No\r\n\r\nnothing\n"), "VolumeDriver.Get: nothing");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"hello\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{",
            b"",
        ] {
            answered(bytes).unwrap_err();
        }
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let patience = Duration::from_millis(100);
        let ask = || call(&Address::Unix(path.clone()), "VolumeDriver.Get", &Value::Null, patience);
        assert!(matches!(ask().unwrap_err(), Fault::Late { .. }));
        // Nor does a full queue hold anybody up.
        let held: Vec<_> = std::iter::from_fn(|| connect_unix(&path).ok()).collect();
        assert!(matches!(ask().unwrap_err(), Fault::Late { .. }));
        drop(held);
    }
}

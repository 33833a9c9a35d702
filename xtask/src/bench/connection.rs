//! A kept-alive HTTP connection to a daemon's socket, as thin as the measurement wants it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One connection, used for one request after the other.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
}

/// An answer: status and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Connection {
    pub(super) fn open(socket: &Path) -> Result<Self> {
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, UnixStream::connect(socket)?) })
    }

    /// Sends a request and reads its answer whole; statuses from 400 are errors.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let head = format!(
            "{method} /v1.51{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        let status = self.answer(&mut bytes)?;
        if status >= 400 {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes).trim());
        }
        Ok(Answer { status, body: bytes })
    }

    /// Sends a file as the body.
    pub(super) fn send(&mut self, path: &str, file: &Path) -> Result<Answer> {
        let mut file = std::fs::File::open(file)?;
        let length = file.metadata()?.len();
        let head = format!(
            "POST /v1.51{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        std::io::copy(&mut file, self.stream.get_mut())?;
        let mut bytes = Vec::new();
        let status = self.answer(&mut bytes)?;
        Ok(Answer { status, body: bytes })
    }

    /// Asks and throws the body away; gives its length.
    pub(super) fn drain(&mut self, path: &str) -> Result<u64> {
        self.stream
            .get_mut()
            .write_all(format!("GET /v1.51{path} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes())?;
        let mut counter = Counter(0);
        let status = self.answer(&mut counter)?;
        if status >= 400 {
            bail!("GET {path}: {status}");
        }
        Ok(counter.0)
    }

    fn answer(&mut self, sink: &mut impl Write) -> Result<u16> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("no HTTP answer: {line:?}"))?;
        let (mut length, mut chunked) = (None, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<u64>()?);
            }
            chunked |= lower == "transfer-encoding: chunked";
        }
        match (chunked, length) {
            (true, _) => self.chunks(sink)?,
            (false, Some(length)) => drop(std::io::copy(&mut self.stream.by_ref().take(length), sink)?),
            (false, None) => {}
        }
        Ok(status)
    }

    fn chunks(&mut self, sink: &mut impl Write) -> Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size =
                u64::from_str_radix(line.trim(), 16).with_context(|| format!("a chunk's size: {line:?}"))?;
            std::io::copy(&mut self.stream.by_ref().take(size), sink)?;
            let mut end = [0; 2];
            self.stream.read_exact(&mut end)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

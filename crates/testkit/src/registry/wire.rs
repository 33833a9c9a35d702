//! Just enough HTTP/1.1 to stand between a client and a registry.

use std::io::{self, BufRead, Read, Write};

/// A head: its first line and its headers with lower-case names.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) first: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; nothing where the connection ended before one.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self { first: first.trim_end().to_owned(), headers }))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        to.write_all(format!("{text}\r\n").as_bytes())
    }

    /// How many bytes follow; nothing when it is not said.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"))
    }
}

/// The bytes of a chunked body.
pub(super) struct Chunked<R> {
    inner: R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Chunked<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, left: 0, ended: false }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.inner.read_line(&mut line)?;
        if line.trim().is_empty() {
            line.clear();
            self.inner.read_line(&mut line)?;
        }
        let size = line.trim().split(';').next().unwrap_or_default();
        self.left = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        if self.left == 0 {
            self.ended = true;
            self.inner.read_line(&mut line)?;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            self.next_chunk()?;
        }
        if self.ended {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Sends a body of unknown length as chunks.
pub(super) fn send_chunked(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        to.write_all(format!("{read:x}\r\n").as_bytes())?;
        to.write_all(&buffer[..read])?;
        to.write_all(b"\r\n")?;
        if read == 0 {
            return to.flush();
        }
    }
}

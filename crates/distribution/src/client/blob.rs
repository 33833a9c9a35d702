//! Blobs as streams that go on after a cut.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, sleep_until};
use wharf_oci::digest::Digest;
use wharf_oci::image::Descriptor;

use super::attempts::Attempts;
use super::error::{ContentError, Error};
use super::manifest::broken;
use super::repository::{Repository, header, unexpected};
use super::session::{Answered, Ask};

/// So many bytes make an attempt count as a success, after which patience begins anew.
const PROGRESS: u64 = 1 << 20;

/// What a [`BlobStream`] gives.
#[derive(Debug)]
pub enum BlobEvent {
    /// The next bytes.
    Bytes(Bytes),
    /// The transfer broke; another attempt follows after `pause`. For progress displays only.
    Retrying {
        /// Which attempt comes, from 2.
        attempt: u32,
        /// How long until then.
        pause: Duration,
        /// What happened.
        reason: String,
    },
}

/// The bytes of a blob as they come; resumes by itself after a cut.
pub struct BlobStream {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// The next byte wanted.
    offset: u64,
    /// Where the last failure was.
    failed_at: u64,
    attempts: Attempts,
    state: State,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobStream({} at {} of {})", self.digest, self.offset, self.size)
    }
}

enum State {
    /// To be asked for, not before a moment.
    Closed(Option<Instant>),
    Open(Box<Opened>),
}

struct Opened {
    answered: Answered,
    /// Bytes before the wanted ones, where the registry ignored the range.
    skip: u64,
}

impl Repository {
    /// The bytes of blob `descriptor.digest` from `offset` to `descriptor.size`: never fewer, never more. Whoever takes
    /// them verifies the digest (they may come in two parts with a restart between). Nothing is asked before the first
    /// [`BlobStream::next`].
    #[must_use]
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> BlobStream {
        BlobStream {
            repository: self.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            offset,
            failed_at: offset,
            attempts: Attempts::new(self.session.client().config()),
            state: State::Closed(None),
        }
    }

    /// A small blob as a whole, its digest verified: a config.
    ///
    /// # Errors
    /// Any [`Error`]; [`ContentError::TooLarge`] before anything is asked when it is announced above `limit` bytes.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if descriptor.size > limit {
            return Err(ContentError::TooLarge { what: format!("blob {}", descriptor.digest), limit }.into());
        }
        let mut stream = self.blob(descriptor, 0);
        let mut all = Vec::new();
        while let Some(event) = stream.next().await? {
            if let BlobEvent::Bytes(bytes) = event {
                all.extend_from_slice(&bytes);
            }
        }
        let actual = Digest::of(&all);
        if actual != descriptor.digest {
            return Err(ContentError::ConfigDigest { expected: descriptor.digest, actual }.into());
        }
        Ok(all.into())
    }
}

impl BlobStream {
    /// The next event, `None` after the last byte. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Any [`Error`], after the last attempt.
    pub async fn next(&mut self) -> Result<Option<BlobEvent>, Error> {
        match self.advance().await {
            Ok(bytes) => Ok(bytes.map(BlobEvent::Bytes)),
            Err(error) => self.failed(error).map(Some),
        }
    }

    /// The next byte that [`BlobStream::next`] will give.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    fn failed(&mut self, error: Error) -> Result<BlobEvent, Error> {
        if let State::Open(opened) = &self.state {
            // A mirror that breaks off in the middle is not asked again.
            self.repository.session.give_up(&opened.answered.endpoint);
        }
        self.state = State::Closed(None);
        if self.offset - self.failed_at >= PROGRESS {
            self.attempts.progressed();
        }
        self.failed_at = self.offset;
        let Some(pause) = self.attempts.next(&error) else { return Err(error) };
        self.state = State::Closed(Some(Instant::now() + pause));
        Ok(BlobEvent::Retrying { attempt: self.attempts.number(), pause, reason: error.to_string() })
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match &mut self.state {
                State::Closed(_) if self.offset >= self.size && self.size > 0 => return Ok(None),
                State::Closed(until) => {
                    if let Some(until) = until {
                        sleep_until(*until).await;
                    }
                    let opened = self.open().await?;
                    self.state = State::Open(Box::new(opened));
                }
                State::Open(opened) => {
                    let chunk = opened.answered.answer.body.chunk().await;
                    let chunk =
                        chunk.map_err(|source| broken(opened.answered.answer.url.to_string(), source))?;
                    let Some(bytes) = chunk else { return self.ended() };
                    if let Some(bytes) = self.taken(bytes)? {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// What of `bytes` was wanted.
    fn taken(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, Error> {
        if let State::Open(opened) = &mut self.state {
            let skipped = bytes.len().min(usize::try_from(opened.skip).unwrap_or(usize::MAX));
            opened.skip -= skipped as u64;
            bytes = bytes.slice(skipped..);
        }
        let end = self.offset + bytes.len() as u64;
        if end > self.size {
            return Err(self.wrong_size(end));
        }
        self.offset = end;
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn ended(&mut self) -> Result<Option<Bytes>, Error> {
        if self.offset < self.size {
            let State::Open(opened) = &self.state else { return Ok(None) };
            let url = opened.answered.answer.url.to_string();
            return Err(broken(url, super::error::TransportError::Cut));
        }
        self.state = State::Closed(None);
        Ok(None)
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let what = format!("blob {}", self.digest);
        ContentError::Size { what, expected: self.size, actual }.into()
    }

    async fn open(&mut self) -> Result<Opened, Error> {
        let mut ask: Ask = self
            .repository
            .request(Method::GET, &format!("blobs/{}", self.digest))
            .with(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.offset > 0 {
            ask = ask.with(RANGE, header(&format!("bytes={}-", self.offset)));
        }
        let answered = self.repository.session.ask_once(&ask).await?;
        let answer = &answered.answer;
        let start = match answer.status {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(answer.header(CONTENT_RANGE).unwrap_or_default())?
            }
            status => return Err(unexpected(&format!("blob {}", self.digest), status)),
        };
        if let Some(length) = answer.length()
            && start + length != self.size
        {
            return Err(self.wrong_size(start + length));
        }
        Ok(Opened { skip: self.offset - start, answered })
    }

    /// The first byte of a partial answer, which must be the one asked for.
    fn check_range(&self, value: &str) -> Result<u64, Error> {
        let parsed = parse_content_range(value);
        let good = parsed.is_some_and(|(first, last, total)| {
            first == self.offset && last + 1 == self.size && total.is_none_or(|total| total == self.size)
        });
        if good {
            return Ok(self.offset);
        }
        Err(ContentError::Range {
            what: format!("blob {}", self.digest),
            asked: self.offset,
            answered: value.chars().take(100).collect(),
        }
        .into())
    }
}

/// Reads `bytes FIRST-LAST/TOTAL`, the total possibly `*`.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::parse_content_range;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "bytes */10", "bytes 9-5/10", "items 1-2/3", "bytes 0-18446744073709551615/1"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}

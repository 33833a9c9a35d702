//! Blobs brought into a repository: found there, mounted, or sent, going on where a cut was.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use hyper::{Method, StatusCode};
use tokio::io::AsyncRead;
use tokio::time::{sleep, timeout};
use wharf_oci::digest::Digest;

use super::attempts::Attempts;
use super::endpoint::Contact;
use super::error::{ContentError, Error, TransportError};
use super::manifest::DIGEST;
use super::refusal::refusal_of;
use super::repository::{Repository, header, unexpected};
use super::session::Session;
use super::transport::{Answer, Head, Outgoing, Url, Wait};

/// Up to this size a blob is sent in one request.
const SMALL: u64 = 1 << 20;
/// The first chunk's size after a server between refused one large body (413).
const CHUNK: u64 = 64 << 20;
const LEAST_CHUNK: u64 = 4 << 20;
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// Bytes that can be read again from any offset: an upload starts over where the registry says that it was cut.
pub trait Source: Send + Sync {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

impl Source for Bytes {
    fn open(&self, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(io::Cursor::new(self.slice(offset..))))
    }
}

/// Is told which attempt comes (from 2), after how long, and why.
pub type OnRetry<'a> = dyn Fn(u32, Duration, &Error) + Send + Sync + 'a;

/// A blob to be brought into a repository.
pub struct Upload<'a> {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes; progress can be seen by who reads from it.
    pub source: &'a dyn Source,
    /// Paths of repositories of the same registry that may have it.
    pub mount_from: &'a [String],
    /// Where an upload stood that an earlier process began ([`Upload::on_session`]).
    pub session: Option<String>,
    /// Told the address of the upload, to be kept for an attempt after a restart.
    pub on_session: Option<&'a (dyn Fn(&str) + Send + Sync)>,
    /// Told before another attempt.
    pub on_retry: Option<&'a OnRetry<'a>>,
}

impl<'a> Upload<'a> {
    /// An upload of `source` without further wishes.
    #[must_use]
    pub fn new(digest: Digest, size: u64, source: &'a dyn Source) -> Self {
        Self { digest, size, source, mount_from: &[], session: None, on_session: None, on_retry: None }
    }
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({})", self.digest)
    }
}

/// How a blob came into the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// Mounted from this repository.
    Mounted(String),
    /// Sent.
    Sent,
}

/// An upload at the registry.
struct Place {
    url: Url,
    /// How many bytes the registry has.
    offset: u64,
}

enum Begun {
    Mounted,
    Place(Place),
}

/// Tells the registry when an upload is not gone on with.
struct Abandon {
    session: Session,
    contact: Contact,
    scopes: Vec<String>,
    url: Option<Url>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        let Some(url) = self.url.take() else { return };
        let (session, contact, scopes) = (self.session.clone(), self.contact.clone(), self.scopes.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let head = Head::new(Method::DELETE, url);
                // The registry drops what is abandoned sooner or later; this makes it sooner.
                let _ = timeout(CANCEL_TIME, session.send(&contact, head, Outgoing::Empty, &scopes)).await;
            });
        }
    }
}

impl Repository {
    /// Brings a blob into the repository: found there, mounted from another repository of the registry, or sent.
    /// Dropping the future cancels, and the registry is told.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn push_blob(&self, mut upload: Upload<'_>) -> Result<Pushed, Error> {
        if self.has_blob(upload.digest).await?.is_some() {
            return Ok(Pushed::Existed);
        }
        let contact = self.session.home().await?;
        let mut sending = Sending {
            repository: self,
            guard: Abandon {
                session: self.session.clone(),
                contact: contact.clone(),
                scopes: self.session.scopes(&self.path),
                url: None,
            },
            attempts: Attempts::new(self.session.client().config()),
            chunk: u64::MAX,
            renewed: false,
            place: None,
        };
        let resumed = upload.session.take().and_then(|session| Url::parse(&session).ok());
        if let Some(url) = resumed {
            sending.place = sending.status(url).await.unwrap_or(None);
        }
        if sending.place.is_none() {
            for from in upload.mount_from {
                match sending.begin(Some((upload.digest, from))).await {
                    Ok(Begun::Mounted) => return Ok(Pushed::Mounted(from.clone())),
                    Ok(Begun::Place(place)) => sending.place = Some(place),
                    Err(error) => tracing::debug!(%error, from, "a blob cannot be mounted"),
                }
                if sending.place.is_some() {
                    break;
                }
            }
        }
        sending.run(&upload).await?;
        Ok(Pushed::Sent)
    }
}

struct Sending<'a> {
    repository: &'a Repository,
    guard: Abandon,
    attempts: Attempts,
    chunk: u64,
    renewed: bool,
    place: Option<Place>,
}

impl Sending<'_> {
    async fn run(&mut self, upload: &Upload<'_>) -> Result<(), Error> {
        loop {
            let before = self.place.as_ref().map_or(0, |place| place.offset);
            let error = match self.attempt(upload).await {
                Ok(()) => {
                    self.guard.url = None;
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.place.as_ref().is_some_and(|place| place.offset > before) {
                self.attempts.progressed();
            }
            if self.smaller_chunks(&error, upload.size) || self.renewed(&error) {
                self.find_again().await;
                continue;
            }
            let Some(pause) = self.attempts.next(&error) else { return Err(error) };
            if let Some(told) = upload.on_retry {
                told(self.attempts.number(), pause, &error);
            }
            sleep(pause).await;
            self.find_again().await;
        }
    }

    /// Whether smaller pieces may help.
    fn smaller_chunks(&mut self, error: &Error, size: u64) -> bool {
        let refused = matches!(error, Error::Refused(refusal) if refusal.status == 413);
        let smaller = if self.chunk == u64::MAX { CHUNK } else { self.chunk / 4 };
        if !refused || smaller < LEAST_CHUNK || size <= smaller {
            return false;
        }
        self.chunk = smaller;
        true
    }

    /// Whether another token, or another upload in place of a lost one, may help; once.
    fn renewed(&mut self, error: &Error) -> bool {
        let Error::Refused(refusal) = error else { return false };
        if self.guard.url.is_none() || std::mem::replace(&mut self.renewed, true) {
            return false;
        }
        if matches!(refusal.status, 404 | 416) {
            self.place = None;
        }
        matches!(refusal.status, 401 | 404 | 416)
    }

    /// Asks the registry where the upload stands; one that is lost begins anew.
    async fn find_again(&mut self) {
        if let Some(place) = self.place.take() {
            self.place = self.status(place.url).await.unwrap_or(None);
        }
    }

    async fn attempt(&mut self, upload: &Upload<'_>) -> Result<(), Error> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => match self.begin(None).await? {
                Begun::Place(place) => place,
                Begun::Mounted => return Ok(()),
            },
        };
        self.keep(upload, &place.url);
        if place.offset > upload.size {
            return Err(self.lost(upload, place.offset));
        }
        if place.offset == 0 && upload.size <= SMALL {
            let body = self.body(upload, 0, upload.size)?;
            return self.finish(upload, place, body).await;
        }
        while place.offset < upload.size {
            place = self.patch(upload, place).await?;
            self.keep(upload, &place.url);
        }
        self.finish(upload, place, Outgoing::Empty).await
    }

    /// Remembers where the upload is: for the next attempt, for whoever asked to know, and for a cancellation.
    fn keep(&mut self, upload: &Upload<'_>, url: &Url) {
        self.guard.url = Some(url.clone());
        if let Some(told) = upload.on_session {
            told(&url.to_string());
        }
    }

    fn lost(&self, upload: &Upload<'_>, offset: u64) -> Error {
        let what = format!("upload of blob {}", upload.digest);
        ContentError::Size { what, expected: upload.size, actual: offset }.into()
    }

    fn body(&self, upload: &Upload<'_>, offset: u64, length: u64) -> Result<Outgoing, Error> {
        if length == 0 {
            return Ok(Outgoing::Empty);
        }
        let failed = |source| Error::Source { digest: upload.digest, source };
        Ok(Outgoing::reader(upload.source.open(offset).map_err(failed)?, length))
    }

    async fn send(&self, head: Head, body: Outgoing, scopes: &[String]) -> Result<Answer, Error> {
        self.repository.session.send(&self.guard.contact, head, body, scopes).await
    }

    /// Opens an upload, or mounts the blob from another repository.
    async fn begin(&mut self, mount: Option<(Digest, &str)>) -> Result<Begun, Error> {
        let mut scopes = self.guard.scopes.clone();
        let mut url = self.guard.contact.endpoint.url(&format!("{}/blobs/uploads/", self.repository.path));
        if let Some((digest, from)) = mount {
            url = url.with_query("from", from).with_query("mount", &digest.to_string());
            scopes.push(format!("repository:{from}:pull"));
        }
        let mut head = Head::new(Method::POST, url);
        head.wait = Wait::Store;
        let mut answer = self.send(head, Outgoing::Empty, &scopes).await?;
        match answer.status {
            StatusCode::CREATED if mount.is_some() => {
                answer.body.beginning().await;
                Ok(Begun::Mounted)
            }
            StatusCode::ACCEPTED => {
                let url = location(&answer)?;
                answer.body.beginning().await;
                Ok(Begun::Place(Place { url, offset: 0 }))
            }
            status if status.is_success() => Err(unexpected("start of an upload", status)),
            _ => Err(refusal_of(&mut answer).await),
        }
    }

    /// Where an upload stands; `None` when the registry does not know it any more.
    async fn status(&self, url: Url) -> Result<Option<Place>, Error> {
        let head = Head::new(Method::GET, url);
        let mut answer = self.send(head, Outgoing::Empty, &self.guard.scopes).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let offset = received(&answer);
        let url = location(&answer).unwrap_or_else(|_| answer.url.clone());
        answer.body.beginning().await;
        Ok(Some(Place { url, offset }))
    }

    /// Sends the next chunk: all that is left, unless a server refused so much at once.
    async fn patch(&mut self, upload: &Upload<'_>, place: Place) -> Result<Place, Error> {
        let length = self.chunk.min(upload.size - place.offset);
        let body = self.body(upload, place.offset, length)?;
        let mut head = Head::new(Method::PATCH, place.url.clone())
            .with(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if length < upload.size {
            let last = place.offset + length - 1;
            head = head.with(CONTENT_RANGE, header(&format!("{}-{last}", place.offset)));
        }
        head.wait = Wait::Store;
        let (offset, scopes) = (place.offset, self.guard.scopes.clone());
        // Kept before it is sent: after a cut the registry is asked for it.
        self.place = Some(place);
        let mut answer = self.send(head, body, &scopes).await?;
        if !answer.status.is_success() {
            return Err(refusal_of(&mut answer).await);
        }
        let url = location(&answer)?;
        let got = if answer.headers.contains_key(RANGE) { received(&answer) } else { offset + length };
        answer.body.beginning().await;
        if got > upload.size || got <= offset {
            return Err(self.lost(upload, got));
        }
        self.place = None;
        Ok(Place { url, offset: got })
    }

    /// Closes the upload, with the whole blob if it is small.
    async fn finish(&mut self, upload: &Upload<'_>, place: Place, body: Outgoing) -> Result<(), Error> {
        let url = place.url.with_query("digest", &upload.digest.to_string());
        let mut head = Head::new(Method::PUT, url)
            .with(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        head.wait = Wait::Store;
        let scopes = self.guard.scopes.clone();
        self.place = Some(place);
        let mut answer = self.send(head, body, &scopes).await?;
        if !answer.status.is_success() {
            return Err(refusal_of(&mut answer).await);
        }
        let said = answer.header(DIGEST).and_then(|said| said.parse().ok());
        answer.body.beginning().await;
        match said {
            Some(actual) if actual != upload.digest => {
                Err(ContentError::BlobDigest { expected: upload.digest, actual }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Where the upload goes on; never without TLS when it came with.
fn location(answer: &Answer) -> Result<Url, Error> {
    let failed = |text: String| Error::Request {
        verb: "Post".to_owned(),
        url: answer.url.to_string(),
        source: TransportError::Malformed(text),
    };
    let location = answer.header(LOCATION).ok_or_else(|| failed("no Location header".to_owned()))?;
    let url = answer.url.join(location).map_err(&failed)?;
    if url.origin.scheme >= answer.url.origin.scheme {
        return Ok(url);
    }
    if url.origin.host == answer.url.origin.host {
        // A registry behind something that speaks TLS for it does not know.
        return Ok(answer.url.at(url.path));
    }
    Err(failed(format!("upload moved from https to http://{}", url.origin.address())))
}

/// How many bytes `Range: 0-LAST` says that the registry has; it writes `0-0` for none.
fn received(answer: &Answer) -> u64 {
    let range = answer.header(RANGE).unwrap_or_default();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    match range.split_once('-').map(|(first, last)| (first, last.parse::<u64>())) {
        Some(("0", Ok(last))) if last > 0 => last.saturating_add(1),
        _ => 0,
    }
}

//! Signatures.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;
use wharf_oci::digest::Digest;
use wharf_oci::image::{Descriptor, Index, Manifest};
use wharf_oci::reference::Reference;

use super::{Config, Credentials, Error};

/// A client of registries; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// A client with `config`. Does no I/O but reads nothing yet either: certificates are read when a host is first asked.
    ///
    /// # Errors
    /// [`Error::Setting`] for a mirror, proxy or insecure registry that cannot be understood.
    pub fn new(_config: Config) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The repository of `reference`, for pulling (mirrors of docker.io are asked first).
    #[must_use]
    pub fn repository(&self, reference: &Reference, _credentials: Credentials) -> Repository {
        Repository { _name: reference.without_suffix() }
    }

    /// Tries `credentials` at registry `host` (`docker.io`, `host:port`).
    ///
    /// # Errors
    /// [`super::Kind::Unauthorized`] when the registry does not take them.
    pub async fn login(&self, host: &str, _credentials: &Credentials) -> Result<Login, Error> {
        Err(Error::Setting(format!("login to {host}")))
    }

    /// The names of all repositories of registry `host`.
    ///
    /// # Errors
    /// As [`Repository::tags`].
    pub async fn catalog(&self, host: &str, _credentials: &Credentials) -> Result<Vec<String>, Error> {
        Err(Error::Setting(format!("catalog of {host}")))
    }
}

/// A login that succeeded ("Login Succeeded").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Token to be kept instead of the password; empty where the registry gives none.
    pub identity_token: String,
}

/// What in a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A movable name.
    Tag(String),
    /// Exactly these bytes.
    Digest(Digest),
}

impl Target {
    /// What `reference` names: its digest, else its tag, else `latest`.
    #[must_use]
    pub fn of(reference: &Reference) -> Self {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Self::Digest(digest),
            (None, tag) => Self::Tag(tag.unwrap_or(wharf_oci::reference::DEFAULT_TAG).to_owned()),
        }
    }
}

/// A manifest or index as it was received, verified and read.
#[derive(Debug, Clone)]
pub struct Document {
    /// Media type, digest and size of `bytes`.
    pub descriptor: Descriptor,
    /// The very bytes.
    pub bytes: Bytes,
    /// What they say.
    pub manifests: Manifests,
}

/// The two kinds of manifest documents.
#[derive(Debug, Clone)]
pub enum Manifests {
    /// One image.
    Image(Manifest),
    /// Several.
    Index(Index),
}

/// One repository of one registry, with somebody's credentials; clones are cheap.
#[derive(Debug, Clone)]
pub struct Repository {
    _name: Reference,
}

impl Repository {
    /// The same repository for writing: no mirrors, and tokens are asked for `pull,push`.
    #[must_use]
    pub fn for_push(self) -> Self {
        self
    }

    /// What `target` is at this moment: media type, digest, size (a HEAD where the registry answers it well).
    ///
    /// # Errors
    /// Any [`Error`]; word it with [`Error::of_pull`] for a user who pulls.
    pub async fn resolve(&self, _target: &Target) -> Result<Descriptor, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// The manifest or index that `target` names, at most 4 MiB, its digest verified, its media type agreeing with the
    /// header, with itself and with `expected` (the descriptor it was found by).
    ///
    /// # Errors
    /// Any [`Error`]; [`super::ContentError`] for what is refused.
    pub async fn manifest(
        &self,
        _target: &Target,
        _expected: Option<&Descriptor>,
    ) -> Result<Document, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// Whether the repository has blob `digest`, and its size.
    ///
    /// # Errors
    /// Any [`Error`] but [`super::Kind::NotFound`], which is `None`.
    pub async fn has_blob(&self, _digest: Digest) -> Result<Option<u64>, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// The bytes of blob `descriptor.digest` from `offset` to `descriptor.size`: never fewer, never more. Whoever takes
    /// them verifies the digest (they may come in two parts with a restart between). Nothing is asked before the first
    /// [`BlobStream::next`].
    #[must_use]
    pub fn blob(&self, _descriptor: &Descriptor, _offset: u64) -> BlobStream {
        BlobStream {}
    }

    /// A small blob as a whole, its digest verified: a config.
    ///
    /// # Errors
    /// Any [`Error`]; [`super::ContentError::TooLarge`] before anything is asked when it is announced above `limit` bytes.
    pub async fn small_blob(&self, _descriptor: &Descriptor, _limit: u64) -> Result<Bytes, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// Brings a blob into the repository: found there, mounted from another repository of the registry, or sent.
    /// Dropping the future cancels, and the registry is told.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn push_blob(&self, _upload: Upload<'_>) -> Result<Pushed, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// Stores a manifest or index under `target`; gives its digest as the registry confirmed it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_manifest(
        &self,
        _target: &Target,
        _media_type: &str,
        _bytes: Bytes,
    ) -> Result<Digest, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// What refers to `subject` (signatures, SBOMs), of one artifact type or of all; by the referrers API, else by the
    /// fallback tag.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn referrers(
        &self,
        _subject: Digest,
        _artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        Err(Error::Setting("unfinished".into()))
    }

    /// Removes a manifest or, with a tag, a name.
    ///
    /// # Errors
    /// Any [`Error`]; [`super::Kind::Unsupported`] where the registry does not allow it.
    pub async fn delete_manifest(&self, _target: &Target) -> Result<(), Error> {
        Err(Error::Setting("unfinished".into()))
    }
}

/// The bytes of a blob as they come; resumes by itself after a cut.
#[derive(Debug)]
pub struct BlobStream {}

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
        pause: std::time::Duration,
        /// What happened.
        reason: String,
    },
}

impl BlobStream {
    /// The next event, `None` after the last byte. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Any [`Error`], after the last attempt.
    pub async fn next(&mut self) -> Result<Option<BlobEvent>, Error> {
        Ok(None)
    }
}

/// Bytes that can be read again from any offset: an upload starts over where the registry says that it was cut.
pub trait Source: Send + Sync {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

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
    /// Told before another attempt: which (from 2), after how long, and why.
    pub on_retry: Option<&'a (dyn Fn(u32, std::time::Duration, &Error) + Send + Sync)>,
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

//! One repository of one registry.

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use wharf_oci::digest::Digest;
use wharf_oci::reference::Reference;

use super::error::{Error, Kind};
use super::session::{Ask, Session};

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

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// One repository of one registry, with somebody's credentials; clones are cheap.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) session: Session,
    pub(crate) path: String,
}

impl Repository {
    pub(crate) fn new(session: Session, path: &str) -> Self {
        Self { session, path: path.to_owned() }
    }

    /// The same repository for writing: no mirrors, and tokens are asked for `pull,push`.
    #[must_use]
    pub fn for_push(self) -> Self {
        Self { session: self.session.for_push(), path: self.path }
    }

    pub(crate) fn request(&self, method: Method, below: &str) -> Ask {
        Ask::new(method, format!("{}/{below}", self.path), self.session.scopes(&self.path))
    }

    /// Whether the repository has blob `digest`, and its size (0 where the registry does not say).
    ///
    /// # Errors
    /// Any [`Error`] but [`Kind::NotFound`], which is `None`.
    pub async fn has_blob(&self, digest: Digest) -> Result<Option<u64>, Error> {
        let ask = self.request(Method::HEAD, &format!("blobs/{digest}"));
        match self.session.ask(&ask).await {
            Ok(answered) => {
                let length = answered.answer.header(hyper::header::CONTENT_LENGTH);
                Ok(Some(length.and_then(|length| length.parse().ok()).unwrap_or(0)))
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a manifest or, with a tag, a name.
    ///
    /// # Errors
    /// Any [`Error`]; [`Kind::Unsupported`] where the registry does not allow it.
    pub async fn delete_manifest(&self, target: &Target) -> Result<(), Error> {
        self.delete(&format!("manifests/{target}")).await
    }

    /// Removes a blob from the repository.
    ///
    /// # Errors
    /// Any [`Error`]; [`Kind::Unsupported`] where the registry does not allow it.
    pub async fn delete_blob(&self, digest: Digest) -> Result<(), Error> {
        self.delete(&format!("blobs/{digest}")).await
    }

    async fn delete(&self, below: &str) -> Result<(), Error> {
        let mut ask = self.request(Method::DELETE, below);
        ask.scopes = vec![format!("repository:{}:delete", self.path)];
        let mut answered = self.session.ask(&ask).await?;
        answered.answer.body.beginning().await;
        Ok(())
    }
}

/// A header value of visible ASCII that was made here; what cannot be one is sent as nothing.
pub(crate) fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// The refusal of an answer that is a success of an unexpected kind.
pub(crate) fn unexpected(what: &str, status: StatusCode) -> Error {
    Error::Refused(super::error::Refusal {
        status: status.as_u16(),
        errors: vec![super::error::ErrorCode::Bare(format!(
            "{what}: received unexpected HTTP status: {status}"
        ))],
        retry_after: None,
    })
}

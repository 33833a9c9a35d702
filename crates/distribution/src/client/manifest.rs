//! Manifests and indexes: resolved, fetched, stored.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use wharf_oci::digest::Digest;
use wharf_oci::image::Descriptor;

use super::document::{ACCEPTED, Document, MANIFEST_LIMIT, refuse_schema1};
use super::error::{ContentError, Error, Kind, TransportError};
use super::repository::{Repository, Target, header};
use super::session::{Answered, Ask};
use super::transport::{Answer, Wait};

/// Says which bytes an answer is about.
pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Repository {
    fn manifest_request(&self, method: Method, target: &Target) -> Ask {
        self.request(method, &format!("manifests/{target}")).with(ACCEPT, HeaderValue::from_static(ACCEPTED))
    }

    /// What `target` is at this moment: media type, digest, size (a HEAD where the registry answers it well).
    ///
    /// # Errors
    /// Any [`Error`]; word it with [`Error::of_pull`] for a user who pulls.
    pub async fn resolve(&self, target: &Target) -> Result<Descriptor, Error> {
        match self.session.ask(&self.manifest_request(Method::HEAD, target)).await {
            Ok(Answered { answer, .. }) => {
                if let Some(descriptor) = announced(&answer)? {
                    if let Target::Digest(expected) = target {
                        check(*expected, descriptor.digest)?;
                    }
                    return Ok(descriptor);
                }
            }
            // A HEAD's refusal has no body that says why, and some registries know no HEAD.
            Err(Error::Refused(refusal)) if refusal.status < 500 => {}
            Err(error) => return Err(error),
        }
        Ok(self.manifest(target, None).await?.descriptor)
    }

    /// The manifest or index that `target` names, at most 4 MiB, its digest verified, its media type agreeing with the
    /// header, with itself and with `expected` (the descriptor it was found by).
    ///
    /// # Errors
    /// Any [`Error`]; [`ContentError`] for what is refused.
    pub async fn manifest(&self, target: &Target, expected: Option<&Descriptor>) -> Result<Document, Error> {
        if let Some(expected) = expected.filter(|expected| expected.size > MANIFEST_LIMIT) {
            return Err(too_large(&format!("manifest {}", expected.digest)));
        }
        let ask = self.manifest_request(Method::GET, target);
        let Answered { mut answer, .. } = self.session.ask(&ask).await?;
        let what = format!("manifest {target}");
        if answer.length().is_some_and(|length| length > MANIFEST_LIMIT) {
            return Err(too_large(&what));
        }
        let kind = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
        refuse_schema1(&kind)?;
        let said = answer.header(DIGEST).map(str::to_owned);
        let url = answer.url.to_string();
        let read = answer.body.collect(MANIFEST_LIMIT).await;
        let read = read.map_err(|source| Error::Request { verb: "Get".to_owned(), url, source })?;
        let bytes = read.ok_or_else(|| too_large(&what))?;
        let actual = Digest::of(&bytes);
        if let Target::Digest(expected) = target {
            check(*expected, actual)?;
        }
        // By tag, the header is all there is to hold the bytes against.
        if let Some(Ok(said)) = said.map(|said| said.parse::<Digest>()) {
            check(said, actual)?;
        }
        Ok(Document::read(bytes, &kind, expected)?)
    }

    /// Stores a manifest or index under `target`; gives its digest as the registry confirmed it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_manifest(
        &self,
        target: &Target,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let mut ask = self.request(Method::PUT, &format!("manifests/{target}"));
        ask = ask.with(CONTENT_TYPE, header(media_type));
        ask.wait = Wait::Store;
        ask.body = bytes;
        let Answered { mut answer, .. } = self.session.ask(&ask).await?;
        let said = answer.header(DIGEST).and_then(|said| said.parse::<Digest>().ok());
        answer.body.beginning().await;
        if let Some(said) = said {
            check(digest, said)?;
        }
        Ok(digest)
    }

    /// The manifest that `target` names, `None` when there is none.
    pub(crate) async fn manifest_if_any(&self, target: &Target) -> Result<Option<Document>, Error> {
        match self.manifest(target, None).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn check(expected: Digest, actual: Digest) -> Result<(), ContentError> {
    if expected == actual { Ok(()) } else { Err(ContentError::ManifestDigest { expected, actual }) }
}

fn too_large(what: &str) -> Error {
    ContentError::TooLarge { what: what.to_owned(), limit: MANIFEST_LIMIT }.into()
}

/// What a HEAD's answer says, if it says all that is needed.
fn announced(answer: &Answer) -> Result<Option<Descriptor>, Error> {
    let kind = answer.header(CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    refuse_schema1(kind)?;
    let digest = answer.header(DIGEST).map(str::parse::<Digest>);
    let size = answer.header(CONTENT_LENGTH).map(str::parse::<u64>);
    let (Some(Ok(digest)), Some(Ok(size))) = (digest, size) else { return Ok(None) };
    if size > MANIFEST_LIMIT {
        return Err(too_large(&format!("manifest {digest}")));
    }
    if size == 0 || !kind.ends_with("json") || kind == "application/json" {
        return Ok(None);
    }
    Ok(Some(Descriptor::new(kind, digest, size)))
}

/// The error of an answer whose body broke off.
pub(crate) fn broken(answer_url: String, source: TransportError) -> Error {
    Error::Request { verb: "Get".to_owned(), url: answer_url, source }
}

//! Lists: tags, repositories, referrers.

use std::collections::HashSet;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wharf_oci::digest::Digest;
use wharf_oci::image::{Descriptor, Index, media_type};

use super::credentials::Credentials;
use super::document::Manifests;
use super::error::{ContentError, Error, Kind};
use super::link;
use super::manifest::broken;
use super::repository::{Repository, Target};
use super::session::{Access, Answered, Ask, Session};
use super::shared::Client;
use super::transport::Url;

/// A registry may list everything on one page.
const PAGE_LIMIT: u64 = 32 << 20;
const PAGES: usize = 10_000;
const ENTRIES: usize = 1_000_000;

#[derive(Deserialize)]
struct TagPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogPage {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let ask = self.request(Method::GET, "tags/list");
        pages(&self.session, ask, |page: TagPage| page.tags.unwrap_or_default()).await
    }

    /// What refers to `subject` (signatures, SBOMs), of one artifact type or of all; by the referrers API, else by the
    /// fallback tag (distribution-spec, "Unavailable Referrers API").
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut below = format!("referrers/{subject}");
        if let Some(kind) = artifact_type {
            below.push_str(&format!("?artifactType={}", super::transport::escape(kind)));
        }
        let ask = self.request(Method::GET, &below);
        let mut found = match pages(&self.session, ask, |page: Index| page.manifests).await {
            Ok(found) => found,
            Err(error)
                if matches!(error.kind(), Kind::NotFound | Kind::Unsupported) || is_malformed(&error) =>
            {
                self.referrers_by_tag(subject).await?
            }
            Err(error) => return Err(error),
        };
        // The registry need not filter, and the fallback cannot.
        if let Some(kind) = artifact_type {
            found.retain(|referrer| referrer.artifact_type.as_deref() == Some(kind));
        }
        Ok(found)
    }

    async fn referrers_by_tag(&self, subject: Digest) -> Result<Vec<Descriptor>, Error> {
        let tag = Target::Tag(format!("sha256-{}", subject.hex()));
        match self.manifest_if_any(&tag).await?.map(|document| document.manifests) {
            Some(Manifests::Index(index)) => Ok(index.manifests),
            _ => Ok(Vec::new()),
        }
    }
}

/// Registries without the API may answer with anything, a page for people among it.
fn is_malformed(error: &Error) -> bool {
    matches!(error, Error::Content(ContentError::Malformed { .. } | ContentError::MediaType(_)))
}

impl Client {
    /// The names of all repositories of registry `host`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn catalog(&self, host: &str, credentials: Credentials) -> Result<Vec<String>, Error> {
        let session = Session::new(self.clone(), host, credentials, Access::Registry);
        let scopes = vec!["registry:catalog:*".to_owned()];
        let ask = Ask::new(Method::GET, "_catalog".to_owned(), scopes);
        pages(&session, ask, |page: CatalogPage| page.repositories.unwrap_or_default()).await
    }
}

/// All pages of a list. Following pages are of the same server, and none is read twice.
async fn pages<P: DeserializeOwned, T>(
    session: &Session,
    mut ask: Ask,
    entries: impl Fn(P) -> Vec<T>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    let what = ask.path.clone();
    while seen.insert(ask.path.clone()) {
        let Answered { mut answer, endpoint } = session.ask(&ask).await?;
        let next = answer.header(LINK).and_then(link::next).map(str::to_owned);
        let kind = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
        let url = answer.url.clone();
        let read = answer.body.collect(PAGE_LIMIT).await;
        let read = read.map_err(|source| broken(url.to_string(), source))?;
        let too_large = || ContentError::TooLarge { what: what.clone(), limit: PAGE_LIMIT };
        let bytes = read.ok_or_else(too_large)?;
        check_kind(&what, &kind)?;
        let page = serde_json::from_slice(&bytes);
        let page =
            page.map_err(|error| ContentError::Malformed { what: what.clone(), text: error.to_string() })?;
        all.extend(entries(page));
        if all.len() > ENTRIES || seen.len() > PAGES {
            return Err(ContentError::TooMany { what, entries: "entries", limit: ENTRIES }.into());
        }
        let Some(next) = next else { break };
        ask.path = following(&url, &next, &endpoint.url("")).ok_or_else(|| ContentError::Malformed {
            what: what.clone(),
            text: format!("next page at {next:?}"),
        })?;
    }
    Ok(all)
}

fn check_kind(what: &str, kind: &str) -> Result<(), Error> {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if what.contains("/referrers/") && kind != media_type::OCI_INDEX {
        return Err(ContentError::MediaType(kind.to_owned()).into());
    }
    Ok(())
}

/// The path below `/v2/` of the next page, which must be on the same server.
fn following(page: &Url, next: &str, root: &Url) -> Option<String> {
    let url = page.join(next).ok()?;
    // A registry behind something that speaks TLS for it names another scheme and port; they are not gone by.
    if url.origin.host != root.origin.host {
        return None;
    }
    url.path.strip_prefix(&root.path).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_on_their_server() {
        let url = |text: &str| Url::parse(text).unwrap();
        let page = url("https://h:5000/v2/a/tags/list?n=1");
        let root = url("https://h:5000/v2/");
        assert_eq!(
            following(&page, "/v2/a/tags/list?n=1&last=x", &root).as_deref(),
            Some("a/tags/list?n=1&last=x")
        );
        assert_eq!(following(&page, "?last=y", &root).as_deref(), Some("a/tags/list?last=y"));
        assert_eq!(following(&page, "https://other/v2/a/tags/list", &root), None);
        assert_eq!(
            following(&page, "http://h/v2/a/tags/list?last=z", &root).as_deref(),
            Some("a/tags/list?last=z")
        );
        assert_eq!(following(&page, "/admin", &root), None);
    }
}

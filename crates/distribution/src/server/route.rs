//! What a request's path and query ask for.

use super::error::{Code, Refusal};
use super::name::{ContentDigest, ManifestName, Repository, Tag, UploadId};

/// The longest path and query that are looked at, in bytes.
const TARGET_LIMIT: usize = 8 << 10;

/// A place of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is there a registry, and am I let in?
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(Repository),
    /// `/v2/NAME/manifests/REFERENCE`; the reference as written where it is neither tag nor digest.
    Manifest(Repository, Result<ManifestName, String>),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Repository, ContentDigest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(Repository, UploadId),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Repository, ContentDigest),
}

impl Route {
    /// Reads a request's path.
    ///
    /// # Errors
    /// The refusal that tells what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        if path.len() > TARGET_LIMIT {
            return Err(Refusal::new(Code::NameInvalid, "the path is too long"));
        }
        let path =
            decode(path).ok_or_else(|| Refusal::new(Code::NameInvalid, "the path is not valid UTF-8"))?;
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some("/_catalog") => return Ok(Self::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or_else(nowhere)?,
            None => return Err(nowhere()),
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or_else(nowhere)?;
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            let id = UploadId::parse(last)
                .ok_or_else(|| Refusal::new(Code::BlobUploadUnknown, "there is no such upload"))?;
            return Ok(Self::Upload(repository(name)?, id));
        }
        let (name, kind) = before.rsplit_once('/').ok_or_else(nowhere)?;
        match kind {
            "manifests" => Ok(Self::Manifest(repository(name)?, manifest_name(last))),
            "blobs" => Ok(Self::Blob(repository(name)?, digest(last)?)),
            "referrers" => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            _ => Err(nowhere()),
        }
    }

    /// The repository it is about.
    #[must_use]
    pub const fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

fn nowhere() -> Refusal {
    Refusal::new(Code::Unsupported, "there is nothing at this path").with_status(hyper::StatusCode::NOT_FOUND)
}

fn repository(name: &str) -> Result<Repository, Refusal> {
    Repository::parse(name).ok_or_else(|| {
        Refusal::new(Code::NameInvalid, "invalid repository name")
            .with_detail(serde_json::json!({ "name": name }))
    })
}

/// A digest of a path or query.
pub(crate) fn digest(text: &str) -> Result<ContentDigest, Refusal> {
    ContentDigest::parse(text).ok_or_else(|| {
        Refusal::new(Code::DigestInvalid, "the digest is malformed or of an unsupported algorithm")
            .with_detail(serde_json::json!({ "digest": text }))
    })
}

fn manifest_name(text: &str) -> Result<ManifestName, String> {
    if let Some(digest) = ContentDigest::parse(text) {
        return Ok(ManifestName::Digest(digest));
    }
    Tag::parse(text).map(ManifestName::Tag).ok_or_else(|| text.to_owned())
}

/// The values of a request's query, the first of each name.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; pairs that are not valid UTF-8 are left out.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let text = text.filter(|text| text.len() <= TARGET_LIMIT).unwrap_or_default();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(&value.replace('+', "%20"))?))
        };
        Self(text.split('&').filter(|pair| !pair.is_empty()).filter_map(pair).collect())
    }

    /// The value of `name`, if it is there and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }
}

/// Undoes percent-encoding (RFC 3986); nothing when what comes out is not UTF-8 or an escape is broken.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let pair = after.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// A value as part of a query.
pub(crate) fn encode(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b':');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Repository {
        Repository::parse(text).unwrap()
    }

    #[test]
    fn paths_are_read_from_the_right() {
        let digest = ContentDigest::of(b"");
        let id = UploadId::random().unwrap();
        let cases = [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(name("tags/list"))),
            (
                "/v2/a/b/manifests/latest".to_owned(),
                Route::Manifest(name("a/b"), Ok(ManifestName::Tag(Tag::parse("latest").unwrap()))),
            ),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(name("a"), digest.clone())),
            (format!("/v2/a/blobs/sha256%3A{}", digest.hex()), Route::Blob(name("a"), digest.clone())),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            (
                format!("/v2/blobs/uploads/blobs/uploads/{}", id.as_str()),
                Route::Upload(name("blobs/uploads"), id),
            ),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn paths_that_would_leave_the_tree_are_refused() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/../tags/list",
            "/v2/a/%2e%2e/b/tags/list",
            "/v2/a/blobs/..",
            "/v2//tags/list",
            "/v2/A/tags/list",
            "/v2/a%00/tags/list",
            "/v2/a/blobs/uploads/../x",
            "/v2/%zz/tags/list",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
        let Route::Manifest(_, reference) = Route::parse("/v2/a/manifests/..").unwrap() else { panic!() };
        assert!(reference.is_err());
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("digest=sha256%3Aab&from=a+b&n=&x"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("from"), Some("a b"));
        assert_eq!(query.get("n"), None);
        assert_eq!(encode("a b&c"), "a%20b%26c");
    }
}

//! Refusals: the codes of the distribution spec, each with its status, as the JSON document clients expect.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

/// The error codes (distribution-spec, "Error Codes"; the last three are distribution's own additions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The blob is not in this repository.
    BlobUnknown,
    /// The upload cannot be finished like this.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// A digest is malformed or does not match the bytes.
    DigestInvalid,
    /// A manifest refers to something that is not there.
    ManifestBlobUnknown,
    /// The manifest cannot be taken.
    ManifestInvalid,
    /// There is no such manifest.
    ManifestUnknown,
    /// The repository's name breaks the grammar.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// A length does not match.
    SizeInvalid,
    /// Who asks has not said who they are.
    Unauthorized,
    /// Who asks may not.
    Denied,
    /// The server is set up not to do this.
    Unsupported,
    /// Come back later.
    TooManyRequests,
    /// A tag breaks the grammar.
    TagInvalid,
    /// A chunk is out of order, or a range is not in the blob.
    RangeInvalid,
    /// `n` is no number.
    PaginationNumberInvalid,
    /// Something failed here or at the upstream registry.
    Unknown,
}

impl Code {
    /// The word in the document.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::TagInvalid => "TAG_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status it goes out with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid
            | Self::TagInvalid
            | Self::PaginationNumberInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The code, which decides the status.
    pub code: Code,
    /// A status other than the code's usual one.
    pub status: Option<StatusCode>,
    /// What a person reads.
    pub message: String,
    /// What a program may read: names, digests.
    pub detail: Value,
    /// Headers that go with it, as the range of an upload.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, status: None, message: message.into(), detail: Value::Null, headers: Vec::new() }
    }

    /// With another status than the code's.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// With a detail for programs.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// With a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status it goes out with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.code.status())
    }

    /// The document.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut error = json!({ "code": self.code.word(), "message": self.message });
        if !self.detail.is_null() {
            error["detail"] = self.detail.clone();
        }
        Bytes::from(json!({ "errors": [error] }).to_string())
    }

    /// Something on this side failed: the client learns that, the log learns what.
    pub(crate) fn internal(doing: &str, error: &dyn std::fmt::Display) -> Self {
        super::log::say(&format!("{doing}: {error}"));
        Self::new(Code::Unknown, "the registry could not do this; its log says why")
    }
}

/// Gives an I/O error of this side the words of what was being done.
pub(crate) trait Doing<T> {
    /// Turns the error into a refusal of status 500, or 507 when the disk is full.
    fn doing(self, what: &str) -> Result<T, Refusal>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: &str) -> Result<T, Refusal> {
        self.map_err(|error| {
            let refusal = Refusal::internal(what, &error);
            if error.kind() == std::io::ErrorKind::StorageFull {
                let full = Refusal::new(Code::Unknown, "the registry's disk is full");
                return full.with_status(StatusCode::INSUFFICIENT_STORAGE);
            }
            refusal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_form_of_the_spec() {
        let refusal = Refusal::new(Code::TagInvalid, "no tag").with_detail(json!({ "tag": "-" }));
        let document: Value = serde_json::from_slice(&refusal.body()).unwrap();
        assert_eq!(document["errors"][0]["code"], "TAG_INVALID");
        assert_eq!(document["errors"][0]["detail"]["tag"], "-");
        assert_eq!(refusal.status(), 400);
    }
}

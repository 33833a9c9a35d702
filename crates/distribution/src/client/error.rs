//! What can go wrong with a registry, in the words that Docker's users know.

use std::io;
use std::time::Duration;

use wharf_oci::digest::Digest;
use wharf_oci::reference::Reference;

/// Why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that got no usable answer: `Get "https://host/v2/": dial tcp …: connect: connection refused`.
    #[error("{verb} \"{url}\": {source}")]
    Request {
        /// The method as Go's client writes it, `Get`.
        verb: String,
        /// The address asked.
        url: String,
        /// What happened.
        source: TransportError,
    },
    /// The registry answered with an error of its own.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The registry's refusal of a pull, with what was asked for before it: `manifest for X not found: …`.
    #[error("{what}: {cause}")]
    NotPullable {
        /// The sentence that names the reference.
        what: String,
        /// What the registry said.
        cause: Refusal,
    },
    /// The answer's bytes are not what they should be.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A login that the registry did not take.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// The address asked.
        url: String,
        /// Code and reason, `404 Not Found`.
        status: String,
    },
    /// The blob to be sent could not be read here.
    #[error("read blob {digest}: {source}")]
    Source {
        /// Which blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A setting that cannot be used: a certificate, a key.
    #[error("{0}")]
    Setting(String),
}

/// What an error means to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Repository, manifest or blob does not exist, or may not be seen.
    NotFound,
    /// The registry does not take the credentials, or wants to see some.
    Unauthorized,
    /// Credentials do not suffice.
    Denied,
    /// Too many requests; later it may work.
    RateLimited,
    /// The registry or the way to it is broken; later it may work.
    Unavailable,
    /// The registry sent something that is refused.
    Hostile,
    /// The registry cannot do what was asked.
    Unsupported,
    /// Something of this side: a file, a setting, credentials that are not there.
    Local,
}

/// An error document of a registry (distribution-spec, "Error Codes"), or what stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code.
    pub status: u16,
    /// The errors listed; never empty.
    pub errors: Vec<ErrorCode>,
    /// How long the registry asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
}

/// One error of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorCode {
    /// A code with its message: `manifest unknown: manifest unknown`.
    Coded {
        /// As sent, `MANIFEST_UNKNOWN`.
        code: String,
        /// The registry's own sentence.
        message: String,
    },
    /// A code with nothing to add to it, which is shown alone: `manifest unknown`.
    Plain(String),
    /// A body that is no error document, a status that none was expected with: a sentence of ours.
    Bare(String),
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = |code: &str| code.to_lowercase().replace('_', " ");
        match self {
            Self::Coded { code, message } => write!(f, "{}: {message}", words(code)),
            Self::Plain(code) => f.write_str(&words(code)),
            Self::Bare(text) => f.write_str(text),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errors.as_slice() {
            [one] => one.fmt(f),
            several => {
                f.write_str("errors:\n")?;
                several.iter().try_for_each(|error| writeln!(f, "{error}"))
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether the first error has `code` and says something about it: what says nothing more is not explained further.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        matches!(self.errors.first(), Some(ErrorCode::Coded { code: first, .. }) if first == code)
    }

    fn kind(&self) -> Kind {
        let first = match self.errors.first() {
            Some(ErrorCode::Coded { code, .. } | ErrorCode::Plain(code)) => code.as_str(),
            _ => "",
        };
        match (first, self.status) {
            ("UNAUTHORIZED", _) | (_, 401) => Kind::Unauthorized,
            ("DENIED", _) | (_, 403) => Kind::Denied,
            ("TOOMANYREQUESTS", _) | (_, 429) => Kind::RateLimited,
            ("UNSUPPORTED", _) | (_, 405) => Kind::Unsupported,
            (_, 404) => Kind::NotFound,
            (_, 408 | 500..) => Kind::Unavailable,
            _ => Kind::Hostile,
        }
    }
}

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection: `dial tcp 10.0.0.1:443: connect: connection refused`.
    #[error("dial tcp {address}: {text}")]
    Dial {
        /// Where to.
        address: String,
        /// The kernel's word.
        text: String,
    },
    /// No address: `dial tcp: lookup host on 1.1.1.1:53: no such host`.
    #[error("dial tcp: lookup {0}")]
    Lookup(String),
    /// No session: certificate, version, or what the other side said.
    #[error("{0}")]
    Tls(String),
    /// Plain HTTP where TLS was expected.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainAnswer,
    /// The proxy refused, or there was none.
    #[error("proxyconnect tcp: {0}")]
    Proxy(String),
    /// Nothing came for too long.
    #[error("{0}")]
    Timeout(&'static str),
    /// The connection ended before the answer.
    #[error("EOF")]
    Closed,
    /// The answer broke off.
    #[error("unexpected EOF")]
    Cut,
    /// What came is no HTTP, or too much of it.
    #[error("{0}")]
    Malformed(String),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(String),
    /// The registry wants a name and password, and there are none.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// The token server refused or failed.
    #[error(transparent)]
    Token(Box<Error>),
    /// An address that the registry named and that is not gone to: too many hops, a downgrade, this host itself.
    #[error("{0}")]
    Forbidden(String),
}

/// What is wrong with bytes that a registry sent.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The bytes do not have the digest that they were asked by.
    #[error("manifest verification failed for digest {expected}")]
    ManifestDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob with other bytes than its name says.
    #[error("filesystem layer verification failed for digest {expected}")]
    BlobDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A config with other bytes than its name says.
    #[error("image config verification failed for digest {expected}")]
    ConfigDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("{what}: {actual} bytes where {expected} were announced")]
    Size {
        /// Which content.
        what: String,
        /// The descriptor's size.
        expected: u64,
        /// What came, or was about to.
        actual: u64,
    },
    /// More bytes than is accepted of this kind of content.
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Which content.
        what: String,
        /// The most that is accepted.
        limit: u64,
    },
    /// More entries than is accepted.
    #[error("{what}: more than {limit} {entries}")]
    TooMany {
        /// Which content.
        what: String,
        /// Of what.
        entries: &'static str,
        /// The most that is accepted.
        limit: usize,
    },
    /// Schema 1, which no engine of today takes.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported ({0}): ask the author of the image to upgrade it to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1(String),
    /// A manifest of a kind that is not known.
    #[error("unsupported manifest media type and no default available: {0}")]
    MediaType(String),
    /// Header, descriptor and document disagree about what the document is.
    #[error("mediaType in {document} should be '{expected}' not '{actual}'")]
    Disagreement {
        /// What it is announced as, in a word.
        document: &'static str,
        /// What it was announced as.
        expected: String,
        /// What it says itself.
        actual: String,
    },
    /// A document that does not follow its schema.
    #[error("{what}: {text}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong.
        text: String,
    },
    /// A range answered with other bytes than asked for.
    #[error("{what}: asked for bytes from {asked}, got {answered:?}")]
    Range {
        /// Which content.
        what: String,
        /// The first byte wanted.
        asked: u64,
        /// The answer's `Content-Range`.
        answered: String,
    },
}

impl Error {
    /// What it means to whoever asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Request { source, .. } => match source {
                TransportError::NoCredentials => Kind::Local,
                TransportError::Token(cause) => cause.kind(),
                TransportError::Forbidden(_) => Kind::Hostile,
                _ => Kind::Unavailable,
            },
            Self::Refused(refusal) => refusal.kind(),
            Self::NotPullable { .. } => Kind::NotFound,
            Self::Content(_) => Kind::Hostile,
            Self::Login { .. } => Kind::Unavailable,
            Self::Source { .. } | Self::Setting(_) => Kind::Local,
        }
    }

    /// The error of a pull of `reference`, as Docker's daemon words it: what does not exist or may not be seen is named.
    #[must_use]
    pub fn of_pull(self, reference: &Reference) -> Self {
        let Self::Refused(cause) = self else { return self };
        let what = if cause.is("DENIED") {
            format!(
                "pull access denied for {}, repository does not exist or may require 'docker login'",
                reference.familiar_name()
            )
        } else if cause.is("MANIFEST_UNKNOWN") {
            format!("manifest for {} not found", reference.familiar())
        } else if cause.is("NAME_UNKNOWN") {
            format!("repository {} not found", reference.familiar_name())
        } else {
            return Self::Refused(cause);
        };
        Self::NotPullable { what, cause: Refusal { errors: cause.errors[..1].to_vec(), ..cause } }
    }
}

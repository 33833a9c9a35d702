//! Names as they come in requests: repositories, tags, digests, upload ids.
//!
//! Each is parsed by its grammar before it becomes part of a path: none of them can hold `..`, a leading `.` or `_`,
//! or an empty component, so that no name leaves its directory or meets one of the server's own names.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};

/// The longest repository name, in bytes (distribution-spec, "Pulling manifests", suggests 255 with the host).
const NAME_LIMIT: usize = 255;
/// The longest tag, in bytes.
const TAG_LIMIT: usize = 128;

/// A repository's name: lower-case components joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// Parses a name; nothing when it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() <= NAME_LIMIT && text.split('/').all(is_component);
        valid.then(|| Self(text.to_owned()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(*first)
        && word(*last)
        && bytes.split(|byte| word(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// Parses a tag; nothing when it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= TAG_LIMIT
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        valid.then(|| Self(text.to_owned()))
    }

    /// The tag as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a digest was computed. Both of the registered algorithms are served (image-spec, "Digests").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// 64 hex digits; what everybody uses.
    Sha256,
    /// 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon, which also names the folder of the blobs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest of either algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentDigest {
    algorithm: Algorithm,
    hex: String,
}

impl ContentDigest {
    /// Parses `algorithm:hex`; nothing when it is malformed or of an algorithm that cannot be verified here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return None,
        };
        let valid = hex.len() == algorithm.digits()
            && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self { algorithm, hex: hex.to_owned() })
    }

    /// The sha256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::computed(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` by `algorithm`.
    #[must_use]
    pub fn computed(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// How it was computed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// Computes a [`ContentDigest`] piece by piece.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> ContentDigest {
        let (algorithm, hex) = match self {
            Self::Sha256(state) => (Algorithm::Sha256, hex::encode(state.finalize())),
            Self::Sha512(state) => (Algorithm::Sha512, hex::encode(state.finalize())),
        };
        ContentDigest { algorithm, hex }
    }
}

/// What names a manifest in a request: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// A movable name.
    Tag(Tag),
    /// The manifest itself.
    Digest(ContentDigest),
}

/// The id of an upload: a random UUID in its usual form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// A new random id (RFC 9562, version 4).
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex::encode(bytes);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Self(parts.join("-")))
    }

    /// Parses an id; nothing when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        valid.then(|| Self(text.to_owned()))
    }

    /// The id as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_none() {
        for good in ["a", "a/b", "library/busy-box", "a.b/c__d/e---f", "0/1"] {
            assert!(Repository::parse(good).is_some(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "a/_tags", "A", "a___b", "a\0b", "a b"]
        {
            assert!(Repository::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Repository::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn tags_follow_their_grammar() {
        for good in ["latest", "_x", "V1.2-rc", &"t".repeat(128)] {
            assert!(Tag::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a:b", "..", &"t".repeat(129)] {
            assert!(Tag::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn digests_of_both_algorithms_read_back() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = ContentDigest::computed(algorithm, b"x");
            assert_eq!(ContentDigest::parse(&digest.to_string()), Some(digest));
        }
        for bad in ["sha256:", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"] {
            assert!(ContentDigest::parse(bad).is_none(), "{bad}");
        }
        assert!(ContentDigest::parse(&format!("sha256:{}", "A".repeat(64))).is_none());
    }

    #[test]
    fn upload_ids_read_back() {
        let id = UploadId::random().unwrap();
        assert_eq!(UploadId::parse(id.as_str()), Some(id));
        assert!(UploadId::parse("../../../../../../../../../etc/passwd").is_none());
    }
}

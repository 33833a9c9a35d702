//! Content digests: the only trustworthy names of bytes.
//!
//! Three types keep apart what would otherwise be the same 32 bytes: [`Digest`] names a blob as it is
//! stored or sent, [`DiffId`] an uncompressed layer tar, [`ChainId`] the result of stacking layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a digest was refused. The texts are those Docker's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// The hex part has the wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// An algorithm that cannot be verified here; only sha256 can.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// A sha256 digest of exactly the bytes it names, written `sha256:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from the 32 bytes a hasher gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from 64 lower-case hex digits without the algorithm.
    ///
    /// # Errors
    /// [`DigestError::Length`] or [`DigestError::Format`].
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError::Length);
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }

    /// The 64 hex digits, as blob files are named.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        push_hex(&mut text, &self.0);
        text
    }

    /// The first twelve hex digits: the short id that people read.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = String::with_capacity(12);
        push_hex(&mut text, &self.0[..6]);
        text
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError::Format),
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        match algorithm {
            "sha256" => Self::from_hex(hex),
            "" => Err(DigestError::Format),
            _ => Err(DigestError::Unsupported),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_of {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_of! {
    /// The digest of a layer's uncompressed tar (image-spec, config, `rootfs.diff_ids`).
    DiffId
}

digest_of! {
    /// The name of the file system that results from stacking layers (image-spec, config, "Layer ChainID").
    ChainId
}

impl ChainId {
    /// The chain of one layer alone.
    #[must_use]
    pub const fn base(layer: DiffId) -> Self {
        Self(layer.0)
    }

    /// The chain with `layer` stacked on top.
    #[must_use]
    pub fn push(self, layer: DiffId) -> Self {
        Self(Digest::of(format!("{self} {layer}").as_bytes()))
    }

    /// The chain ids of every prefix of `layers`, base first.
    #[must_use]
    pub fn chain(layers: &[DiffId]) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(chain.last().map_or(Self::base(*layer), |below| below.push(*layer)));
        }
        chain
    }
}

/// Computes a [`Digest`] of bytes that arrive piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_as_written() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn digests_that_cannot_be_verified_are_refused() {
        assert_eq!("e3b0".parse::<Digest>(), Err(DigestError::Format));
        assert_eq!("sha256:e3b0".parse::<Digest>(), Err(DigestError::Length));
        assert_eq!(format!("sha256:{}", "E".repeat(64)).parse::<Digest>(), Err(DigestError::Format));
        assert_eq!(format!("sha512:{}", "e".repeat(128)).parse::<Digest>(), Err(DigestError::Unsupported));
        assert_eq!(format!("sha256:{}/../x", "e".repeat(59)).parse::<Digest>(), Err(DigestError::Format));
    }

    #[test]
    fn chains_follow_the_image_spec() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chain = ChainId::chain(&[a, b]);
        assert_eq!(chain[0].0, a.0);
        assert_eq!(chain[1].0, Digest::of(format!("{a} {b}").as_bytes()));
    }
}

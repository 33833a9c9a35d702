//! containerd's content service, by which BuildKit's clients and servers read one another's blobs: of its messages, those
//! that are read and written here.

use prost::Message;

/// The service.
pub const SERVICE: &str = "containerd.services.content.v1.Content";
/// What names the store of a client that has several, in the metadata of a call.
pub const STORE: &str = "buildkit-attachable-store-id";
/// How much goes in one message, bytes.
pub const PIECE: usize = 1 << 20;

/// Asks for a piece of a blob; a size of 0: up to its end.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// `sha256:…`.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Its first byte.
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// Bytes.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A part of that piece.
#[derive(Clone, PartialEq, Message)]
pub struct ReadAnswer {
    /// Its first byte, counted in the blob.
    #[prost(int64, tag = "1")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// Asks how large a blob is.
#[derive(Clone, PartialEq, Message)]
pub struct InfoRequest {
    /// `sha256:…`.
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// A blob.
#[derive(Clone, PartialEq, Message)]
pub struct Info {
    /// `sha256:…`.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Bytes.
    #[prost(int64, tag = "2")]
    pub size: i64,
}

/// How large it is.
#[derive(Clone, PartialEq, Message)]
pub struct InfoAnswer {
    /// It.
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

//! Who asked for a build, as far as the build may ask back.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;

use wharf_build::solve::LocalRequest;
use wharf_distribution::client::Credentials;
use wharf_oci::Digest;

/// What a build may ask of its client. Calls may take long and come from threads that may sleep; several may be under way
/// at once.
pub trait Client: Send + Sync {
    /// What is needed of a directory of the client's, as it is now.
    ///
    /// # Errors
    /// In words for the user.
    fn local(&self, request: &LocalRequest<'_>, progress: &dyn Fn(Transfer)) -> Result<Files, String>;

    /// A secret; `None`: it has none of that name.
    ///
    /// # Errors
    /// In words for the user.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String>;

    /// A socket at which its agent answers, with this owner and mode; `None`: it forwards none of that name.
    ///
    /// # Errors
    /// In words for the user.
    fn ssh(&self, id: &str, uid: u32, gid: u32, mode: u32) -> Result<Option<SshSocket>, String>;

    /// Reads a blob of one of its stores, piece by piece. Whether the bytes are those that the digest names is the caller's
    /// to see; the caller ends it by an error.
    ///
    /// # Errors
    /// In words for the user.
    fn read_blob(&self, store: &str, digest: &Digest, into: &mut dyn BlobSink) -> Result<(), String> {
        let _ = into;
        Err(format!("no store {store} of the client for {digest}"))
    }

    /// Puts a blob into one of its stores; one that is there already is fine.
    ///
    /// # Errors
    /// In words for the user.
    fn write_blob(
        &self,
        store: &str,
        digest: &Digest,
        size: u64,
        from: &mut dyn BlobSource,
    ) -> Result<(), String> {
        let _ = (size, from);
        Err(format!("no store {store} of the client for {digest}"))
    }

    /// What it has for a registry: a host, with its port where that is not the usual one; `docker.io` for Docker Hub's.
    fn credentials(&self, host: &str) -> Credentials;
}

/// Who takes the bytes of a blob; on the thread that asked for them.
pub trait BlobSink {
    /// The next of them.
    ///
    /// # Errors
    /// In words for the user.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String>;
}

impl<F: FnMut(&[u8]) -> Result<(), String>> BlobSink for F {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self(bytes)
    }
}

/// Who has the bytes of a blob; on the thread that asked.
pub trait BlobSource {
    /// The next of them, `into` filled as far as there are any; 0: that was all.
    ///
    /// # Errors
    /// In words for the user.
    fn give(&mut self, into: &mut [u8]) -> Result<usize, String>;
}

impl<R: std::io::Read> BlobSource for R {
    fn give(&mut self, into: &mut [u8]) -> Result<usize, String> {
        self.read(into).map_err(|error| error.to_string())
    }
}

/// How far a transfer from the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes so far.
    pub bytes: u64,
    /// Whether that is all.
    pub done: bool,
}

/// A directory of this host that nobody writes to until this is dropped.
pub struct Files {
    /// Where.
    pub path: PathBuf,
    /// What keeps it as it is.
    pub held: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Files {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Files").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An agent's socket, which answers until this is dropped.
pub struct SshSocket {
    /// Its place on this host.
    pub path: PathBuf,
    /// What keeps it answering.
    pub held: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for SshSocket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SshSocket").field("path", &self.path).finish_non_exhaustive()
    }
}

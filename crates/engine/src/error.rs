//! What went wrong, in the closed set of classes that a caller can act on.

use std::fmt;

/// The result of every engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error; the HTTP layer maps each to one status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The request makes no sense, whatever the state of things.
    Invalid,
    /// The request does not fit the present state of things.
    Conflict,
    /// What was asked for is so already.
    NotModified,
    /// Nobody may do this.
    Forbidden,
    /// Whoever asks has not proved who they are.
    Unauthorized,
    /// Not now: something this depends on does not answer.
    Unavailable,
    /// This engine does not do it.
    NotImplemented,
    /// Everything else: the engine or the kernel failed.
    Internal,
}

/// An error with its class and the sentence a client gets to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of class `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The object does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The request does not fit the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// It is so already.
    pub fn not_modified(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotModified, message)
    }

    /// Nobody may do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// Something this depends on does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// This engine does not do it.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }

    /// The engine or the kernel failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// An input/output error, said after what was being done: `write config.json: no space left on device`.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::internal(format!("{doing}: {}", plain(error)))
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error, told by a caller that says what it was doing.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The kernel's words for an error without Rust's "(os error 2)".
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_errors_read_like_the_kernels() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(Error::io("open journal", &error).message(), "open journal: no such file or directory");
    }

    #[test]
    fn context_goes_first() {
        let error = Error::conflict("name taken").context("rename");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "rename: name taken"));
    }
}

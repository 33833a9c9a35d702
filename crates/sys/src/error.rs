//! The one error of this crate's kernel objects: what was done, and what the kernel said.

use std::fmt;

use rustix::io::Errno;

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed kernel call; prints like "mount /proc: permission denied".
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    what: String,
    errno: Errno,
}

impl Error {
    /// `what` is a verb phrase with its object.
    pub fn new(what: impl Into<String>, errno: Errno) -> Self {
        Self { what: what.into(), errno }
    }

    /// The kernel's error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, describe(self.errno))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = Self::from_raw_os_error(error.errno.raw_os_error()).kind();
        Self::new(kind, error)
    }
}

/// The C library's words for an error number, in lower case ("no such file or directory").
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Adds what was being done to a bare error number.
pub trait Context<T> {
    /// `what` is called on failure only.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(what(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::new(what(), errno_of(&error)))
    }
}

/// The error number inside an I/O error; `EIO` for those without one.
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_strace() {
        let error = Error::new("mount /proc", Errno::PERM);
        assert_eq!(error.to_string(), "mount /proc: operation not permitted");
        assert_eq!(describe(Errno::NOENT), "no such file or directory");
    }
}

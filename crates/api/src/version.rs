//! Versions of the API.

use std::fmt;
use std::str::FromStr;

/// A version of the API, `1.51`. Ordered as numbers: 1.9 is before 1.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// A version that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version: {0}")]
pub struct ApiVersionError(String);

impl ApiVersion {
    /// The newest version served; what a request without a version gets.
    pub const MAX: Self = Self::new(1, 51);
    /// The oldest version served.
    pub const MIN: Self = Self::new(1, 24);

    /// Version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether this is version 1.`minor` or newer.
    pub const fn at_least(self, minor: u16) -> bool {
        self.major > 1 || (self.major == 1 && self.minor >= minor)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self::MAX
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ApiVersionError;

    fn from_str(text: &str) -> Result<Self, ApiVersionError> {
        let refuse = || ApiVersionError(text.to_owned());
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { major: major.parse().map_err(|_| refuse())?, minor: minor.parse().map_err(|_| refuse())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("1.9") < version("1.24"));
        assert!(version("1.51").at_least(51) && !version("1.50").at_least(51) && version("2.0").at_least(51));
        assert_eq!(version("1.41").to_string(), "1.41");
        assert!("1.x".parse::<ApiVersion>().is_err());
    }
}

//! Platforms: for what machine an image is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform string that names nothing known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is an invalid component of {whole:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
)]
pub struct PlatformError {
    text: String,
    whole: String,
}

/// Operating system, architecture and variant, as in OCI descriptors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH name.
    #[serde(default)]
    pub architecture: String,
    /// GOOS name.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system; only Windows images use it.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features the operating system must have.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture, as `v8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform this engine runs on.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            other => (other, ""),
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.into(),
            ..Self::default()
        }
    }

    /// The same platform in canonical words: `x86_64` is `amd64`, `arm64/v8` is `arm64`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", other) => ("arm64", other),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (other, variant) => (other, variant),
        };
        let os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self { architecture: architecture.into(), os, variant: variant.into(), ..self.clone() }
    }

    /// Whether an image for `self` is one that `wanted` asks for. An empty variant in `wanted` takes any.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let (have, want) = (self.normalized(), wanted.normalized());
        have.os == want.os
            && have.architecture == want.architecture
            && (want.variant.is_empty() || have.variant == want.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let os = if self.os.is_empty() { "unknown" } else { &self.os };
        write!(f, "{os}")?;
        if !self.architecture.is_empty() {
            write!(f, "/{}", self.architecture)?;
        }
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`, as containerd's platform specifiers.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = |part: &str| PlatformError { text: part.to_owned(), whole: text.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        let legal = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if let Some(bad) = parts.iter().find(|part| !legal(part)) {
            return Err(refuse(bad));
        }
        let host = Self::host();
        let platform = match parts.as_slice() {
            [one] if is_os(one) => Self { os: (*one).into(), ..host },
            [one] if is_architecture(one) => {
                Self { architecture: (*one).into(), variant: String::new(), ..host }
            }
            [os, architecture] => {
                Self { os: (*os).into(), architecture: (*architecture).into(), ..Self::default() }
            }
            [os, architecture, variant] => Self {
                os: (*os).into(),
                architecture: (*architecture).into(),
                variant: (*variant).into(),
                ..Self::default()
            },
            _ => return Err(refuse(text)),
        };
        Ok(platform.normalized())
    }
}

fn is_os(word: &str) -> bool {
    matches!(
        word.to_lowercase().as_str(),
        "aix"
            | "android"
            | "darwin"
            | "macos"
            | "dragonfly"
            | "freebsd"
            | "illumos"
            | "ios"
            | "js"
            | "linux"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "wasip1"
            | "windows"
    )
}

fn is_architecture(word: &str) -> bool {
    matches!(
        word.to_lowercase().as_str(),
        "386"
            | "i386"
            | "amd64"
            | "x86_64"
            | "x86-64"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_normalise_as_containerd_does() {
        let parse = |text: &str| text.parse::<Platform>().unwrap().to_string();
        assert_eq!(parse("linux/x86_64"), "linux/amd64");
        assert_eq!(parse("linux/arm64/v8"), "linux/arm64");
        assert_eq!(parse("arm"), "linux/arm/v7");
        assert!("linux/".parse::<Platform>().is_err());
        assert!("nonsense".parse::<Platform>().is_err());
    }

    #[test]
    fn a_variant_matters_only_when_asked_for() {
        let image: Platform = "linux/arm/v6".parse().unwrap();
        assert!(!image.satisfies(&"linux/arm/v7".parse().unwrap()));
        let image = Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: "v8".into(),
            ..Platform::default()
        };
        assert!(image.satisfies(&"linux/arm64".parse().unwrap()));
    }
}

//! The distributions whose archives are known by name.

use std::path::{Path, PathBuf};

use wharf_oci::Reference;

use super::BootstrapOptions;
use crate::error::{Error, Result};

/// Where the tool keeps what it knows of suites.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";

/// A distribution.
#[derive(Debug, PartialEq, Eq)]
struct Distribution {
    name: &'static str,
    mirror: &'static str,
    /// Below it is a folder for each moment.
    snapshots: &'static str,
    /// Keys, and the package that brings them.
    keyring: &'static str,
    keyring_package: &'static str,
    /// What stands for a suite that the tool is too old to know.
    script: &'static str,
    components: &'static str,
    /// Where updates that cannot wait are.
    security: &'static str,
    /// Numbers that mean suites.
    numbers: &'static [(&'static str, &'static str)],
    /// Suites that have no updates beside them.
    rolling: &'static [&'static str],
}

const DISTRIBUTIONS: [Distribution; 2] = [
    Distribution {
        name: "debian",
        mirror: "http://deb.debian.org/debian",
        snapshots: "http://snapshot.debian.org/archive/debian",
        keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
        keyring_package: "debian-archive-keyring",
        script: "sid",
        components: "main",
        security: "http://security.debian.org/debian-security",
        numbers: &[("11", "bullseye"), ("12", "bookworm"), ("13", "trixie")],
        rolling: &["sid", "unstable", "experimental"],
    },
    Distribution {
        name: "ubuntu",
        mirror: "http://archive.ubuntu.com/ubuntu",
        snapshots: "http://snapshot.ubuntu.com/ubuntu",
        keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        keyring_package: "ubuntu-keyring",
        script: "gutsy",
        components: "main universe",
        security: "http://security.ubuntu.com/ubuntu",
        numbers: &[("20.04", "focal"), ("22.04", "jammy"), ("24.04", "noble"), ("26.04", "resolute")],
        rolling: &[],
    },
];

/// What to make, and of what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    distribution: &'static Distribution,
    pub(super) suite: String,
    pub(super) mirror: String,
    pub(super) keyring: PathBuf,
    pub(super) include: Vec<String>,
    /// The archive is not the distribution's own of today.
    pinned: bool,
}

impl Plan {
    pub(super) fn new(name: &Reference, options: &BootstrapOptions) -> Result<Self> {
        let family = name.familiar_name();
        let family = family.rsplit('/').next().unwrap_or_default();
        let found = DISTRIBUTIONS.iter().find(|known| known.name == family);
        let distribution = found.ok_or_else(|| {
            Error::invalid(format!(
                "{family} is not a distribution that can be made: there are debian and ubuntu"
            ))
        })?;
        let tag = name.tag().unwrap_or_default();
        let suite =
            distribution.numbers.iter().find(|(number, _)| *number == tag).map_or(tag, |(_, suite)| suite);
        if !is_word(suite) {
            return Err(Error::invalid(format!("{suite} is not the name of a suite")));
        }
        if let Some(wrong) = options.include.iter().find(|package| !is_word(package)) {
            return Err(Error::invalid(format!("{wrong} is not the name of a package")));
        }
        let keyring =
            PathBuf::from(if options.keyring.is_empty() { distribution.keyring } else { &options.keyring });
        if !keyring.is_absolute() || !keyring.is_file() {
            return Err(Error::invalid(format!(
                "no keys to verify the archive with: {} is not a file on the daemon's machine; install {} there, or name \
                 one with --keyring",
                keyring.display(),
                distribution.keyring_package
            )));
        }
        Ok(Self {
            distribution,
            suite: suite.to_owned(),
            mirror: mirror(distribution, options)?,
            keyring,
            include: options.include.clone(),
            pinned: !options.mirror.is_empty() || !options.snapshot.is_empty(),
        })
    }

    /// The script for a suite that the tool has none for.
    pub(super) fn script(&self) -> Option<PathBuf> {
        let scripts = Path::new(SCRIPTS);
        (!scripts.join(&self.suite).exists()).then(|| scripts.join(self.distribution.script))
    }

    /// What the image's own package manager shall ask: the archive that it was made from, and of a distribution's own
    /// one the updates too.
    pub(super) fn sources(&self) -> String {
        let Distribution { components, security, .. } = self.distribution;
        let (suite, mirror) = (&self.suite, &self.mirror);
        if self.pinned {
            return format!("deb [check-valid-until=no] {mirror} {suite} {components}\n");
        }
        let mut text = format!("deb {mirror} {suite} {components}\n");
        if !self.distribution.rolling.contains(&suite.as_str()) {
            text += &format!("deb {mirror} {suite}-updates {components}\n");
            text += &format!("deb {security} {suite}-security {components}\n");
        }
        text
    }
}

/// Where the archive is.
fn mirror(distribution: &Distribution, options: &BootstrapOptions) -> Result<String> {
    let pinned = !options.snapshot.is_empty();
    let usual = if pinned { distribution.snapshots } else { distribution.mirror };
    let base = if options.mirror.is_empty() { usual } else { options.mirror.trim_end_matches('/') };
    let address = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    if address
        .is_none_or(|rest| rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        return Err(Error::invalid(format!(
            "{base} is not the address of an archive: it begins with http:// or https://"
        )));
    }
    if !pinned {
        return Ok(base.to_owned());
    }
    let moment = &options.snapshot;
    if !is_moment(moment) {
        return Err(Error::invalid(format!("{moment} is not a moment: write it as 20260912T000000Z")));
    }
    Ok(format!("{base}/{moment}"))
}

fn is_moment(text: &str) -> bool {
    let digits =
        |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_suffix('Z').and_then(|text| text.split_once('T'));
    parts.is_some_and(|(day, time)| digits(day, 8) && digits(time, 6))
}

/// Names of suites and packages; they become arguments and parts of paths.
fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(inner)
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, options: &BootstrapOptions) -> Result<Plan> {
        Plan::new(&Reference::parse(name).unwrap(), options)
    }

    fn options() -> BootstrapOptions {
        // Any file will do for keys.
        BootstrapOptions { keyring: "/proc/self/exe".to_owned(), ..BootstrapOptions::default() }
    }

    #[test]
    fn names_lead_to_archives() {
        let trixie = plan("debian:13", &options()).unwrap();
        assert_eq!(
            (trixie.suite.as_str(), trixie.mirror.as_str()),
            ("trixie", "http://deb.debian.org/debian")
        );
        assert_eq!(
            trixie.sources(),
            "deb http://deb.debian.org/debian trixie main\n\
             deb http://deb.debian.org/debian trixie-updates main\n\
             deb http://security.debian.org/debian-security trixie-security main\n"
        );
        let sid = plan("host.local/base/debian:sid", &options()).unwrap();
        assert_eq!(sid.sources(), "deb http://deb.debian.org/debian sid main\n");
        assert_eq!(plan("ubuntu:24.04", &options()).unwrap().suite, "noble");
    }

    #[test]
    fn moments_and_mirrors_pin_the_archive() {
        let moment = BootstrapOptions { snapshot: "20260912T000000Z".to_owned(), ..options() };
        let pinned = plan("debian:trixie", &moment).unwrap();
        assert_eq!(pinned.mirror, "http://snapshot.debian.org/archive/debian/20260912T000000Z");
        assert!(pinned.sources().starts_with("deb [check-valid-until=no] http://snapshot"));
        let mirrored = BootstrapOptions { mirror: "http://mirror:80/deb/".to_owned(), ..moment };
        assert_eq!(plan("debian:trixie", &mirrored).unwrap().mirror, "http://mirror:80/deb/20260912T000000Z");
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let with = |change: fn(&mut BootstrapOptions)| {
            let mut options = options();
            change(&mut options);
            options
        };
        for (name, options) in [
            ("alpine:3", options()),
            ("debian:Trixie", options()),
            ("debian:a..b", options()),
            ("debian:trixie", with(|o| o.snapshot = "yesterday".to_owned())),
            ("debian:trixie", with(|o| o.mirror = "file:///etc".to_owned())),
            ("debian:trixie", with(|o| o.mirror = "http://a b".to_owned())),
            ("debian:trixie", with(|o| o.include = vec!["--foreign".to_owned()])),
            ("debian:trixie", with(|o| o.keyring = "/none".to_owned())),
        ] {
            assert!(plan(name, &options).is_err(), "{name} {options:?}");
        }
    }
}

//! `--security-opt`, masked and read-only paths.

use std::path::Path;
use std::sync::OnceLock;

use wharf_oci::runtime::{Linux, LinuxSeccomp};

use super::{Build, capability, seccomp as profile};
use crate::error::{Error, Result};

/// Paths a container cannot read, unless it says otherwise.
pub const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths a container cannot write, unless it says otherwise.
pub const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The masked paths of this host: each processor's thermal throttle counters besides the fixed ones.
pub fn masked_paths() -> Vec<String> {
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    PATHS.get_or_init(find_masked_paths).clone()
}

fn find_masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.iter().map(|path| (*path).to_owned()).collect();
    let cpus = (0..).map(|number| format!("/sys/devices/system/cpu/cpu{number}"));
    let present = cpus.take_while(|path| Path::new(path).exists());
    paths.extend(
        present.map(|path| format!("{path}/thermal_throttle")).filter(|path| Path::new(path).exists()),
    );
    paths
}

/// What `--security-opt` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `no-new-privileges[=BOOL]`; `None` where nothing was said.
    pub no_new_privileges: Option<bool>,
    /// `seccomp=…`: `unconfined`, `builtin`, or the profile itself as JSON.
    pub seccomp: Option<String>,
    /// `apparmor=PROFILE`.
    pub apparmor: Option<String>,
    /// `writable-cgroups[=BOOL]`.
    pub writable_cgroups: Option<bool>,
    /// `label=…`, for SELinux.
    pub labels: Vec<String>,
}

impl Options {
    /// Reads the options as Docker does.
    ///
    /// # Errors
    /// `invalid --security-opt 1: "foo"` (no value) and `invalid --security-opt 2: "foo=bar"` (unknown, or a value that
    /// is none), internal as Docker answers them.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut read = Self::default();
        for option in options {
            match option.as_str() {
                "no-new-privileges" => read.no_new_privileges = Some(true),
                "writable-cgroups" => read.writable_cgroups = Some(true),
                "disable" => read.labels.push("disable".to_owned()),
                _ => read.take(option)?,
            }
        }
        Ok(read)
    }

    fn take(&mut self, option: &str) -> Result<()> {
        let wrong = |step| Error::internal(format!("invalid --security-opt {step}: {option:?}"));
        // The colon is the old form of the equals sign.
        let (name, value) =
            option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(|| wrong(1))?;
        match name {
            "label" => self.labels.push(value.to_owned()),
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "seccomp" => self.seccomp = Some(value.to_owned()),
            "no-new-privileges" => self.no_new_privileges = Some(boolean(value).ok_or_else(|| wrong(2))?),
            "writable-cgroups" => self.writable_cgroups = Some(boolean(value).ok_or_else(|| wrong(2))?),
            _ => return Err(wrong(2)),
        }
        Ok(())
    }

    /// The AppArmor profile, nothing where the host has no AppArmor (Docker ignores the option there).
    pub fn apparmor(&self, privileged: bool) -> String {
        if !Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            return String::new();
        }
        match &self.apparmor {
            Some(profile) => profile.clone(),
            None if privileged => "unconfined".to_owned(),
            None => default_apparmor(),
        }
    }
}

/// `docker-default` where some Docker has loaded it; this engine loads none of its own.
fn default_apparmor() -> String {
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let found = loaded.lines().any(|line| line.starts_with("docker-default "));
    if found { "docker-default".to_owned() } else { String::new() }
}

/// A truth as Go reads it.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The system call filter: the one asked for, the engine's, or the built-in one. Privileged containers have none unless
/// they ask for one.
pub(super) fn seccomp(ask: &Build<'_>) -> Result<Option<LinuxSeccomp>> {
    let host = ask.host;
    let options = Options::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let wanted = options.seccomp.as_deref().filter(|profile| !profile.is_empty());
    if wanted == Some("unconfined") || (wanted.is_none() && host.privileged) {
        return Ok(None);
    }
    let add = host.cap_add.as_deref().unwrap_or_default();
    let drop = host.cap_drop.as_deref().unwrap_or_default();
    let capabilities = capability::effective(add, drop, host.privileged)?;
    match (wanted, ask.engine.seccomp_profile.as_deref()) {
        (Some("builtin"), _) | (None, None | Some("" | "builtin")) => {
            Ok(Some(profile::builtin(&capabilities)))
        }
        (None, Some("unconfined")) => Ok(None),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Error::io(format_args!("opening seccomp profile ({path}) failed"), &error)
            })?;
            profile::parse(&text, &capabilities)
        }
        (Some(text), _) => profile::parse(text, &capabilities),
    }
}

/// Masks and write protections; a privileged container has none.
pub(super) fn paths(ask: &Build<'_>, linux: &mut Linux) {
    // Docker drops them for privileged containers even where they were asked for.
    if !ask.host.privileged {
        linux.masked_paths = ask.host.masked_paths.clone().unwrap_or_default();
        linux.readonly_paths = ask.host.readonly_paths.clone().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Options> {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_as_docker_reads_them() {
        let read =
            parse(&["no-new-privileges", "seccomp:unconfined", "label=type:x", "writable-cgroups=true"])
                .unwrap();
        assert_eq!((read.no_new_privileges, read.writable_cgroups), (Some(true), Some(true)));
        assert_eq!(
            (read.seccomp.as_deref(), read.labels.as_slice()),
            (Some("unconfined"), ["type:x".to_owned()].as_slice())
        );
        assert_eq!(parse(&["no-new-privileges:false"]).unwrap().no_new_privileges, Some(false));
    }

    #[test]
    fn wrong_options_are_refused_as_recorded() {
        assert_eq!(parse(&["foo"]).unwrap_err().message(), "invalid --security-opt 1: \"foo\"");
        for wrong in [
            "foo=bar",
            "no-new-privileges=maybe",
            "systempaths=unconfined",
            "writable-cgroups=x",
            "credentialspec=x",
        ] {
            assert_eq!(
                parse(&[wrong]).unwrap_err().message(),
                format!("invalid --security-opt 2: {wrong:?}")
            );
        }
    }
}

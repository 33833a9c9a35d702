//! Settings below `/proc/sys/net`.
//!
//! The tree shows the network namespace of whoever looks, so settings of another namespace are written by a
//! short-lived child that joins it.

use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_sys::error::{Context, errno_of};
use wharf_sys::process;

use crate::error::{Error, Result};

/// A setting of this namespace by its path below `/proc/sys/net`; `None`: the kernel does not have it.
pub(crate) fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?;
    Some(text.trim_end().to_owned())
}

/// Writes a setting of this namespace.
///
/// # Errors
/// `ENOENT` where the kernel does not have it, `EINVAL`.
pub(crate) fn write(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{path}");
    std::fs::write(&path, value).context(|| format!("write {path}"))?;
    Ok(())
}

/// Writes settings of an interface in another namespace: names as sysctl(8) has them, with `IFNAME` for the
/// interface.
///
/// # Errors
/// [`Error::Invalid`] for a setting that is none of the interface; `ENOENT` where the kernel does not have it.
pub(crate) fn write_inside(
    target: BorrowedFd<'_>,
    interface: &str,
    settings: &[(String, String)],
) -> Result<()> {
    let mut files = vec![];
    for (name, value) in settings {
        files.push((format!("/proc/sys/{}", path_of(name, interface)?), value.as_str()));
    }
    match write_files(target, &files)? {
        None => Ok(()),
        Some(index) => {
            let name = settings.get(index).map_or("join the namespace", |(name, _)| name.as_str());
            Err(Error::Invalid(format!("failed to set sysctl {name} for interface {interface}")))
        }
    }
}

/// Writes files as a namespace shows them; which of them was refused.
fn write_files(target: BorrowedFd<'_>, files: &[(String, &str)]) -> Result<Option<usize>> {
    // Everything the child needs exists before it does: it makes system calls only, because another thread may
    // hold the allocator's lock. Its exit code is the number of the setting that was refused, from 1.
    let child = process::fork_child(|| {
        if move_into_link_name_space(target, Some(LinkNameSpaceType::Network)).is_err() {
            return 255;
        }
        let failed = files.iter().position(|(path, value)| write_plainly(path, value).is_err());
        failed.map_or(0, |index| i32::try_from(index + 1).unwrap_or(254).min(254))
    })?;
    match process::wait(child)? {
        0 => Ok(None),
        failed => Ok(Some(usize::try_from(failed - 1).unwrap_or(usize::MAX))),
    }
}

fn write_plainly(path: &str, value: &str) -> std::result::Result<(), rustix::io::Errno> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// `net.FAMILY.conf.IFNAME.SETTING` as a path; dots in the interface's name stay dots.
fn path_of(name: &str, interface: &str) -> Result<String> {
    let invalid = || Error::Invalid(format!("unrecognised sysctl setting: {name}"));
    let parts: Vec<_> = name.split('.').collect();
    let [net @ "net", family @ ("ipv4" | "ipv6" | "mpls"), kind @ ("conf" | "neigh"), place, setting] =
        parts.as_slice()
    else {
        return Err(invalid());
    };
    // The stock client makes small letters of it.
    if !place.eq_ignore_ascii_case("IFNAME") {
        return Err(invalid());
    }
    let plain = setting.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && !setting.is_empty() {
        Ok(format!("{net}/{family}/{kind}/{interface}/{setting}"))
    } else {
        Err(invalid())
    }
}

/// Whether a file below `/proc/sys/net` says 1.
pub(crate) fn is_on(path: &str) -> bool {
    read(path).as_deref() == Some("1")
}

/// Turns a setting of this namespace on unless it is; whether it was off.
///
/// # Errors
/// `EROFS` where the tree may not be written.
pub(crate) fn turn_on(path: &str) -> Result<bool> {
    if is_on(path) {
        return Ok(false);
    }
    match std::fs::write(format!("/proc/sys/net/{path}"), "1") {
        Ok(()) => Ok(true),
        Err(error) => {
            Err(wharf_sys::error::Error::new(format!("turn on /proc/sys/net/{path}"), errno_of(&error))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_with_the_interface() {
        assert_eq!(
            path_of("net.ipv4.conf.IFNAME.log_martians", "eth0.7").unwrap(),
            "net/ipv4/conf/eth0.7/log_martians"
        );
        assert!(path_of("net.ipv6.conf.ifname.accept_ra", "eth0").is_ok());
        for wrong in ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv4.conf.IFNAME.../x", "x"]
        {
            assert!(path_of(wrong, "eth0").is_err(), "{wrong}");
        }
    }
}

//! Namespaces: joining, leaving, and what is set inside a new one.

use std::{
    fmt::Write,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Error, Result},
    process::{self, CloneOptions, Forked, errno},
};

/// `CLONE_NEW*` of `linux/sched.h`.
pub mod flags {
    /// Mount points.
    pub const MOUNT: u64 = 0x0002_0000;
    /// View of the cgroup tree.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// System V IPC, POSIX message queues.
    pub const IPC: u64 = 0x0800_0000;
    /// User ids and capabilities.
    pub const USER: u64 = 0x1000_0000;
    /// Process ids.
    pub const PID: u64 = 0x2000_0000;
    /// Network stack.
    pub const NETWORK: u64 = 0x4000_0000;
    /// Clock offsets; shares its bit with the exit signal of `clone`, but not of `clone3`.
    pub const TIME: u64 = 0x0000_0080;
}

/// Moves this process into namespaces: of a process (by pidfd, several kinds at once) or the one that a
/// namespace file names. Joining a pid namespace affects later children only.
///
/// # Errors
/// `EINVAL` where the file names a namespace of another kind, `EPERM`.
pub fn join(fd: BorrowedFd<'_>, kinds: u64) -> Result<()> {
    let kinds = i32::try_from(kinds).map_err(|_| Error::new("join namespace", Errno::INVAL))?;
    // SAFETY: no memory is involved.
    match unsafe { libc::setns(fd.as_raw_fd(), kinds) } {
        0 => Ok(()),
        _ => Err(Error::new("join namespace", errno())),
    }
}

/// Moves this process into new namespaces.
///
/// # Errors
/// `EPERM`, `ENOSPC` for too many.
pub fn unshare(kinds: u64) -> Result<()> {
    let kinds = i32::try_from(kinds).map_err(|_| Error::new("unshare namespace", Errno::INVAL))?;
    // SAFETY: no memory is involved.
    match unsafe { libc::unshare(kinds) } {
        0 => Ok(()),
        _ => Err(Error::new("unshare namespace", errno())),
    }
}

/// Opens a namespace file (`/proc/PID/ns/net`, or a bind mount of one).
///
/// # Errors
/// `ENOENT`.
pub fn open(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open namespace {}", path.display()))
}

/// A range of ids of a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// Length.
    pub size: u32,
}

/// The ids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Of users.
    pub users: Vec<IdRange>,
    /// Of groups.
    pub groups: Vec<IdRange>,
}

impl IdMap {
    /// Who the namespace's root is outside: user and group. 0 where it is nobody.
    pub fn root(&self) -> (u32, u32) {
        let of = |ranges: &[IdRange]| {
            ranges.iter().find(|range| range.inside == 0 && range.size > 0).map_or(0, |range| range.outside)
        };
        (of(&self.users), of(&self.groups))
    }
}

fn map_text(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |mut text, range| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.size);
        text
    })
}

/// Gives the user namespace of a process its ids.
///
/// # Errors
/// `EPERM`, `EINVAL` for overlapping ranges.
pub fn write_id_maps(pid: i32, users: &[IdRange], groups: &[IdRange]) -> Result<()> {
    for (name, ranges) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, map_text(ranges)).context(|| format!("write {path}"))?;
    }
    Ok(())
}

/// A user namespace that only carries a mapping, for idmapped mounts.
///
/// # Errors
/// As [`write_id_maps`]; what the kernel refused.
pub fn user_namespace(users: &[IdRange], groups: &[IdRange]) -> Result<OwnedFd> {
    with_users(0, users, groups, "user")
}

/// A network namespace that belongs to the users of a new user namespace, as [`owner`] tells.
///
/// # Errors
/// As [`write_id_maps`]; what the kernel refused.
pub fn network_of_users(ids: &IdMap) -> Result<OwnedFd> {
    with_users(flags::NETWORK, &ids.users, &ids.groups, "net")
}

/// The user namespace whose root has a namespace's capabilities.
///
/// # Errors
/// `EPERM` where it is none of this process's own descendants; `ENOTTY` for a file that is no namespace.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    /// `NS_GET_USERNS` of `linux/nsfs.h`.
    const GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument and touches no memory of ours.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USERNS as _) };
    if fd < 0 {
        return Err(Error::new("find owner of namespace", errno()));
    }
    // SAFETY: the kernel has just made this descriptor for this call, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new user namespace and others that belong to it; the one that `file` names is kept.
fn with_users(others: u64, users: &[IdRange], groups: &[IdRange], file: &str) -> Result<OwnedFd> {
    let (gate, hold) = pipe_with(PipeFlags::CLOEXEC).context(|| "make pipe")?;
    match process::clone(&CloneOptions { namespaces: flags::USER | others, ..CloneOptions::default() })? {
        Forked::Child => {
            drop(hold);
            // Ends when the other side closes: then the namespace is held by its file.
            let _ = rustix::io::read(&gate, &mut [0]);
            process::exit_now(0)
        }
        Forked::Parent(child) => {
            let namespace = write_id_maps(child.pid, users, groups)
                .and_then(|()| open(Path::new(&format!("/proc/{}/ns/{file}", child.pid))));
            drop(hold);
            process::wait(child.pid)?;
            namespace
        }
    }
}

/// Sets the host name of this UTS namespace.
///
/// # Errors
/// `EINVAL` for more than 64 bytes.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).context(|| format!("set hostname {name}"))
}

/// Sets the NIS domain name of this UTS namespace.
///
/// # Errors
/// `EINVAL` for more than 64 bytes.
pub fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: the pointer and length describe `name`, which outlives the call.
    match unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(Error::new(format!("set domain name {name}"), errno())),
    }
}

/// Stops mount events from spreading between this mount namespace and others, for the whole tree.
///
/// # Errors
/// `EINVAL` where `/` is no mount point.
pub fn make_mounts_private() -> Result<()> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the only pointer that is not null is a terminated string.
    let result =
        unsafe { libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(Error::new("make / private", errno())) }
}

/// Makes a mounted directory the root of this mount namespace and lets the old tree go.
///
/// # Errors
/// `EINVAL` where it is no mount point or a propagation forbids it.
pub fn pivot_root(new_root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(new_root).context(|| "enter new root")?;
    // Old and new in one place: the old root comes to lie over the new one, and `.` there is the old
    // one, so that no directory in the container is needed. See pivot_root(2), NOTES.
    rustix::process::pivot_root(".", ".").context(|| "pivot root")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).context(|| "unmount old root")?;
    rustix::process::chdir("/").context(|| "enter /")
}

/// A network namespace's loopback interface, set up.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN there.
pub fn loopback_up() -> Result<()> {
    crate::link::up("lo")
}

/// Which kinds of namespaces two processes differ in is asked by comparing these files.
///
/// # Errors
/// `ENOENT` where the process has ended.
pub fn identity(pid: i32, kind: &str) -> Result<(u64, u64)> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let stat = rustix::fs::stat(path.as_str()).context(|| format!("stat {path}"))?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_new_network_namespace_gets_its_loopback() {
        let pid = process::fork_child(|| {
            let done = unshare(flags::NETWORK | flags::UTS)
                .and_then(|()| loopback_up())
                .and_then(|()| set_hostname("test"))
                .and_then(|()| set_domainname("domain"));
            let bound = std::net::UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(b"x", "127.0.0.1:9"));
            i32::from(done.is_err() || bound.is_err())
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }

    #[test]
    fn a_user_namespace_holds_its_mapping() {
        let range = IdRange { inside: 0, outside: 100_000, size: 1000 };
        let namespace = user_namespace(&[range], &[range]).unwrap();
        let pid = process::fork_child(|| {
            let joined = join(namespace.as_fd(), flags::USER).is_ok();
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            i32::from(!joined || map.split_whitespace().next() != Some("0"))
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }

    #[test]
    fn a_network_belongs_to_its_users() {
        let range = IdRange { inside: 0, outside: 100_000, size: 1000 };
        let ids = IdMap { users: vec![range], groups: vec![range] };
        let network = network_of_users(&ids).unwrap();
        let users = owner(network.as_fd()).unwrap();
        let pid = process::fork_child(|| {
            let joined =
                join(network.as_fd(), flags::NETWORK).and_then(|()| join(users.as_fd(), flags::USER));
            // Whoever is root there may do what needs capabilities in the network's owner.
            i32::from(joined.and_then(|()| loopback_up()).is_err())
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
        let own = open(Path::new("/proc/self/ns/net")).unwrap();
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_ne!(inode(&owner(own.as_fd()).unwrap()), inode(&users));
    }
}

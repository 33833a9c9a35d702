//! Making the sockets that addresses ask for.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio_rustls::TlsAcceptor;

use super::{Address, Listener, activation};

/// Who may use sockets in the file system.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// A group's name or number, beside root.
    pub(crate) group: String,
    /// Whether the group was asked for, so that it must exist.
    pub(crate) required: bool,
}

/// The sockets of `address`. Must run inside the runtime.
pub(crate) fn bind(
    address: &Address,
    access: &Access,
    tls: Option<&TlsAcceptor>,
) -> io::Result<Vec<Listener>> {
    let secured = |listener| match tls {
        Some(tls) => Listener::Tls(listener, tls.clone()),
        None => Listener::Tcp(listener),
    };
    match address {
        Address::Unix(path) => Ok(vec![Listener::Unix(bind_unix(path, access)?)]),
        Address::Tcp(host, port) => {
            let port = port.unwrap_or(if tls.is_some() { 2376 } else { 2375 });
            let listener = std::net::TcpListener::bind(SocketAddr::new(*host, port))?;
            listener.set_nonblocking(true)?;
            Ok(vec![secured(tokio::net::TcpListener::from_std(listener)?)])
        }
        Address::Activated(name) => {
            let sockets = activation::sockets(name.as_deref())?;
            sockets
                .into_iter()
                .map(|socket| match socket {
                    activation::Handed::Unix(listener) => {
                        listener.set_nonblocking(true)?;
                        Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?))
                    }
                    activation::Handed::Tcp(listener) => {
                        listener.set_nonblocking(true)?;
                        Ok(secured(tokio::net::TcpListener::from_std(listener)?))
                    }
                })
                .collect()
        }
    }
}

fn bind_unix(path: &Path, access: &Access) -> io::Result<tokio::net::UnixListener> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    // A path has 108 bytes at most in the kernel's address; one through a descriptor is always short.
    let opened = File::open(directory)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a directory, not a socket"))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(name);
    remove_stale(&short)?;
    let listener = UnixListener::bind(&short)?;
    // Until here only the owner could connect: that takes write permission, which no usual umask leaves to others.
    fs::set_permissions(&short, Permissions::from_mode(0o660))?;
    match group_id(&access.group) {
        Some(group) => std::os::unix::fs::chown(&short, None, Some(group))?,
        None if access.required => {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("group {} not found", access.group)));
        }
        None => tracing::debug!("there is no group {:?}: only root can use {}", access.group, path.display()),
    }
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Removes the socket of a daemon that is gone; one that is answered belongs to another daemon.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is in the way",
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens there"));
    }
    fs::remove_file(path)
}

/// The number of a group, by the host's own file: there is no name service in a static program.
fn group_id(name: &str) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let by_name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    });
    by_name.or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_only_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(60)).join("y".repeat(60)).join("api.sock");
        let access = Access { group: "root".to_owned(), required: true };
        let first = bind_unix(&path, &access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind_unix(&path, &access).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind_unix(&path, &access).unwrap();
        let unknown = Access { group: "no-such-group".to_owned(), required: true };
        assert_eq!(
            bind_unix(&folder.path().join("b"), &unknown).unwrap_err().to_string(),
            "group no-such-group not found"
        );
    }
}

//! systemd: sockets that it opened for the daemon, and word to it when the daemon is ready.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use rustix::net::AddressFamily;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The number of the first descriptor that is handed over (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// A socket that systemd opened.
#[derive(Debug)]
pub(super) enum Handed {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The sockets handed over; only the one called (or numbered) `name` when that is given.
pub(super) fn sockets(name: Option<&str>) -> io::Result<Vec<Handed>> {
    let ours =
        env::var("LISTEN_PID").ok().and_then(|pid| pid.parse::<u32>().ok()) == Some(std::process::id());
    let count: i32 =
        env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).filter(|_| ours).unwrap_or(0);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut found = Vec::new();
    for number in FIRST..FIRST + count {
        let own = names.next().unwrap_or_default();
        if name.is_none_or(|name| name == own || name == number.to_string()) {
            found.push(socket(number)?);
        }
    }
    if found.is_empty() {
        let text = "no sockets found via socket activation: make sure the service was started by systemd";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(found)
}

/// A duplicate of descriptor `number`, closed on exec. Asking the kernel for one of this very process's descriptors
/// by number is how to own one that was inherited.
fn socket(number: i32) -> io::Result<Handed> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket: OwnedFd = pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?;
    match rustix::net::sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => Ok(Handed::Unix(UnixListener::from(socket))),
        AddressFamily::INET | AddressFamily::INET6 => Ok(Handed::Tcp(TcpListener::from(socket))),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("descriptor {number} is no stream socket"),
        )),
    }
}

/// Tells systemd about the daemon, where it asked to be told: `READY=1`, `RELOADING=1`, `STOPPING=1`.
pub(crate) fn notify(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let bytes = path.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = send() {
        tracing::warn!("notify systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn an_inherited_socket_is_told_by_its_family() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Handed::Tcp(same) = socket(listener.as_raw_fd()).unwrap() else { panic!("not TCP") };
        assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(socket(9999).is_err());
    }
}

//! Why the net helper did not do what it was asked.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::protocol::{Holder, Taken};

/// Why the net helper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It could not be started.
    #[error("start net helper: {0}")]
    Start(#[source] io::Error),
    /// It was started and did not come up; its words are in the daemon's log.
    #[error("start net helper: it does not answer")]
    Silent,
    /// Its socket failed, twice.
    #[error("ask net helper: {0}")]
    Socket(#[source] io::Error),
    /// It said something that is no answer to the question.
    #[error("ask net helper: unexpected answer {0}")]
    Unexpected(String),
    /// A port is not to be had.
    #[error("{0}")]
    Taken(Box<Taken>),
    /// It tried and failed; the message says at what.
    #[error("{message}")]
    Failed {
        /// What was being done, and why it failed.
        message: String,
        /// The kernel's error number, if it was the kernel.
        errno: Option<i32>,
    },
    /// The name table's file could not be written or removed.
    #[error("write names of {owner}: {source}")]
    Names {
        /// Whose.
        owner: String,
        /// The file system's word.
        source: io::Error,
    },
}

/// In Docker's words, with the holder behind them where there is one to name.
impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, port, protocol) = (self.wanted.address, self.wanted.port, self.wanted.protocol.name());
        let failed = "failed to bind host port";
        match &self.by {
            // Docker writes IPv6 addresses without brackets here.
            Holder::Owner(_) => write!(f, "Bind for {address}:{port} failed: port is already allocated"),
            Holder::Process { pid, name } => {
                let place = self.place();
                write!(f, "{failed} {place}/{protocol}: address already in use by {name} (pid {pid})")
            }
            Holder::Unknown => write!(f, "{failed} {}/{protocol}: address already in use", self.place()),
            Holder::Refused { errno } => {
                let reason = wharf_sys::error::describe(Errno::from_raw_os_error(*errno));
                write!(f, "{failed} {}/{protocol}: {reason}", self.place())
            }
        }
    }
}

impl Taken {
    fn place(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.wanted.address, self.wanted.port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Protocol, Reservation};
    use super::*;

    #[test]
    fn conflicts_read_as_docker_writes_them() {
        let wanted = |address: &str| Reservation {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port: 80,
        };
        let text = |address, by| Taken { wanted: wanted(address), by }.to_string();
        assert_eq!(
            text("0.0.0.0", Holder::Owner("x".into())),
            "Bind for 0.0.0.0:80 failed: port is already allocated"
        );
        assert_eq!(text("::", Holder::Owner("x".into())), "Bind for :::80 failed: port is already allocated");
        assert_eq!(
            text("::", Holder::Process { pid: 7, name: "nginx".into() }),
            "failed to bind host port [::]:80/tcp: address already in use by nginx (pid 7)"
        );
        assert_eq!(
            text("1.2.3.4", Holder::Refused { errno: Errno::ADDRNOTAVAIL.raw_os_error() }),
            "failed to bind host port 1.2.3.4:80/tcp: cannot assign requested address"
        );
    }
}

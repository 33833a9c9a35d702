//! Why the kernel plane did not do what it was asked.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

/// Result of the kernel plane's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kernel plane did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused; the text says what was being done and why it failed.
    #[error("{0}")]
    Kernel(#[from] wharf_sys::error::Error),
    /// The kernel refused and explained itself (an extended acknowledgement).
    #[error("{what}: {}{}", wharf_sys::error::describe(*errno), explained(explanation))]
    Refused {
        /// What was being done.
        what: String,
        /// The kernel's number.
        errno: Errno,
        /// The kernel's words, perhaps empty.
        explanation: String,
    },
    /// The kernel's answer made no sense.
    #[error("{0}: unexpected answer from the kernel")]
    Unexpected(String),
    /// A network that the plane does not know.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// A bridge carries no more endpoints.
    #[error("network {name} is full: a bridge carries {limit} endpoints")]
    Full {
        /// The network's name.
        name: String,
        /// How many it carries.
        limit: usize,
    },
    /// An interface that must be there is not.
    #[error("{0}")]
    NoInterface(String),
    /// The running kernel cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// The request contradicts itself or the network.
    #[error("{0}")]
    Invalid(String),
    /// The table belongs to a socket of another process.
    #[error("nftables table {table} is owned by another process (netlink port {owner})")]
    TableOwned {
        /// The table's name.
        table: String,
        /// The port of the socket that owns it.
        owner: u32,
    },
    /// No address pool, or none of this size, is left.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// A subnet collides with one that is there.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps {
        /// What was asked for.
        wanted: IpNet,
        /// What is there.
        existing: IpNet,
    },
    /// Every address of the subnet or range is taken.
    #[error("no available {} addresses on this network's address pools: {network}", family(*v6))]
    AddressesExhausted {
        /// The network's name or id.
        network: String,
        /// Which family.
        v6: bool,
    },
    /// The wanted address is taken.
    #[error("Address already in use")]
    AddressTaken(IpAddr),
    /// The wanted address is in no subnet.
    #[error("no configured subnet contains IP address {0}")]
    AddressOutside(IpAddr),
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn explained(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

impl Error {
    /// The kernel's error number, where it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel(error) => Some(error.errno()),
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

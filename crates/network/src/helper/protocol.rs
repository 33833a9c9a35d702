//! What a daemon and the net helper say to each other.
//!
//! Frames are JSON documents, one per `SOCK_SEQPACKET` message, at most [`MAX_FRAME`] bytes; descriptors
//! travel beside them (`SCM_RIGHTS`). Every request is answered once, in order. Fields are only ever added;
//! what came after version 1 has a name in the hello's `features`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use wharf_sys::namespace::IdMap;

/// The version of this protocol; said in [`Request::Hello`] and its answer.
pub const PROTOCOL_VERSION: u32 = 1;
/// The largest frame either side accepts, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// The most ports or relays of one request: with their addresses they and the answer fill half a frame at most.
pub(crate) const AT_ONCE: usize = 128;

/// The transport whose port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP; not held by a socket where the kernel has none.
    Sctp,
}

impl Protocol {
    /// As Docker writes it after the slash.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortChoice {
    /// Any from the host's ephemeral range (`net.ipv4.ip_local_port_range`), one after the other.
    Any,
    /// The first that is free from `first` to `last`; one port when they are equal.
    Range {
        /// The lowest port wanted, not 0.
        first: u16,
        /// The highest port wanted.
        last: u16,
    },
}

impl PortChoice {
    /// Exactly this port.
    #[must_use]
    pub fn fixed(port: u16) -> Self {
        Self::Range { first: port, last: port }
    }
}

/// One port to be held, on several addresses at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// The transport.
    pub protocol: Protocol,
    /// The host's addresses; all get the same port. Docker's default is `0.0.0.0` and `::`. Unspecified ones
    /// whose family the host does not have are left out of the answer.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: PortChoice,
}

/// One port that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reservation {
    /// The transport.
    pub protocol: Protocol,
    /// The host's address.
    pub address: IpAddr,
    /// The port on that address.
    pub port: u16,
}

/// What arrives at the socket that holds a port is carried to a container by the helper: for `[::1]`, which
/// the kernel cannot translate, and for IPv6 on the host with a container that has IPv4 only. What the
/// firewall translates never arrives there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Relay {
    /// The held port, of TCP or UDP.
    pub from: Reservation,
    /// Where the container listens.
    pub to: SocketAddr,
}

/// Daemon to helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// First on every connection; answered by [`Answer::Hello`].
    Hello {
        /// [`PROTOCOL_VERSION`] of the daemon.
        version: u32,
    },
    /// A network namespace for `owner`, loopback up; answered by [`Answer::Namespace`].
    Namespace {
        /// Whose it is.
        owner: String,
        /// Whether names are answered at 127.0.0.11 in it.
        resolver: bool,
        /// It belongs to the users of a user namespace of its own, with these ids.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ids: Option<IdMap>,
    },
    /// Lets names be answered in a namespace that was made without; answered by [`Answer::Namespace`].
    Resolver {
        /// Whose namespace.
        owner: String,
    },
    /// A fresh `NETLINK_ROUTE` socket inside; answered by [`Answer::Done`] with one descriptor.
    Route {
        /// Whose namespace.
        owner: String,
    },
    /// Takes over a namespace that another helper made. Beside it: the namespace, then with `resolver` the
    /// UDP and the TCP socket. Nothing happens when it is held already.
    Adopt {
        /// Whose it is.
        owner: String,
        /// Whether the resolver's sockets come along.
        resolver: bool,
    },
    /// Holds ports, all or none; what the owner holds already stays. Answered by [`Answer::Reserved`] or
    /// [`Answer::Taken`].
    Reserve {
        /// Whose they are.
        owner: String,
        /// What is wanted.
        ports: Vec<PortRequest>,
    },
    /// Lets these ports go; unknown ones are passed over.
    Unreserve {
        /// Whose they are.
        owner: String,
        /// Which.
        ports: Vec<Reservation>,
    },
    /// Starts relays on ports the owner holds.
    Relay {
        /// Whose they are.
        owner: String,
        /// From where to where.
        relays: Vec<Relay>,
    },
    /// Lets go of all an owner has: namespace, resolver, ports, relays.
    Release {
        /// Whose.
        owner: String,
    },
    /// Those that have anything here, in order; answered by [`Answer::Owners`], a page at a time.
    Owners {
        /// Only those that come after this one.
        after: String,
    },
    /// The `NETLINK_NETFILTER` socket that owns the firewall's table; answered by [`Answer::Done`] with one
    /// descriptor. One beside the request is taken if the helper has none yet.
    Firewall,
    /// Answered by [`Answer::Stats`].
    Stats,
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// [`PROTOCOL_VERSION`] of the helper.
        version: u32,
        /// What it can do beyond that version.
        #[serde(default)]
        features: Vec<String>,
        /// Its process.
        pid: i32,
    },
    /// It is done.
    Done,
    /// Beside it: the namespace, a route socket inside, then with `resolver` the UDP and the TCP socket.
    Namespace {
        /// Whether the resolver's sockets come along.
        resolver: bool,
    },
    /// The ports that are held now, one entry per address, in the order asked for.
    Reserved {
        /// They.
        ports: Vec<Reservation>,
    },
    /// A port is not to be had.
    Taken(Taken),
    /// A page of owners; an empty one ends the list.
    Owners {
        /// Their names.
        owners: Vec<String>,
    },
    /// To [`Request::Stats`].
    Stats(Stats),
    /// It could not be done.
    Failed {
        /// What was being done, and why it failed.
        message: String,
        /// The kernel's error number, if it was the kernel.
        #[serde(default)]
        errno: Option<i32>,
    },
}

/// Why a port cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// What was wanted; port 0: any.
    pub wanted: Reservation,
    /// Who has it.
    pub by: Holder,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// Another owner of this helper.
    Owner(String),
    /// A process of the host.
    Process {
        /// Its id.
        pid: i32,
        /// Its name (`/proc/PID/comm`).
        name: String,
    },
    /// Somebody who cannot be found, in the kernel or in another pid namespace.
    Unknown,
    /// Nobody: the kernel refused for another reason (an address the host does not have).
    Refused {
        /// The error number.
        errno: i32,
    },
}

/// What the helper has and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Namespaces held for owners.
    pub namespaces: u64,
    /// Namespaces with a resolver.
    pub resolvers: u64,
    /// Namespaces ready to be given out.
    pub ready: u64,
    /// Ports held, one per address.
    pub ports: u64,
    /// Connections and UDP clients being relayed.
    pub relayed: u64,
    /// Queries answered from the table.
    pub answered: u64,
    /// Queries passed on to other name servers.
    pub forwarded: u64,
    /// Queries that got no good answer from any of them.
    pub failed: u64,
    /// Queries being waited for.
    pub waiting: u64,
    /// Containers in the name table.
    pub names: u64,
}

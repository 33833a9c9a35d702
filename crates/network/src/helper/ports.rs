//! The host's ports that are published: each held by a bound socket, so that conflicts are found before
//! anything starts, and with whomever.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use super::protocol::{Holder, PortChoice, PortRequest, Protocol, Reservation, Taken};

/// What Docker takes where the kernel does not tell its range.
const DEFAULT_RANGE: (u16, u16) = (49153, 65535);
const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The ports that are held.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: HashMap<Reservation, Held>,
    /// How many addresses each is held on, so that one that is free is known to be without looking at all.
    uses: HashMap<Number, u32>,
    /// The last port given to who wanted any, by transport.
    last: HashMap<Protocol, u16>,
}

/// A port of one transport, in IPv4 or not.
type Number = (Protocol, u16, bool);

fn number_of(port: &Reservation) -> Number {
    (port.protocol, port.port, port.address.is_ipv4())
}

/// A held port.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) owner: Rc<str>,
    /// `None`: the kernel has no such transport, so nobody can take it away either.
    pub(crate) socket: Option<OwnedFd>,
}

impl Ports {
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn get(&self, port: &Reservation) -> Option<&Held> {
        self.held.get(port)
    }

    /// All that are held, with their owners.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Rc<str>> {
        self.held.values().map(|held| &held.owner)
    }

    /// Holds all of `requests`, or none.
    pub(crate) fn reserve(
        &mut self,
        owner: &str,
        requests: &[PortRequest],
    ) -> Result<Vec<Reservation>, Taken> {
        let owner: Rc<str> = owner.into();
        let mut all = Vec::new();
        let mut new = Vec::new();
        for request in requests {
            match self.reserve_one(&owner, request, &mut new) {
                Ok(ports) => all.extend(ports),
                Err(taken) => {
                    for port in &new {
                        self.let_go(port);
                    }
                    return Err(taken);
                }
            }
        }
        Ok(all)
    }

    /// Lets a port go, if it is the owner's.
    pub(crate) fn unreserve(&mut self, owner: &str, port: &Reservation) -> Option<Held> {
        self.held.get(port).filter(|held| &*held.owner == owner)?;
        self.let_go(port)
    }

    fn let_go(&mut self, port: &Reservation) -> Option<Held> {
        let held = self.held.remove(port)?;
        if let Some(count) = self.uses.get_mut(&number_of(port)) {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(&number_of(port));
            }
        }
        Some(held)
    }

    /// The owner's ports.
    pub(crate) fn of(&self, owner: &str) -> Vec<Reservation> {
        let mut ports: Vec<Reservation> = self
            .held
            .iter()
            .filter(|(_, held)| &*held.owner == owner)
            .map(|(port, _)| port.clone())
            .collect();
        ports.sort_unstable_by_key(|port| (port.protocol, port.port, port.address));
        ports
    }

    fn reserve_one(
        &mut self,
        owner: &Rc<str>,
        request: &PortRequest,
        new: &mut Vec<Reservation>,
    ) -> Result<Vec<Reservation>, Taken> {
        let candidates = self.candidates(request);
        let any = request.port == PortChoice::Any;
        let one = matches!(request.port, PortChoice::Range { first, last } if first == last);
        let mut last = None;
        for port in candidates {
            match self.reserve_at(owner, request, port, one, new) {
                Ok(ports) => {
                    if any {
                        self.last.insert(request.protocol, port);
                    }
                    return Ok(ports);
                }
                // Another port of the same address will do no better.
                Err(taken @ Taken { by: Holder::Refused { .. }, .. }) => return Err(taken),
                Err(taken) => last = Some(taken),
            }
        }
        let address = request.addresses.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let wanted = Reservation { protocol: request.protocol, address, port: 0 };
        Err(last.unwrap_or(Taken { wanted, by: Holder::Unknown }))
    }

    fn candidates(&self, request: &PortRequest) -> impl Iterator<Item = u16> + use<> {
        let (start, last, first) = match request.port {
            PortChoice::Range { first, last } => (first.max(1), last, first.max(1)),
            PortChoice::Any => {
                let (first, last) = ephemeral_range();
                let after = self.last.get(&request.protocol).copied().unwrap_or(last);
                (if (first..last).contains(&after) { after + 1 } else { first }, last, first)
            }
        };
        (start..=last).chain(first..start)
    }

    /// One port on all addresses, or on none.
    fn reserve_at(
        &mut self,
        owner: &Rc<str>,
        request: &PortRequest,
        port: u16,
        may_be_held: bool,
        new: &mut Vec<Reservation>,
    ) -> Result<Vec<Reservation>, Taken> {
        let (mut ports, before) = (Vec::new(), new.len());
        for &address in &request.addresses {
            let wanted = Reservation { protocol: request.protocol, address, port };
            let result = match self.conflict(&wanted) {
                // Asked for once more, after the daemon was started again.
                Some(holder)
                    if may_be_held
                        && holder == *owner
                        && self.held.contains_key(&wanted)
                        && !new.contains(&wanted) =>
                {
                    Ok(false)
                }
                Some(holder) => Err(Holder::Owner(holder.to_string())),
                None => self.bind(owner, &wanted),
            };
            match result {
                Ok(is_new) => {
                    if is_new {
                        new.push(wanted.clone());
                    }
                    ports.push(wanted);
                }
                // The host is without this family.
                Err(Holder::Refused { errno }) if no_family(errno) && address.is_unspecified() => {}
                Err(by) => {
                    for port in new.drain(before..) {
                        self.let_go(&port);
                    }
                    return Err(Taken { wanted, by });
                }
            }
        }
        Ok(ports)
    }

    /// Who of our own has the port, on this address or on all of its family.
    fn conflict(&self, wanted: &Reservation) -> Option<Rc<str>> {
        self.uses.get(&number_of(wanted))?;
        let same = self.held.get(wanted).map(|held| Rc::clone(&held.owner));
        same.or_else(|| {
            let meets = |held: &Reservation| {
                number_of(held) == number_of(wanted)
                    && (held.address.is_unspecified() || wanted.address.is_unspecified())
            };
            self.held.iter().find(|(port, _)| meets(port)).map(|(_, held)| Rc::clone(&held.owner))
        })
    }

    fn bind(&mut self, owner: &Rc<str>, wanted: &Reservation) -> Result<bool, Holder> {
        let socket = match bound(wanted) {
            Ok(socket) => socket,
            Err(Errno::ADDRINUSE) => return Err(Holder::Unknown),
            Err(error) => return Err(Holder::Refused { errno: error.raw_os_error() }),
        };
        *self.uses.entry(number_of(wanted)).or_default() += 1;
        self.held.insert(wanted.clone(), Held { owner: Rc::clone(owner), socket });
        Ok(true)
    }
}

fn no_family(errno: i32) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|error| error.raw_os_error() == errno)
}

/// The range from which the kernel gives ports to who asks for none.
fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string(RANGE_FILE).unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => (first, last),
        _ => DEFAULT_RANGE,
    }
}

/// A socket that holds the port.
///
/// TCP ones do not listen: who gets past the firewall's translation is refused instead of being left to wait.
/// Only where a connection of an earlier server still lingers on the port the socket has to be one that
/// reuses it, and must then listen to keep others out that reuse it as well.
fn bound(wanted: &Reservation) -> Result<Option<OwnedFd>, Errno> {
    match bind(wanted, false) {
        Err(Errno::ADDRINUSE) if wanted.protocol == Protocol::Tcp => {
            let socket = bind(wanted, true)?;
            if let Some(socket) = &socket {
                listen(socket)?;
            }
            Ok(socket)
        }
        other => other,
    }
}

/// Lets connections come. They linger on after their end, and must not be in the way of who holds the port
/// next: what they inherit from this socket says that they are not.
pub(crate) fn listen(socket: &OwnedFd) -> Result<(), Errno> {
    const BACKLOG: i32 = 128;
    sockopt::set_socket_reuseaddr(socket, true)?;
    rustix::net::listen(socket, BACKLOG)
}

fn bind(wanted: &Reservation, reuse: bool) -> Result<Option<OwnedFd>, Errno> {
    let family = if wanted.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match wanted.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if wanted.protocol == Protocol::Sctp => {
            return Ok(None);
        }
        other => other?,
    };
    if wanted.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(wanted.address, wanted.port))?;
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Ports of a namespace of the test's own.
    fn in_own_namespace(work: impl FnOnce()) {
        use wharf_sys::{namespace, process};
        let pid = process::fork_child(|| {
            namespace::unshare(namespace::flags::NETWORK).unwrap();
            namespace::loopback_up().unwrap();
            // A failed assertion ends the child, which has no unwinding.
            work();
            0
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }

    fn tcp(port: PortChoice, addresses: &[&str]) -> PortRequest {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        PortRequest { protocol: Protocol::Tcp, addresses, port }
    }

    fn numbers(ports: &[Reservation]) -> Vec<String> {
        ports.iter().map(|port| SocketAddr::new(port.address, port.port).to_string()).collect()
    }

    const BOTH: [&str; 2] = ["0.0.0.0", "::"];

    #[test]
    fn ports_are_held_on_all_addresses_or_none() {
        in_own_namespace(|| {
            let mut ports = Ports::default();
            let got = ports.reserve("a", &[tcp(PortChoice::fixed(80), &BOTH)]).unwrap();
            assert_eq!(numbers(&got), ["0.0.0.0:80", "[::]:80"]);
            // Again by the same owner: nothing new. By another: told who.
            assert_eq!(ports.reserve("a", &[tcp(PortChoice::fixed(80), &BOTH)]).unwrap(), got);
            for address in ["0.0.0.0", "127.0.0.1", "::1"] {
                let taken = ports.reserve("b", &[tcp(PortChoice::fixed(80), &[address])]).unwrap_err();
                assert_eq!(taken.by, Holder::Owner("a".into()));
            }
            let taken = ports.reserve("a", &[tcp(PortChoice::fixed(80), &["127.0.0.1"])]).unwrap_err();
            assert_eq!(taken.by, Holder::Owner("a".into()));

            // The second of two is not to be had: the first is let go.
            let two = [tcp(PortChoice::fixed(81), &BOTH), tcp(PortChoice::fixed(80), &BOTH)];
            assert!(ports.reserve("b", &two).is_err());
            assert_eq!((ports.len(), ports.of("b").len()), (2, 0));
            assert!(TcpListener::bind("0.0.0.0:80").is_err() && TcpListener::bind("0.0.0.0:81").is_ok());
            // Who gets there is refused.
            assert!(TcpStream::connect("127.0.0.1:80").is_err());

            assert!(ports.unreserve("b", &got[0]).is_none());
            assert!(ports.unreserve("a", &got[0]).is_some());
            assert!(TcpListener::bind("0.0.0.0:80").is_ok() && TcpListener::bind("[::1]:80").is_err());
        });
    }

    #[test]
    fn ranges_and_any_port() {
        in_own_namespace(|| {
            std::fs::write(RANGE_FILE, "40000 40003").unwrap();
            let mut ports = Ports::default();
            let _busy = TcpListener::bind("127.0.0.1:8000").unwrap();
            let range = || [tcp(PortChoice::Range { first: 8000, last: 8002 }, &BOTH)];
            assert_eq!(numbers(&ports.reserve("a", &range()).unwrap()), ["0.0.0.0:8001", "[::]:8001"]);
            assert_eq!(numbers(&ports.reserve("b", &range()).unwrap()), ["0.0.0.0:8002", "[::]:8002"]);
            // Nor is the same one had twice by one who wants two.
            assert!(ports.reserve("b", &range()).is_err());
            let twice = [tcp(PortChoice::fixed(9000), &BOTH), tcp(PortChoice::fixed(9000), &BOTH)];
            assert!(ports.reserve("b", &twice).is_err());
            let taken = ports.reserve("c", &range()).unwrap_err();
            assert_eq!((taken.wanted.port, taken.by), (8002, Holder::Owner("b".into())));

            let _busy = TcpListener::bind("[::1]:40001").unwrap();
            let mut any = |owner| ports.reserve(owner, &[tcp(PortChoice::Any, &BOTH)]);
            let mut got = |owner| any(owner).map(|ports| ports[1].port);
            assert_eq!([got("a"), got("a"), got("b")], [Ok(40000), Ok(40002), Ok(40003)]);
            assert!(got("a").is_err());
            ports.unreserve("a", &ports.of("a")[3].clone()).unwrap();
            assert_eq!(ports.of("a").len(), 5);
        });
    }

    #[test]
    fn the_kernels_refusals_are_told_apart() {
        in_own_namespace(|| {
            let mut ports = Ports::default();
            let udp = |address: &str| PortRequest {
                protocol: Protocol::Udp,
                ..tcp(PortChoice::fixed(53), &[address])
            };
            let _busy = std::net::UdpSocket::bind("127.0.0.53:53").unwrap();
            assert_eq!(ports.reserve("a", &[udp("0.0.0.0")]).unwrap_err().by, Holder::Unknown);
            assert!(ports.reserve("a", &[udp("127.0.0.1")]).is_ok());
            let refused = Holder::Refused { errno: Errno::ADDRNOTAVAIL.raw_os_error() };
            assert_eq!(ports.reserve("a", &[udp("192.0.2.1")]).unwrap_err().by, refused);
            // The kernel may be without SCTP; then nobody can take the port away.
            let sctp = PortRequest { protocol: Protocol::Sctp, ..tcp(PortChoice::fixed(53), &BOTH) };
            assert_eq!(ports.reserve("a", &[sctp]).unwrap().len(), 2);
        });
    }

    #[test]
    fn a_lingering_connection_is_no_conflict() {
        in_own_namespace(|| {
            let server = TcpListener::bind("127.0.0.1:80").unwrap();
            let client = TcpStream::connect("127.0.0.1:80").unwrap();
            // The side that closes first lingers.
            drop(server.accept().unwrap());
            drop(server);
            drop(client);
            let mut ports = Ports::default();
            assert!(ports.reserve("a", &[tcp(PortChoice::fixed(80), &["127.0.0.1"])]).is_ok());
            assert!(TcpListener::bind("127.0.0.1:80").is_err());
        });
    }
}

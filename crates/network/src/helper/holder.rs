//! Which process has a port of the host: through the kernel's list of sockets (`sock_diag(7)`) and the
//! descriptors of processes (`/proc/PID/fd`). Looked for only when a conflict has to be told.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use super::protocol::{Holder, Protocol, Reservation};

/// `linux/netlink.h`, `linux/sock_diag.h`.
const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `TCP_LISTEN`, as a bit.
const LISTENING: u32 = 1 << 10;
/// The kernel sends lists in pieces of at most this many bytes.
const PIECE: usize = 32 * 1024;

/// The process that has the port, on whichever address stands in the way.
#[must_use]
pub(super) fn holder_of(port: &Reservation) -> Holder {
    let inodes = sockets_at(port).unwrap_or_default();
    process_with(&inodes).unwrap_or(Holder::Unknown)
}

/// The inodes of the sockets that stand in the way.
fn sockets_at(port: &Reservation) -> Result<HashSet<u64>, Errno> {
    let number = match port.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    let channel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    // An IPv6 socket may be bound to IPv4 as well.
    let families: &[u8] = if port.address.is_ipv4() { &[2, 10] } else { &[10] };
    // Connections, of which there may be very many, matter only where no server is found.
    for states in [LISTENING, !LISTENING] {
        let mut found = HashSet::new();
        for &family in families {
            list(&channel, family, number, states, |address, local, inode| {
                if local == port.port && inode != 0 && meets(address, port.address) {
                    found.insert(inode);
                }
            })?;
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(HashSet::new())
}

fn meets(held: IpAddr, wanted: IpAddr) -> bool {
    let held = held.to_canonical();
    held.is_unspecified() || wanted.is_unspecified() || held == wanted
}

/// Calls `each` with the local address, the port and the inode of every socket.
fn list(
    channel: &OwnedFd,
    family: u8,
    protocol: u8,
    states: u32,
    mut each: impl FnMut(IpAddr, u16, u64),
) -> Result<(), Errno> {
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states, socket id of 48 bytes.
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend_from_slice(&((HEADER + 56) as u32).to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family, protocol, 0, 0]);
    request.extend_from_slice(&states.to_ne_bytes());
    request.extend_from_slice(&[0; 48]);
    sendto(channel, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; PIECE];
    loop {
        let (_, length) = recv(channel, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length.min(PIECE)];
        while let Some(message) = next_message(&mut rest) {
            match message.0 {
                DONE => return Ok(()),
                ERROR => return Err(Errno::IO),
                SOCK_DIAG_BY_FAMILY => {
                    if let Some((address, port, inode)) = read_socket(message.1) {
                        each(address, port, inode);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The next message of a piece: its type and content.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
    let content = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, content))
}

/// `struct inet_diag_msg`: family, three bytes, ports, source address at 8, destination, interface, cookie,
/// then expires, queues, uid, inode at 68.
fn read_socket(message: &[u8]) -> Option<(IpAddr, u16, u64)> {
    const IPV4: u8 = 2;
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let address = if *message.first()? == IPV4 {
        IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?))
    };
    let inode = u32::from_ne_bytes(message.get(68..72)?.try_into().ok()?);
    Some((address, port, u64::from(inode)))
}

/// The first process that has one of these sockets open.
fn process_with(inodes: &HashSet<u64>) -> Option<Holder> {
    if inodes.is_empty() {
        return None;
    }
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find_map(|pid| {
        let mut descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        descriptors.find(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            inode.and_then(|digits| digits.parse().ok()).is_some_and(|inode| inodes.contains(&inode))
        })?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(Holder::Process { pid, name: name.trim_end().to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn at(protocol: Protocol, address: &str, port: u16) -> Holder {
        holder_of(&Reservation { protocol, address: address.parse().unwrap(), port })
    }

    #[test]
    fn a_server_is_found_by_its_port() {
        use wharf_sys::{namespace, process};
        // In a network of its own, where ports are nobody else's.
        let pid = process::fork_child(|| {
            namespace::unshare(namespace::flags::NETWORK).unwrap();
            namespace::loopback_up().unwrap();
            look();
            0
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }

    fn look() {
        let own = i32::try_from(std::process::id()).unwrap();
        let is_own = |holder: Holder| matches!(holder, Holder::Process { pid, .. } if pid == own);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(is_own(at(Protocol::Tcp, "0.0.0.0", port)));
        assert!(is_own(at(Protocol::Tcp, "127.0.0.1", port)));
        assert_eq!(at(Protocol::Udp, "127.0.0.2", port), Holder::Unknown);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(is_own(at(Protocol::Udp, "0.0.0.0", udp.local_addr().unwrap().port())));
        // A server for both families stands in the way of both.
        let six = TcpListener::bind("[::]:0").unwrap();
        let port = six.local_addr().unwrap().port();
        assert!(is_own(at(Protocol::Tcp, "::", port)) && is_own(at(Protocol::Tcp, "0.0.0.0", port)));
        drop(six);
        assert_eq!(at(Protocol::Tcp, "::", port), Holder::Unknown);
    }
}

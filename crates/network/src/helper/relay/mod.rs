//! What reaches the socket of a held port, and not a container through the firewall, is carried there:
//! connections to `[::1]`, which the kernel cannot translate, and IPv6 for a container that has none.

mod datagrams;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::time::Instant;

use self::datagrams::Peers;
use self::stream::Streams;
use super::ports::listen;
use super::protocol::{Protocol, Relay, Reservation};
use super::slots::{Key, Slots};
use super::source::Source;

/// All relays.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    doors: Slots<Door>,
    by_port: HashMap<Reservation, Key>,
    streams: Streams,
    peers: Peers,
}

/// A held port with a relay behind it.
#[derive(Debug)]
struct Door {
    socket: OwnedFd,
    to: SocketAddr,
}

impl Relays {
    /// Carries on what comes to `socket`, which holds the port.
    pub(crate) fn start(&mut self, epoll: &Epoll, relay: &Relay, socket: &OwnedFd) -> Result<(), Errno> {
        let running = self.by_port.get(&relay.from).copied();
        if let Some(door) = running.and_then(|key| self.doors.get_mut(key)) {
            door.to = relay.to;
            return Ok(());
        }
        let source = match relay.from.protocol {
            Protocol::Tcp => {
                listen(socket)?;
                Source::RelayListener
            }
            Protocol::Udp => Source::RelaySocket,
            Protocol::Sctp => return Err(Errno::PROTONOSUPPORT),
        };
        let socket = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
        let key = self.doors.insert(Door { socket, to: relay.to });
        self.by_port.insert(relay.from.clone(), key);
        let watched =
            self.doors.get(key).map(|door| epoll.add(&door.socket, source(key).token(), EventFlags::IN));
        if let Some(Err(error)) = watched {
            self.stop(epoll, &relay.from);
            return Err(wharf_sys::error::errno_of(&error));
        }
        Ok(())
    }

    /// Ends the relay of a port, with all that goes through it.
    pub(crate) fn stop(&mut self, epoll: &Epoll, port: &Reservation) {
        let Some(key) = self.by_port.remove(port) else { return };
        if let Some(door) = self.doors.remove(key) {
            // The socket lives on where the port is held.
            let _not_watched = epoll.remove(&door.socket);
        }
        self.streams.forget(key);
        self.peers.forget(key);
    }

    /// Connections and UDP clients.
    pub(crate) fn len(&self) -> usize {
        self.streams.len() + self.peers.len()
    }

    /// Connections wait at a port.
    pub(crate) fn accept(&mut self, epoll: &Epoll, key: Key) {
        if let Some(door) = self.doors.get(key) {
            self.streams.accept(epoll, key, &door.socket, door.to);
        }
    }

    /// A connection has something to carry.
    pub(crate) fn carry(&mut self, epoll: &Epoll, key: Key, side: u8) {
        self.streams.carry(epoll, key, usize::from(side));
    }

    /// Datagrams have come to a port.
    pub(crate) fn receive(&mut self, epoll: &Epoll, key: Key, buffer: &mut [u8]) {
        if let Some(door) = self.doors.get(key) {
            self.peers.receive(epoll, key, &door.socket, door.to, buffer);
        }
    }

    /// A container has answered a client's datagram.
    pub(crate) fn reply(&mut self, key: Key, buffer: &mut [u8]) {
        let doors = &self.doors;
        self.peers.reply(key, |door| doors.get(door).map(|door| &door.socket), buffer);
    }

    /// When [`Relays::tick`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.peers.next()
    }

    /// Forgets clients that said nothing for long.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.peers.tick(now);
    }
}

/// A socket on its way to a container.
fn towards(to: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

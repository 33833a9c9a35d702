//! Datagrams carried to a container, and its answers back to whoever asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, SocketType, recv, recvfrom, send, sendto};
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::time::Instant;

use super::super::slots::{Key, Slots};
use super::super::source::Source;
use super::towards;

/// How many clients are known at once; datagrams of more are lost.
const MOST_PEERS: usize = 512;
/// How long a client is known that says and hears nothing; as Docker's proxy.
const IDLE: Duration = Duration::from_secs(90);
/// Datagrams taken from one socket before the others have their turn.
const BURST: usize = 32;

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Slots<Peer>,
    by_client: HashMap<(Key, SocketAddr), Key>,
}

/// A client of a port.
#[derive(Debug)]
struct Peer {
    door: Key,
    client: SocketAddr,
    /// Connected to the container.
    socket: OwnedFd,
    last: Instant,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn receive(
        &mut self,
        epoll: &Epoll,
        door: Key,
        socket: &OwnedFd,
        to: SocketAddr,
        buffer: &mut [u8],
    ) {
        for _ in 0..BURST {
            let received = recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT);
            let Ok((_, length, Some(client))) = received else { return };
            let Ok(client) = SocketAddr::try_from(client) else { return };
            let known = self.by_client.get(&(door, client)).copied();
            let Some(key) = known.or_else(|| self.meet(epoll, door, client, to)) else { continue };
            if let Some(peer) = self.slots.get_mut(key) {
                peer.last = Instant::now();
                // Datagrams may be lost; nobody listening there is told by a later answer.
                let _lost = send(&peer.socket, &buffer[..length], SendFlags::DONTWAIT);
            }
        }
    }

    fn meet(&mut self, epoll: &Epoll, door: Key, client: SocketAddr, to: SocketAddr) -> Option<Key> {
        if self.slots.len() >= MOST_PEERS {
            return None;
        }
        let socket = towards(to, SocketType::DGRAM).ok()?;
        let key = self.slots.insert(Peer { door, client, socket, last: Instant::now() });
        let socket = &self.slots.get(key)?.socket;
        if epoll.add(socket, Source::RelayPeer(key).token(), EventFlags::IN).is_err() {
            self.slots.remove(key);
            return None;
        }
        self.by_client.insert((door, client), key);
        Some(key)
    }

    pub(super) fn reply<'a>(
        &mut self,
        key: Key,
        socket_of: impl Fn(Key) -> Option<&'a OwnedFd>,
        buffer: &mut [u8],
    ) {
        for _ in 0..BURST {
            let Some(peer) = self.slots.get_mut(key) else { return };
            match recv(&peer.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    peer.last = Instant::now();
                    if let Some(socket) = socket_of(peer.door) {
                        let _lost = sendto(socket, &buffer[..length], SendFlags::DONTWAIT, &peer.client);
                    }
                }
                // Nobody listens in the container: read away, and that was all there is.
                Err(_) => return,
            }
        }
    }

    pub(super) fn forget(&mut self, door: Key) {
        self.remove_where(|peer| peer.door == door);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.slots.iter().map(|(_, peer)| peer.last + IDLE).min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.remove_where(|peer| peer.last + IDLE <= now);
    }

    fn remove_where(&mut self, leaves: impl Fn(&Peer) -> bool) {
        let keys: Vec<Key> =
            self.slots.iter().filter_map(|(key, peer)| leaves(peer).then_some(key)).collect();
        for key in keys {
            if let Some(peer) = self.slots.remove(key) {
                self.by_client.remove(&(peer.door, peer.client));
            }
        }
    }
}

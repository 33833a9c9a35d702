//! What the daemon keeps of all it got from the helper, to give it back to the next one.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::client::Connection;
use super::protocol::{AT_ONCE, Answer, PortChoice, PortRequest, Relay, Request, Reservation};

/// Duplicates of descriptors, and the ports by number: a port is held by whoever binds it next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) spaces: HashMap<String, Space>,
    pub(super) ports: HashMap<String, Vec<Reservation>>,
    pub(super) relays: HashMap<String, Vec<Relay>>,
    pub(super) firewall: Option<OwnedFd>,
}

/// A namespace and its resolver's sockets.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) namespace: OwnedFd,
    /// UDP, TCP.
    pub(super) resolver: Option<[OwnedFd; 2]>,
}

impl Kept {
    /// Nothing of this owner any more.
    pub(super) fn forget(&mut self, owner: &str) {
        self.spaces.remove(owner);
        self.ports.remove(owner);
        self.relays.remove(owner);
    }

    /// These ports are held now. Those of them that were not before.
    pub(super) fn reserved(&mut self, owner: &str, ports: &[Reservation]) -> Vec<Reservation> {
        let held = self.ports.entry(owner.to_owned()).or_default();
        let known: HashSet<Reservation> = held.iter().cloned().collect();
        let new: Vec<_> = ports.iter().filter(|port| !known.contains(*port)).cloned().collect();
        held.extend_from_slice(&new);
        new
    }

    /// These ports are not held any more.
    pub(super) fn unreserved(&mut self, owner: &str, ports: &[Reservation]) {
        let gone: HashSet<&Reservation> = ports.iter().collect();
        if let Some(held) = self.ports.get_mut(owner) {
            held.retain(|port| !gone.contains(port));
        }
        if let Some(relays) = self.relays.get_mut(owner) {
            relays.retain(|relay| !gone.contains(&relay.from));
        }
    }

    /// Those of these relays that do not run yet.
    pub(super) fn not_running(&self, owner: &str, relays: &[Relay]) -> Vec<Relay> {
        let running: HashSet<&Relay> = self.relays.get(owner).into_iter().flatten().collect();
        relays.iter().filter(|relay| !running.contains(relay)).cloned().collect()
    }

    /// These relays run now, in place of others from the same ports.
    pub(super) fn relayed(&mut self, owner: &str, relays: &[Relay]) {
        let running = self.relays.entry(owner.to_owned()).or_default();
        let from: HashSet<&Reservation> = relays.iter().map(|new| &new.from).collect();
        running.retain(|old| !from.contains(&old.from));
        running.extend_from_slice(relays);
    }

    /// Gives everything to a helper, one that has it already passes it over. What it does not take is lost
    /// and told in the log: the rest matters more.
    ///
    /// # Errors
    /// When the helper cannot be talked to.
    pub(super) fn give_back(&self, to: &mut Connection) -> io::Result<()> {
        let mut give = |request: &Request, fds: &[BorrowedFd<'_>]| -> io::Result<()> {
            match to.ask(request, fds)?.0 {
                Answer::Failed { message, .. } => tracing::warn!("given back to the net helper: {message}"),
                Answer::Taken(taken) => tracing::warn!("a published port was lost: {taken}"),
                _ => {}
            }
            Ok(())
        };
        if let Some(socket) = &self.firewall {
            give(&Request::Firewall, &[socket.as_fd()])?;
        }
        for (owner, space) in &self.spaces {
            let (request, fds) = space.adoption(owner);
            give(&request, &fds)?;
        }
        for (owner, ports) in &self.ports {
            for port in ports {
                give(&Request::Reserve { owner: owner.clone(), ports: vec![again(port)] }, &[])?;
            }
        }
        for (owner, relays) in &self.relays {
            for some in relays.chunks(AT_ONCE) {
                give(&Request::Relay { owner: owner.clone(), relays: some.to_vec() }, &[])?;
            }
        }
        Ok(())
    }
}

impl Space {
    /// The request that gives it to a helper.
    pub(super) fn adoption(&self, owner: &str) -> (Request, Vec<BorrowedFd<'_>>) {
        let mut fds = vec![self.namespace.as_fd()];
        fds.extend(self.resolver.iter().flatten().map(AsFd::as_fd));
        (Request::Adopt { owner: owner.to_owned(), resolver: self.resolver.is_some() }, fds)
    }
}

/// A held port as it is asked for again.
fn again(port: &Reservation) -> PortRequest {
    PortRequest { protocol: port.protocol, addresses: vec![port.address], port: PortChoice::fixed(port.port) }
}

//! What the daemon keeps of all it got from the helper, to give it back to the next one.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::client::Connection;
use super::protocol::{AT_ONCE, Answer, PortChoice, PortRequest, Relay, Request, Reservation};

/// Duplicates of descriptors, and the ports by number: a port is held by whoever binds it next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) spaces: HashMap<String, Space>,
    pub(super) ports: HashMap<String, HashSet<Reservation>>,
    /// By the port that they carry from.
    pub(super) relays: HashMap<String, HashMap<Reservation, SocketAddr>>,
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
        ports.iter().filter(|port| held.insert((*port).clone())).cloned().collect()
    }

    /// These ports are not held any more.
    pub(super) fn unreserved(&mut self, owner: &str, ports: &[Reservation]) {
        if let Some(held) = self.ports.get_mut(owner) {
            ports.iter().for_each(|port| _ = held.remove(port));
        }
        if let Some(relays) = self.relays.get_mut(owner) {
            ports.iter().for_each(|port| _ = relays.remove(port));
        }
    }

    /// Those of these relays that do not run yet.
    pub(super) fn not_running(&self, owner: &str, relays: &[Relay]) -> Vec<Relay> {
        let running = self.relays.get(owner);
        let runs = |relay: &&Relay| running.is_some_and(|all| all.get(&relay.from) == Some(&relay.to));
        relays.iter().filter(|relay| !runs(relay)).cloned().collect()
    }

    /// These relays run now, in place of others from the same ports.
    pub(super) fn relayed(&mut self, owner: &str, relays: &[Relay]) {
        let running = self.relays.entry(owner.to_owned()).or_default();
        running.extend(relays.iter().map(|relay| (relay.from.clone(), relay.to)));
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
            let relays: Vec<_> =
                relays.iter().map(|(from, to)| Relay { from: from.clone(), to: *to }).collect();
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

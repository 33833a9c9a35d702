//! The resolver of all namespaces: takes questions, answers those about containers, passes the others on.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_sys::datagrams::{self, Part};
use wharf_sys::epoll::EventFlags;
use wharf_sys::time::Instant;

use super::answer::{Decision, decide};
use super::callers::{Callers, Heard};
use super::directory::Directory;
use super::flight::{Client, Flights, Ground, Landing, Server};
use super::host::{HostServers, MOST_SERVERS};
use super::message::{self, Code, MAX_MESSAGE, Query, Record, parse};
use super::table::Table;
use crate::helper::slots::Key;
use crate::helper::source::Source;
use crate::helper::space::Spaces;

/// How often one socket is looked at before the others have their turn.
const ROUNDS: usize = 16;
/// The longest question over UDP; longer ones have to come over TCP.
const PIECE: usize = 4096;
/// How long a server that was silent is asked after the others.
const SILENT: Duration = Duration::from_secs(20);

/// The resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    table: Table,
    directory: Directory,
    host: HostServers,
    flights: Flights,
    callers: Callers,
    /// Servers that said nothing when another one answered, and until when they are asked last.
    silent: HashMap<Server, Instant>,
    /// Where messages are received.
    buffer: Vec<u8>,
    /// Where answers are written.
    out: Vec<u8>,
    /// Questions over UDP that were received together, by their places in the buffer.
    heard: Vec<Part>,
    /// Answers over UDP that are sent together, one after the other, and their places.
    said: Vec<u8>,
    unsent: Vec<Part>,
    dice: u64,
    pub(crate) counts: Counts,
}

/// What it did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) forwarded: u64,
    pub(crate) failed: u64,
}

impl Resolver {
    /// Reads the table below `exec_root`; `resolv_conf` is the host's.
    pub(crate) fn open(exec_root: &Path, resolv_conf: PathBuf) -> io::Result<Self> {
        let mut table = Table::default();
        let directory = Directory::open(exec_root, &mut table)?;
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self {
            table,
            directory,
            host: HostServers::new(resolv_conf),
            flights: Flights::default(),
            callers: Callers::default(),
            silent: HashMap::new(),
            buffer: vec![0; MAX_MESSAGE],
            out: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
            unsent: Vec::new(),
            dice: u64::from_ne_bytes(seed) | 1,
            counts: Counts::default(),
        })
    }

    /// Begins to answer in a namespace that has a resolver.
    pub(crate) fn serve(&self, ground: &Ground<'_>, spaces: &Spaces, key: Key) -> io::Result<()> {
        let (Some(udp), Some(tcp)) = (spaces.udp(key), spaces.tcp(key)) else { return Ok(()) };
        ground.epoll.add(udp, Source::Questions(key).token(), EventFlags::IN)?;
        ground.epoll.add(tcp, Source::Callers(key).token(), EventFlags::IN)
    }

    /// Ends what goes on for a namespace; its sockets are still open.
    pub(crate) fn forget(&mut self, ground: &Ground<'_>, spaces: &Spaces, key: Key) {
        // Others have duplicates of these sockets, so closing ours would not end the watching.
        for socket in [spaces.udp(key), spaces.tcp(key)].into_iter().flatten() {
            let _not_watched = ground.epoll.remove(socket);
        }
        self.flights.forget(key);
        self.callers.forget(key);
    }

    /// The directory, to be watched.
    pub(crate) fn news(&self) -> impl AsFd {
        &self.directory
    }

    /// Containers in the table.
    pub(crate) fn names(&self) -> usize {
        self.table.len()
    }

    /// Questions that other servers were asked.
    pub(crate) fn waiting(&self) -> usize {
        self.flights.len()
    }

    /// The table has changed.
    pub(crate) fn follow(&mut self) {
        self.directory.follow(&mut self.table);
    }

    /// When [`Resolver::tick`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flights.next().into_iter().chain(self.callers.next()).min()
    }

    /// Does what time has come for.
    pub(crate) fn tick(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, now: Instant) {
        for landing in self.flights.tick(ground, spaces, now) {
            self.deliver(ground, spaces, &landing);
        }
        self.callers.tick(spaces, now);
    }

    /// Questions have come over UDP.
    pub(crate) fn questions(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, key: Key) {
        let (mut buffer, mut heard) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.heard));
        for round in 0..ROUNDS {
            let Some(socket) = spaces.udp(key) else { break };
            // Errors are those of answers that could not be delivered, or the end of the queue.
            let mut received = datagrams::receive(socket, &mut buffer, PIECE, &mut heard);
            if received.is_err() && round > 0 {
                // Who was just answered often asks on: giving way to him costs less than being woken by him.
                std::thread::yield_now();
                received = datagrams::receive(socket, &mut buffer, PIECE, &mut heard);
            }
            if received.is_err() {
                break;
            }
            for part in &heard {
                let message = &buffer[part.start..part.start + part.length];
                self.question(ground, spaces, key, message, Client::Udp(part.peer));
            }
            self.flush(spaces, key);
        }
        (self.buffer, self.heard) = (buffer, heard);
    }

    /// Clients want to ask over TCP.
    pub(crate) fn calls(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, key: Key) {
        self.callers.accept(ground.epoll, spaces, key);
    }

    /// A client over TCP said something, or can be told more.
    pub(crate) fn caller(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, caller: Key) {
        match self.callers.hear(ground.epoll, spaces, caller, &mut self.buffer) {
            Heard::Questions(space, messages) => {
                for message in messages {
                    self.question(ground, spaces, space, &message, Client::Tcp(caller));
                }
            }
            Heard::Nothing => {}
        }
    }

    /// A server said something about a question.
    pub(crate) fn upstream(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, flight: Key, server: u8) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let landing = self.flights.ready(ground, spaces, flight, server, &mut buffer);
        self.buffer = buffer;
        if let Some(landing) = landing {
            self.deliver(ground, spaces, &landing);
        }
    }

    fn question(
        &mut self,
        ground: &Ground<'_>,
        spaces: &mut Spaces,
        space: Key,
        message: &[u8],
        client: Client,
    ) {
        let query = match parse(message) {
            Ok(query) => query,
            Err(message::Bad(None)) => {
                if let Client::Tcp(caller) = client {
                    self.callers.hang_up(spaces, caller);
                }
                return;
            }
            Err(message::Bad(Some(code))) => {
                message::refuse(message, code, &mut self.out);
                return self.send(ground, spaces, client);
            }
        };
        let Some(place) = spaces.get(space) else { return };
        match decide(&self.table, &place.owner, &query) {
            Decision::Answer(code, mut records) => {
                self.counts.answered += 1;
                self.shuffle(&mut records);
                let limit = limit(client, &query);
                query.answer(message, code, &records, limit, &mut self.out);
                self.send(ground, spaces, client);
            }
            Decision::Forward => {
                self.counts.forwarded += 1;
                let servers = self.servers_of(spaces, space);
                let asked = self.flights.start(ground, spaces, (space, client), (message, query), servers);
                if let Err(landing) = asked {
                    self.deliver(ground, spaces, &landing);
                }
            }
        }
    }

    /// Whom the container asks: its own servers, or the host's as they are now; those that were silent last.
    fn servers_of(&mut self, spaces: &Spaces, space: Key) -> Vec<Server> {
        let mut servers = self.listed_servers(spaces, space);
        if !self.silent.is_empty() {
            let now = Instant::now();
            self.silent.retain(|_, until| *until > now);
            servers.sort_by_key(|server| self.silent.contains_key(server));
        }
        servers
    }

    fn listed_servers(&mut self, spaces: &Spaces, space: Key) -> Vec<Server> {
        let own = spaces.get(space).and_then(|place| self.table.names(&place.owner));
        let own = own.map(|names| names.servers.as_slice()).unwrap_or_default();
        if own.is_empty() {
            let servers = self.host.servers(Instant::now()).iter();
            return servers.map(|&address| Server { address, from_host: address.is_loopback() }).collect();
        }
        own.iter().take(MOST_SERVERS).map(|&address| Server { address, from_host: false }).collect()
    }

    fn deliver(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, landing: &Landing) {
        for server in &landing.silent {
            self.silent.insert(*server, Instant::now() + SILENT);
        }
        match &landing.reply {
            Some(reply) => {
                self.out.clear();
                self.out.extend_from_slice(reply);
            }
            None => {
                self.counts.failed += 1;
                // It was parsed before it was passed on.
                let Ok(query) = parse(&landing.message) else { return };
                let limit = limit(landing.client, &query);
                query.answer(&landing.message, Code::ServerFailure, &[], limit, &mut self.out);
            }
        }
        self.send(ground, spaces, landing.client);
        self.flush(spaces, landing.space);
    }

    /// Sends what was written; over UDP with the next [`Resolver::flush`].
    fn send(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, client: Client) {
        match client {
            Client::Udp(peer) => {
                let part = Part { start: self.said.len(), length: self.out.len(), peer };
                self.said.extend_from_slice(&self.out);
                self.unsent.push(part);
            }
            Client::Tcp(caller) => self.callers.say(ground.epoll, spaces, caller, &self.out),
        }
    }

    /// Sends the answers over UDP. A client that went away, or does not read, asks again.
    fn flush(&mut self, spaces: &Spaces, space: Key) {
        if let Some(socket) = spaces.udp(space) {
            datagrams::send(socket, &self.said, &self.unsent);
        }
        self.said.clear();
        self.unsent.clear();
    }

    /// Spreads clients that take the first address over all of them.
    fn shuffle(&mut self, records: &mut [Record]) {
        for last in (1..records.len()).rev() {
            // Xorshift; nobody gains by guessing it.
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            records.swap(last, (self.dice % (last as u64 + 1)) as usize);
        }
    }
}

fn limit(client: Client, query: &Query) -> usize {
    match client {
        Client::Udp(_) => query.udp_limit(),
        Client::Tcp(_) => MAX_MESSAGE,
    }
}

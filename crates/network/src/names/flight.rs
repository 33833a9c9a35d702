//! Questions that are passed on to other name servers, packet for packet.
//!
//! Each question has sockets of its own, so that every one leaves from a fresh port. A server that does not
//! answer within a step is joined by the next one (or asked again, when it is the only one), and is listened
//! to on; one that refuses or fails is replaced at once. The last refusal is the answer when there is no other.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::time::Instant;

use super::host::MOST_SERVERS;
use super::message::{MAX_MESSAGE, Query, code_of};
use crate::helper::slots::{Key, Slots};
use crate::helper::source::Source;
use crate::helper::space::{Home, Spaces};

/// How many questions wait for servers at once, in all and from one namespace.
const MOST_FLIGHTS: usize = 1024;
const MOST_PER_SPACE: usize = 256;
/// How long a server has before the next one is asked, and how many steps there are. Together less than the
/// 5 seconds after which clients ask again.
const STEP: Duration = Duration::from_millis(1300);
const STEPS: u8 = 3;
const DOMAIN: u16 = 53;

/// Who asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// From this address, over UDP.
    Udp(SocketAddrV4),
    /// Over this connection.
    Tcp(Key),
}

/// A name server, and from where it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) address: IpAddr,
    /// From the host's namespace instead of the container's: one on the host's loopback.
    pub(crate) from_host: bool,
}

/// An answer to be given.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) space: Key,
    pub(crate) client: Client,
    /// The question.
    pub(crate) message: Box<[u8]>,
    /// `None`: no server had one.
    pub(crate) reply: Option<Vec<u8>>,
    /// Servers that had a step's time before the one that answered, and said nothing.
    pub(crate) silent: Vec<Server>,
}

#[derive(Debug)]
struct Flight {
    space: Key,
    client: Client,
    message: Box<[u8]>,
    query: Query,
    servers: Vec<Server>,
    upstreams: [Option<Upstream>; MOST_SERVERS],
    /// The turn at which each was first asked.
    asked: [u16; MOST_SERVERS],
    /// Servers that said no, one bit each.
    refused: u8,
    refusal: Option<Vec<u8>>,
    /// Steps begun, but for those that ended with a no.
    steps: u8,
    /// Counts all steps, so that the end of one that was cut short means nothing.
    turn: u16,
}

/// A socket to a server.
#[derive(Debug)]
enum Upstream {
    Udp(OwnedFd),
    Tcp { socket: OwnedFd, sent: usize, reply: Vec<u8> },
}

/// What came of looking at a socket.
enum News {
    None,
    Reply(Vec<u8>),
    /// It will not answer.
    Dead,
}

/// All questions that wait.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    slots: Slots<Flight>,
    /// Ends of steps in order, with the count of the step.
    timers: VecDeque<(Instant, Key, u16)>,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// When [`Flights::tick`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.front().map(|(at, ..)| *at)
    }

    /// Asks the servers. `Err` gives the landing at once: too many wait, or no server can be reached.
    pub(crate) fn start(
        &mut self,
        ground: &Ground<'_>,
        spaces: &mut Spaces,
        (space, client): (Key, Client),
        (message, query): (&[u8], Query),
        servers: Vec<Server>,
    ) -> Result<(), Landing> {
        let none = |message: &[u8]| Landing {
            space,
            client,
            message: message.into(),
            reply: None,
            silent: Vec::new(),
        };
        let Some(place) = spaces.get_mut(space) else { return Err(none(message)) };
        if self.slots.len() >= MOST_FLIGHTS || place.waiting >= MOST_PER_SPACE || servers.is_empty() {
            return Err(none(message));
        }
        place.waiting += 1;
        let key = self.slots.insert(Flight {
            space,
            client,
            message: message.into(),
            query,
            servers,
            upstreams: [None, None, None],
            asked: [0; MOST_SERVERS],
            refused: 0,
            refusal: None,
            steps: 0,
            turn: 0,
        });
        match self.step(ground, spaces, key) {
            Some(landing) => Err(landing),
            None => Ok(()),
        }
    }

    /// Ends steps whose time is up; what could not be answered lands.
    pub(crate) fn tick(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, now: Instant) -> Vec<Landing> {
        let mut landed = Vec::new();
        while let Some(&(at, key, turn)) = self.timers.front() {
            if at > now {
                break;
            }
            self.timers.pop_front();
            if self.slots.get(key).is_some_and(|flight| flight.turn == turn) {
                landed.extend(self.step(ground, spaces, key));
            }
        }
        landed
    }

    /// A server's socket has news.
    pub(crate) fn ready(
        &mut self,
        ground: &Ground<'_>,
        spaces: &mut Spaces,
        key: Key,
        server: u8,
        buffer: &mut [u8],
    ) -> Option<Landing> {
        let flight = self.slots.get_mut(key)?;
        let index = usize::from(server);
        let upstream = flight.upstreams.get_mut(index)?.as_mut()?;
        let source = Source::Upstream(key, server);
        match upstream.look(&flight.message, &flight.query, ground.epoll, source, buffer) {
            News::None => None,
            News::Reply(reply) if is_refusal(&reply) => {
                flight.refusal = Some(reply);
                self.refused(ground, spaces, key, index)
            }
            News::Reply(reply) => {
                let silent = flight.silent_before(index);
                self.land(spaces, key, Some(reply), silent)
            }
            News::Dead => self.refused(ground, spaces, key, index),
        }
    }

    /// Forgets what a namespace that is gone has asked.
    pub(crate) fn forget(&mut self, space: Key) {
        let of_space = |(key, flight): (Key, &Flight)| (flight.space == space).then_some(key);
        let keys: Vec<Key> = self.slots.iter().filter_map(of_space).collect();
        for key in keys {
            self.slots.remove(key);
        }
    }

    fn refused(
        &mut self,
        ground: &Ground<'_>,
        spaces: &mut Spaces,
        key: Key,
        index: usize,
    ) -> Option<Landing> {
        let flight = self.slots.get_mut(key)?;
        flight.upstreams[index] = None;
        flight.refused |= 1 << index;
        flight.steps = flight.steps.saturating_sub(1);
        // Others that were asked may still answer; they need not be asked again early.
        let waits = flight.upstreams.iter().any(Option::is_some);
        if waits && flight.fresh_server().is_none() { None } else { self.step(ground, spaces, key) }
    }

    /// Asks the next server; lands when there is none.
    fn step(&mut self, ground: &Ground<'_>, spaces: &mut Spaces, key: Key) -> Option<Landing> {
        while let Some(flight) = self.slots.get_mut(key) {
            let count = flight.servers.len();
            let all_refused = flight.refused.count_ones() as usize == count;
            if flight.steps >= STEPS || all_refused {
                let refusal = flight.refusal.take();
                return self.land(spaces, key, refusal, Vec::new());
            }
            // One that was not asked yet, or in turn one that has not said no; there is one.
            let turn = usize::from(flight.steps);
            let mut in_turn = (turn..turn + count).map(|at| at % count);
            let index =
                flight.fresh_server().or_else(|| in_turn.find(|index| flight.refused & 1 << index == 0))?;
            if flight.ask(ground, spaces, key, index).is_ok() {
                flight.steps += 1;
                flight.turn = flight.turn.wrapping_add(1);
                let turn = flight.turn;
                self.timers.push_back((Instant::now() + STEP, key, turn));
                return None;
            }
            flight.upstreams[index] = None;
            flight.refused |= 1 << index;
        }
        None
    }

    fn land(
        &mut self,
        spaces: &mut Spaces,
        key: Key,
        reply: Option<Vec<u8>>,
        silent: Vec<Server>,
    ) -> Option<Landing> {
        let flight = self.slots.remove(key)?;
        if let Some(space) = spaces.get_mut(flight.space) {
            space.waiting -= 1;
        }
        Some(Landing { space: flight.space, client: flight.client, message: flight.message, reply, silent })
    }
}

/// What all questions need to be passed on.
#[derive(Debug)]
pub(crate) struct Ground<'l> {
    pub(crate) epoll: &'l Epoll,
    pub(crate) home: &'l Home,
}

impl Flight {
    /// The first server that was not asked yet.
    fn fresh_server(&self) -> Option<usize> {
        (0..self.servers.len())
            .find(|index| self.upstreams[*index].is_none() && self.refused & 1 << index == 0)
    }

    /// Those that were asked in earlier turns than the one that has answered, and did not say no.
    fn silent_before(&self, answered: usize) -> Vec<Server> {
        let earlier =
            |index: &usize| self.upstreams[*index].is_some() && self.asked[*index] < self.asked[answered];
        (0..self.servers.len()).filter(earlier).map(|index| self.servers[index]).collect()
    }

    /// Asks one server, again if it was asked before.
    fn ask(&mut self, ground: &Ground<'_>, spaces: &Spaces, key: Key, index: usize) -> Result<(), Errno> {
        match &self.upstreams[index] {
            Some(Upstream::Udp(socket)) => {
                rustix::net::send(socket, &self.message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
                return Ok(());
            }
            // TCP repeats itself.
            Some(Upstream::Tcp { .. }) => return Ok(()),
            None => {}
        }
        let server = self.servers[index];
        let tcp = matches!(self.client, Client::Tcp(_));
        let open = || open(server.address, tcp);
        let socket = if server.from_host {
            open()?
        } else {
            let space = spaces.get(self.space).ok_or(Errno::NOENT)?;
            ground.home.inside(space.namespace.as_fd(), open).map_err(|error| error.errno())??
        };
        let source = Source::Upstream(key, index as u8);
        let interest = if tcp { EventFlags::OUT } else { EventFlags::IN };
        if !tcp {
            rustix::net::send(&socket, &self.message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        }
        let failed = |error: std::io::Error| wharf_sys::error::errno_of(&error);
        ground.epoll.add(&socket, source.token(), interest).map_err(failed)?;
        self.asked[index] = self.turn;
        self.upstreams[index] = Some(if tcp {
            Upstream::Tcp { socket, sent: 0, reply: Vec::new() }
        } else {
            Upstream::Udp(socket)
        });
        Ok(())
    }
}

/// A socket on its way to a server, of the namespace this is called in.
fn open(server: IpAddr, tcp: bool) -> Result<OwnedFd, Errno> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &SocketAddr::new(server, DOMAIN)) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Whether a server only says that it does not help, where another one may.
fn is_refusal(reply: &[u8]) -> bool {
    const SERVER_FAILURE: u8 = 2;
    const REFUSED: u8 = 5;
    matches!(code_of(reply), SERVER_FAILURE | REFUSED)
}

impl Upstream {
    fn look(
        &mut self,
        message: &[u8],
        query: &Query,
        epoll: &Epoll,
        source: Source,
        buffer: &mut [u8],
    ) -> News {
        match self {
            Self::Udp(socket) => match rustix::net::recv(&*socket, &mut *buffer, RecvFlags::DONTWAIT) {
                // Anything else that comes there is somebody's guess.
                Ok((_, length)) if query.is_answered_by(message, &buffer[..length]) => {
                    News::Reply(buffer[..length].to_vec())
                }
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => News::None,
                Err(_) => News::Dead,
            },
            Self::Tcp { socket, sent, reply } => {
                let looked = write_rest(socket, message, sent, epoll, source)
                    .and_then(|()| read_more(socket, reply, buffer));
                match looked {
                    Ok(true) if query.is_answered_by(message, &reply[2..]) => News::Reply(reply.split_off(2)),
                    Ok(true) => News::Dead,
                    Ok(false) | Err(Errno::AGAIN | Errno::INTR) => News::None,
                    Err(_) => News::Dead,
                }
            }
        }
    }
}

/// Sends what is left of the question with its length before it; afterwards only reading is waited for.
fn write_rest(
    socket: &OwnedFd,
    message: &[u8],
    sent: &mut usize,
    epoll: &Epoll,
    source: Source,
) -> Result<(), Errno> {
    let whole = message.len() + 2;
    while *sent < whole {
        // Questions came in with such a length, so it fits.
        let length = (message.len() as u16).to_be_bytes();
        let framed = [&length[..], message].concat();
        *sent += rustix::net::send(socket, &framed[*sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        if *sent == whole {
            epoll
                .modify(socket, source.token(), EventFlags::IN)
                .map_err(|error| wharf_sys::error::errno_of(&error))?;
        }
    }
    Ok(())
}

/// Reads; true when the reply is whole.
fn read_more(socket: &OwnedFd, reply: &mut Vec<u8>, buffer: &mut [u8]) -> Result<bool, Errno> {
    let wanted = |reply: &Vec<u8>| match reply.get(..2) {
        Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => 2 + MAX_MESSAGE,
    };
    let room = buffer.len().min(wanted(reply) - reply.len());
    match rustix::net::recv(socket, &mut buffer[..room], RecvFlags::DONTWAIT)? {
        (_, 0) => Err(Errno::CONNRESET),
        (_, length) => {
            reply.extend_from_slice(&buffer[..length]);
            // More than one reply to one question is none.
            if reply.len() > wanted(reply) { Err(Errno::PROTO) } else { Ok(reply.len() == wanted(reply)) }
        }
    }
}

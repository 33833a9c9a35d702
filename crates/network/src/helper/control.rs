//! What daemons ask for, one request at a time.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use wharf_sys::error::errno_of;
use wharf_sys::namespace::IdMap;
use wharf_sys::netlink::Family;
use wharf_sys::socket;

use super::process::Helper;
use super::protocol::{Answer, MAX_FRAME, PROTOCOL_VERSION, Relay, Request, Reservation, Stats};
use super::source::Source;
use super::space::{Fresh, Sockets, netlink_socket};

/// Owners told at once: their names fill at most a quarter of a frame.
const OWNERS_PER_PAGE: usize = 60;
/// Requests taken from one daemon before the others have their turn.
const BURST: usize = 32;

/// An answer with the descriptors beside it, duplicated so that nothing is borrowed while it is sent.
struct Reply {
    answer: Answer,
    beside: Vec<OwnedFd>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, beside: Vec::new() }
    }
}

/// Why a request failed.
struct Refusal {
    message: String,
    errno: Option<i32>,
}

impl From<wharf_sys::error::Error> for Refusal {
    fn from(error: wharf_sys::error::Error) -> Self {
        Self { message: error.to_string(), errno: Some(error.errno().raw_os_error()) }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string(), errno: error.raw_os_error() }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, errno: None }
    }
}

type Outcome = Result<Reply, Refusal>;

impl Helper {
    /// Daemons connect.
    pub(super) fn meet_daemons(&mut self) {
        while let Ok(Some(connection)) = socket::accept(&self.listener) {
            let is_root = socket::peer(&connection).is_ok_and(|peer| peer.uid == 0);
            if !is_root {
                continue;
            }
            let key = self.daemons.insert(connection);
            let watched = self.daemons.get(key).map(|connection| {
                self.epoll.add(connection, Source::Daemon(key).token(), wharf_sys::epoll::EventFlags::IN)
            });
            if !matches!(watched, Some(Ok(()))) {
                self.daemons.remove(key);
            }
        }
    }

    /// A daemon asks for something, or is gone.
    pub(super) fn serve_daemon(&mut self, key: super::slots::Key) {
        for _ in 0..BURST {
            let Some(connection) = self.daemons.get(key) else { return };
            let frame = match socket::receive_message(connection, &mut self.frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok((length, beside)) if length > 0 => {
                    serde_json::from_slice(&self.frame[..length]).map(|request| (request, beside))
                }
                _ => {
                    self.daemons.remove(key);
                    return;
                }
            };
            let reply = match frame {
                Ok((request, beside)) => self.answer(request, beside).unwrap_or_else(|refusal| {
                    Answer::Failed { message: refusal.message, errno: refusal.errno }.into()
                }),
                Err(error) => {
                    Answer::Failed { message: format!("unknown request: {error}"), errno: None }.into()
                }
            };
            let Some(connection) = self.daemons.get(key) else { return };
            if say(connection, &reply).is_err() {
                self.daemons.remove(key);
                return;
            }
        }
    }

    fn answer(&mut self, request: Request, beside: Vec<OwnedFd>) -> Outcome {
        match request {
            Request::Hello { .. } => {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                Ok(Answer::Hello { version: PROTOCOL_VERSION, features: Vec::new(), pid }.into())
            }
            Request::Namespace { owner, resolver, ids } => self.make_namespace(&owner, resolver, ids),
            Request::Resolver { owner } => self.add_resolver(&owner),
            Request::Route { owner } => self.route(&owner),
            Request::Adopt { owner, resolver } => self.adopt(&owner, resolver, beside),
            Request::Reserve { owner, ports } => Ok(match self.ports.reserve(&owner, &ports) {
                Ok(ports) => Answer::Reserved { ports }.into(),
                Err(taken) => Answer::Taken(taken).into(),
            }),
            Request::Unreserve { owner, ports } => {
                self.unreserve(&owner, &ports);
                Ok(Answer::Done.into())
            }
            Request::Relay { owner, relays } => self.relay(&owner, &relays),
            Request::Release { owner } => {
                self.release(&owner);
                Ok(Answer::Done.into())
            }
            Request::Owners { after } => Ok(self.owners(&after).into()),
            Request::Firewall => self.firewall(beside),
            Request::Stats => Ok(Answer::Stats(self.stats()).into()),
        }
    }

    fn make_namespace(&mut self, owner: &str, resolver: bool, ids: Option<IdMap>) -> Outcome {
        // One that is left over from a start that never was told of it; nobody can have its namespace.
        self.drop_space(owner);
        let fresh = match ids {
            None => self.pool.take(&self.home, resolver)?,
            Some(ids) => Fresh::of_users(&self.home, &ids, resolver)?,
        };
        let Fresh { namespace, route, resolver } = fresh;
        let key = self.spaces.insert(owner, namespace, resolver);
        self.begin_resolver(key)?;
        self.tell_namespace(key, route)
    }

    fn add_resolver(&mut self, owner: &str) -> Outcome {
        let key = self.space_of(owner)?;
        let has = self.spaces.udp(key).is_some();
        self.spaces.open_resolver(&self.home, key)?;
        if !has {
            self.begin_resolver(key)?;
        }
        let route = self.route_socket(key)?;
        self.tell_namespace(key, route)
    }

    fn begin_resolver(&mut self, key: super::slots::Key) -> Result<(), Refusal> {
        let ground = crate::names::Ground { epoll: &self.epoll, home: &self.home };
        Ok(self.resolver.serve(&ground, &self.spaces, key)?)
    }

    fn tell_namespace(&self, key: super::slots::Key, route: OwnedFd) -> Outcome {
        let space = self.spaces.get(key).ok_or_else(|| "namespace is gone".to_owned())?;
        let mut beside = vec![space.namespace.try_clone()?, route];
        if let Some(Sockets { udp, tcp }) = &space.resolver {
            beside.extend([udp.try_clone()?, tcp.try_clone()?]);
        }
        Ok(Reply { answer: Answer::Namespace { resolver: space.resolver.is_some() }, beside })
    }

    fn route(&self, owner: &str) -> Outcome {
        let key = self.space_of(owner)?;
        Ok(Reply { answer: Answer::Done, beside: vec![self.route_socket(key)?] })
    }

    fn route_socket(&self, key: super::slots::Key) -> Result<OwnedFd, Refusal> {
        let space = self.spaces.get(key).ok_or_else(|| "namespace is gone".to_owned())?;
        Ok(self.home.inside(space.namespace.as_fd(), || netlink_socket(Family::Route))??)
    }

    fn adopt(&mut self, owner: &str, resolver: bool, beside: Vec<OwnedFd>) -> Outcome {
        let mut beside = beside.into_iter();
        let namespace = beside.next().ok_or_else(|| "adopt: no namespace beside the request".to_owned())?;
        let sockets = beside.next().zip(beside.next()).map(|(udp, tcp)| Sockets { udp, tcp });
        if resolver && sockets.is_none() {
            return Err("adopt: no sockets beside the request".to_owned().into());
        }
        if let Some(key) = self.spaces.of(owner) {
            let held = self.spaces.get(key).map(|space| identity(&space.namespace));
            let lacks = sockets.is_some() && self.spaces.udp(key).is_none();
            if held == Some(identity(&namespace)) && !lacks {
                return Ok(Answer::Done.into());
            }
            self.drop_space(owner);
        }
        let key = self.spaces.insert(owner, namespace, sockets);
        self.begin_resolver(key)?;
        Ok(Answer::Done.into())
    }

    fn unreserve(&mut self, owner: &str, ports: &[Reservation]) {
        for port in ports {
            if self.ports.unreserve(owner, port).is_some() {
                self.relays.stop(&self.epoll, port);
            }
        }
    }

    fn relay(&mut self, owner: &str, relays: &[Relay]) -> Outcome {
        for relay in relays {
            let held = self.ports.get(&relay.from).filter(|held| &*held.owner == owner);
            let socket = held.and_then(|held| held.socket.as_ref()).ok_or_else(|| {
                format!("relay from {}:{}: not held by {owner}", relay.from.address, relay.from.port)
            })?;
            self.relays.start(&self.epoll, relay, socket).map_err(|errno| {
                let what = format!("relay from {}:{}", relay.from.address, relay.from.port);
                wharf_sys::error::Error::new(what, errno)
            })?;
        }
        Ok(Answer::Done.into())
    }

    /// Lets go of all that an owner has.
    pub(super) fn release(&mut self, owner: &str) {
        let ports = self.ports.of(owner);
        self.unreserve(owner, &ports);
        self.drop_space(owner);
    }

    /// Lets a namespace go, with all that waits there.
    fn drop_space(&mut self, owner: &str) {
        let Some(key) = self.spaces.of(owner) else { return };
        let ground = crate::names::Ground { epoll: &self.epoll, home: &self.home };
        self.resolver.forget(&ground, &self.spaces, key);
        self.spaces.remove(owner);
    }

    fn space_of(&self, owner: &str) -> Result<super::slots::Key, Refusal> {
        self.spaces.of(owner).ok_or_else(|| format!("{owner} has no network namespace here").into())
    }

    fn owners(&self, after: &str) -> Answer {
        let spaces = self.spaces.iter().map(|(_, space)| &*space.owner);
        let all = spaces.chain(self.ports.owners().map(|owner| &**owner));
        let later: BTreeSet<&str> = all.filter(|owner| *owner > after).collect();
        Answer::Owners { owners: later.into_iter().take(OWNERS_PER_PAGE).map(str::to_owned).collect() }
    }

    fn firewall(&mut self, beside: Vec<OwnedFd>) -> Outcome {
        if self.firewall.is_none() {
            self.firewall = match beside.into_iter().next() {
                Some(socket) => Some(socket),
                None => Some(netlink_socket(Family::Netfilter)?),
            };
        }
        let socket = self.firewall.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Reply { answer: Answer::Done, beside: socket.into_iter().collect() })
    }

    fn stats(&self) -> Stats {
        let resolvers = self.spaces.iter().filter(|(_, space)| space.resolver.is_some()).count();
        Stats {
            namespaces: self.spaces.len() as u64,
            resolvers: resolvers as u64,
            ready: self.pool.len() as u64,
            ports: self.ports.len() as u64,
            relayed: self.relays.len() as u64,
            answered: self.resolver.counts.answered,
            forwarded: self.resolver.counts.forwarded,
            failed: self.resolver.counts.failed,
            waiting: self.resolver.waiting() as u64,
            names: self.resolver.names() as u64,
        }
    }
}

fn say(connection: &OwnedFd, reply: &Reply) -> io::Result<()> {
    let frame = serde_json::to_vec(&reply.answer)?;
    debug_assert!(frame.len() <= MAX_FRAME, "answers are bounded");
    let beside: Vec<BorrowedFd<'_>> = reply.beside.iter().map(AsFd::as_fd).collect();
    socket::send_message(connection, &frame, &beside).map_err(|error| io::Error::from(errno_of(&error)))
}

/// What tells one namespace from another.
fn identity(namespace: &OwnedFd) -> Option<(u64, u64)> {
    let meta = std::fs::File::from(namespace.try_clone().ok()?).metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

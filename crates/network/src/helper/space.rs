//! Network namespaces: made, entered for the time of a call, held for their owners.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use wharf_sys::error::{Context, Error, Result};
use wharf_sys::namespace::{self, IdMap, flags};
use wharf_sys::netlink::{Family, Socket};

use super::slots::{Key, Slots};

/// Where names are answered in every namespace with a resolver.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port that programs ask at.
const DOMAIN: u16 = 53;
/// How often two sockets on the same free port are tried for.
const PORT_TRIES: u32 = 8;

/// The namespace that this process lives in, to come back to.
#[derive(Debug)]
pub(crate) struct Home(OwnedFd);

impl Home {
    pub(crate) fn here() -> Result<Self> {
        current().map(Self)
    }

    /// Runs `work` in another namespace: what it opens belongs there.
    pub(crate) fn inside<T>(&self, space: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T> {
        namespace::join(space, flags::NETWORK)?;
        let result = work();
        self.back();
        Ok(result)
    }

    /// A new namespace, with what `work` made in it.
    fn new_space<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(OwnedFd, T)> {
        namespace::unshare(flags::NETWORK)?;
        let made = current().and_then(|space| Ok((space, work()?)));
        self.back();
        made
    }

    fn back(&self) {
        if namespace::join(self.0.as_fd(), flags::NETWORK).is_err() {
            // In the wrong namespace every further step would do harm; the next helper gets everything back.
            wharf_sys::process::exit_now(1);
        }
    }
}

fn current() -> Result<OwnedFd> {
    namespace::open(Path::new("/proc/thread-self/ns/net"))
}

/// A socket for messages to the kernel's routing or firewall, of the namespace this is called in.
pub(crate) fn netlink_socket(family: Family) -> Result<OwnedFd> {
    let socket = Socket::open(family)?;
    socket.as_fd().try_clone_to_owned().context(|| "duplicate netlink socket")
}

/// The sockets on which names are asked for in a namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) udp: OwnedFd,
    /// Listens.
    pub(crate) tcp: OwnedFd,
}

impl Sockets {
    /// Makes the sockets, of the namespace this is called in, and lets questions to port 53 reach them.
    /// Only where the kernel has no nf_tables do they take port 53 themselves: a name server in the container
    /// could then not have it.
    fn open() -> Result<Self> {
        let (sockets, port) = Self::bind_any()?;
        match super::redirect::redirect(SocketAddrV4::new(RESOLVER, DOMAIN), port) {
            Ok(()) => Ok(sockets),
            Err(_no_nf_tables) => Self::bind(DOMAIN),
        }
    }

    fn bind_any() -> Result<(Self, u16)> {
        let mut last = Error::new("bind resolver", Errno::ADDRINUSE);
        for _ in 0..PORT_TRIES {
            let udp = bound(SocketType::DGRAM, 0)?;
            let port = port_of(&udp).context(|| "bind resolver")?;
            match bound(SocketType::STREAM, port) {
                Ok(tcp) => return Ok((Self { udp, tcp }, port)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind(port: u16) -> Result<Self> {
        Ok(Self { udp: bound(SocketType::DGRAM, port)?, tcp: bound(SocketType::STREAM, port)? })
    }
}

fn bound(kind: SocketType, port: u16) -> Result<OwnedFd> {
    const BACKLOG: i32 = 64;
    let what = || format!("bind resolver to {RESOLVER}:{port}");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None).context(what)?;
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true).context(what)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(RESOLVER, port)).context(what)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, BACKLOG).context(what)?;
    }
    Ok(socket)
}

fn port_of(socket: &OwnedFd) -> rustix::io::Result<u16> {
    SocketAddrV4::try_from(rustix::net::getsockname(socket)?).map(|address| address.port())
}

/// A namespace that belongs to nobody yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) namespace: OwnedFd,
    pub(crate) route: OwnedFd,
    pub(crate) resolver: Option<Sockets>,
}

impl Fresh {
    pub(crate) fn make(home: &Home, resolver: bool) -> Result<Self> {
        let (namespace, (route, resolver)) = home.new_space(|| furnish(resolver))?;
        Ok(Self { namespace, route, resolver })
    }

    /// One that belongs to the users of a user namespace of its own.
    pub(crate) fn of_users(home: &Home, ids: &IdMap, resolver: bool) -> Result<Self> {
        let namespace = namespace::network_of_users(ids)?;
        let (route, resolver) = home.inside(namespace.as_fd(), || furnish(resolver))??;
        Ok(Self { namespace, route, resolver })
    }
}

/// What a new namespace has, made within it.
fn furnish(resolver: bool) -> Result<(OwnedFd, Option<Sockets>)> {
    namespace::loopback_up()?;
    let route = netlink_socket(Family::Route)?;
    let resolver = if resolver { Some(Sockets::open()?) } else { None };
    Ok((route, resolver))
}

/// Namespaces made ahead of need, so that a start waits for none.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    plain: Stock,
    resolving: Stock,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Stock {
    ready: Vec<Fresh>,
    /// Whether anybody has asked for one yet: who has no use for a kind does not pay for it.
    wanted: bool,
}

impl Pool {
    /// How many of a kind are kept.
    const READY: usize = 4;

    fn stock(&mut self, resolver: bool) -> &mut Stock {
        if resolver { &mut self.resolving } else { &mut self.plain }
    }

    /// A namespace from the pool, or a new one.
    pub(crate) fn take(&mut self, home: &Home, resolver: bool) -> Result<Fresh> {
        let stock = self.stock(resolver);
        stock.wanted = true;
        stock.ready.pop().map_or_else(|| Fresh::make(home, resolver), Ok)
    }

    /// Whether [`Pool::refill`] has anything to do.
    pub(crate) fn is_short(&self) -> bool {
        [&self.plain, &self.resolving].iter().any(|stock| stock.wanted && stock.ready.len() < Self::READY)
    }

    /// Makes one namespace; to be called when there is nothing better to do.
    pub(crate) fn refill(&mut self, home: &Home) {
        let short = |stock: &Stock| stock.wanted && stock.ready.len() < Self::READY;
        let resolver = short(&self.resolving);
        if !resolver && !short(&self.plain) {
            return;
        }
        let stock = self.stock(resolver);
        match Fresh::make(home, resolver) {
            Ok(fresh) => stock.ready.push(fresh),
            // Whoever asks for the next one is told why it cannot be made.
            Err(_) => stock.wanted = false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.plain.ready.len() + self.resolving.ready.len()
    }
}

/// A namespace held for an owner.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) owner: Rc<str>,
    pub(crate) namespace: OwnedFd,
    pub(crate) resolver: Option<Sockets>,
    /// Questions from here that other servers were asked and have not answered.
    pub(crate) waiting: usize,
    /// Clients of the resolver over TCP.
    pub(crate) callers: usize,
}

/// The namespaces held for owners.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    slots: Slots<Space>,
    by_owner: HashMap<Rc<str>, Key>,
}

impl Spaces {
    pub(crate) fn insert(&mut self, owner: &str, namespace: OwnedFd, resolver: Option<Sockets>) -> Key {
        let owner: Rc<str> = owner.into();
        let space = Space { owner: Rc::clone(&owner), namespace, resolver, waiting: 0, callers: 0 };
        let key = self.slots.insert(space);
        self.by_owner.insert(owner, key);
        key
    }

    pub(crate) fn of(&self, owner: &str) -> Option<Key> {
        self.by_owner.get(owner).copied()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Space> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Space> {
        self.slots.get_mut(key)
    }

    /// The socket of the resolver there, over UDP.
    pub(crate) fn udp(&self, key: Key) -> Option<BorrowedFd<'_>> {
        Some(self.get(key)?.resolver.as_ref()?.udp.as_fd())
    }

    /// The socket of the resolver there, over TCP.
    pub(crate) fn tcp(&self, key: Key) -> Option<BorrowedFd<'_>> {
        Some(self.get(key)?.resolver.as_ref()?.tcp.as_fd())
    }

    pub(crate) fn remove(&mut self, owner: &str) -> Option<Space> {
        let key = self.by_owner.remove(owner)?;
        self.slots.remove(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Space)> {
        self.slots.iter()
    }

    /// Opens a resolver in a namespace that was made without.
    pub(crate) fn open_resolver(&mut self, home: &Home, key: Key) -> Result<()> {
        let Some(space) = self.slots.get_mut(key) else { return Ok(()) };
        if space.resolver.is_none() {
            space.resolver = Some(home.inside(space.namespace.as_fd(), Sockets::open)??);
        }
        Ok(())
    }
}

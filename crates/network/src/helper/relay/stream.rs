//! Connections carried by the kernel from one socket to the other (`splice(2)`): no byte is seen here.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketType, shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::pipe::Pipe;
use wharf_sys::socket;

use super::super::slots::{Key, Slots};
use super::super::source::Source;
use super::towards;

/// How many connections there may be; more wait in the kernel's queue and are refused when it is full.
const MOST_STREAMS: usize = 512;
/// The most that is moved at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// Pieces moved for one connection before the others have their turn.
const BURST: usize = 8;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Streams(Slots<Stream>);

/// A connection: the client's side is 0, the container's 1.
#[derive(Debug)]
struct Stream {
    door: Key,
    sides: [Side; 2],
    /// From the side of the same number to the other one.
    flows: [Flow; 2],
}

#[derive(Debug)]
struct Side {
    socket: OwnedFd,
    /// `None`: not watched at all, for the kernel tells of a hang-up whether asked to or not.
    watched: Option<EventFlags>,
}

#[derive(Debug)]
struct Flow {
    pipe: Pipe,
    /// Bytes in the pipe.
    held: usize,
    /// No more will come.
    ended: bool,
    /// The other side was told so.
    told: bool,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn accept(&mut self, epoll: &Epoll, door: Key, listener: &OwnedFd, to: SocketAddr) {
        while self.0.len() < MOST_STREAMS {
            let Ok(Some(client)) = socket::accept(listener) else { return };
            // A container that cannot be reached closes the connection, as if nobody listened.
            if let Ok(stream) = Stream::open(door, client, to) {
                let key = self.0.insert(stream);
                self.settle(epoll, key, true);
            }
        }
    }

    pub(super) fn carry(&mut self, epoll: &Epoll, key: Key, side: usize) {
        let Some(stream) = self.0.get_mut(key) else { return };
        let alive = stream.pump(side).and_then(|()| stream.pump(1 - side)).is_ok();
        self.settle(epoll, key, alive);
    }

    pub(super) fn forget(&mut self, door: Key) {
        let through = |(key, stream): (Key, &Stream)| (stream.door == door).then_some(key);
        let keys: Vec<Key> = self.0.iter().filter_map(through).collect();
        for key in keys {
            self.0.remove(key);
        }
    }

    /// Watches for what matters now, or lets a connection go that is done.
    fn settle(&mut self, epoll: &Epoll, key: Key, alive: bool) {
        let Some(stream) = self.0.get_mut(key) else { return };
        let done = stream.flows.iter().all(|flow| flow.told);
        if !alive || done || stream.watch(epoll, key).is_err() {
            self.0.remove(key);
        }
    }
}

impl Stream {
    fn open(door: Key, client: OwnedFd, to: SocketAddr) -> Result<Self, Errno> {
        let flow = || -> Result<Flow, Errno> {
            let pipe = Pipe::new().map_err(|error| wharf_sys::error::errno_of(&error))?;
            Ok(Flow { pipe, held: 0, ended: false, told: false })
        };
        let container = towards(to, SocketType::STREAM)?;
        for socket in [&client, &container] {
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        let side = |socket| Side { socket, watched: None };
        Ok(Self { door, sides: [side(client), side(container)], flows: [flow()?, flow()?] })
    }

    /// Moves what can be moved from a side to the other one.
    fn pump(&mut self, from: usize) -> Result<(), Errno> {
        let (source, target) = (&self.sides[from].socket, &self.sides[1 - from].socket);
        let flow = &mut self.flows[from];
        for _ in 0..BURST {
            if flow.held == 0 && !flow.ended {
                match moved(source, &flow.pipe.write, PIECE) {
                    Ok(0) => flow.ended = true,
                    Ok(length) => flow.held = length,
                    Err(Errno::AGAIN) => return Ok(()),
                    // The container's side is still on its way.
                    Err(Errno::NOTCONN) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if flow.held > 0 {
                match moved(&flow.pipe.read, target, flow.held) {
                    Ok(length) => flow.held -= length,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if flow.ended && flow.held == 0 {
                if !flow.told {
                    flow.told = true;
                    shutdown(target, Shutdown::Write)?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn watch(&mut self, epoll: &Epoll, key: Key) -> std::io::Result<()> {
        for side in 0..2 {
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, self.flows[side].held == 0 && !self.flows[side].ended);
            wanted.set(EventFlags::OUT, self.flows[1 - side].held > 0);
            let wanted = (!wanted.is_empty()).then_some(wanted);
            let token = Source::Relayed(key, side as u8).token();
            let side = &mut self.sides[side];
            match (side.watched, wanted) {
                (old, new) if old == new => {}
                (None, Some(flags)) => epoll.add(&side.socket, token, flags)?,
                (Some(_), Some(flags)) => epoll.modify(&side.socket, token, flags)?,
                (_, None) => epoll.remove(&side.socket)?,
            }
            side.watched = wanted;
        }
        Ok(())
    }
}

fn moved(from: &OwnedFd, to: &OwnedFd, length: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        match splice(from, None, to, None, length, flags) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

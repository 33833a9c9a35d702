//! Clients of the resolver over TCP: messages with their length before them, several at once.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::socket;
use wharf_sys::time::Instant;

use super::message::MAX_MESSAGE;
use crate::helper::slots::{Key, Slots};
use crate::helper::source::Source;
use crate::helper::space::Spaces;

/// How many clients there may be, in all and in one namespace; more are turned away.
const MOST_CALLERS: usize = 256;
const MOST_PER_SPACE: usize = 64;
/// How long a client may say nothing while nobody owes it an answer.
const IDLE: Duration = Duration::from_secs(10);
/// More that a client does not read, and it is cut off.
const MOST_UNREAD: usize = 4 * MAX_MESSAGE;
/// Answers that a client may wait for at once; it is read on when there are fewer.
const MOST_OWED: usize = 64;

/// All clients over TCP.
#[derive(Debug, Default)]
pub(crate) struct Callers(Slots<Caller>);

#[derive(Debug)]
struct Caller {
    space: Key,
    socket: OwnedFd,
    /// The beginning of a message.
    unheard: Vec<u8>,
    unsaid: Vec<u8>,
    /// Answers it waits for.
    owed: usize,
    /// It asks nothing more.
    finished: bool,
    watched: EventFlags,
    last: Instant,
}

/// What a client said.
pub(crate) enum Heard {
    /// Whole questions, of this namespace.
    Questions(Key, Vec<Vec<u8>>),
    Nothing,
}

impl Callers {
    /// Takes clients in.
    pub(crate) fn accept(&mut self, epoll: &Epoll, spaces: &mut Spaces, space: Key) {
        while let Some(Ok(Some(socket))) = spaces.tcp(space).map(socket::accept) {
            let Some(place) = spaces.get_mut(space) else { return };
            if self.0.len() >= MOST_CALLERS || place.callers >= MOST_PER_SPACE {
                continue;
            }
            place.callers += 1;
            let caller = Caller {
                space,
                socket,
                unheard: Vec::new(),
                unsaid: Vec::new(),
                owed: 0,
                finished: false,
                watched: EventFlags::IN,
                last: Instant::now(),
            };
            let key = self.0.insert(caller);
            let watched = self
                .0
                .get(key)
                .map(|caller| epoll.add(&caller.socket, Source::Caller(key).token(), EventFlags::IN));
            if !matches!(watched, Some(Ok(()))) {
                self.drop_caller(spaces, key);
            }
        }
    }

    /// Reads what a client says, and sends it what it did not take before.
    pub(crate) fn hear(&mut self, epoll: &Epoll, spaces: &mut Spaces, key: Key, buffer: &mut [u8]) -> Heard {
        let Some(caller) = self.0.get_mut(key) else { return Heard::Nothing };
        let questions = caller.flush().and_then(|()| caller.read(buffer));
        let space = caller.space;
        match questions {
            Ok(questions) => {
                caller.owed += questions.len();
                self.settle(epoll, spaces, key);
                Heard::Questions(space, questions)
            }
            Err(_gone) => {
                self.drop_caller(spaces, key);
                Heard::Nothing
            }
        }
    }

    /// Tells a client one answer.
    pub(crate) fn say(&mut self, epoll: &Epoll, spaces: &mut Spaces, key: Key, message: &[u8]) {
        let Some(caller) = self.0.get_mut(key) else { return };
        caller.owed = caller.owed.saturating_sub(1);
        caller.last = Instant::now();
        // Answers are at most as long as a length can say.
        caller.unsaid.extend_from_slice(&(message.len() as u16).to_be_bytes());
        caller.unsaid.extend_from_slice(message);
        if caller.flush().is_err() || caller.unsaid.len() > MOST_UNREAD {
            return self.drop_caller(spaces, key);
        }
        self.settle(epoll, spaces, key);
    }

    /// A namespace is gone.
    pub(crate) fn forget(&mut self, space: Key) {
        let of_space = |(key, caller): (Key, &Caller)| (caller.space == space).then_some(key);
        let keys: Vec<Key> = self.0.iter().filter_map(of_space).collect();
        for key in keys {
            self.0.remove(key);
        }
    }

    /// When [`Callers::tick`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(_, caller)| caller.last + IDLE).min()
    }

    /// Lets clients go that have nothing to say.
    pub(crate) fn tick(&mut self, spaces: &mut Spaces, now: Instant) {
        let idle = |(key, caller): (Key, &Caller)| (caller.last + IDLE <= now).then_some(key);
        let keys: Vec<Key> = self.0.iter().filter_map(idle).collect();
        for key in keys {
            match self.0.get_mut(key) {
                Some(caller) if caller.owed > 0 => caller.last = now,
                _ => self.drop_caller(spaces, key),
            }
        }
    }

    /// Watches for what matters now, or lets a client go that is done.
    fn settle(&mut self, epoll: &Epoll, spaces: &mut Spaces, key: Key) {
        let Some(caller) = self.0.get_mut(key) else { return };
        if caller.finished && caller.owed == 0 && caller.unsaid.is_empty() {
            return self.drop_caller(spaces, key);
        }
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !caller.finished && caller.owed < MOST_OWED);
        wanted.set(EventFlags::OUT, !caller.unsaid.is_empty());
        if wanted != caller.watched {
            caller.watched = wanted;
            if epoll.modify(&caller.socket, Source::Caller(key).token(), wanted).is_err() {
                self.drop_caller(spaces, key);
            }
        }
    }

    /// Ends a connection on which something else than questions came.
    pub(crate) fn hang_up(&mut self, spaces: &mut Spaces, key: Key) {
        self.drop_caller(spaces, key);
    }

    fn drop_caller(&mut self, spaces: &mut Spaces, key: Key) {
        let Some(caller) = self.0.remove(key) else { return };
        if let Some(space) = spaces.get_mut(caller.space) {
            space.callers -= 1;
        }
    }
}

impl Caller {
    fn flush(&mut self) -> Result<(), Errno> {
        while !self.unsaid.is_empty() {
            match socket::send_parts(&self.socket, &[std::io::IoSlice::new(&self.unsaid)]) {
                Ok(sent) => drop(self.unsaid.drain(..sent)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(wharf_sys::error::errno_of(&error)),
            }
        }
        Ok(())
    }

    /// One read, and the whole questions that are there then.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Vec<Vec<u8>>, Errno> {
        match socket::receive(&self.socket, buffer) {
            Ok(0) => self.finished = true,
            Ok(length) => {
                self.unheard.extend_from_slice(&buffer[..length]);
                self.last = Instant::now();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(wharf_sys::error::errno_of(&error)),
        }
        let mut questions = Vec::new();
        while let Some(message) = first_message(&self.unheard) {
            questions.push(message.to_vec());
            self.unheard.drain(..2 + message.len());
        }
        if self.finished {
            self.unheard = Vec::new();
        }
        Ok(questions)
    }
}

/// The first message, if it is whole.
fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    bytes.get(2..2 + length)
}

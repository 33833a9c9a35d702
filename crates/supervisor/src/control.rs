//! Daemons' connections: frames in, answers and events out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use wharf_shim::WireError;
use wharf_shim::protocol::{MAX_FRAME, RequestFrame, SupervisorFrame};
use wharf_sys::epoll::EventFlags;
use wharf_sys::socket;

/// Frames that may wait for a daemon that does not read; it is cut off then, and learns the rest from the
/// journal.
const LONGEST_QUEUE: usize = 4096;

/// One daemon's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u32,
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    broken: bool,
    pub(crate) watched: EventFlags,
}

/// What came from a daemon.
#[derive(Debug)]
pub(crate) enum Received {
    Request(Box<RequestFrame>, Vec<OwnedFd>),
    /// Something this supervisor does not know; `number` if it could be read.
    Unknown {
        number: Option<u64>,
        reason: String,
    },
    Nothing,
    Gone,
}

impl Connection {
    pub(crate) fn new(number: u32, socket: OwnedFd) -> Self {
        socket::allow_messages_of(&socket, MAX_FRAME);
        Self { number, socket, queue: VecDeque::new(), broken: false, watched: EventFlags::empty() }
    }

    /// The next frame, read through `buffer`.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> Received {
        if self.broken {
            return Received::Gone;
        }
        let buffer = crate::session::room(buffer, MAX_FRAME);
        let (length, descriptors) = match socket::receive_message(&self.socket, buffer) {
            Ok((0, _)) => return Received::Gone,
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(_) => return Received::Gone,
        };
        match serde_json::from_slice(&buffer[..length]) {
            Ok(frame) => Received::Request(Box::new(frame), descriptors),
            Err(error) => {
                #[derive(serde::Deserialize)]
                struct Numbered {
                    number: u64,
                }
                let number =
                    serde_json::from_slice::<Numbered>(&buffer[..length]).ok().map(|frame| frame.number);
                Received::Unknown { number, reason: error.to_string() }
            }
        }
    }

    /// Sends a frame, now or when the daemon reads again.
    pub(crate) fn send(&mut self, frame: &SupervisorFrame, descriptors: &[BorrowedFd<'_>]) {
        if self.queue.is_empty() {
            match wharf_shim::send(&self.socket, frame, descriptors) {
                Ok(()) => return,
                Err(error) if error.would_block() => {}
                Err(_) => return self.broken = true,
            }
        }
        if let Err(_lost) = self.enqueue(frame, descriptors) {
            self.broken = true;
        }
    }

    fn enqueue(&mut self, frame: &SupervisorFrame, descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        if self.queue.len() >= LONGEST_QUEUE {
            return Err(WireError::TooLarge(self.queue.len()));
        }
        let kept: Result<Vec<OwnedFd>, _> = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect();
        self.queue.push_back((serde_json::to_vec(frame)?, kept?));
        Ok(())
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        while let Some((bytes, descriptors)) = self.queue.front() {
            let beside: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match socket::send_message(&self.socket, bytes, &beside) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => return self.broken = true,
            }
        }
    }

    /// Whether the daemon is gone or was cut off.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// What it has to be watched for.
    pub(crate) fn interest(&self) -> EventFlags {
        if self.queue.is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

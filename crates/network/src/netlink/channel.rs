//! A socket with its buffer: questions and their answers.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use wharf_sys::netlink::{Family, Socket};

use super::batch::{Batch, Label};
use super::parse::{Attributes, Message, messages, text, u32_ne};
use crate::error::{Error, Result};

/// The kernel sends lists in pieces of at most this many bytes.
const BUFFER: usize = 32 * 1024;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`: the kernel's words.
const EXPLANATION: u16 = 1;
/// The kernel answers before a send returns; this is for the day it does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket with its buffer. One question at a time.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Channel {
    /// In the network namespace of the calling thread.
    pub(crate) fn open(family: Family) -> Result<Self> {
        Ok(Self::new(Socket::open(family)?))
    }

    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, buffer: vec![0; BUFFER] }
    }

    /// Through a duplicate of somebody's socket.
    pub(crate) fn borrow(fd: BorrowedFd<'_>) -> Result<Self> {
        let fd = fd.try_clone_to_owned().map_err(|error| {
            wharf_sys::error::Error::new("duplicate netlink socket", wharf_sys::error::errno_of(&error))
        })?;
        Ok(Self::new(Socket::adopt(fd)?))
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends a batch and looks at all answers: `each` gets those that are neither errors nor confirmations.
    ///
    /// # Errors
    /// The first refusal that is not tolerated; later messages of a route batch were tried all the same.
    pub(crate) fn send(&mut self, mut batch: Batch, mut each: impl FnMut(Message<'_>)) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.acknowledge();
        let (bytes, labels) = batch.into_parts();
        self.drain()?;
        self.socket.send(&bytes)?;
        let mut failure = None;
        // Netfilter confirms the last message of a transaction that went through; of one that failed it tells
        // the errors. Either way all is queued before the send returns.
        while let Some(length) = self.socket.receive(&mut self.buffer)? {
            for message in messages(&self.buffer[..length]) {
                let Some(label) = label_of(&labels, message.sequence) else { continue };
                match message.kind {
                    ERROR => {
                        if let Some(error) = refusal(label, message) {
                            failure.get_or_insert(error);
                        }
                    }
                    DONE => {}
                    _ => each(message),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends a batch whose answers do not matter beyond success.
    pub(crate) fn run(&mut self, batch: Batch) -> Result<()> {
        self.send(batch, |_| {})
    }

    /// Asks for a list of everything that one message (with the dump flag) names.
    ///
    /// # Errors
    /// A refusal; [`Error::Unexpected`] when the list never ends.
    pub(crate) fn dump(&mut self, question: Batch, mut each: impl FnMut(Message<'_>)) -> Result<()> {
        let (bytes, labels) = question.into_parts();
        let Some(label) = labels.first() else { return Ok(()) };
        self.drain()?;
        self.socket.send(&bytes)?;
        loop {
            let Some(length) = self.socket.receive(&mut self.buffer)? else {
                if self.socket.wait(PATIENCE)? {
                    continue;
                }
                return Err(Error::Unexpected(label.what.clone().into_owned()));
            };
            for message in messages(&self.buffer[..length]) {
                match message.kind {
                    _ if message.sequence != label.sequence => {}
                    ERROR => return refusal(label, message).map_or(Ok(()), Err),
                    DONE => return Ok(()),
                    _ => each(message),
                }
            }
        }
    }

    /// Whatever arrives next, for sockets that joined a group; whether there was something.
    pub(crate) fn hear(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool> {
        let Some(length) = self.socket.receive(&mut self.buffer)? else { return Ok(false) };
        messages(&self.buffer[..length]).for_each(&mut each);
        Ok(true)
    }

    /// Throws away what nobody waited for: answers to a process that died holding the same socket.
    fn drain(&mut self) -> Result<()> {
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) if error.errno() == Errno::NOBUFS => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn label_of(labels: &[Label], sequence: u32) -> Option<&Label> {
    // Other threads take numbers meanwhile, so there may be gaps, but they only grow.
    labels.binary_search_by_key(&sequence, |label| label.sequence).ok().map(|index| &labels[index])
}

/// `None`: a confirmation, or an error that was expected.
fn refusal(label: &Label, message: Message<'_>) -> Option<Error> {
    let code = u32_ne(message.payload)?.cast_signed();
    let errno = Errno::from_raw_os_error(code.checked_neg().filter(|code| *code > 0)?);
    if label.tolerated.contains(&errno) {
        return None;
    }
    // Error number and the header of the message it is about; the rest of that is left out (NETLINK_CAP_ACK).
    let explanation = Attributes(message.payload.get(20..).unwrap_or_default()).get(EXPLANATION);
    Some(Error::Refused {
        what: label.what.clone().into_owned(),
        errno,
        explanation: explanation.map(text).unwrap_or_default().to_owned(),
    })
}

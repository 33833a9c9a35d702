//! An attached client: its connection, what it wants, what it has not taken yet.

mod catchup;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use wharf_shim::protocol::{Attach, Framing};
use wharf_sys::epoll::EventFlags;
use wharf_sys::socket;
use wharf_sys::time::Instant;

use self::catchup::{Catchup, Progress};
use crate::detach::DetachKeys;
use crate::log::{Log, Stream};

/// Bytes a client may lag behind in memory.
const QUEUE: usize = 256 * 1024;
/// How long output waits for a client that could be fed from the log instead. A client that takes a queue
/// in this time keeps up with nearly everything, and the log need not be read back for it.
const GRACE: Duration = Duration::from_millis(5);
/// How long output waits for a client that nothing else can feed, and how long a client that takes nothing
/// is kept after the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long output waits for a client that has not read the answer's head. Some read the head through a buffer and the
/// streams past it: what comes in one piece with the head is lost to them.
const HEAD_PATIENCE: Duration = Duration::from_millis(500);
/// How often such a client is looked at: nothing tells when it has read.
const HEAD_LOOK: Duration = Duration::from_millis(1);
/// How long the other side may take to close after it was told that nothing more comes.
const LINGER: Duration = Duration::from_secs(1);

/// One attached client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u32,
    pub(crate) token: u64,
    connection: OwnedFd,
    wants: [bool; 2],
    framing: Framing,
    detach: DetachKeys,
    queue: Queue,
    feed: Feed,
    input: Input,
    head: Head,
    /// Since when the queue has been full, or the rest is not taken.
    stalled: Option<Instant>,
    /// What it is watched for at the moment; `None`: not at all.
    pub(crate) watched: Option<EventFlags>,
}

/// Where a client's output comes from.
#[derive(Debug)]
enum Feed {
    /// From the process, as it comes.
    Live,
    /// From the log, until it has caught up.
    Log(Box<Catchup>),
    /// Nothing more comes; the queue is all there is.
    Ending,
    /// The other side was told, and may take this long to close.
    Told { since: Instant },
    /// The other side is gone.
    Gone,
}

/// Whether a client has read the head of the answer that its streams follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Not known yet; it is asked when there is output for the first time.
    Sent,
    /// It had not: output waits, for so long at the most.
    Unread { next_look: Instant, until: Instant },
    /// It has, or took too long.
    Read,
}

/// A client's standard input.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    /// What it sends goes to the process; these bytes were read ahead of everything.
    Open(Vec<u8>),
    /// What it sends is thrown away.
    Unwanted,
    /// It sends no more.
    Ended,
}

/// What became of reading a client's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// There is nothing (more) for the process at the moment.
    Nothing,
    /// Bytes for the process.
    Bytes,
    /// The client's input has ended.
    End,
    /// The detach keys were typed.
    Detach,
}

impl Client {
    /// A client that was handed over. It starts with the log when it asked for that.
    pub(crate) fn new(
        number: u32,
        token: u64,
        attach: Attach,
        connection: OwnedFd,
        log: Option<&Log>,
    ) -> Self {
        let replay = log.filter(|log| attach.replay && log.is_kept());
        let feed = match replay {
            Some(log) => Feed::Log(Box::new(Catchup::from_start(log, !attach.stream))),
            None if attach.stream => Feed::Live,
            None => Feed::Ending,
        };
        Self {
            number,
            token,
            connection,
            wants: [attach.stdout, attach.stderr],
            framing: attach.framing,
            detach: DetachKeys::new(attach.detach_keys),
            queue: Queue::default(),
            feed,
            input: if attach.stdin && attach.stream {
                Input::Open(attach.read_ahead)
            } else {
                Input::Unwanted
            },
            head: Head::Sent,
            stalled: None,
            watched: None,
        }
    }

    /// Whether its output comes from the log's files at the moment.
    pub(crate) fn is_fed_from_log(&self) -> bool {
        matches!(self.feed, Feed::Log(_))
    }

    /// Gives it what its process said; what it does not take at once is queued.
    pub(crate) fn deliver(&mut self, stream: Stream, data: &[u8]) {
        if !matches!(self.feed, Feed::Live) || !self.wants[stream.index()] {
            return;
        }
        let header = frame_header(self.framing, stream, data.len());
        let mut sent = 0;
        if self.queue.is_empty() && self.has_read_head() {
            match socket::send_parts(&self.connection, &[IoSlice::new(header.bytes()), IoSlice::new(data)]) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.lose(),
            }
        }
        let total = header.bytes().len() + data.len();
        if sent < total {
            self.queue.push(&header.bytes()[sent.min(header.bytes().len())..]);
            self.queue.push(&data[sent.saturating_sub(header.bytes().len())..]);
        }
        self.note_fullness();
    }

    /// Whether output may follow the answer's head.
    fn has_read_head(&mut self) -> bool {
        if self.head == Head::Read {
            return true;
        }
        let now = Instant::now();
        let until = match self.head {
            Head::Unread { until, .. } => until,
            Head::Sent | Head::Read => now + HEAD_PATIENCE,
        };
        let unread = socket::unread(&self.connection).is_ok_and(|bytes| bytes > 0) && now < until;
        self.head = if unread { Head::Unread { next_look: now + HEAD_LOOK, until } } else { Head::Read };
        !unread
    }

    /// Whether output of `stream` has to wait for it.
    pub(crate) fn holds_back(&self, stream: Stream) -> bool {
        matches!(self.feed, Feed::Live) && self.wants[stream.index()] && self.queue.len() > QUEUE
    }

    /// The connection takes bytes again: sends what waits, and reads on in the log.
    pub(crate) fn flush(&mut self, log: &Log) {
        loop {
            let before = self.queue.len();
            if before > 0 && !self.has_read_head() {
                break;
            }
            if self.queue.send(&self.connection).is_err() {
                return self.lose();
            }
            if self.queue.len() < before && !matches!(self.feed, Feed::Live) {
                self.stalled = None;
            }
            if !self.queue.is_empty() || !self.refill(log) {
                break;
            }
        }
        self.note_fullness();
        if matches!(self.feed, Feed::Ending) && self.queue.is_empty() {
            // A connection that is gone already needs no farewell.
            let _gone = socket::finish_sending(&self.connection);
            self.feed = Feed::Told { since: Instant::now() };
        }
    }

    /// Its connection is ready for something.
    pub(crate) fn ready(&mut self, flags: EventFlags, log: &Log) {
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.hang_up();
        } else if flags.contains(EventFlags::OUT) {
            self.flush(log);
        }
    }

    /// Throws away what it says after the end of its process, so that closing does not cut off what it
    /// has not read yet.
    pub(crate) fn discard_input(&mut self, buffer: &mut [u8]) {
        let mut nothing = Vec::new();
        while self.input != Input::Ended {
            if socket::receive(&self.connection, buffer)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            {
                return;
            }
            self.hear(buffer, &mut nothing);
        }
    }

    /// Queues the next piece of the log; `false`: there is none.
    fn refill(&mut self, log: &Log) -> bool {
        let Feed::Log(catchup) = &mut self.feed else { return false };
        match catchup.read(log, self.framing, self.wants, &mut self.queue) {
            Progress::More => true,
            Progress::Live => {
                self.feed = Feed::Live;
                true
            }
            Progress::End => {
                self.feed = Feed::Ending;
                true
            }
            Progress::Lost(reason) => {
                self.queue.push_frame(Framing::Multiplexed, 3, reason.as_bytes());
                self.feed = Feed::Ending;
                true
            }
        }
    }

    fn note_fullness(&mut self) {
        let waits = match self.feed {
            Feed::Live => self.queue.len() > QUEUE,
            Feed::Log(_) | Feed::Ending => !self.queue.is_empty(),
            Feed::Told { .. } | Feed::Gone => false,
        };
        self.stalled = if waits { self.stalled.or_else(|| Some(Instant::now())) } else { None };
    }

    /// When [`Self::tick`] has to be called at the latest.
    pub(crate) fn deadline(&self, log: Option<&Log>) -> Option<Instant> {
        let look = match self.head {
            Head::Unread { next_look, .. } if !self.queue.is_empty() => Some(next_look),
            Head::Sent | Head::Unread { .. } | Head::Read => None,
        };
        look.into_iter().chain(self.patience(log)).min()
    }

    /// Until when it may be as it is.
    fn patience(&self, log: Option<&Log>) -> Option<Instant> {
        match &self.feed {
            Feed::Live if log.is_some_and(Log::is_kept) => self.stalled.map(|since| since + GRACE),
            Feed::Live | Feed::Ending | Feed::Log(_) => self.stalled.map(|since| since + PATIENCE),
            Feed::Told { since } => Some(*since + LINGER),
            Feed::Gone => None,
        }
    }

    /// A deadline has passed: a live client goes over to the log where there is one; others are cut off.
    /// A client of the log may take as long as it likes while the process lives.
    pub(crate) fn tick(&mut self, now: Instant, log: Option<&Log>, process_ended: bool) {
        if let (Head::Unread { next_look, .. }, Some(log)) = (self.head, log)
            && now >= next_look
        {
            self.flush(log);
        }
        if self.patience(log).is_none_or(|deadline| now < deadline) {
            return;
        }
        match (&self.feed, log.filter(|log| log.is_kept())) {
            (Feed::Live, Some(log)) => {
                self.feed = Feed::Log(Box::new(Catchup::from_here(log)));
                self.stalled = None;
            }
            (Feed::Log(_), _) if !process_ended => self.stalled = Some(now),
            (Feed::Live, None) => {
                self.queue.push_frame(
                    Framing::Multiplexed,
                    3,
                    b"wharf: the client did not read for too long\n",
                );
                let _takes_nothing = self.queue.send(&self.connection);
                self.lose();
            }
            _ => self.lose(),
        }
    }

    /// The process has ended: what is queued and logged is still sent, then the other side is told.
    pub(crate) fn end(&mut self, log: &Log) {
        match &mut self.feed {
            Feed::Live => self.feed = Feed::Ending,
            Feed::Log(catchup) => catchup.end_after_log(),
            Feed::Ending | Feed::Told { .. } | Feed::Gone => {}
        }
        self.input = match std::mem::replace(&mut self.input, Input::Unwanted) {
            Input::Ended => Input::Ended,
            Input::Open(_) | Input::Unwanted => Input::Unwanted,
        };
        self.flush(log);
    }

    /// The other side hung up: it takes nothing more, but what it said before may still be read.
    pub(crate) fn hang_up(&mut self) {
        self.queue = Queue::default();
        self.feed = Feed::Gone;
        self.stalled = None;
    }

    fn lose(&mut self) {
        self.hang_up();
        self.input = Input::Ended;
    }

    /// Whether it can be forgotten.
    pub(crate) fn is_done(&self) -> bool {
        match self.feed {
            Feed::Gone => !matches!(self.input, Input::Open(_)),
            Feed::Told { .. } => self.input == Input::Ended,
            Feed::Live | Feed::Log(_) | Feed::Ending => false,
        }
    }

    /// Whether it feeds the process's standard input.
    pub(crate) fn gives_input(&self) -> bool {
        matches!(self.input, Input::Open(_))
    }

    /// Reads some of its input into `out` (for the process), using `buffer`.
    pub(crate) fn hear(&mut self, buffer: &mut [u8], out: &mut Vec<u8>) -> Heard {
        let length = match &mut self.input {
            Input::Ended => return Heard::Nothing,
            Input::Open(ahead) if !ahead.is_empty() => {
                let ahead = std::mem::take(ahead);
                return self.filter(&ahead, out);
            }
            Input::Open(_) | Input::Unwanted => match socket::receive(&self.connection, buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(_) => {
                    self.hang_up();
                    0
                }
            },
        };
        match (length, self.gives_input()) {
            (0, gave) => {
                self.input = Input::Ended;
                if gave { Heard::End } else { Heard::Nothing }
            }
            (_, false) => Heard::Nothing,
            (_, true) => self.filter(&buffer[..length], out),
        }
    }

    fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Heard {
        if self.detach.filter(input, out) {
            self.input = Input::Unwanted;
            self.queue = Queue::default();
            self.feed = Feed::Ending;
            Heard::Detach
        } else {
            Heard::Bytes
        }
    }

    /// What it has to be watched for; `room`: its process takes input.
    pub(crate) fn interest(&self, room: bool) -> Option<EventFlags> {
        if matches!(self.feed, Feed::Gone) {
            // A hung-up connection is always ready; it is looked at when there is room.
            return None;
        }
        let mut flags = EventFlags::empty();
        if self.input == Input::Unwanted || (self.gives_input() && room) {
            flags |= EventFlags::IN;
        }
        let waits_for_head = matches!(self.head, Head::Unread { .. }) && !self.queue.is_empty();
        if (!self.queue.is_empty() || matches!(self.feed, Feed::Log(_))) && !waits_for_head {
            flags |= EventFlags::OUT;
        }
        Some(flags)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Docker's eight bytes before a chunk, or nothing.
#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    bytes: [u8; 8],
    length: usize,
}

impl FrameHeader {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn frame_header(framing: Framing, stream: Stream, length: usize) -> FrameHeader {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    header_of(framing, number, length)
}

fn header_of(framing: Framing, number: u8, length: usize) -> FrameHeader {
    let mut bytes = [number, 0, 0, 0, 0, 0, 0, 0];
    // Chunks are what one read of a pipe or a log gave: far below 4 GiB.
    bytes[4..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    FrameHeader { bytes, length: if framing == Framing::Multiplexed { 8 } else { 0 } }
}

/// Bytes on their way to a client.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    sent: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn push_frame(&mut self, framing: Framing, number: u8, payload: &[u8]) {
        self.push(header_of(framing, number, payload.len()).bytes());
        self.push(payload);
    }

    /// Sends what the connection takes; an error: it is gone.
    fn send(&mut self, connection: &OwnedFd) -> io::Result<()> {
        while !self.is_empty() {
            match socket::send_parts(connection, &[IoSlice::new(&self.bytes[self.sent..])]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.sent > QUEUE {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        *self = Self::default();
        Ok(())
    }
}

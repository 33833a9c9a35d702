//! One process's streams and the clients attached to them: the container's own, or an exec's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use wharf_shim::protocol::{Carried, Timestamp};
use wharf_sys::epoll::{Epoll, EventFlags};
use wharf_sys::pidfd::{Ended, PidFd};
use wharf_sys::pipe;
use wharf_sys::time::Instant;

use crate::client::{Client, Heard};
use crate::log::{Log, Stream};
use crate::stdin::{Listening, Stdin};
use crate::token::{Token, Topic};

/// Bytes read from a stream at a time: what is read and what becomes of it stay in the processor's cache.
pub(crate) const CHUNK: usize = 64 * 1024;
/// A pipe that was found this full is made larger.
const SMALL_PIPE: usize = 64 * 1024;
/// What a busy pipe is made to hold.
const LARGE_PIPE: usize = 256 * 1024;
/// Chunks taken from one stream before others get their turn.
const TURN: usize = 16;
/// How long the streams may stay open after the end of the process, when someone else holds them; Docker
/// waits as long.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a terminal that nobody has open is looked at again.
const TERMINAL_PAUSE: Duration = Duration::from_millis(100);

/// A process's life as the supervisor sees it.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Not asked for yet, or waiting to be started again.
    Idle,
    /// The set-up child works; its report comes here. Signals that came meanwhile wait.
    SettingUp {
        report: OwnedFd,
        signals: Vec<i32>,
    },
    Running(Running),
    /// It ended; its streams may still hold something.
    Draining {
        ended: Finished,
        ran: Duration,
        until: Instant,
    },
}

/// A live process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: PidFd,
    pub(crate) started_at: Timestamp,
    pub(crate) since: Instant,
}

/// How and when a process ended; `None`: nobody can know how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) how: Option<Ended>,
    pub(crate) at: Timestamp,
}

/// A process with its streams and clients.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: u32,
    /// The exec's id; `None`: the container itself.
    pub(crate) exec: Option<String>,
    pub(crate) stage: Stage,
    pub(crate) log: Log,
    pub(crate) clients: Vec<Client>,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    terminal: bool,
    stdin: Option<Stdin>,
    stdin_watched: bool,
    outputs: [Option<Output>; 2],
}

#[derive(Debug)]
struct Output {
    end: OwnedFd,
    watched: bool,
    grown: bool,
    /// A terminal that nobody has open: when to look again.
    look_again: Option<Instant>,
}

/// What happened while streams were served.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) log_dropped: u64,
    pub(crate) detached: u32,
}

impl Session {
    pub(crate) fn new(
        number: u32,
        exec: Option<String>,
        log: Log,
        open_stdin: bool,
        stdin_once: bool,
    ) -> Self {
        Self {
            number,
            exec,
            stage: Stage::Idle,
            log,
            clients: Vec::new(),
            open_stdin,
            stdin_once,
            terminal: false,
            stdin: None,
            stdin_watched: false,
            outputs: [None, None],
        }
    }

    /// The process was executed: these are the supervisor's ends of its streams.
    ///
    /// # Errors
    /// `EMFILE` when descriptors run out.
    pub(crate) fn take_streams(&mut self, streams: Vec<(Carried, OwnedFd)>) -> io::Result<()> {
        for (kind, end) in streams {
            pipe::set_nonblocking(&end)?;
            match kind {
                Carried::Terminal => {
                    self.terminal = true;
                    if self.open_stdin {
                        self.stdin = Some(Stdin::new(end.try_clone()?));
                    }
                    self.outputs[0] = Some(Output::new(end));
                }
                Carried::Stdin => self.stdin = Some(Stdin::new(end)),
                Carried::Stdout => self.outputs[0] = Some(Output::new(end)),
                Carried::Stderr => self.outputs[1] = Some(Output::new(end)),
                Carried::Pidfd | Carried::Root | Carried::Netns | Carried::Kept(_) => {}
            }
        }
        Ok(())
    }

    /// The supervisor's ends of the outputs, for a daemon to keep. Standard input is not among them: as long
    /// as anyone else held it, the process would not see its end.
    pub(crate) fn descriptors(&self) -> Vec<(Carried, BorrowedFd<'_>)> {
        let [first, second] = &self.outputs;
        if self.terminal {
            return first.iter().map(|output| (Carried::Terminal, output.end.as_fd())).collect();
        }
        let stdout = first.iter().map(|output| (Carried::Stdout, output.end.as_fd()));
        let stderr = second.iter().map(|output| (Carried::Stderr, output.end.as_fd()));
        stdout.chain(stderr).collect()
    }

    /// Takes what a stream has to say, into the log and to the clients.
    pub(crate) fn pump(&mut self, stream: Stream, buffer: &mut Vec<u8>, epoll: &Epoll, served: &mut Served) {
        let buffer = room(buffer, CHUNK);
        for _ in 0..TURN {
            let Some(output) = &mut self.outputs[stream.index()] else { return };
            match rustix::io::read(&output.end, &mut *buffer) {
                Ok(0) => return self.end_stream(stream, epoll, served),
                Ok(length) => {
                    if length >= SMALL_PIPE && !output.grown {
                        output.grown = true;
                        pipe::grow(&output.end, LARGE_PIPE);
                    }
                    served.log_dropped += self.log.append(stream, &buffer[..length]);
                    for client in &mut self.clients {
                        client.deliver(stream, &buffer[..length]);
                    }
                    if self.is_held_back(stream) {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(Errno::IO) if self.terminal && !matches!(self.stage, Stage::Draining { .. }) => {
                    // Nobody has the terminal open, but the process lives and may open it again.
                    output.look_again = Some(Instant::now() + TERMINAL_PAUSE);
                    return;
                }
                Err(_) => return self.end_stream(stream, epoll, served),
            }
        }
    }

    fn end_stream(&mut self, stream: Stream, epoll: &Epoll, served: &mut Served) {
        if let Some(output) = self.outputs[stream.index()].take()
            && output.watched
        {
            // The daemon's duplicate would keep it watched.
            let _was_watched = epoll.remove(&output.end);
        }
        served.log_dropped += self.log.finish(stream);
    }

    fn is_held_back(&self, stream: Stream) -> bool {
        self.clients.iter().any(|client| client.holds_back(stream))
    }

    /// The process was reaped. What its streams still hold is taken at once.
    pub(crate) fn process_ended(
        &mut self,
        finished: Finished,
        buffer: &mut Vec<u8>,
        epoll: &Epoll,
        served: &mut Served,
    ) {
        let now = Instant::now();
        let ran = match &self.stage {
            Stage::Running(running) => now.since(running.since),
            _ => Duration::ZERO,
        };
        self.stage = Stage::Draining { ended: finished, ran, until: now + DRAIN };
        self.heed(Some(Listening::No), epoll);
        for stream in Stream::BOTH {
            self.pump(stream, buffer, epoll, served);
        }
    }

    /// Whether the process has ended and its streams too, or they were waited for long enough.
    pub(crate) fn is_drained(&self, now: Instant) -> bool {
        match &self.stage {
            Stage::Draining { until, .. } => self.outputs.iter().all(Option::is_none) || now >= *until,
            _ => false,
        }
    }

    /// Lets go of the streams, and tells the clients that nothing more comes.
    pub(crate) fn close(&mut self, epoll: &Epoll, served: &mut Served) {
        for stream in Stream::BOTH {
            self.end_stream(stream, epoll, served);
        }
        self.heed(Some(Listening::No), epoll);
        for client in &mut self.clients {
            client.end(&self.log);
        }
    }

    /// Standard input takes bytes again.
    pub(crate) fn flush_stdin(&mut self, epoll: &Epoll) {
        let listening = self.stdin.as_mut().map(Stdin::flush);
        self.heed(listening, epoll);
    }

    /// Whether a client is attached to this process.
    pub(crate) fn has_client(&self, number: u32) -> bool {
        self.clients.iter().any(|client| client.number == number)
    }

    /// A client's connection is ready.
    pub(crate) fn serve_client(
        &mut self,
        number: u32,
        flags: EventFlags,
        buffer: &mut Vec<u8>,
        epoll: &Epoll,
        served: &mut Served,
    ) {
        let Some(index) = self.clients.iter().position(|client| client.number == number) else { return };
        self.clients[index].ready(flags, &self.log);
        let buffer = room(buffer, CHUNK);
        self.hear_client(index, buffer, &mut Vec::new(), epoll, served);
    }

    /// Sends new clients what can be sent at once.
    pub(crate) fn greet_clients(&mut self) {
        for client in &mut self.clients {
            client.flush(&self.log);
        }
    }

    /// An exec could not be started; whoever is attached reads it in the stream, in Docker's words.
    pub(crate) fn say_failure(&mut self, message: &str) {
        let text = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: {message}: unknown\r\n"
        );
        for client in &mut self.clients {
            client.deliver(Stream::Stdout, text.as_bytes());
        }
    }

    /// Reads what clients have to say to the process, as far as it takes it.
    pub(crate) fn hear_clients(&mut self, buffer: &mut Vec<u8>, epoll: &Epoll, served: &mut Served) {
        let buffer = room(buffer, CHUNK);
        let mut input = Vec::new();
        for index in 0..self.clients.len() {
            self.hear_client(index, buffer, &mut input, epoll, served);
        }
    }

    fn hear_client(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        input: &mut Vec<u8>,
        epoll: &Epoll,
        served: &mut Served,
    ) {
        loop {
            let gives_input = self.clients[index].gives_input();
            if gives_input
                && (matches!(self.stage, Stage::Idle | Stage::SettingUp { .. }) || !self.has_room())
            {
                return;
            }
            input.clear();
            let heard = self.clients[index].hear(buffer, input);
            let listening = match self.stdin.as_mut() {
                Some(stdin) if !input.is_empty() => Some(stdin.write(input)),
                _ => None,
            };
            self.heed(listening, epoll);
            match heard {
                Heard::Bytes => {}
                Heard::Nothing => return,
                Heard::End => return self.end_of_input(epoll),
                Heard::Detach => {
                    served.detached += 1;
                    return self.clients[index].flush(&self.log);
                }
            }
        }
    }

    /// A client that gave input gives no more.
    fn end_of_input(&mut self, epoll: &Epoll) {
        // A terminal has no end of file of its own; as in Docker it stays open.
        if self.stdin_once && !self.terminal {
            let listening = self.stdin.as_mut().map(Stdin::close);
            self.heed(listening, epoll);
        }
    }

    fn has_room(&self) -> bool {
        self.stdin.as_ref().is_none_or(Stdin::has_room)
    }

    fn heed(&mut self, listening: Option<Listening>, epoll: &Epoll) {
        if listening == Some(Listening::No)
            && let Some(stdin) = self.stdin.take()
            && std::mem::take(&mut self.stdin_watched)
        {
            let _was_watched = epoll.remove(&stdin);
        }
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// `ENOTTY` when there is no terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        match &self.outputs[0] {
            Some(output) if self.terminal => wharf_sys::pty::resize(&output.end, rows, columns),
            _ => Err(Errno::NOTTY.into()),
        }
    }

    /// Watches for exactly what can be dealt with now, and forgets clients that are done.
    pub(crate) fn rewatch(&mut self, epoll: &Epoll) -> io::Result<()> {
        forget_done(&mut self.clients, epoll);
        let room = self.has_room() && matches!(self.stage, Stage::Running(_));
        for client in &mut self.clients {
            watch_client(client, room, epoll)?;
        }
        for stream in Stream::BOTH {
            let wanted = !self.is_held_back(stream);
            let number = self.number;
            let Some(output) = &mut self.outputs[stream.index()] else { continue };
            let wanted = wanted && output.look_again.is_none();
            if wanted && !output.watched {
                let token = Token { topic: Topic::Output(stream), number };
                epoll.add(&output.end, token.encode(), EventFlags::IN)?;
            } else if !wanted && output.watched {
                epoll.remove(&output.end)?;
            }
            output.watched = wanted;
        }
        if let Some(stdin) = &self.stdin {
            let wanted = !stdin.has_room();
            if wanted && !self.stdin_watched {
                let token = Token { topic: Topic::Stdin, number: self.number };
                epoll.add(stdin, token.encode(), EventFlags::OUT)?;
            } else if !wanted && self.stdin_watched {
                epoll.remove(stdin)?;
            }
            self.stdin_watched = wanted;
        }
        Ok(())
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(|client| client.deadline(Some(&self.log)));
        let outputs = self.outputs.iter().flatten().filter_map(|output| output.look_again);
        let now = Instant::now();
        let drain = match &self.stage {
            Stage::Draining { until, .. } => Some(*until).filter(|until| *until > now),
            _ => None,
        };
        clients.chain(outputs).chain(drain).min()
    }

    /// Deals with deadlines that have passed.
    pub(crate) fn tick(&mut self, now: Instant, buffer: &mut Vec<u8>, epoll: &Epoll, served: &mut Served) {
        let ended = matches!(self.stage, Stage::Draining { .. });
        for client in &mut self.clients {
            client.tick(now, Some(&self.log), ended);
        }
        if let Some(output) = &mut self.outputs[0]
            && output.look_again.is_some_and(|time| now >= time)
        {
            output.look_again = None;
            self.pump(Stream::Stdout, buffer, epoll, served);
        }
    }
}

impl Output {
    fn new(end: OwnedFd) -> Self {
        Self { end, watched: false, grown: false, look_again: None }
    }
}

/// Drops the clients that need nothing more.
pub(crate) fn forget_done(clients: &mut Vec<Client>, epoll: &Epoll) {
    clients.retain(|client| {
        let done = client.is_done();
        if done && client.watched.is_some() {
            // A duplicate elsewhere would keep it watched.
            let _was_watched = epoll.remove(client);
        }
        !done
    });
}

/// Watches a client for exactly what can be dealt with now.
pub(crate) fn watch_client(client: &mut Client, room: bool, epoll: &Epoll) -> io::Result<()> {
    let wanted = client.interest(room);
    match (client.watched, wanted) {
        (None, Some(flags)) => epoll.add(&*client, client.token, flags)?,
        (Some(before), Some(flags)) if before != flags => epoll.modify(&*client, client.token, flags)?,
        (Some(_), None) => epoll.remove(&*client)?,
        _ => {}
    }
    client.watched = wanted;
    Ok(())
}

/// `size` bytes of a buffer. A new one comes from the kernel as zeroes that take no memory until written.
pub(crate) fn room(buffer: &mut Vec<u8>, size: usize) -> &mut [u8] {
    if buffer.len() < size {
        *buffer = vec![0; size];
    }
    &mut buffer[..size]
}

//! The loop: one process, one thread, everything that can happen to a container.

mod end;
mod setup;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use wharf_shim::protocol::{
    Answer, Carried, Event, Exit, Failure, RestartPolicy, SupervisorConfig, SupervisorFrame, Timestamp,
};
use wharf_sys::epoll::{Epoll, EventFlags, Ready};
use wharf_sys::mount::Recipe;
use wharf_sys::pidfd::{Ended, reap_rest};
use wharf_sys::signal::SignalFd;
use wharf_sys::socket::{self, Kind};
use wharf_sys::time::Instant;

use crate::client::Client;
use crate::control::{Connection, Received};
use crate::error::Error;
use crate::foreign::Foreign;
use crate::journal::Journal;
use crate::launch;
use crate::log::{Log, Stream};
use crate::memory::Memory;
use crate::restart::Restarts;
use crate::session::{CHUNK, Running, Served, Session, Stage, forget_done, room, watch_client};
use crate::token::{Token, Topic};

pub(crate) use setup::{Setup, kept_descriptors};

/// How long after the last output buffers are kept.
const BUFFERS_KEPT: Duration = Duration::from_millis(200);
/// How long children may take to end that were told to or are about to.
const LAST_CHILDREN: Duration = Duration::from_secs(1);
/// How often the kernel is asked meanwhile.
const REAPING_PAUSE: Duration = Duration::from_millis(10);

/// A container's supervisor.
#[derive(Debug)]
pub(crate) struct Supervisor {
    id: String,
    pub(crate) bundle: PathBuf,
    socket: PathBuf,
    /// How the root file system is mounted where its mount cannot be cloned.
    rootfs: Recipe,
    /// Who makes the processes, if it is not the runtime that is built in.
    pub(crate) foreign: Option<Foreign>,
    pub(crate) epoll: Epoll,
    signals: SignalFd,
    listener: OwnedFd,
    pub(crate) connections: Vec<Connection>,
    /// What lasts over restarts: the mount of the root file system where the kernel can clone one, the network
    /// namespace, what the daemon wants kept.
    pub(crate) lasting: Vec<(Carried, OwnedFd)>,
    pub(crate) container: Session,
    pub(crate) execs: Vec<Session>,
    /// Clients of processes that have ended, which have not taken everything yet.
    leaving: Vec<Client>,
    pub(crate) restarts: Restarts,
    pub(crate) life: Life,
    pub(crate) last_exit: Option<Exit>,
    journal: Journal,
    /// The container's cgroup and whether it shares another's pid namespace; known once it was started.
    facts: Option<(String, bool)>,
    /// Who is to hear how a set-up went: session, connection, request.
    asked: Vec<(u32, u32, u64)>,
    /// Ends of processes that no report has named yet.
    unclaimed: Vec<(i32, Ended, i64)>,
    next_number: u32,
    pub(crate) buffer: Vec<u8>,
    buffers_until: Option<Instant>,
    /// Whether hooks run after the end.
    poststop: bool,
    /// The kernel's kills for memory.
    pub(crate) memory: Memory,
    /// The log's generation that daemons know of.
    log_told: u64,
    /// The adopted process has ended: until when to wait for the one who reaped it to say how.
    reaped_until: Option<Instant>,
}

/// Where the container is in its life; what [`Stage`] cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nobody has asked for the launch yet.
    Created,
    /// Started at least once, and to be kept up.
    Active,
    /// The policy starts it again then.
    Waiting { at: Instant, until: Timestamp },
    /// Ended for good.
    Over,
}

impl Supervisor {
    /// Prepares to serve; `control` is the daemon's connection.
    ///
    /// # Errors
    /// What cannot be opened.
    pub(crate) fn new(
        config: SupervisorConfig,
        control: OwnedFd,
        lasting: Vec<(Carried, OwnedFd)>,
        resume: bool,
    ) -> Result<Self, Error> {
        wharf_sys::pidfd::become_subreaper().map_err(Error::doing("become subreaper"))?;
        let signals = SignalFd::block(&[SIGCHLD]).map_err(Error::doing("receive signals"))?;
        let epoll = Epoll::new().map_err(Error::doing("create epoll"))?;
        let listener = socket::listen(&config.socket, Kind::Messages).map_err(|error| Error::Path {
            doing: "listen on",
            path: config.socket.clone(),
            error,
        })?;
        let journal = Journal::open(&config.bundle, resume).map_err(|error| Error::Path {
            doing: "open journal in",
            path: config.bundle.clone(),
            error,
        })?;
        let foreign = Foreign::of(&config);
        let log = Log::open(config.log).map_err(Error::doing("open log"))?;
        let watch = |source: std::os::fd::BorrowedFd<'_>, topic| {
            epoll
                .add(source, Token { topic, number: 0 }.encode(), EventFlags::IN)
                .map_err(Error::doing("watch"))
        };
        watch(signals.as_fd(), Topic::Signals)?;
        watch(listener.as_fd(), Topic::Listener)?;
        let (log_told, _) = log.position();
        let mut supervisor = Self {
            id: config.id,
            bundle: config.bundle,
            socket: config.socket,
            rootfs: config.rootfs,
            foreign,
            epoll,
            signals,
            listener,
            connections: Vec::new(),
            lasting,
            container: Session::new(0, None, log, config.open_stdin, config.stdin_once),
            execs: Vec::new(),
            leaving: Vec::new(),
            restarts: Restarts::new(config.restart),
            life: Life::Created,
            last_exit: None,
            journal,
            facts: None,
            asked: Vec::new(),
            unclaimed: Vec::new(),
            next_number: 1,
            buffer: Vec::new(),
            buffers_until: None,
            poststop: false,
            memory: Memory::default(),
            log_told,
            reaped_until: None,
        };
        supervisor.add_connection(control).map_err(Error::doing("watch daemon"))?;
        Ok(supervisor)
    }

    /// Serves until the container has ended for good and everybody was told.
    ///
    /// # Errors
    /// Only what makes serving impossible.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let mut ready: Vec<Ready> = Vec::with_capacity(32);
        while !self.is_finished() {
            let timeout = self.deadline().map(|deadline| deadline.since(Instant::now()));
            self.epoll.wait(&mut ready, timeout).map_err(Error::doing("wait"))?;
            let mut served = Served::default();
            for one in &ready {
                if let Some(token) = Token::decode(one.token) {
                    self.dispatch(token, one.flags);
                }
            }
            self.tick(&mut served);
            self.rewatch().map_err(Error::doing("watch streams"))?;
        }
        if self.life != Life::Over {
            let _nobody_needs_the_name = socket::remove(&self.socket);
        }
        // The set-up child has reported, which is not to say that it has ended.
        reap_rest(LAST_CHILDREN);
        Ok(())
    }

    /// Over, and every client served; or never started, not about to, and no daemon left that could ask for it.
    fn is_finished(&self) -> bool {
        match self.life {
            Life::Over => self.leaving.is_empty(),
            Life::Created => self.connections.is_empty() && matches!(self.container.stage, Stage::Idle),
            Life::Active | Life::Waiting { .. } => false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let waiting = match self.life {
            Life::Waiting { at, .. } => Some(at),
            _ => None,
        };
        let sessions = self.execs.iter().chain([&self.container]).filter_map(Session::deadline);
        let leaving = self.leaving.iter().filter_map(|client| client.deadline(Some(&self.container.log)));
        let reaped = self.reaped_until.map(|_| Instant::now() + REAPING_PAUSE);
        let more = [self.buffers_until, reaped, self.memory.due];
        sessions.chain(leaving).chain(waiting).chain(more.into_iter().flatten()).min()
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags) {
        let mut served = Served::default();
        let number = token.number;
        match token.topic {
            Topic::Signals => self.reap(),
            Topic::Listener => self.accept(),
            Topic::Connection => self.serve_connection(number),
            Topic::Report => self.take_report(number),
            Topic::Output(stream) => self.serve_output(number, stream, &mut served),
            Topic::Stdin => self.serve_stdin(number, &mut served),
            Topic::Client => self.serve_client(number, flags, &mut served),
            Topic::Adopted => self.adopted_ended(),
            Topic::Oom => self.memory_lacked(),
        }
        self.account(number, &served);
    }

    /// Tells daemons what happened while streams were served.
    pub(crate) fn account(&mut self, number: u32, served: &Served) {
        if served.log_dropped > 0 {
            self.publish(&Event::LogDropped { lines: served.log_dropped });
        }
        for _ in 0..served.detached {
            let mut execs = self.execs.iter();
            let exec = execs.find(|exec| exec.number == number || exec.has_client(number));
            let exec = exec.and_then(|exec| exec.exec.clone());
            self.publish(&Event::Detached { exec });
        }
    }

    fn session(&mut self, number: u32) -> Option<&mut Session> {
        find(&mut self.container, &mut self.execs, number)
    }

    fn serve_output(&mut self, number: u32, stream: Stream, served: &mut Served) {
        self.buffers_until = Some(Instant::now() + BUFFERS_KEPT);
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(session) = find(&mut self.container, &mut self.execs, number) {
            session.pump(stream, &mut buffer, &self.epoll, served);
        }
        self.buffer = buffer;
    }

    fn serve_stdin(&mut self, number: u32, served: &mut Served) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(session) = find(&mut self.container, &mut self.execs, number) {
            session.flush_stdin(&self.epoll);
            session.hear_clients(&mut buffer, &self.epoll, served);
        }
        self.buffer = buffer;
    }

    fn serve_client(&mut self, number: u32, flags: EventFlags, served: &mut Served) {
        self.buffers_until = Some(Instant::now() + BUFFERS_KEPT);
        let mut buffer = std::mem::take(&mut self.buffer);
        for session in self.execs.iter_mut().chain([&mut self.container]) {
            if session.has_client(number) {
                session.serve_client(number, flags, &mut buffer, &self.epoll, served);
            }
        }
        if let Some(client) = self.leaving.iter_mut().find(|client| client.number == number) {
            client.ready(flags, &self.container.log);
            client.discard_input(room(&mut buffer, CHUNK));
        }
        self.buffer = buffer;
    }

    fn accept(&mut self) {
        while let Ok(Some(socket)) = socket::accept(&self.listener) {
            // Root's daemons only; anyone else finds the door closed.
            let ours = rustix::process::geteuid().as_raw();
            if socket::peer(&socket).is_ok_and(|peer| peer.uid == 0 || peer.uid == ours) {
                let _no_descriptors_left = self.add_connection(socket);
            }
        }
    }

    fn add_connection(&mut self, socket: OwnedFd) -> io::Result<()> {
        let number = self.number();
        let mut connection = Connection::new(number, socket);
        connection.watched = connection.interest();
        self.epoll.add(
            &connection,
            Token { topic: Topic::Connection, number }.encode(),
            connection.watched,
        )?;
        self.connections.push(connection);
        Ok(())
    }

    pub(crate) fn number(&mut self) -> u32 {
        let number = self.next_number;
        // 0 is the container.
        self.next_number = self.next_number.checked_add(1).unwrap_or(1);
        number
    }

    fn serve_connection(&mut self, number: u32) {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let Some(connection) = self.connections.iter_mut().find(|one| one.number == number) else {
                return;
            };
            connection.flush();
            let received = connection.receive(&mut buffer);
            self.buffer = buffer;
            self.buffers_until = Some(Instant::now() + BUFFERS_KEPT);
            match received {
                Received::Request(frame, descriptors) => {
                    self.obey(number, frame.number, frame.request, descriptors);
                }
                Received::Unknown { number: Some(request), reason } => {
                    self.answer(number, request, Answer::Failed(crate::requests::unknown(&reason)), &[]);
                }
                Received::Unknown { number: None, .. } => {}
                Received::Nothing => return,
                Received::Gone => {
                    self.connections.retain(|connection| connection.number != number);
                    return;
                }
            }
        }
    }

    /// Answers a request, if whoever asked is still there.
    pub(crate) fn answer(
        &mut self,
        connection: u32,
        number: u64,
        answer: Answer,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.number == connection) {
            connection.send(&SupervisorFrame::Answer { number, answer }, descriptors);
        }
    }

    /// Writes an event to the journal and tells every daemon.
    pub(crate) fn publish(&mut self, event: &Event) {
        // A journal that cannot be written (a full disk) must not keep the event from those who listen.
        let _journal_lacks_a_line = self.journal.append(event);
        let frame = SupervisorFrame::Event(event.clone());
        for connection in &mut self.connections {
            connection.send(&frame, &[]);
        }
    }

    /// Daemons compress what was rotated away; it is nothing to keep in the journal.
    fn tell_of_rotation(&mut self) {
        let (generation, _) = self.container.log.position();
        if std::mem::replace(&mut self.log_told, generation) != generation {
            for connection in &mut self.connections {
                connection.send(&SupervisorFrame::Event(Event::LogRotated), &[]);
            }
        }
    }

    /// Deals with everything whose time has come.
    fn tick(&mut self, served: &mut Served) {
        let now = Instant::now();
        let mut buffer = std::mem::take(&mut self.buffer);
        for session in self.execs.iter_mut().chain([&mut self.container]) {
            session.tick(now, &mut buffer, &self.epoll, served);
        }
        self.buffer = buffer;
        for client in &mut self.leaving {
            client.tick(now, Some(&self.container.log), true);
        }
        self.account(0, &std::mem::take(served));
        self.tell_of_rotation();
        if let Some(until) = self.reaped_until {
            self.look_at_reaped(until, now);
        }
        self.conclude_execs(now);
        if self.container.is_drained(now) && self.execs.is_empty() {
            self.conclude();
        }
        if let Life::Waiting { at, .. } = self.life
            && now >= at
        {
            self.life = Life::Active;
            if let Err(error) = self.set_up(0, Setup::Container) {
                self.restart_failed(Failure::other(format!("start set-up process: {error}")));
            }
        }
        if self.memory.due.is_some_and(|due| now >= due) {
            self.look_at_memory(now);
        }
        if self.buffers_until.is_some_and(|until| now >= until) {
            self.give_back_buffers();
        }
    }

    fn give_back_buffers(&mut self) {
        self.buffers_until = None;
        self.buffer = Vec::new();
        self.container.log.shrink();
        wharf_sys::memory::give_back();
    }

    fn rewatch(&mut self) -> io::Result<()> {
        self.connections.retain(|connection| !connection.is_broken());
        for connection in &mut self.connections {
            let interest = connection.interest();
            if interest != connection.watched {
                connection.watched = interest;
                let token = Token { topic: Topic::Connection, number: connection.number };
                self.epoll.modify(&*connection, token.encode(), interest)?;
            }
        }
        for session in self.execs.iter_mut().chain([&mut self.container]) {
            session.rewatch(&self.epoll)?;
        }
        forget_done(&mut self.leaving, &self.epoll);
        for client in &mut self.leaving {
            watch_client(client, true, &self.epoll)?;
        }
        Ok(())
    }

    /// Takes over a running container whose supervisor was killed.
    pub(crate) fn adopt(&mut self, running: Running, streams: Vec<(Carried, OwnedFd)>) -> Result<(), Error> {
        self.epoll
            .add(&running.pidfd, Token { topic: Topic::Adopted, number: 0 }.encode(), EventFlags::IN)
            .map_err(Error::doing("watch process"))?;
        self.container.take_streams(streams).map_err(Error::doing("take over streams"))?;
        self.container.stage = Stage::Running(running);
        self.facts = Some((launch::cgroup_path(&self.bundle), launch::shares_pids_in(&self.bundle)));
        self.poststop = self.foreign.is_none() && launch::has_poststop_in(&self.bundle);
        self.life = Life::Active;
        self.memory = Memory::started();
        Ok(())
    }

    pub(crate) fn set_restart(&mut self, policy: RestartPolicy) {
        self.restarts.set_policy(policy);
    }
}

/// A session by its number; 0 is the container.
fn find<'a>(container: &'a mut Session, execs: &'a mut [Session], number: u32) -> Option<&'a mut Session> {
    if number == 0 { Some(container) } else { execs.iter_mut().find(|exec| exec.number == number) }
}

const SIGCHLD: i32 = 17;

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

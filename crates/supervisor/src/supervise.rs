//! The loop: one process, one thread, everything that can happen to a container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use wharf_shim::protocol::{
    Answer, Carried, Event, Exit, Failure, RestartPolicy, SupervisorConfig, SupervisorFrame, Timestamp,
};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::epoll::{Epoll, EventFlags, Ready};
use wharf_sys::pidfd::{Ended, PidFd, reap_any, reap_rest};
use wharf_sys::signal::SignalFd;
use wharf_sys::socket::{self, Kind};
use wharf_sys::time::{Instant, wall_nanos};

use crate::client::Client;
use crate::control::{Connection, Received};
use crate::error::Error;
use crate::foreign::Foreign;
use crate::journal::Journal;
use crate::launch::{self, Facts, Job, Report};
use crate::log::{Log, Stream};
use crate::memory::Memory;
use crate::restart::Restarts;
use crate::session::{CHUNK, Finished, Running, Served, Session, Stage, forget_done, room, watch_client};
use crate::token::{Token, Topic};

/// How long after the last output buffers are kept.
const BUFFERS_KEPT: Duration = Duration::from_millis(200);
/// How long removing the cgroup is tried while killed processes still leave it.
const REMOVAL: Duration = Duration::from_secs(2);
/// How long children may take to end that were told to or are about to.
const LAST_CHILDREN: Duration = Duration::from_secs(1);
/// How often it is tried.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);
/// How long whoever reaped an adopted process has to say how it ended.
const REAPING: Duration = Duration::from_secs(2);
/// How often the kernel is asked meanwhile.
const REAPING_PAUSE: Duration = Duration::from_millis(10);
/// The code of a restart that failed before the program ran, as Docker records it.
const FAILED_RESTART: i32 = 128;

/// A container's supervisor.
#[derive(Debug)]
pub(crate) struct Supervisor {
    id: String,
    pub(crate) bundle: PathBuf,
    socket: PathBuf,
    /// Who makes the processes, if it is not the runtime that is built in.
    pub(crate) foreign: Option<Foreign>,
    pub(crate) epoll: Epoll,
    signals: SignalFd,
    listener: OwnedFd,
    connections: Vec<Connection>,
    /// What lasts over restarts: the mount of the root file system where the kernel can clone one, the network
    /// namespace, what the daemon wants kept.
    lasting: Vec<(Carried, OwnedFd)>,
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

    /// Starts the set-up child for the container (`process` is `None`) or an exec.
    pub(crate) fn set_up(&mut self, number: u32, job: Setup<'_>) -> io::Result<()> {
        let job = match (job, &self.container.stage) {
            (Setup::Container, _) => {
                Job::Launch { root: self.lasting(Carried::Root), network: self.lasting(Carried::Netns) }
            }
            (Setup::Exec(process), Stage::Running(running)) => {
                Job::Exec { init: running.pidfd.as_fd(), process }
            }
            (Setup::Exec(_), _) => return Err(rustix::io::Errno::SRCH.into()),
        };
        let open_stdin = match number {
            0 => self.container.open_stdin,
            _ => self.execs.iter().any(|exec| exec.number == number && exec.open_stdin),
        };
        let report = launch::start(&self.bundle, self.foreign.as_ref(), &job, open_stdin)?;
        self.epoll.add(&report, Token { topic: Topic::Report, number }.encode(), EventFlags::IN)?;
        if let Some(session) = self.session(number) {
            session.stage = Stage::SettingUp { report, signals: Vec::new() };
        }
        Ok(())
    }

    fn lasting(&self, kind: Carried) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.lasting.iter().find(|(one, _)| *one == kind).map(|(_, fd)| fd.as_fd())
    }

    /// Holds descriptors for a daemon, in place of those held under the same names.
    pub(crate) fn hold(&mut self, given: impl Iterator<Item = (Carried, OwnedFd)>) {
        for (kind, fd) in given.filter(|(kind, _)| kind.lasts()) {
            self.lasting.retain(|(held, _)| *held != kind);
            self.lasting.push((kind, fd));
        }
    }

    /// Remembers who is to hear how the set-up of a session went.
    pub(crate) fn remember_asker(&mut self, session: u32, connection: u32, request: u64) {
        self.asked.push((session, connection, request));
    }

    fn take_report(&mut self, number: u32) {
        let Some(session) = self.session(number) else { return };
        let Stage::SettingUp { report, signals } = std::mem::replace(&mut session.stage, Stage::Idle) else {
            return;
        };
        let _was_watched = self.epoll.remove(&report);
        match launch::receive(&report) {
            (Report::Started(facts), descriptors) => {
                if let Err(error) = self.started(number, facts, descriptors, &signals) {
                    self.failed(number, Failure::other(format!("take over process: {error}")));
                }
            }
            (Report::Failed(failure), _) => self.failed(number, failure),
        }
        if self.foreign.is_some() {
            self.reap();
        }
        if !self.is_setting_up() {
            self.unclaimed.clear();
        }
    }

    fn is_setting_up(&self) -> bool {
        self.execs.iter().chain([&self.container]).any(|one| matches!(one.stage, Stage::SettingUp { .. }))
    }

    fn started(
        &mut self,
        number: u32,
        facts: Facts,
        descriptors: Vec<OwnedFd>,
        signals: &[i32],
    ) -> io::Result<()> {
        let mut streams: Vec<_> = facts.descriptors.into_iter().zip(descriptors).collect();
        let pidfd = streams.iter().position(|(kind, _)| *kind == Carried::Pidfd);
        let pidfd = PidFd::from(pidfd.map(|at| streams.swap_remove(at).1).ok_or(rustix::io::Errno::BADF)?);
        for &signal in signals {
            let _ended_already = pidfd.signal(signal);
        }
        let (pid, started_at) = (facts.pid, Timestamp(wall_nanos()));
        let Some(session) = self.session(number) else { return Ok(()) };
        session.take_streams(streams)?;
        session.stage = Stage::Running(Running { pid, pidfd, started_at, since: Instant::now() });
        if number == 0 {
            self.facts = Some((facts.cgroup, facts.shares_pids));
            self.poststop = facts.poststop;
            self.life = Life::Active;
            self.memory = Memory::started();
        }
        self.report_start(number, pid, started_at, facts.warnings);
        if number == 0 {
            let restart_count = self.restarts.count();
            self.publish(&Event::Started { pid, started_at, restart_count });
        }
        let mut served = Served::default();
        self.serve_stdin(number, &mut served);
        self.account(number, &served);
        // It may have ended before its report was read.
        if let Some(at) = self.unclaimed.iter().position(|(known, ..)| *known == pid) {
            let (_, how, time) = self.unclaimed.swap_remove(at);
            self.process_ended(number, Some(how), time);
        }
        Ok(())
    }

    /// Answers whoever asked for the start, with the descriptors a daemon keeps.
    fn report_start(&mut self, number: u32, pid: i32, started_at: Timestamp, warnings: Vec<String>) {
        let Some(at) = self.asked.iter().position(|(session, ..)| *session == number) else { return };
        let (_, connection, request) = self.asked.swap_remove(at);
        let mut carried = if number == 0 { self.kept_descriptors() } else { Vec::new() };
        let kinds = carried.iter().map(|(kind, _)| *kind).collect();
        let fds: Vec<_> = carried.drain(..).map(|(_, fd)| fd).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let answer = Answer::Started { pid, started_at, descriptors: kinds, warnings };
        self.answer(connection, request, answer, &fds);
    }

    /// Duplicates of what a daemon keeps for the case that this process is killed.
    pub(crate) fn kept_descriptors(&self) -> Vec<(Carried, OwnedFd)> {
        let pidfd = match &self.container.stage {
            Stage::Running(running) => Some((Carried::Pidfd, running.pidfd.as_fd())),
            _ => None,
        };
        let lasting = self.lasting.iter().map(|(kind, fd)| (*kind, fd.as_fd()));
        let all = pidfd.into_iter().chain(lasting).chain(self.container.descriptors());
        // Without a descriptor to spare, the daemon goes without.
        all.filter_map(|(kind, fd)| Some((kind, fd.try_clone_to_owned().ok()?))).collect()
    }

    fn failed(&mut self, number: u32, failure: Failure) {
        let asker = self.asked.iter().position(|(session, ..)| *session == number);
        let asker = asker.map(|at| self.asked.swap_remove(at));
        let mut served = Served::default();
        if number == 0 {
            self.container.close(&self.epoll, &mut served);
            self.leaving.append(&mut self.container.clients);
            self.remove_cgroup();
        } else if let Some(at) = self.execs.iter().position(|exec| exec.number == number) {
            let mut exec = self.execs.swap_remove(at);
            exec.say_failure(&failure.message);
            exec.close(&self.epoll, &mut served);
            self.leaving.append(&mut exec.clients);
        }
        match asker {
            Some((_, connection, request)) => {
                if number == 0 {
                    self.finish();
                    if !self.connections.iter().any(|one| one.number == connection) {
                        // Its daemon is gone: another hears of it this way.
                        let event = Event::RestartFailed {
                            failure: failure.clone(),
                            restart_in_ms: None,
                            restart_count: self.restarts.count(),
                        };
                        self.publish(&event);
                        self.settle();
                    }
                }
                self.answer(connection, request, Answer::Failed(failure), &[]);
            }
            None if number == 0 => self.restart_failed(failure),
            None => {}
        }
    }

    fn restart_failed(&mut self, failure: Failure) {
        let exit =
            Exit { code: Some(FAILED_RESTART), oom_killed: false, finished_at: Timestamp(wall_nanos()) };
        self.last_exit = Some(exit);
        let wait = self.restarts.after_end(exit.code, Duration::ZERO);
        self.wait_or_finish(wait);
        let restart_count = self.restarts.count();
        self.publish(&Event::RestartFailed { failure, restart_in_ms: wait.map(millis), restart_count });
        self.settle();
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.next() {}
        if self.foreign.is_some() && self.is_setting_up() {
            // A foreign runtime names its process by a number only, which must not be another's before it is known.
            return;
        }
        while let Ok(Some((pid, how))) = reap_any() {
            let now = wall_nanos();
            let is_it = |session: &&Session| matches!(&session.stage, Stage::Running(one) if one.pid == pid);
            let number = self.execs.iter().chain([&self.container]).find(is_it).map(|session| session.number);
            match number {
                Some(number) => self.process_ended(number, Some(how), now),
                None if self.is_setting_up() => self.unclaimed.push((pid, how, now)),
                None => {}
            }
        }
    }

    fn adopted_ended(&mut self) {
        if let Stage::Running(running) = &self.container.stage {
            let _was_watched = self.epoll.remove(&running.pidfd);
            self.reaped_until = Some(Instant::now() + REAPING);
        }
    }

    /// An adopted process is another's child: how it ended is known from 6.15 on once that one reaped it, and before
    /// by the daemon's word, if it was the daemon's.
    fn look_at_reaped(&mut self, until: Instant, now: Instant) {
        let Stage::Running(running) = &self.container.stage else { return };
        let how = running.pidfd.exit_info();
        let hopeless = self.connections.is_empty() && running.pidfd.signal(0).is_err();
        if how.is_some() || hopeless || now >= until {
            self.reaped(how);
        }
    }

    /// How the adopted process ended; `None`: nobody can know.
    pub(crate) fn reaped(&mut self, how: Option<Ended>) {
        if let Stage::Running(running) = &self.container.stage {
            let _was_watched = self.epoll.remove(&running.pidfd);
            self.reaped_until = None;
            self.process_ended(0, how, wall_nanos());
        }
    }

    pub(crate) fn process_ended(&mut self, number: u32, how: Option<Ended>, at: i64) {
        let mut served = Served::default();
        if number == 0 && (!self.execs.is_empty() || self.facts.as_ref().is_some_and(|(_, shares)| *shares)) {
            // What shares the pid namespace of others is not ended by the end of its first process.
            self.kill_all();
            for exec in &self.execs {
                if let Stage::Running(running) = &exec.stage {
                    let _ended_already = running.pidfd.kill();
                }
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(session) = find(&mut self.container, &mut self.execs, number) {
            let finished = Finished { how, at: Timestamp(at) };
            session.process_ended(finished, &mut buffer, &self.epoll, &mut served);
        }
        self.buffer = buffer;
        self.buffers_until = Some(Instant::now() + BUFFERS_KEPT);
        self.account(number, &served);
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

    fn conclude_execs(&mut self, now: Instant) {
        while let Some(at) = self.execs.iter().position(|exec| exec.is_drained(now)) {
            let mut exec = self.execs.swap_remove(at);
            let Stage::Draining { ended, .. } = exec.stage else { continue };
            exec.close(&self.epoll, &mut Served::default());
            self.leaving.append(&mut exec.clients);
            let exit =
                Exit { code: ended.how.map(Ended::shell_code), oom_killed: false, finished_at: ended.at };
            self.publish(&Event::ExecExited { id: exec.exec.take().unwrap_or_default(), exit });
        }
    }

    /// The container's process has ended and said all it had to say.
    fn conclude(&mut self) {
        let Stage::Draining { ended, ran, .. } = std::mem::replace(&mut self.container.stage, Stage::Idle)
        else {
            return;
        };
        let mut served = Served::default();
        self.container.close(&self.epoll, &mut served);
        self.leaving.append(&mut self.container.clients);
        self.account(0, &served);
        let exit = self.exit_of(ended);
        self.last_exit = Some(exit);
        self.remove_cgroup();
        self.run_poststop();
        let wait = self.restarts.after_end(exit.code, ran);
        self.wait_or_finish(wait);
        let restart_count = self.restarts.count();
        self.publish(&Event::Exited { exit, restart_in_ms: wait.map(millis), restart_count });
        self.settle();
    }

    fn exit_of(&mut self, ended: Finished) -> Exit {
        let kills = self.tell_of_kills();
        self.forget_memory();
        let code = ended.how.map(Ended::shell_code);
        Exit { code, oom_killed: kills > 0, finished_at: ended.at }
    }

    fn wait_or_finish(&mut self, wait: Option<Duration>) {
        match wait {
            Some(wait) => {
                let nanos = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
                let until = Timestamp(wall_nanos().saturating_add(nanos));
                self.life = Life::Waiting { at: Instant::now() + wait, until };
            }
            None => self.finish(),
        }
    }

    /// Ended for good. The name goes first, so that a new supervisor can have it as soon as anyone knows.
    fn finish(&mut self) {
        self.life = Life::Over;
        let _stale_names_are_replaced = socket::remove(&self.socket);
    }

    /// After everybody was told: makes the records durable. Power may fail before, for at most as long as
    /// this takes. A daemon that was told has them on the disk within a second, and one sync does for many.
    fn settle(&mut self) {
        if self.connections.iter().any(|connection| !connection.is_broken()) {
            return;
        }
        let _without_a_disk_there_is_no_record = self.journal.sync();
        if self.life == Life::Over {
            let _as_for_the_journal = self.container.log.sync();
        }
    }

    /// A person asked for the stop; a container that waits for its restart has ended with that.
    pub(crate) fn stop_intended(&mut self) {
        self.restarts.intend_stop();
        if let (Life::Waiting { .. }, Some(exit)) = (self.life, self.last_exit) {
            self.finish();
            let restart_count = self.restarts.count();
            self.publish(&Event::Exited { exit, restart_in_ms: None, restart_count });
            self.settle();
        }
    }

    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        let (path, _) = self.facts.as_ref()?;
        if path.is_empty() { None } else { Cgroup::open(path).ok() }
    }

    /// Kills every process of the container.
    pub(crate) fn kill_all(&mut self) {
        if let Stage::SettingUp { signals, .. } = &mut self.container.stage {
            signals.push(SIGKILL);
        }
        if let Some(cgroup) = self.cgroup() {
            // What cannot be killed this way is left to the end of the pid namespace.
            let _refused = cgroup.kill_all();
        }
        if let Stage::Running(running) = &self.container.stage {
            let _ended_already = running.pidfd.kill();
        }
    }

    /// The end is told after the hooks, as the specification has it; a failure changes nothing about the end.
    fn run_poststop(&mut self) {
        if std::mem::take(&mut self.poststop) {
            use std::io::Write;
            for failure in launch::run_poststop(&self.bundle, &self.id) {
                let _nobody_reads = writeln!(io::stderr(), "container {}: {failure}", self.id);
            }
        }
    }

    /// Removes the cgroup; processes that were killed may take a moment to leave it.
    fn remove_cgroup(&self) {
        if let Some(foreign) = &self.foreign {
            foreign.delete();
        }
        let path = match &self.facts {
            Some((path, _)) => path.clone(),
            None => launch::cgroup_path(&self.bundle),
        };
        let Some(cgroup) =
            Some(path).filter(|path| !path.is_empty()).and_then(|path| Cgroup::open(&path).ok())
        else {
            return;
        };
        let start = Instant::now();
        while cgroup.remove().is_err() && Instant::now().since(start) < REMOVAL {
            let _ended_already = cgroup.kill_all();
            // Killed orphans are this process's children.
            while let Ok(Some(_)) = reap_any() {}
            std::thread::sleep(REMOVAL_PAUSE);
        }
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

/// What to set up.
#[derive(Debug)]
pub(crate) enum Setup<'a> {
    Container,
    Exec(&'a wharf_oci::runtime::Process),
}

const SIGCHLD: i32 = 17;
const SIGKILL: i32 = 9;

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

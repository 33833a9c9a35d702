//! Setting up: the child that makes a process, what it reports, and what happens when it fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use wharf_runtime::RootSource;
use wharf_shim::protocol::{Answer, Carried, Event, Exit, Failure, SupervisorFrame, Timestamp};
use wharf_sys::epoll::EventFlags;
use wharf_sys::pidfd::PidFd;
use wharf_sys::time::{Instant, wall_nanos};

use super::{Life, Supervisor, millis};
use crate::launch::{self, Facts, Job, Report};
use crate::memory::Memory;
use crate::session::{Running, Served, Session, Stage};
use crate::token::{Token, Topic};

/// The code of a restart that failed before the program ran, as Docker records it.
const FAILED_RESTART: i32 = 128;

/// What to set up.
#[derive(Debug)]
pub(crate) enum Setup<'a> {
    Container,
    Exec(&'a wharf_oci::runtime::Process),
}

impl Supervisor {
    /// Starts the set-up child for the container (`process` is `None`) or an exec.
    pub(crate) fn set_up(&mut self, number: u32, job: Setup<'_>) -> io::Result<()> {
        let job = match (job, &self.container.stage) {
            (Setup::Container, _) => {
                let root = RootSource { mount: self.lasting(Carried::Root), recipe: &self.rootfs };
                Job::Launch { id: &self.id, root, network: self.lasting(Carried::Netns) }
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

    fn lasting(&self, kind: Carried) -> Option<BorrowedFd<'_>> {
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

    pub(super) fn take_report(&mut self, number: u32) {
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

    pub(super) fn is_setting_up(&self) -> bool {
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
        let pid = facts.pid;
        // It may have ended before its report was read; it started no later.
        let ended = self.unclaimed.iter().position(|(known, ..)| *known == pid);
        let ended = ended.map(|at| self.unclaimed.swap_remove(at));
        let started_at = Timestamp(ended.map_or(i64::MAX, |(_, _, at)| at).min(wall_nanos()));
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
        if let Some((_, how, at)) = ended {
            self.process_ended(number, Some(how), at);
        }
        Ok(())
    }

    /// Answers whoever asked for the start, with the descriptors a daemon keeps.
    fn report_start(&mut self, number: u32, pid: i32, started_at: Timestamp, warnings: Vec<String>) {
        let Some(at) = self.asked.iter().position(|(session, ..)| *session == number) else { return };
        let (_, connection, request) = self.asked.swap_remove(at);
        let Some(connection) = self.connections.iter_mut().find(|one| one.number == connection) else {
            return;
        };
        let carried = if number == 0 { kept_descriptors(&self.container, &self.lasting) } else { Vec::new() };
        let (descriptors, fds): (Vec<_>, Vec<_>) = carried.into_iter().unzip();
        let answer = Answer::Started { pid, started_at, descriptors, warnings };
        connection.send(&SupervisorFrame::Answer { number: request, answer }, &fds);
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

    pub(super) fn restart_failed(&mut self, failure: Failure) {
        let exit =
            Exit { code: Some(FAILED_RESTART), oom_killed: false, finished_at: Timestamp(wall_nanos()) };
        self.last_exit = Some(exit);
        let wait = self.restarts.after_end(exit.code, Duration::ZERO);
        self.wait_or_finish(wait);
        let restart_count = self.restarts.count();
        self.publish(&Event::RestartFailed { failure, restart_in_ms: wait.map(millis), restart_count });
        self.settle();
    }
}

/// What a daemon keeps for the case that this process is killed.
pub(crate) fn kept_descriptors<'a>(
    container: &'a Session,
    lasting: &'a [(Carried, OwnedFd)],
) -> Vec<(Carried, BorrowedFd<'a>)> {
    let pidfd = match &container.stage {
        Stage::Running(running) => Some((Carried::Pidfd, running.pidfd.as_fd())),
        _ => None,
    };
    let lasting = lasting.iter().map(|(kind, fd)| (*kind, fd.as_fd()));
    pidfd.into_iter().chain(lasting).chain(container.descriptors()).collect()
}

//! What each request of a daemon does.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use wharf_oci::runtime::Process;
use wharf_shim::protocol::{
    Answer, Attach, Failure, FailureKind, PROTOCOL_VERSION, Phase, Request, Status, SupervisorFrame,
    Timestamp,
};
use wharf_sys::pidfd::Ended;
use wharf_sys::time::wall_nanos;

use crate::client::Client;
use crate::log::Log;
use crate::session::{Session, Stage};
use crate::supervise::{Life, Setup, Supervisor, kept_descriptors};
use crate::token::{Token, Topic};

/// A request this supervisor does not know, or cannot read.
pub(crate) fn unknown(reason: &str) -> Failure {
    Failure::other(format!("supervisor does not understand the request: {reason}"))
}

fn conflict(message: &str) -> Failure {
    Failure { kind: FailureKind::Conflict, message: message.into() }
}

impl Supervisor {
    /// Does what a daemon asks; requests that start a process are answered when that is done.
    pub(crate) fn obey(&mut self, connection: u32, number: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let result = match request {
            Request::Hello { .. } => Ok(Some(Answer::Hello { version: PROTOCOL_VERSION })),
            Request::Launch => self.launch(connection, number),
            Request::Attach(attach) => self.attach(attach, descriptors).map(done),
            Request::Exec { id, process, open_stdin, attach } => {
                let attach = attach.zip(descriptors.into_iter().next());
                self.exec(connection, number, id, &process, open_stdin, attach)
            }
            Request::Resize { exec, height, width } => self.resize(exec.as_deref(), height, width).map(done),
            Request::Signal { exec, signal } => self.signal(exec.as_deref(), signal).map(done),
            Request::KillAll => {
                self.kill_all();
                Ok(Some(Answer::Done))
            }
            Request::StopIntended => {
                self.stop_intended();
                Ok(Some(Answer::Done))
            }
            Request::UpdateRestart { restart } => {
                self.set_restart(restart);
                Ok(Some(Answer::Done))
            }
            Request::Reaped { code } => {
                self.reaped(Some(Ended::Code(code)));
                Ok(Some(Answer::Done))
            }
            Request::Keep { descriptors: kinds } => {
                self.hold(kinds.into_iter().zip(descriptors));
                Ok(Some(Answer::Done))
            }
            Request::LogCompressed { inode, file } => self.log_compressed(inode, &file).map(done),
            Request::Status => return self.status(connection, number),
        };
        match result {
            Ok(Some(answer)) => self.answer(connection, number, answer, &[]),
            Ok(None) => {}
            Err(failure) => self.answer(connection, number, Answer::Failed(failure), &[]),
        }
    }

    fn launch(&mut self, connection: u32, number: u64) -> Result<Option<Answer>, Failure> {
        if self.life != Life::Created || !matches!(self.container.stage, Stage::Idle) {
            return Err(conflict("container was started already"));
        }
        self.remember_asker(0, connection, number);
        self.set_up(0, Setup::Container)
            .map_err(|error| Failure::other(format!("start set-up process: {error}")))?;
        Ok(None)
    }

    fn attach(&mut self, attach: Attach, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        if self.life == Life::Over {
            return Err(conflict("container has ended"));
        }
        let Some(socket) = descriptors.into_iter().next() else {
            return Err(Failure::other("attach came without a connection".into()));
        };
        let client = self.client(attach, socket, true);
        self.container.clients.push(client);
        self.container.greet_clients();
        self.hear(0);
        Ok(())
    }

    fn client(&mut self, attach: Attach, socket: OwnedFd, with_log: bool) -> Client {
        let number = self.number();
        let token = Token { topic: Topic::Client, number }.encode();
        Client::new(number, token, attach, socket, with_log.then_some(&self.container.log))
    }

    /// Reads what the clients of a session had said before.
    fn hear(&mut self, number: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut served = crate::session::Served::default();
        if number == 0 {
            self.container.hear_clients(&mut buffer, &self.epoll, &mut served);
        }
        self.buffer = buffer;
        self.account(number, &served);
    }

    fn exec(
        &mut self,
        connection: u32,
        number: u64,
        id: String,
        process: &Process,
        open_stdin: bool,
        attach: Option<(Attach, OwnedFd)>,
    ) -> Result<Option<Answer>, Failure> {
        if !matches!(self.container.stage, Stage::Running(_)) {
            return Err(conflict("container is not running"));
        }
        if self.execs.iter().any(|exec| exec.exec.as_deref() == Some(&id)) {
            return Err(conflict("exec is running already"));
        }
        let session_number = self.number();
        let mut session = Session::new(session_number, Some(id), Log::none(), open_stdin, true);
        if let Some((attach, socket)) = attach {
            session.clients.push(self.client(attach, socket, false));
        }
        self.execs.push(session);
        self.remember_asker(session_number, connection, number);
        match self.set_up(session_number, Setup::Exec(process)) {
            Ok(()) => Ok(None),
            Err(error) => {
                self.execs.retain(|exec| exec.number != session_number);
                Err(Failure::other(format!("start set-up process: {error}")))
            }
        }
    }

    fn named(&mut self, exec: Option<&str>) -> Result<&mut Session, Failure> {
        match exec {
            None => Ok(&mut self.container),
            Some(id) => self
                .execs
                .iter_mut()
                .find(|session| session.exec.as_deref() == Some(id))
                .ok_or_else(|| conflict("exec is not running")),
        }
    }

    fn resize(&mut self, exec: Option<&str>, height: u16, width: u16) -> Result<(), Failure> {
        self.named(exec)?
            .resize(height, width)
            .map_err(|error| Failure::other(format!("resize terminal: {error}")))
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32) -> Result<(), Failure> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(ESRCH) => conflict("process has ended"),
            _ => Failure::other(format!("send signal {signal}: {error}")),
        };
        if let (None, Some(foreign), Stage::Running(_)) = (exec, &self.foreign, &self.container.stage)
            && foreign.kill(signal).is_ok()
        {
            return Ok(());
        }
        match &mut self.named(exec)?.stage {
            Stage::Running(running) => running.pidfd.signal(signal).map_err(failed),
            Stage::SettingUp { signals, .. } => {
                signals.push(signal);
                Ok(())
            }
            Stage::Idle | Stage::Draining { .. } => Err(conflict("process is not running")),
        }
    }

    fn log_compressed(&mut self, inode: u64, file: &Path) -> Result<(), Failure> {
        if self.container.clients.iter().any(Client::is_fed_from_log) {
            return Err(conflict("a client is fed from the log"));
        }
        self.container.log.put_compressed(inode, file).map_err(|error| {
            Failure::other(format!("put compressed log {} in its place: {error}", file.display()))
        })
    }

    fn status(&mut self, connection: u32, number: u64) {
        let phase = match (&self.container.stage, self.life) {
            (_, Life::Over) => Phase::Ended,
            // On its way: what it comes to is told like a start by the policy.
            (Stage::SettingUp { .. }, Life::Created) => Phase::Restarting { until: Timestamp(wall_nanos()) },
            (Stage::Running(running), _) => {
                Phase::Running { pid: running.pid, started_at: running.started_at }
            }
            (_, Life::Waiting { until, .. }) => Phase::Restarting { until },
            (Stage::Draining { ended, .. }, _) => Phase::Restarting { until: ended.at },
            (_, Life::Created) => Phase::Created,
            (_, Life::Active) => Phase::Restarting { until: Timestamp(wall_nanos()) },
        };
        let running = |exec: &Session| match (&exec.stage, &exec.exec) {
            (Stage::Running(running), Some(id)) => Some((id.clone(), running.pid)),
            _ => None,
        };
        let Some(connection) = self.connections.iter_mut().find(|one| one.number == connection) else {
            return;
        };
        let carried = kept_descriptors(&self.container, &self.lasting);
        let (descriptors, fds): (Vec<_>, Vec<_>) = carried.into_iter().unzip();
        let status = Status {
            phase,
            restart_count: self.restarts.count(),
            last_exit: self.last_exit,
            execs: self.execs.iter().filter_map(running).collect(),
            descriptors,
        };
        connection.send(&SupervisorFrame::Answer { number, answer: Answer::Status(Box::new(status)) }, &fds);
    }
}

const ESRCH: i32 = 3;

fn done((): ()) -> Option<Answer> {
    Some(Answer::Done)
}

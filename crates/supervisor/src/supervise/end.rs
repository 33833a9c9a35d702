//! Ends: of processes, of the container, of this process; what is recorded, told and taken away then.

use std::io;
use std::time::Duration;

use wharf_shim::protocol::{Event, Exit, Timestamp};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::pidfd::{Ended, reap_any};
use wharf_sys::socket;
use wharf_sys::time::{Instant, wall_nanos};

use super::{BUFFERS_KEPT, Life, Supervisor, find, millis};
use crate::launch;
use crate::session::{Finished, Served, Session, Stage};

/// How long removing the cgroup is tried while killed processes still leave it.
const REMOVAL: Duration = Duration::from_secs(2);
/// How often it is tried.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);
/// How long whoever reaped an adopted process has to say how it ended.
const REAPING: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;

impl Supervisor {
    pub(super) fn reap(&mut self) {
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

    pub(super) fn adopted_ended(&mut self) {
        if let Stage::Running(running) = &self.container.stage {
            let _was_watched = self.epoll.remove(&running.pidfd);
            self.reaped_until = Some(Instant::now() + REAPING);
        }
    }

    /// An adopted process is another's child: how it ended is known from 6.15 on once that one reaped it, and before
    /// by the daemon's word, if it was the daemon's.
    pub(super) fn look_at_reaped(&mut self, until: Instant, now: Instant) {
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

    pub(super) fn conclude_execs(&mut self, now: Instant) {
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
    pub(super) fn conclude(&mut self) {
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

    pub(super) fn wait_or_finish(&mut self, wait: Option<Duration>) {
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
    pub(super) fn finish(&mut self) {
        self.life = Life::Over;
        let _stale_names_are_replaced = socket::remove(&self.socket);
    }

    /// After everybody was told: makes the records durable. Power may fail before, for at most as long as
    /// this takes. A daemon that was told has them on the disk within a second, and one sync does for many.
    pub(super) fn settle(&mut self) {
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
    pub(super) fn remove_cgroup(&self) {
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
}

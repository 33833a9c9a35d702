//! What follows from what a supervisor says: starts by the policy, ends, losses.

use wharf_shim::protocol::{Exit, Failure, Timestamp};
use wharf_sys::failpoint;
use wharf_sys::time::wall_nanos;

use super::Happening;
use super::driver::{After, Driver, Ending, answer};
use super::record::Life;
use super::start::NotStarted;
use super::state::{LastRun, Running, State};
use super::wait::Milestone;
use crate::error::Result;
use crate::events::Kind;
use crate::pools::Class;
use crate::recover::journal::{self, Told};

const NANOS: i64 = 1_000_000_000;

impl Driver {
    /// The policy started the process again. False: that start is known.
    pub(super) fn restarted(&mut self, pid: i32, started_at: Timestamp, restart_count: u32) -> bool {
        let mut life = self.life();
        if life.state.process().is_some_and(|running| running.pid == pid) {
            return false;
        }
        life.state = State::Running(Running { pid, started_at });
        (life.restart_count, life.oom) = (restart_count, false);
        self.networks("connect");
        self.set(life);
        self.emit("start", &[]);
        self.tell(Happening::Started);
        true
    }

    /// Copies what the supervisor holds now, after a start that nobody here had asked for.
    pub(super) async fn keep(&mut self) {
        let Some(handle) = self.container.handle() else { return };
        match handle.status().await {
            Ok((_, kept)) => self.kept = kept,
            Err(error) => tracing::warn!("container {}: {error}", self.container.id()),
        }
    }

    /// The process ended. `again`: the policy will start another.
    pub(super) async fn ended(&mut self, exit: Exit, again: bool, restart_count: u32, error: String) {
        let life = self.life();
        if !life.state.is_active() {
            return;
        }
        failpoint::pass("end.heard");
        let error = if exit.code.is_none() && error.is_empty() { UNKNOWN.to_owned() } else { error };
        let run = LastRun {
            started_at: life.state.last_run().started_at,
            finished_at: Some(exit.finished_at),
            // Docker's code for an end that nobody saw.
            code: exit.code.unwrap_or(255),
            oom_killed: exit.oom_killed,
            error,
        };
        let was_waiting = matches!(life.state, State::Restarting(_));
        let seconds = run.started_at.map_or(0, |start| (exit.finished_at.0 - start.0).max(0) / NANOS);
        let code = run.code;
        if exit.oom_killed && !life.oom {
            self.emit("oom", &[]);
        }
        if !was_waiting {
            self.networks("disconnect");
        }
        // The policy keeps addresses and ports from one start to the next. Whoever sees the end may use the ports, and
        // remove the networks, at once.
        if !again {
            self.leave_networks().await;
        }
        if again {
            self.set(Life { state: State::Restarting(run), restart_count, ..life });
        } else {
            self.let_go();
            self.set(Life { state: State::Exited(run), restart_count, ..life });
        }
        if !again {
            self.unmounted();
        }
        self.emit("die", &[("exitCode", &code.to_string()), ("execDuration", &seconds.to_string())]);
        self.tell(Happening::Ended);
        failpoint::pass("end.logged");
        self.reached(Milestone::Ended);
        if !again {
            self.settle().await;
        }
    }

    /// The policy could not start the process again.
    pub(super) async fn restart_failed(&mut self, failure: Failure, again: bool, restart_count: u32) {
        let NotStarted { code, error } = failure.into();
        let exit = Exit { code: Some(code), oom_killed: false, finished_at: Timestamp(wall_nanos()) };
        self.ended(exit, again, restart_count, error.message().to_owned()).await;
    }

    /// A process of the container was killed for memory.
    pub(super) fn oom(&mut self) {
        let mut life = self.life();
        if life.state.is_active() {
            life.oom = true;
            self.set(life);
            self.emit("oom", &[]);
        }
    }

    /// The supervisor is gone without a last word: another takes its place, where the process still runs.
    pub(super) async fn lost_supervisor(&mut self) {
        self.heard = None;
        if !self.life().state.is_active() {
            return self.let_go();
        }
        tracing::warn!("container {}: its supervisor was killed", self.container.id());
        let life = self.life();
        let bundle = self.containers.config.bundle(self.container.id());
        let told = self.containers.pools.run(Class::Lifecycle, move || Ok(journal::read(&bundle))).await;
        if let Ok(Told { running: None, exit: Some(exit), restarts, .. }) = told
            && exit.finished_at > life.state.last_run().started_at.unwrap_or(exit.finished_at)
        {
            // It saw the end, and nothing after it.
            self.ended(exit, false, life.restart_count, String::new()).await;
            if restarts
                && !life.stopped_by_hand
                && let Err(error) = self.start().await
            {
                tracing::warn!("container {}: {error}", self.container.id());
            }
            return;
        }
        if let Err(error) = self.replace_supervisor().await {
            tracing::warn!("container {}: {error}", self.container.id());
            let exit = Exit { code: None, oom_killed: false, finished_at: Timestamp(wall_nanos()) };
            self.ended(exit, false, self.life().restart_count, error.message().to_owned()).await;
        }
    }

    async fn replace_supervisor(&mut self) -> Result<()> {
        let kept = std::mem::take(&mut self.kept);
        let (handle, heard, kept) = self.containers.supervise_again(&self.container, kept).await?;
        self.container.disconnect();
        self.container.connect(handle);
        (self.heard, self.kept) = (Some(heard), kept);
        Ok(())
    }

    fn let_go(&mut self) {
        self.container.disconnect();
        self.heard = None;
        if let Some(root) = std::mem::take(&mut self.kept).root {
            self.containers.release_root(self.container.id(), root);
        }
    }

    /// Does what waited for the end.
    async fn settle(&mut self) {
        let Ending { after, .. } = std::mem::take(&mut self.ending);
        if after.iter().any(|one| matches!(one, After::Stopped(_) | After::Restart(_))) {
            self.emit("stop", &[]);
        }
        let (mut again, mut removals) = (None, Vec::new());
        for one in after {
            match one {
                After::Stopped(reply) | After::Killed(reply) => answer(reply, Ok(())),
                After::Restart(reply) => {
                    // Several that ask for a restart at once get one.
                    if let Some(earlier) = again.replace(reply) {
                        answer(earlier, Ok(()));
                    }
                }
                After::Remove { volumes, reply } => removals.push((volumes, reply)),
            }
        }
        if !removals.is_empty() {
            let volumes = removals.iter().any(|(volumes, _)| *volumes);
            let removed = self.remove_now(volumes).await;
            removals.into_iter().for_each(|(_, reply)| answer(reply, removed.clone()));
        } else if let Some(reply) = again {
            self.start_again(reply).await;
        } else if self.record().host_config.auto_remove {
            self.remove_by_itself().await;
        }
    }

    /// Tells of volumes that a start mounted.
    pub(super) fn mounted(&self) {
        let record = self.record();
        for point in record.mounts.iter().filter(|point| point.kind == super::spec::points::Kind::Volume) {
            let writable = point.rw.to_string();
            let told = [
                ("container", record.id.as_str()),
                ("destination", &point.destination),
                ("driver", &point.driver),
                ("propagation", &point.propagation),
                ("read/write", &writable),
            ];
            self.event(Kind::Volume, "mount", &point.name, &told);
        }
    }

    /// Tells that they are not mounted any more.
    pub(super) fn unmounted(&self) {
        let record = self.record();
        let left = self.containers.volumes.leave(&record.id, &record.mounts);
        if !left.is_empty() {
            // Plugins and file servers may take their time.
            let (volumes, pools) = (self.containers.volumes.clone(), self.containers.pools.clone());
            tokio::spawn(async move {
                let give_back = move || {
                    volumes.give_back(&left);
                    Ok(())
                };
                pools.run(Class::Volumes, give_back).await
            });
        }
        for point in record.mounts.iter().filter(|point| point.kind == super::spec::points::Kind::Volume) {
            let told = [("container", record.id.as_str()), ("driver", &point.driver)];
            self.event(Kind::Volume, "unmount", &point.name, &told);
        }
    }

    fn event(&self, kind: Kind, action: &str, id: &str, told: &[(&str, &str)]) {
        let attributes = told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.containers.events.emit(kind, action, id, attributes);
    }
}

const UNKNOWN: &str = "the exit code is not known: the container's supervisor was killed";

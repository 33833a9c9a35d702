//! Asking a container to end, and killing it when it does not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wharf_shim::HandleError;
use wharf_shim::protocol::FailureKind;
use wharf_sys::{failpoint, signal};

use super::Containers;
use super::driver::{After, Driver, Grace, KERNEL_PATIENCE, Verb, answer};
use super::state::State;
use crate::error::{Error, Result};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Containers {
    /// Stops a container: `signal` (its own stop signal where none is given), then, `timeout` seconds later
    /// (its own; negative: never), the kill. Answers when it has ended.
    pub async fn stop(
        self: &Arc<Self>,
        asked: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        // As dockerd does: what is not running need not have its signal understood.
        if !self.find(asked)?.view().state().is_active() {
            return Err(Error::not_modified(""));
        }
        self.order(asked, Verb::Stop(Grace::parse(signal, timeout)?)).await
    }
}

impl Grace {
    /// What a client asked for.
    pub(super) fn parse(signal: Option<&str>, timeout: Option<i64>) -> Result<Self> {
        let signal = match signal.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                Some(signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))?)
            }
        };
        Ok(Self { signal, timeout })
    }
}

impl Driver {
    /// Begins to end the container; `after` is done once it has.
    pub(super) async fn stop(&mut self, grace: Grace, after: After) {
        let record = self.record();
        let mut life = self.life();
        life.stopped_by_hand = true;
        self.set(life);
        let own = signal::parse(&record.config.stop_signal).unwrap_or(SIGTERM);
        if let Err(error) = self.send(grace.signal.unwrap_or(own), true).await {
            return after.fail(error);
        }
        let default = self.containers.config.stop_timeout;
        let timeout = grace.timeout.or(record.config.stop_timeout).unwrap_or(default);
        if let Ok(seconds) = u64::try_from(timeout) {
            // Far beyond any machine's life, and within what the clock can add.
            let deadline = Instant::now() + Duration::from_secs(seconds.min(u64::from(u32::MAX)));
            self.ending.deadline =
                Some(self.ending.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.ending.after.push(after);
    }

    /// Kills the container; `after` is done once it has ended.
    pub(super) async fn destroy(&mut self, after: After) {
        let mut life = self.life();
        life.stopped_by_hand = true;
        self.set(life);
        if let Err(error) = self.send(SIGKILL, true).await {
            return after.fail(error);
        }
        self.ending.killed = true;
        self.ending.deadline = Some(Instant::now() + KERNEL_PATIENCE);
        self.ending.after.push(after);
    }

    /// Sends a signal to the process, thawing it where it must see it. `last`: the restart policy rests then.
    pub(super) async fn send(&mut self, signal: i32, last: bool) -> Result<()> {
        // Whoever has ended meanwhile has said so, or is found to have been killed: both come as events.
        let told = |result: std::result::Result<(), HandleError>| match result {
            Err(HandleError::Gone { .. } | HandleError::Wire(_)) => Ok(()),
            Err(HandleError::Failed(failure)) if last && failure.kind == FailureKind::Conflict => Ok(()),
            other => other.map_err(|error| Error::internal(error.to_string())),
        };
        let handle =
            self.container.handle().ok_or_else(|| Error::internal("the container's supervisor is gone"))?;
        if last {
            told(handle.stop_intended().await)?;
            failpoint::pass("stop.intended");
        }
        let state = self.life().state;
        let waits = matches!(state, State::Restarting(_));
        if waits && !last {
            return Ok(());
        }
        // The policy may have started the process again already, and its word be on the way.
        if signal == SIGKILL {
            told(handle.kill_all().await)?;
        } else {
            told(handle.signal(None, signal).await)?;
        }
        if !waits {
            self.emit("kill", &[("signal", &signal.to_string())]);
        }
        if last && matches!(state, State::Paused(_)) {
            self.unpause().await?;
        }
        Ok(())
    }

    /// A deadline passed: kills, or tells those who wait that not even that helped.
    pub(super) async fn out_of_patience(&mut self) {
        self.ending.deadline = None;
        if !self.ending.killed && self.send(SIGKILL, true).await.is_ok() {
            self.ending.killed = true;
            self.ending.deadline = Some(Instant::now() + KERNEL_PATIENCE);
            return;
        }
        self.ending.killed = false;
        for after in std::mem::take(&mut self.ending.after) {
            after.fail(Error::internal("tried to kill container, but did not receive an exit event"));
        }
    }
}

impl After {
    /// Tells whoever waits that the end they wait for does not come.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Stopped(reply) => answer(reply, Err(error.context("cannot stop container"))),
            Self::Killed(reply) => answer(reply, Err(error.context("cannot kill container"))),
            Self::Restart(reply) => answer(reply, Err(error.context("cannot restart container"))),
            Self::Remove { reply, .. } => answer(reply, Err(error.context("could not kill container"))),
        }
    }
}

//! Waiting for a container's end.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use wharf_api::{WaitError, WaitResponse};

use super::record::View;
use super::state::State;
use super::{Container, Containers};
use crate::error::{Error, Result};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// That it does not run: at once, if it does not.
    NotRunning,
    /// Its next end, whatever it does now.
    NextExit,
    /// That it is gone.
    Removed,
}

impl WaitCondition {
    /// The condition that a client's word means; none is the first.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// A place among those who wait; registered when it is made, so that nothing that happens later is missed.
#[derive(Debug)]
pub struct WaitTicket {
    receiver: oneshot::Receiver<WaitResponse>,
}

impl WaitTicket {
    /// Resolves when what was waited for has happened.
    pub async fn done(self) -> Result<WaitResponse> {
        self.receiver.await.map_err(|_| Error::unavailable("wait: the engine is closing"))
    }
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: Mutex<Vec<(WaitCondition, oneshot::Sender<WaitResponse>)>>,
}

/// What a driver did that someone may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Milestone {
    /// The process ended.
    Ended,
    /// The container is gone.
    Removed,
}

impl Containers {
    /// Registers for `condition` of a container.
    pub fn wait(&self, asked: &str, condition: WaitCondition) -> Result<WaitTicket> {
        Ok(self.find(asked)?.wait(condition))
    }
}

impl Container {
    fn wait(&self, condition: WaitCondition) -> WaitTicket {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiters.lock();
        // Under the lock: a driver publishes first and wakes those who wait afterwards.
        let view = self.view();
        if condition == WaitCondition::NotRunning && !view.state().is_active() {
            // The receiver is in hand, so that this cannot fail.
            drop(sender.send(response(&view)));
        } else {
            waiting.retain(|(_, sender)| !sender.is_closed());
            waiting.push((condition, sender));
        }
        drop(waiting);
        WaitTicket { receiver }
    }

    /// Wakes those who wait for `milestone`, which is published already.
    pub(super) fn reached(&self, milestone: Milestone) {
        let view = self.view();
        let mut waiting = self.waiters.lock();
        for (condition, sender) in std::mem::take(&mut *waiting) {
            if milestone == Milestone::Removed || condition != WaitCondition::Removed {
                let mut answer = response(&view);
                if condition == WaitCondition::Removed {
                    // Why a start failed is not why a removal did; clients report an error here as one of waiting.
                    answer.error = None;
                }
                // Whoever gave up waiting needs no answer.
                drop(sender.send(answer));
            } else {
                waiting.push((condition, sender));
            }
        }
    }
}

impl Waiters {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(WaitCondition, oneshot::Sender<WaitResponse>)>> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn response(view: &View) -> WaitResponse {
    let run = view.state().last_run();
    let failed = !run.error.is_empty() || matches!(view.state(), State::Created { failed: Some(_) });
    let error = failed.then_some(WaitError { message: run.error });
    WaitResponse { status_code: i64::from(run.code), error }
}

//! Stopping a container, if it runs, and starting it again.

use std::sync::Arc;

use super::Containers;
use super::driver::{After, Driver, Grace, Reply, Verb, answer};
use crate::error::Result;

impl Containers {
    /// Restarts a container; `signal` and `timeout` as for a stop.
    pub async fn restart(
        self: &Arc<Self>,
        asked: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        // As dockerd does: a signal it cannot read is the default one, for what does not run needs none.
        let grace = match Grace::parse(signal, timeout) {
            Ok(grace) => grace,
            Err(error) if self.find(asked)?.view().state().is_active() => return Err(error),
            Err(_) => Grace { signal: None, timeout },
        };
        let done = self.order(asked, Verb::Restart(grace)).await;
        done.map_err(|error| {
            let said =
                error.message().starts_with("Cannot restart") || error.message().starts_with("No such");
            if said { error } else { error.context(format_args!("Cannot restart container {asked}")) }
        })
    }
}

impl Driver {
    pub(super) async fn restart(&mut self, grace: Grace, reply: Reply) {
        if self.life().state.is_active() {
            return self.stop(grace, After::Restart(reply)).await;
        }
        self.start_again(reply).await;
    }

    /// The second half of a restart.
    pub(super) async fn start_again(&mut self, reply: Reply) {
        let started = self.start().await;
        if started.is_ok() {
            self.emit("restart", &[]);
        }
        answer(reply, started);
    }
}

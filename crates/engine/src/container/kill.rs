//! Sending a signal to a container.

use std::sync::Arc;

use wharf_sys::signal;

use super::Containers;
use super::driver::{After, Driver, Reply, Verb, answer};
use super::state::State;
use crate::error::{Error, Result};

const SIGKILL: i32 = 9;

impl Containers {
    /// Sends `signal` (none: `KILL`) to a container. A `KILL` answers when it has ended.
    pub async fn kill(self: &Arc<Self>, asked: &str, signal: &str) -> Result<()> {
        let refused = |error: Error| error.context(format_args!("cannot kill container: {asked}"));
        let number = parse(signal).map_err(refused)?;
        self.find(asked).map_err(refused)?;
        self.order(asked, Verb::Kill(number)).await
    }
}

/// The signal that a client means.
fn parse(text: &str) -> Result<i32> {
    if text.is_empty() {
        return Ok(SIGKILL);
    }
    match (signal::parse(text), text.parse::<u32>()) {
        (Some(number), _) => Ok(number),
        (None, Ok(0)) => Err(Error::invalid("invalid signal: 0")),
        (None, Ok(_)) => Err(Error::invalid(format!("the linux daemon does not support signal {text}"))),
        (None, Err(_)) => Err(Error::invalid(format!("invalid signal: {text}"))),
    }
}

impl Driver {
    pub(super) async fn kill(&mut self, signal: i32, asked: &str, reply: Reply) {
        if signal == SIGKILL && !matches!(self.life().state, State::Restarting(_)) {
            return self.destroy(After::Killed(reply)).await;
        }
        // Without a stop signal of its own, any signal by hand is meant to end the container.
        let own = &self.record().config.stop_signal;
        let last = own.is_empty() || signal == SIGKILL || signal::parse(own) == Some(signal);
        let mut life = self.life();
        life.stopped_by_hand = true;
        self.set(life);
        let sent = self.send(signal, last).await;
        answer(reply, sent.map_err(|error| error.context(format_args!("cannot kill container: {asked}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read_as_dockerd_reads_them() {
        assert_eq!(parse(""), Ok(9));
        assert_eq!(parse("0").unwrap_err().message(), "invalid signal: 0");
        assert_eq!(parse("SIGUSR1"), Ok(10));
        assert_eq!(parse("hup"), Ok(1));
        assert_eq!(parse("FOO").unwrap_err().message(), "invalid signal: FOO");
        assert_eq!(parse("99").unwrap_err().message(), "the linux daemon does not support signal 99");
    }
}

//! How a build is shown while it runs.

mod plain;
mod raw;
mod state;
mod terminal;

use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use tokio::sync::mpsc;

use crate::error::CliError;

pub(super) use state::State;

/// How often a terminal is drawn anew, at most.
const FRAME: Duration = Duration::from_millis(100);

/// The ways to show a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Terminal,
    Quiet,
    Raw,
}

impl Mode {
    /// What `--progress` asks for.
    pub(super) fn parse(text: &str, quiet: bool) -> Result<Self, CliError> {
        let usual = || if crate::terminal::stderr_is_terminal() { Self::Terminal } else { Self::Plain };
        match text {
            _ if quiet => Ok(Self::Quiet),
            "auto" | "" => Ok(usual()),
            "tty" if !crate::terminal::stderr_is_terminal() => {
                Err(CliError::new("failed to get console: provided file is not a console"))
            }
            "tty" => Ok(Self::Terminal),
            "plain" => Ok(Self::Plain),
            "quiet" | "none" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::Raw),
            other => Err(CliError::new(format!("invalid progress mode: {other}"))),
        }
    }
}

/// Shows all updates until they end, and returns what is known then.
pub(super) async fn show(mode: Mode, mut updates: mpsc::UnboundedReceiver<StatusResponse>) -> State {
    let mut state = State::default();
    let mut plain = plain::Plain::default();
    let mut screen = terminal::Screen::default();
    let mut frame = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            update = updates.recv() => {
                let Some(update) = update else { break };
                if mode == Mode::Raw {
                    raw::write(&update);
                }
                let changes = state.take(update);
                if mode == Mode::Plain {
                    plain.write(&state, &changes);
                }
            }
            _ = frame.tick(), if mode == Mode::Terminal => screen.draw(&state, false),
        }
    }
    if mode == Mode::Terminal {
        screen.draw(&state, true);
    }
    state
}

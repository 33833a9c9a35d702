//! What a container is at an instant, and what may be asked of it then.
//!
//! ```text
//!             start                    its process ends, policy rests
//!  Created ──────────▶ Running ───────────────────────────────────────▶ Exited
//!     │                │  ▲  │  ends, policy starts it again      ▲       │
//!     │          pause │  │  └────────────▶ Restarting ───────────┘ stop  │ start
//!     │                ▼  │ unpause             │ starts         (again)  ▼
//!     │               Paused                    └──▶ Running           Running
//!     ▼                                                                   │
//!  Removing ◀── remove (force: kills first) ── Exited, Dead ◀─────────────┘
//! ```
//!
//! [`decide`] is the whole law of it: a pure function of the state and the request. Only a container's
//! driver changes its state.

use serde::{Deserialize, Serialize};
use wharf_shim::protocol::Timestamp;

use crate::error::{Error, ErrorKind};

/// A container's state, with the data that is legal in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// Never ran. `failed`: the last attempt to start it did not get far.
    Created {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<StartFailure>,
    },
    /// Its process runs.
    Running(Running),
    /// Its processes are frozen.
    Paused(Running),
    /// Its process ended and the policy starts it again.
    Restarting(LastRun),
    /// Its process ended.
    Exited(LastRun),
    /// It is going away.
    Removing(LastRun),
    /// It could not be removed; only another attempt is left.
    Dead(LastRun),
}

/// A live process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// In the host's pid namespace.
    pub pid: i32,
    pub started_at: Timestamp,
}

/// Why a container that never ran did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// 127 not found, 126 not executable, 128 anything else.
    pub code: i32,
    pub message: String,
}

/// How the last run ended; all zero where there was none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The exit code as a shell would say it.
    pub code: i32,
    #[serde(default)]
    pub oom_killed: bool,
    /// Why a start failed, or why the code is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl State {
    /// Docker's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing(_) => "removing",
            Self::Dead(_) => "dead",
        }
    }

    /// The live process, frozen or not.
    pub fn process(&self) -> Option<&Running> {
        match self {
            Self::Running(running) | Self::Paused(running) => Some(running),
            _ => None,
        }
    }

    /// Docker's `Running`: alive, or about to be again.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_) | Self::Restarting(_))
    }

    /// What is known of the last run that ended.
    pub fn last_run(&self) -> LastRun {
        match self {
            Self::Created { failed: None } => LastRun::default(),
            Self::Created { failed: Some(failure) } => {
                LastRun { code: failure.code, error: failure.message.clone(), ..LastRun::default() }
            }
            Self::Running(running) | Self::Paused(running) => {
                LastRun { started_at: Some(running.started_at), ..LastRun::default() }
            }
            Self::Restarting(run) | Self::Exited(run) | Self::Removing(run) | Self::Dead(run) => run.clone(),
        }
    }
}

/// What can be asked of a container, as far as its state matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    Start,
    Stop,
    Restart,
    Kill,
    Pause,
    Unpause,
    Rename,
    Update,
    Remove {
        force: bool,
    },
    Attach,
    Exec,
    Resize,
    Top,
    /// Connecting it to a network, or disconnecting it.
    Network,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Accept,
    /// It is so already: Docker's 304.
    Ignore,
    /// It may not be done now.
    Deny(Denial),
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    NotRunning,
    AlreadyPaused,
    NotPaused,
    Paused,
    Restarting,
    StillRunning,
    Leaving,
}

/// Whether `request` may be done in `state`.
pub fn decide(state: &State, request: Request) -> Decision {
    use Decision::{Accept, Deny, Ignore};
    match (request, state) {
        (Request::Start, State::Created { .. } | State::Exited(_)) => Accept,
        (Request::Start, State::Running(_) | State::Restarting(_)) => Ignore,
        (Request::Start, State::Paused(_)) => Deny(Denial::Paused),

        (Request::Stop, State::Running(_) | State::Paused(_) | State::Restarting(_)) => Accept,
        (Request::Stop, _) => Ignore,

        (Request::Kill, state) if state.is_active() => Accept,
        (Request::Kill, _) => Deny(Denial::NotRunning),

        (Request::Pause, State::Running(_)) => Accept,
        (Request::Pause, State::Paused(_)) => Deny(Denial::AlreadyPaused),
        (Request::Unpause, State::Paused(_)) => Accept,
        (Request::Unpause, _) => Deny(Denial::NotPaused),

        (Request::Exec, State::Running(_)) => Accept,
        (Request::Exec, State::Paused(_)) => Deny(Denial::Paused),
        (Request::Resize | Request::Top, State::Running(_) | State::Paused(_)) => Accept,
        (Request::Pause | Request::Exec | Request::Resize | Request::Top, State::Restarting(_)) => {
            Deny(Denial::Restarting)
        }
        (Request::Pause | Request::Exec | Request::Resize | Request::Top, _) => Deny(Denial::NotRunning),

        (Request::Attach, State::Paused(_)) => Deny(Denial::Paused),
        (Request::Attach, State::Restarting(_)) => Deny(Denial::Restarting),
        (Request::Attach, State::Removing(_) | State::Dead(_)) => Deny(Denial::Leaving),
        (Request::Attach, _) => Accept,

        (Request::Remove { .. }, State::Removing(_)) => Deny(Denial::Leaving),
        (Request::Remove { force: false }, State::Running(_)) => Deny(Denial::StillRunning),
        (Request::Remove { force: false }, State::Paused(_)) => Deny(Denial::Paused),
        (Request::Remove { force: false }, State::Restarting(_)) => Deny(Denial::Restarting),
        (Request::Remove { .. }, _) => Accept,

        (
            Request::Start | Request::Restart | Request::Rename | Request::Update | Request::Network,
            State::Removing(_) | State::Dead(_),
        ) => Deny(Denial::Leaving),
        (Request::Restart | Request::Rename | Request::Update | Request::Network, _) => Accept,
    }
}

impl Denial {
    /// The error a client gets, in Docker's words. `asked`: the container as the client named it.
    pub fn error(self, request: Request, id: &str, asked: &str) -> Error {
        let text = match (request, self) {
            (Request::Start, Self::Paused) => {
                "cannot start a paused container, try unpause instead".to_owned()
            }
            (Request::Start, _) => "container is marked for removal and cannot be started".to_owned(),
            (Request::Restart, _) => {
                format!(
                    "Cannot restart container {asked}: container is marked for removal and cannot be started"
                )
            }
            (Request::Kill, _) => format!("cannot kill container: {asked}: container {id} is not running"),
            (Request::Remove { .. }, Self::StillRunning) => {
                removal(asked, "running: stop the container before removing or force remove")
            }
            (Request::Remove { .. }, Self::Paused) => removal(asked, "paused and must be unpaused first"),
            (Request::Remove { .. }, Self::Restarting) => {
                removal(asked, "restarting: stop the container before removing or force remove")
            }
            (Request::Remove { .. }, _) => format!("removal of container {asked} is already in progress"),
            (Request::Exec, Self::Paused) => {
                format!("Container {asked} is paused, unpause the container before exec")
            }
            (Request::Attach, Self::Paused) => {
                format!("container {asked} is paused, unpause the container before attach")
            }
            (Request::Attach, Self::Restarting) => {
                format!("container {asked} is restarting, wait until the container is running")
            }
            (Request::Attach, _) => format!("container {id} is marked for removal"),
            (Request::Update, _) => {
                format!(
                    "Cannot update container {id}: container is marked for removal and cannot be \"update\""
                )
            }
            (Request::Network, _) => format!(
                "container {id} is marked for removal and cannot be connected or disconnected to the network"
            ),
            (Request::Rename, _) => format!("container {id} is marked for removal and cannot be renamed"),
            (_, Self::AlreadyPaused) => format!("Container {id} is already paused"),
            (_, Self::NotPaused) => format!("Container {id} is not paused"),
            (_, Self::Restarting) => {
                format!("Container {id} is restarting, wait until the container is running")
            }
            (_, _) => format!("container {id} is not running"),
        };
        // Docker has no class for an unpause of what is not paused.
        let kind = if self == Self::NotPaused { ErrorKind::Internal } else { ErrorKind::Conflict };
        Error::new(kind, text)
    }
}

fn removal(asked: &str, why: &str) -> String {
    format!("cannot remove container \"{asked}\": container is {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Running = Running { pid: 7, started_at: Timestamp(1) };

    fn states() -> [State; 8] {
        let run = LastRun { code: 3, ..LastRun::default() };
        [
            State::Created { failed: None },
            State::Created { failed: Some(StartFailure { code: 127, message: "x".to_owned() }) },
            State::Running(RUNNING),
            State::Paused(RUNNING),
            State::Restarting(run.clone()),
            State::Exited(run.clone()),
            State::Removing(run.clone()),
            State::Dead(run),
        ]
    }

    const REQUESTS: [Request; 15] = [
        Request::Start,
        Request::Stop,
        Request::Restart,
        Request::Kill,
        Request::Pause,
        Request::Unpause,
        Request::Rename,
        Request::Update,
        Request::Remove { force: false },
        Request::Remove { force: true },
        Request::Attach,
        Request::Exec,
        Request::Resize,
        Request::Top,
        Request::Network,
    ];

    /// The law as a table: a row per request of [`REQUESTS`], a column per state of [`states`].
    /// `+` accept, `.` ignore, else the denial's first letter (`A` already paused, `P` paused, `N` not
    /// running, `U` not paused, `R` restarting, `S` still running, `L` leaving).
    const LAW: [&str; 15] = [
        "++.P.+LL", // start
        "..+++...", // stop
        "++++++LL", // restart
        "NN+++NNN", // kill
        "NN+ARNNN", // pause
        "UUU+UUUU", // unpause
        "++++++LL", // rename
        "++++++LL", // update
        "++SPR+L+", // remove
        "++++++L+", // remove, by force
        "+++PR+LL", // attach
        "NN+PRNNN", // exec
        "NN++RNNN", // resize
        "NN++RNNN", // top
        "++++++LL", // network
    ];

    fn letter(decision: Decision) -> char {
        match decision {
            Decision::Accept => '+',
            Decision::Ignore => '.',
            Decision::Deny(Denial::AlreadyPaused) => 'A',
            Decision::Deny(Denial::Paused) => 'P',
            Decision::Deny(Denial::NotRunning) => 'N',
            Decision::Deny(Denial::NotPaused) => 'U',
            Decision::Deny(Denial::Restarting) => 'R',
            Decision::Deny(Denial::StillRunning) => 'S',
            Decision::Deny(Denial::Leaving) => 'L',
        }
    }

    #[test]
    fn every_request_in_every_state() {
        for (request, law) in REQUESTS.iter().zip(LAW) {
            let row: String = states().iter().map(|state| letter(decide(state, *request))).collect();
            assert_eq!(row, law, "{request:?}");
        }
    }

    #[test]
    fn every_denial_names_the_container_or_the_reason() {
        for request in REQUESTS {
            for state in states() {
                let Decision::Deny(denial) = decide(&state, request) else { continue };
                let error = denial.error(request, "0123abcd", "web");
                let text = error.message();
                let named = text.contains("0123abcd") || text.contains("web");
                assert!(named || request == Request::Start, "{request:?} in {}: {text}", state.name());
                let internal = request == Request::Unpause;
                assert_eq!(error.kind() == ErrorKind::Internal, internal, "{text}");
            }
        }
    }

    #[test]
    fn words_are_dockers() {
        let say = |request, denial: Denial| denial.error(request, "ID", "web").message().to_owned();
        assert_eq!(
            say(Request::Kill, Denial::NotRunning),
            "cannot kill container: web: container ID is not running"
        );
        assert_eq!(
            say(Request::Remove { force: false }, Denial::StillRunning),
            "cannot remove container \"web\": container is running: stop the container before removing or force remove"
        );
        assert_eq!(say(Request::Pause, Denial::AlreadyPaused), "Container ID is already paused");
        assert_eq!(say(Request::Top, Denial::NotRunning), "container ID is not running");
    }

    #[test]
    fn states_survive_the_log() {
        for state in states() {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        }
    }
}

//! What a supervisor wrote down for a daemon that was not there.

use std::path::Path;

use wharf_shim::protocol::{Event, Exit, Timestamp};
use wharf_sys::time::wall_nanos;

use crate::container::state::{Running, State};

/// The end of a journal, folded.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The last start, if no end followed it.
    pub(crate) running: Option<Running>,
    /// When the last run that ended began.
    pub(crate) started_at: Option<Timestamp>,
    /// The last end.
    pub(crate) exit: Option<Exit>,
    /// Why the last start by the policy failed.
    pub(crate) error: String,
    /// The policy was about to start it again.
    pub(crate) restarts: bool,
    pub(crate) restart_count: Option<u32>,
    /// Everything, oldest first.
    pub(crate) events: Vec<Event>,
}

/// Reads the journal in `bundle`; one that is not there says nothing.
pub(crate) fn read(bundle: &Path) -> Told {
    let text = std::fs::read(bundle.join("journal")).unwrap_or_default();
    let mut told = Told::default();
    for line in text.split(|byte| *byte == b'\n') {
        // A last line that a crash cut short says nothing either.
        if let Ok(event) = serde_json::from_slice(line) {
            told.fold(&event);
            told.events.push(event);
        }
    }
    told
}

impl Told {
    fn fold(&mut self, event: &Event) {
        match event {
            Event::Started { pid, started_at, restart_count } => {
                self.running = Some(Running { pid: *pid, started_at: *started_at });
                self.started_at = Some(*started_at);
                (self.restarts, self.restart_count) = (false, Some(*restart_count));
            }
            Event::Exited { exit, restart_in_ms, restart_count } => {
                self.running = None;
                (self.exit, self.error) = (Some(*exit), String::new());
                (self.restarts, self.restart_count) = (restart_in_ms.is_some(), Some(*restart_count));
            }
            Event::RestartFailed { failure, restart_in_ms, restart_count } => {
                self.running = None;
                let finished_at = self.exit.map_or_else(|| Timestamp(wall_nanos()), |exit| exit.finished_at);
                self.exit = Some(Exit { code: Some(128), oom_killed: false, finished_at });
                self.error.clone_from(&failure.message);
                (self.restarts, self.restart_count) = (restart_in_ms.is_some(), Some(*restart_count));
            }
            _ => {}
        }
    }

    /// Whether it tells more than `state` knows.
    pub(crate) fn is_news(&self, state: &State) -> bool {
        let known = state.last_run();
        self.running.is_some() || self.exit.is_some_and(|exit| Some(exit.finished_at) > known.finished_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::state::LastRun;

    fn told(lines: &str) -> Told {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("journal"), lines).unwrap();
        read(bundle.path())
    }

    const START: &str = r#"{"event":"started","pid":7,"started_at":100,"restart_count":1}"#;
    const EXIT: &str = r#"{"event":"exited","exit":{"code":3,"oom_killed":false,"finished_at":200},"restart_in_ms":null,"restart_count":1}"#;

    #[test]
    fn the_last_line_counts() {
        let one = told(START);
        assert_eq!(one.running.map(|running| running.pid), Some(7));
        let both = told(&format!("{START}\n{EXIT}\n"));
        assert!(both.running.is_none());
        assert_eq!(both.exit.and_then(|exit| exit.code), Some(3));
        assert_eq!(both.started_at, Some(Timestamp(100)));
    }

    #[test]
    fn a_line_cut_short_is_passed_over() {
        let cut = told(&format!("{START}\n{}", &EXIT[..40]));
        assert!(cut.running.is_some());
    }

    #[test]
    fn what_is_known_is_no_news() {
        let journal = told(&format!("{START}\n{EXIT}\n"));
        let known = LastRun { finished_at: Some(Timestamp(200)), ..LastRun::default() };
        assert!(!journal.is_news(&State::Exited(known)));
        assert!(journal.is_news(&State::Created { failed: None }));
    }
}

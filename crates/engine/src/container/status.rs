//! A container's state in words: `Up 3 seconds (healthy)`, `Exited (0) 2 minutes ago`.

use wharf_shim::protocol::Timestamp;

use super::state::{LastRun, State};

const SECOND: i64 = 1_000_000_000;

/// The words for `state` at the time `now`; `health` as the probes say it, where there are any.
pub(super) fn text(state: &State, health: Option<&str>, now: Timestamp) -> String {
    match state {
        State::Created { .. } => "Created".to_owned(),
        State::Running(running) => {
            let up = since(Some(running.started_at), now);
            match health {
                None | Some("none" | "") => format!("Up {up}"),
                Some("starting") => format!("Up {up} (health: starting)"),
                Some(health) => format!("Up {up} ({health})"),
            }
        }
        State::Paused(running) => format!("Up {} (Paused)", since(Some(running.started_at), now)),
        State::Restarting(run) => format!("Restarting ({}) {} ago", run.code, since(run.finished_at, now)),
        State::Exited(run) => exited(run, now),
        State::Removing(_) => "Removal In Progress".to_owned(),
        State::Dead(_) => "Dead".to_owned(),
    }
}

fn exited(run: &LastRun, now: Timestamp) -> String {
    match run.finished_at {
        Some(_) => format!("Exited ({}) {} ago", run.code, since(run.finished_at, now)),
        None => String::new(),
    }
}

fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    span(then.map_or(0, |then| (now.0 - then.0).max(0) / SECOND))
}

/// A duration of `seconds` as Docker says it to people.
fn span(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Rounded, as Docker rounds from an hour on.
    let hours = (seconds + 1_800) / 3_600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3_600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::state::Running;

    #[test]
    fn spans_are_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (5_399, "About an hour"),
            (5_400, "2 hours"),
            (47 * 3_600, "47 hours"),
            (48 * 3_600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(span(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn states_read_as_dockers() {
        let now = Timestamp(100 * SECOND);
        let running = Running { pid: 1, started_at: Timestamp(97 * SECOND) };
        let run = LastRun { finished_at: Some(Timestamp(98 * SECOND)), code: 137, ..LastRun::default() };
        let say = |state, health| text(&state, health, now);
        assert_eq!(say(State::Running(running), None), "Up 3 seconds");
        assert_eq!(say(State::Running(running), Some("healthy")), "Up 3 seconds (healthy)");
        assert_eq!(say(State::Running(running), Some("starting")), "Up 3 seconds (health: starting)");
        assert_eq!(say(State::Paused(running), Some("healthy")), "Up 3 seconds (Paused)");
        assert_eq!(say(State::Restarting(run.clone()), None), "Restarting (137) 2 seconds ago");
        assert_eq!(say(State::Exited(run.clone()), None), "Exited (137) 2 seconds ago");
        assert_eq!(say(State::Removing(run), None), "Removal In Progress");
        assert_eq!(say(State::Created { failed: None }, None), "Created");
    }
}

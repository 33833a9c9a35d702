//! Line by line, for logs.

use std::collections::HashMap;
use std::io::Write;

use super::state::{Change, State, amount};

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The number that a step is shown with.
    numbers: HashMap<usize, usize>,
    /// The step whose lines were written last.
    last: Option<usize>,
}

impl Plain {
    /// Writes what changed.
    pub(super) fn write(&mut self, state: &State, changes: &[Change]) {
        let mut out = std::io::stderr().lock();
        for change in changes {
            let (at, lines) = self.lines(state, change);
            if lines.is_empty() {
                continue;
            }
            let number = self.turn(&mut out, state, at);
            for line in lines {
                // A closed standard error is nobody's loss.
                let _ = writeln!(out, "#{number} {line}");
            }
        }
    }

    fn lines(&self, state: &State, change: &Change) -> (usize, Vec<String>) {
        match change {
            Change::Started(at) => {
                // Whoever was spared says so in one line at its end.
                let vertex = &state.vertices[*at];
                (*at, if vertex.completed.is_some() { Vec::new() } else { vec![String::new()] })
            }
            Change::Line(at, line, seconds) => (*at, vec![format!("{seconds:.3} {line}")]),
            Change::Part(at, part) => {
                let took = match (part.started, part.completed) {
                    (Some(started), Some(completed)) if completed - started >= 0.05 => {
                        format!(" {:.1}s", completed - started)
                    }
                    _ => String::new(),
                };
                let done = if part.completed.is_some() { " done" } else { "" };
                (*at, vec![format!("{}{}{took}{done}", part.id, amount(part))])
            }
            Change::Completed(at) => {
                let vertex = &state.vertices[*at];
                let line = if !vertex.error.is_empty() {
                    if vertex.error.contains("context canceled") {
                        "CANCELED".to_owned()
                    } else {
                        format!("ERROR: {}", vertex.error)
                    }
                } else if vertex.cached {
                    "CACHED".to_owned()
                } else {
                    format!("DONE {:.1}s", vertex.seconds(0.0))
                };
                (*at, vec![line])
            }
        }
    }

    /// Says whose lines follow, where that changes; its number.
    fn turn(&mut self, out: &mut impl Write, state: &State, at: usize) -> usize {
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(at).or_insert(next);
        if self.last == Some(at) {
            return number;
        }
        if let Some(last) = self.last {
            let unfinished = state.vertices[last].completed.is_none();
            let _ = if unfinished { writeln!(out, "#{} ...\n", self.numbers[&last]) } else { writeln!(out) };
        }
        let _ = writeln!(out, "#{number} {}", state.vertices[at].name);
        self.last = Some(at);
        number
    }
}

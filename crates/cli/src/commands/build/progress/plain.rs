//! Line by line, for logs.

use std::collections::HashMap;
use std::io::Write;

use super::state::{Change, Part, State, Vertex, amount};

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The number that a step is shown with.
    numbers: HashMap<usize, usize>,
    /// The step whose lines were written last.
    last: Option<usize>,
    /// How far parts were when that was written last, in tenths.
    told: HashMap<(usize, String), i64>,
}

impl Plain {
    /// Writes what changed.
    pub(super) fn write(&mut self, state: &State, changes: &[Change]) {
        let mut out = std::io::stderr().lock();
        for change in changes {
            let Some((at, lines)) = self.lines(state, change) else { continue };
            let number = self.turn(&mut out, state, at);
            for line in lines {
                // A closed standard error is nobody's loss.
                let _ = writeln!(out, "#{number} {line}");
            }
        }
    }

    /// The lines that a change is worth; `None`: it is not even said whose it is.
    fn lines(&mut self, state: &State, change: &Change) -> Option<(usize, Vec<String>)> {
        let line = match change {
            Change::Started(at) => {
                // Whoever was spared says so at its end, and nobody who begins cuts in on another.
                let free = self.last.is_none_or(|last| state.vertices[last].completed.is_some());
                let runs = state.vertices[*at].completed.is_none();
                return (free && runs).then(|| (*at, Vec::new()));
            }
            Change::Line(at, line, seconds) => (*at, format!("{seconds:.3} {line}")),
            Change::Part(at, part) => (*at, self.part(*at, part)?),
            Change::Completed(at) => (*at, ended(&state.vertices[*at])),
        };
        Some((line.0, vec![line.1]))
    }

    /// A part at its end, or a tenth further.
    fn part(&mut self, at: usize, part: &Part) -> Option<String> {
        if let Some(completed) = part.completed {
            let took = completed - part.started.unwrap_or(completed);
            let took = if took >= 0.05 { format!(" {took:.1}s") } else { String::new() };
            return Some(format!("{}{}{took} done", part.id, amount(part)));
        }
        let tenths = part.current.saturating_mul(10).checked_div(part.total).unwrap_or(0);
        let told = self.told.entry((at, part.id.clone())).or_default();
        if tenths <= *told {
            return None;
        }
        *told = tenths;
        Some(format!("{}{}", part.id, amount(part)))
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

/// How a step ended.
fn ended(vertex: &Vertex) -> String {
    match vertex.error.as_str() {
        "" if vertex.cached => "CACHED".to_owned(),
        "" => format!("DONE {:.1}s", vertex.seconds(0.0)),
        error if error.contains("context canceled") => "CANCELED".to_owned(),
        error => format!("ERROR: {error}"),
    }
}

//! For people: all steps at once, drawn anew while they go on.

use std::fmt::Write as _;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::state::{State, Vertex, amount};

/// Lines of output shown below a step that runs.
const TAIL: usize = 6;
/// What is assumed of a terminal that does not say.
const USUAL: (u16, u16) = (24, 80);

const FAINT: &str = "\x1b[2m";
const BLUE: &str = "\x1b[34m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: usize,
}

impl Screen {
    /// Draws the state over what was drawn before; at the end all of it, whatever the height.
    pub(super) fn draw(&mut self, state: &State, end: bool) {
        if state.vertices.is_empty() {
            return;
        }
        let (height, width) = crate::terminal::size().unwrap_or(USUAL);
        let (height, width) = (usize::from(height), usize::from(width).max(20));
        let lines = lines(state, width, (!end).then_some(height.saturating_sub(1)));
        let mut text = String::from("\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(text, "\r{line}\x1b[K");
        }
        text.push_str("\x1b[J\x1b[?25h");
        self.drawn = lines.len();
        let mut out = std::io::stderr().lock();
        // A terminal that is gone shows nothing.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn lines(state: &State, width: usize, height: Option<usize>) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    let met: Vec<&Vertex> = state.vertices.iter().filter(|vertex| vertex.started.is_some()).collect();
    let done = state.vertices.iter().filter(|vertex| vertex.completed.is_some()).count();
    let first = met.iter().filter_map(|vertex| vertex.started).fold(f64::INFINITY, f64::min);
    let last = match height {
        None => met.iter().filter_map(|vertex| vertex.completed).fold(first, f64::max),
        Some(_) => now,
    };
    let took = if first.is_finite() { (last - first).max(0.0) } else { 0.0 };
    let all = state.vertices.len();
    let word = if height.is_none() && done == all { " FINISHED" } else { "" };
    let mut lines = vec![format!("[+] Building {took:.1}s ({done}/{all}){word}")];
    let mut body = Vec::new();
    for vertex in met {
        step(vertex, now, width, height.is_some(), &mut body);
    }
    let room = height.map_or(usize::MAX, |height| height.saturating_sub(1));
    let hidden = body.len().saturating_sub(room);
    lines.extend(body.into_iter().skip(hidden));
    lines
}

fn step(vertex: &Vertex, now: f64, width: usize, running: bool, body: &mut Vec<String>) {
    let name = if vertex.cached { format!("CACHED {}", vertex.name) } else { vertex.name.clone() };
    let name = if vertex.error.is_empty() { name } else { format!("ERROR {name}") };
    let colour = match (&vertex.completed, vertex.error.is_empty()) {
        (_, false) => RED,
        (Some(_), _) => BLUE,
        (None, _) => "",
    };
    let time = format!("{:.1}s", vertex.seconds(now));
    body.push(format!("{colour}{}{RESET}", aligned(&format!(" => {name}"), &time, width)));
    if vertex.cached {
        return;
    }
    for part in &vertex.parts {
        let took = part.started.map_or(0.0, |started| part.completed.unwrap_or(now) - started);
        let line =
            aligned(&format!(" => => {}{}", part.id, amount(part)), &format!("{:.1}s", took.max(0.0)), width);
        body.push(format!("{}{line}{RESET}", if part.completed.is_some() { BLUE } else { "" }));
    }
    if running && vertex.completed.is_none() {
        let from = vertex.lines.len().saturating_sub(TAIL);
        for line in &vertex.lines[from..] {
            let plain: String = line.chars().filter(|letter| !letter.is_control()).take(width - 8).collect();
            body.push(format!("{FAINT} => => # {plain}{RESET}"));
        }
    }
}

/// `left … right` over the width.
fn aligned(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.len() + 2);
    let mut text: String = left.chars().filter(|letter| !letter.is_control()).take(room).collect();
    let length = text.chars().count();
    text.extend(std::iter::repeat_n(' ', room.saturating_sub(length) + 1));
    text + right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_at_the_edge() {
        assert_eq!(aligned("ab", "1.0s", 12), "ab     1.0s");
        assert_eq!(aligned("abcdefghijkl", "1.0s", 12), "abcdef 1.0s");
    }
}

//! What pulls and pushes say while they work: at a terminal one line a layer, rewritten in place; elsewhere one line a
//! change, without bars.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use hyper::body::Incoming;
use serde_json::Value;

use crate::commands::messages;
use crate::error::CliError;
use crate::terminal;

/// Columns below which a bar is left out.
const BAR: u16 = 110;

/// Shows messages until the stream ends, on standard error if `aside`; documents beside the texts go to `aux`.
///
/// # Errors
/// What the stream says failed.
pub(crate) async fn show(
    body: Incoming,
    quiet: bool,
    aside: bool,
    mut aux: impl FnMut(&Value),
) -> Result<(), CliError> {
    let mut board = Board::new(aside);
    let mut failed = None;
    let mut broken = None;
    messages(body, |message| {
        if let Some(error) = message["error"].as_str() {
            failed = Some(error.to_owned());
        } else if !message["aux"].is_null() {
            aux(&message["aux"]);
        } else if !quiet && broken.is_none() {
            broken = board.message(message).err();
        }
    })
    .await?;
    match (failed, broken) {
        (Some(message), _) => Err(CliError::new(message)),
        // A reader that went away gets no more.
        (None, _) => Ok(()),
    }
}

/// The lines on the screen.
struct Board {
    out: Box<dyn Write>,
    /// Columns of the terminal; none where there is no terminal.
    width: Option<u16>,
    lines: HashMap<String, usize>,
}

impl Board {
    fn new(aside: bool) -> Self {
        let (out, terminal): (Box<dyn Write>, bool) = if aside {
            (Box::new(std::io::stderr()), std::io::stderr().is_terminal())
        } else {
            (Box::new(std::io::stdout()), std::io::stdout().is_terminal())
        };
        let width = terminal.then(|| terminal::size().map_or(80, |(_, width)| width));
        Self { out, width, lines: HashMap::new() }
    }

    fn message(&mut self, message: &Value) -> std::io::Result<()> {
        let Some(status) = message["status"].as_str() else { return Ok(()) };
        let id = message["id"].as_str().unwrap_or_default();
        let detail = &message["progressDetail"];
        let Some(width) = self.width else {
            return if detail["total"].is_null() { self.plain(id, status) } else { Ok(()) };
        };
        if id.is_empty() || detail.is_null() {
            // What comes after stands below.
            self.lines.clear();
            return self.plain(id, status);
        }
        let count = self.lines.len();
        let line = *self.lines.entry(id.to_owned()).or_insert(count);
        let mut text = format!("{id}: {status}");
        if let Some(progress) = message["progress"].as_str() {
            let shown =
                if width >= BAR { progress } else { progress.rsplit("] ").next().unwrap_or(progress) };
            // Writing into a string cannot fail.
            let _ = write!(text, " {}", shown.trim_end());
        }
        let text: String = text.chars().take(usize::from(width.max(2)) - 1).collect();
        if line == count {
            writeln!(self.out, "{text}")?;
        } else {
            let up = count - line;
            write!(self.out, "\x1b[{up}A\x1b[2K\r{text}\x1b[{up}B\r")?;
        }
        self.out.flush()
    }

    fn plain(&mut self, id: &str, status: &str) -> std::io::Result<()> {
        if id.is_empty() { writeln!(self.out, "{status}") } else { writeln!(self.out, "{id}: {status}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(width: Option<u16>, messages: &[Value]) -> String {
        let screen = Screen::default();
        let mut board = Board { out: Box::new(screen.clone()), width, lines: HashMap::new() };
        messages.iter().for_each(|message| board.message(message).unwrap());
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_are_rewritten_at_a_terminal_only() {
        let messages = [
            json!({"status": "Pulling from x", "id": "latest"}),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "a"}),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "b"}),
            json!({"status": "Downloading", "progressDetail": {"current": 1, "total": 2},
                   "progress": "[==>  ]  1B/2B", "id": "a"}),
            json!({"status": "Digest: d"}),
        ];
        assert_eq!(
            shown(None, &messages),
            "latest: Pulling from x\na: Pulling fs layer\nb: Pulling fs layer\nDigest: d\n"
        );
        assert_eq!(
            shown(Some(80), &messages),
            "latest: Pulling from x\na: Pulling fs layer\nb: Pulling fs layer\n\
             \x1b[2A\x1b[2K\ra: Downloading  1B/2B\x1b[2B\rDigest: d\n"
        );
    }
}

//! The log: one line for each request and for what went wrong, written by a thread of its own.
//!
//! Standard error may be a pipe that nobody reads: then lines are dropped and counted, and no request waits.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Lines that may wait for the writer.
const WAITING: usize = 4096;

static DROPPED: AtomicU64 = AtomicU64::new(0);

fn lines() -> Option<&'static SyncSender<String>> {
    static LINES: OnceLock<Option<SyncSender<String>>> = OnceLock::new();
    let start = || {
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("registry-log".to_owned());
        thread.spawn(move || write(&receiver)).ok().map(|_| sender)
    };
    LINES.get_or_init(start).as_ref()
}

/// Writes a line, with the time before it.
pub(crate) fn say(line: &str) {
    let now = jiff::Timestamp::now();
    let line = format!("{now:.3} {line}\n");
    if lines().is_none_or(|lines| lines.try_send(line).is_err()) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(lines: &Receiver<String>) {
    while let Ok(mut text) = lines.recv() {
        while text.len() < 1 << 14 {
            let Ok(more) = lines.try_recv() else { break };
            text.push_str(&more);
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            text.push_str(&format!("{dropped} lines of this log were dropped\n"));
        }
        // Where nobody can be told, nobody is.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// A value as one word of a line: no spaces, quotes or control characters get through from a client.
pub(crate) fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let shown = text.chars().take(256);
    shown.map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' }).collect()
}

//! Why a build failed, shown as BuildKit's clients do: the end of the step's output, the place in the Dockerfile.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::rpc;
use prost::Message as _;
use serde_json::Value;
use tonic::{Code, Status};

use super::progress::{Mode, State};
use crate::error::{CliError, say};

/// Lines shown before and after the one that failed.
const AROUND: usize = 2;

/// Says what is known of a failure, and gives it as the command's own.
pub(super) fn told(status: &Status, state: &State, mode: Mode) -> CliError {
    if mode == Mode::Plain || mode == Mode::Terminal {
        if let Some(vertex) = state.failed() {
            let mut text = format!("------\n > {}:\n", vertex.name);
            for line in &vertex.lines {
                let _ = writeln!(text, "{line}");
            }
            say(&format!("{text}------"));
        }
        if let Some(excerpt) = excerpt(status) {
            say(&excerpt);
        }
    }
    error(status)
}

/// A refusal as the command's own failure.
pub(super) fn error(status: &Status) -> CliError {
    let class = match status.code() {
        Code::Unknown | Code::Ok => String::new(),
        Code::Cancelled => "Canceled: ".to_owned(),
        Code::Unimplemented => "Unimplemented: ".to_owned(),
        Code::Unauthenticated => "Unauthenticated: ".to_owned(),
        other => format!("{other:?}: "),
    };
    CliError::new(format!("ERROR: failed to build: failed to solve: {class}{}", status.message()))
}

/// The lines of the Dockerfile around what failed.
fn excerpt(status: &Status) -> Option<String> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let source = details.iter().find(|detail| detail.type_url.contains("errdefs.Source"))?;
    let source: Value = serde_json::from_slice(&source.value).ok()?;
    let text = STANDARD.decode(source["info"]["data"].as_str()?).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = |place: &str| source["ranges"][0][place]["line"].as_u64();
    let first = usize::try_from(line("start")?).ok()?;
    let last = usize::try_from(line("end")?).ok()?.max(first);
    let name = source["info"]["filename"].as_str().unwrap_or("Dockerfile");
    Some(framed(name, &text, first, last))
}

pub(super) fn framed(name: &str, text: &str, first: usize, last: usize) -> String {
    let mut out = format!("{name}:{first}\n--------------------\n");
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if number + AROUND < first || number > last + AROUND {
            continue;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(out, "{number:>4} | {mark} {line}");
    }
    out + "--------------------"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_failed_is_marked() {
        let shown = framed("Dockerfile", "FROM a\n\nRUN b\nRUN c\nRUN d\nRUN e\n", 3, 3);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "Dockerfile:3");
        assert_eq!(lines[2], "   1 |     FROM a");
        assert_eq!(lines[4], "   3 | >>> RUN b");
        assert_eq!(lines.last(), Some(&"--------------------"));
        assert_eq!(lines.len(), 8);
    }
}

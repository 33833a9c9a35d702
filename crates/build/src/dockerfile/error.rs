//! What is wrong with a Dockerfile, and where.

use std::fmt;

/// A run of lines of a file, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lines {
    /// The first line.
    pub first: u32,
    /// The last line; never before the first.
    pub last: u32,
}

impl Lines {
    /// One line.
    #[must_use]
    pub const fn one(line: u32) -> Self {
        Self { first: line, last: line }
    }
}

/// Why a Dockerfile could not be read, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Where; `None`: the file as a whole.
    pub lines: Option<Lines>,
    /// What.
    pub message: String,
}

impl ParseError {
    /// What is wrong with the text at `lines`.
    pub(crate) fn at(lines: Lines, message: impl Into<String>) -> Self {
        Self { lines: Some(lines), message: message.into() }
    }
}

/// What is wrong with one instruction. BuildKit names the line of some mistakes in the message, of others only beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its words are no words of the language.
    Text(String),
    /// It is no instruction, or not given what it needs.
    Instruction(String),
}

impl Refusal {
    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Text(message) | Self::Instruction(message) => message,
        }
    }

    /// The mistake at its place.
    pub(crate) fn at(self, lines: Lines) -> ParseError {
        match self {
            Self::Text(message) => ParseError::at(lines, message),
            Self::Instruction(message) => {
                ParseError::at(lines, format!("dockerfile parse error on line {}: {message}", lines.first))
            }
        }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Instruction(message)
    }
}

/// How many lines are shown before and after the wrong ones.
const CONTEXT: u32 = 5;

/// The lines of `text` around `lines`, the wrong ones marked, as buildx prints them.
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a> {
    /// The file's name, as the user gave it.
    pub file: &'a str,
    /// All of it.
    pub text: &'a str,
    /// What to mark.
    pub lines: Lines,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "-".repeat(20);
        writeln!(out, "{}:{}\n{rule}", self.file, self.lines.first)?;
        let from = self.lines.first.saturating_sub(CONTEXT).max(1);
        let to = self.lines.last.saturating_add(CONTEXT);
        for (number, line) in (1u32..).zip(self.text.lines()).skip_while(|(number, _)| *number < from) {
            if number > to {
                break;
            }
            let wrong = (self.lines.first..=self.lines.last).contains(&number);
            let mark = if wrong { ">>>" } else { "   " };
            writeln!(out, "{number:4} | {mark} {line}")?;
        }
        writeln!(out, "{rule}")
    }
}

/// The word of `known` that is nearest to `word`, when it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let scored = known.into_iter().map(|other| (distance(&word, &other.to_lowercase()), other));
    scored
        .filter(|(distance, other)| *distance <= 3 && *distance < other.chars().count())
        .min()
        .map(|found| found.1)
}

/// `message`, with the nearest of `known` as a question behind it.
pub(crate) fn suggest<'a>(message: String, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, known) {
        Some(near) if near != word => format!("{message} (did you mean {near}?)"),
        _ => message,
    }
}

/// Edits (insert, remove, replace a character) between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (at, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        let known = ["FROM", "RUN", "COPY"];
        assert_eq!(
            suggest("unknown instruction: FORM".to_owned(), "FORM", known),
            "unknown instruction: FORM (did you mean FROM?)"
        );
        assert_eq!(nearest("rum", known), Some("RUN"));
        assert_eq!(nearest("xylophone", known), None);
    }

    #[test]
    fn an_excerpt_marks_the_line() {
        let text = "FROM a\nFOO b\nRUN c\n";
        let shown = Excerpt { file: "Dockerfile", text, lines: Lines::one(2) }.to_string();
        assert_eq!(
            shown,
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> FOO b\n   3 |     RUN c\n--------------------\n"
        );
    }
}

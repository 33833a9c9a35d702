//! Logical lines: comments dropped, continuations joined, here-documents taken.

use super::error::{Lines, ParseError};
use super::heredoc::{self, Heredoc};

/// The longest line there may be, bytes.
const LONGEST: usize = 65_535;

/// One instruction's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The words, continuations joined.
    pub(super) text: String,
    /// Where it is; here-documents included once they are taken.
    pub(super) lines: Lines,
    /// Whether an empty line was found between continued ones.
    pub(super) empty_continuation: bool,
    /// The comments right above, without their `#`.
    pub(super) comments: Vec<String>,
}

/// Reads logical lines from a text.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// Physical lines with their ends, so that here-documents keep them.
    physical: std::str::SplitInclusive<'a, char>,
    /// How many were read.
    read: u32,
    escape: char,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, escape: char) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { physical: text.split_inclusive('\n'), read: 0, escape }
    }

    /// The next logical line; `None` at the end of the text.
    pub(super) fn next(&mut self) -> Result<Option<Line>, ParseError> {
        let mut comments = Vec::new();
        let first = loop {
            let Some(raw) = self.physical()? else { return Ok(None) };
            let line = end_trimmed(raw).trim_start();
            match line.strip_prefix('#') {
                Some(comment) => comments.push(comment.trim().to_owned()),
                None if line.is_empty() => comments.clear(),
                None => break line,
            }
        };
        let start = self.read;
        let (mut text, mut continued) = self.continuation(first);
        let mut empty_continuation = false;
        while continued {
            let Some(raw) = self.physical()? else { break };
            let line = end_trimmed(raw);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                empty_continuation = true;
                continue;
            }
            let (more, again) = self.continuation(line);
            text.push_str(&more);
            continued = again;
        }
        let lines = Lines { first: start, last: self.read };
        Ok(Some(Line { text, lines, empty_continuation, comments }))
    }

    /// Takes the here-documents that `line` opens, and stretches it over them.
    pub(super) fn heredocs(&mut self, line: &mut Line) -> Result<Vec<Heredoc>, ParseError> {
        let mut taken = heredoc::opened(&line.text, self.escape);
        for heredoc in &mut taken {
            loop {
                let Some(raw) = self.physical()? else {
                    line.lines.last = self.read;
                    return Err(ParseError::at(line.lines, "unterminated heredoc"));
                };
                let bare = end_trimmed(raw);
                let bare = if heredoc.chomp { bare.trim_start_matches('\t') } else { bare };
                if bare == heredoc.name {
                    break;
                }
                heredoc.content.push_str(raw);
            }
            line.lines.last = self.read;
        }
        Ok(taken)
    }

    fn physical(&mut self) -> Result<Option<&'a str>, ParseError> {
        let Some(raw) = self.physical.next() else { return Ok(None) };
        self.read += 1;
        if raw.len() > LONGEST {
            let why = format!("dockerfile line greater than maximum allowed size of {LONGEST}");
            return Err(ParseError::at(Lines::one(self.read), why));
        }
        Ok(Some(raw))
    }

    /// `line` without its continuation, and whether it had one. A doubled escape continues nothing.
    fn continuation(&self, line: &str) -> (String, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest.to_owned(), true),
            _ => (line.to_owned(), false),
        }
    }
}

fn end_trimmed(raw: &str) -> &str {
    raw.trim_end_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, u32, u32)> {
        let mut reader = Reader::new(text, '\\');
        let mut found = Vec::new();
        while let Some(line) = reader.next().unwrap() {
            found.push((line.text, line.lines.first, line.lines.last));
        }
        found
    }

    #[test]
    fn continuations_join_and_comments_vanish() {
        let text = "# top\nRUN a \\\n  # inner\n\n  b\\\\\nENV x=\\\ny\r\n";
        let expected = [("RUN a   b\\\\".to_owned(), 2, 5), ("ENV x=y".to_owned(), 6, 7)];
        assert_eq!(texts(text), expected);
    }

    #[test]
    fn a_heredoc_keeps_its_lines() {
        let mut reader = Reader::new("RUN <<A <<-'B'\n x $y\nA\n\tz\n\tB\nCMD d\n", '\\');
        let mut line = reader.next().unwrap().unwrap();
        let taken = reader.heredocs(&mut line).unwrap();
        assert_eq!((taken[0].content.as_str(), taken[0].expand), (" x $y\n", true));
        assert_eq!((taken[1].text(), taken[1].expand), ("z\n".to_owned(), false));
        assert_eq!(line.lines, Lines { first: 1, last: 5 });
        assert_eq!(reader.next().unwrap().unwrap().text, "CMD d");
    }

    #[test]
    fn an_open_heredoc_is_refused() {
        let mut reader = Reader::new("RUN <<A\nx\n", '\\');
        let mut line = reader.next().unwrap().unwrap();
        assert_eq!(reader.heredocs(&mut line).unwrap_err().message, "unterminated heredoc");
    }
}

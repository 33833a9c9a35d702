//! One pass over a word: quotes, escapes, variables.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use super::{Lexer, Lookup};

/// How deep substitutions may nest: more is an attack on the stack.
const DEEPEST: usize = 64;

/// A pass over a word.
pub(super) struct Scan<'a> {
    pub(super) rest: Peekable<Chars<'a>>,
    pub(super) depth: usize,
    lexer: Lexer,
    lookup: Lookup<'a>,
    unset: BTreeSet<String>,
}

/// Text that grows both whole and in words.
#[derive(Default)]
struct Output {
    whole: String,
    words: Vec<String>,
    word: String,
    begun: bool,
}

impl Output {
    /// Text whose blanks end words.
    fn loose(&mut self, text: &str) {
        self.whole.push_str(text);
        for part in text.chars() {
            if part.is_whitespace() {
                self.end_word();
            } else {
                self.word.push(part);
                self.begun = true;
            }
        }
    }

    /// Text that stays in one word.
    fn tight(&mut self, text: &str) {
        self.whole.push_str(text);
        self.word.push_str(text);
        self.begun = true;
    }

    fn end_word(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(word: &'a str, lexer: Lexer, lookup: Lookup<'a>) -> Self {
        Self { rest: word.chars().peekable(), depth: 0, lexer, lookup, unset: BTreeSet::new() }
    }

    pub(super) fn into_unset(self) -> BTreeSet<String> {
        self.unset
    }

    /// The value of a variable.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    /// Notes that a variable was used without being set.
    pub(super) fn missed(&mut self, name: &str) {
        self.unset.insert(name.to_owned());
    }

    /// Reads everything.
    pub(super) fn read_all(&mut self) -> Result<(String, Vec<String>), String> {
        let mut output = Output::default();
        while let Some(next) = self.rest.next() {
            self.one(next, false, &mut output)?;
        }
        output.end_word();
        Ok((output.whole, output.words))
    }

    /// Reads up to `stop`, which is taken too. `None` when it never comes.
    pub(super) fn until(&mut self, stop: char, keep_escapes: bool) -> Result<Option<String>, String> {
        if self.depth >= DEEPEST {
            return Err("substitutions are nested too deeply".to_owned());
        }
        self.depth += 1;
        let mut output = Output::default();
        while let Some(next) = self.rest.next() {
            if next == stop {
                self.depth -= 1;
                return Ok(Some(output.whole));
            }
            self.one(next, keep_escapes, &mut output)?;
        }
        self.depth -= 1;
        Ok(None)
    }

    fn one(&mut self, next: char, keep_escapes: bool, output: &mut Output) -> Result<(), String> {
        let mut buffer = [0; 4];
        match next {
            '\'' if !self.lexer.literal_quotes => output.tight(&self.single_quoted()?),
            '"' if !self.lexer.literal_quotes => output.tight(&self.double_quoted()?),
            '$' => output.loose(&self.variable()?),
            next if next == self.lexer.escape => {
                if keep_escapes {
                    output.tight(next.encode_utf8(&mut buffer));
                }
                if let Some(escaped) = self.rest.next() {
                    output.tight(escaped.encode_utf8(&mut buffer));
                }
            }
            next => output.loose(next.encode_utf8(&mut buffer)),
        }
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        for next in self.rest.by_ref() {
            if next == '\'' {
                return Ok(text);
            }
            text.push(next);
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(next) = self.rest.next() {
            match next {
                '"' => return Ok(text),
                '$' => text.push_str(&self.variable()?),
                next if next == self.lexer.escape => match self.rest.next() {
                    Some(special) if special == '"' || special == '$' || special == self.lexer.escape => {
                        text.push(special)
                    }
                    Some(other) => text.extend([next, other]),
                    None => break,
                },
                next => text.push(next),
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".to_owned())
    }
}

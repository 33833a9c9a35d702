//! `.dockerignore`: which files of a context are left out.
//!
//! Patterns are those of Go's `filepath.Match` with `**`, a leading `!` lets files in again, the last match counts, and a
//! directory that is left out takes everything below with it.

use regex::{Regex, RegexBuilder};

/// The largest ignore file that is read, bytes.
const LARGEST: usize = 4 << 20;

/// Why an ignore file could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A line is no pattern.
    #[error("illegal exclusion pattern: \"{0}\"")]
    Illegal(String),
    /// A line is wrong by Go's rules.
    #[error("syntax error in pattern: {0}")]
    Syntax(String),
    /// The file is too large.
    #[error("ignore file is larger than {LARGEST} bytes")]
    TooLarge,
}

/// A list of patterns, ready to match.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Lets in again what earlier patterns left out.
    negated: bool,
    regex: Regex,
    /// As many names as this has are matched against it at each level of a path.
    text: String,
}

impl Ignore {
    /// Reads the lines of an ignore file.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn read(text: &str) -> Result<Self, IgnoreError> {
        if text.len() > LARGEST {
            return Err(IgnoreError::TooLarge);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Takes patterns one by one, as an ignore file's lines or `--exclude` give them.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let patterns = lines.into_iter().filter_map(|line| pattern(line.trim()).transpose());
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether some pattern lets files in again: directories that are left out must then be looked into.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Whether `path` (relative, without a leading slash) is left out, by itself or through a directory above.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            // A match the other way round would change nothing.
            if pattern.negated == excluded && pattern.matches(path) {
                excluded = !pattern.negated;
            }
        }
        excluded
    }

    /// The patterns, as they were read, cleaned.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.patterns
            .iter()
            .map(|pattern| format!("{}{}", if pattern.negated { "!" } else { "" }, pattern.text))
    }
}

impl Pattern {
    /// Whether the path, or a directory above it, matches.
    fn matches(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.regex.is_match(&path[..end]))
    }
}

fn pattern(line: &str) -> Result<Option<Pattern>, IgnoreError> {
    if line.is_empty() {
        return Ok(None);
    }
    let (negated, text) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    if text.is_empty() {
        return Err(IgnoreError::Illegal(line.to_owned()));
    }
    let text = clean(text);
    if text == "." {
        return Ok(None);
    }
    let wrong = || IgnoreError::Syntax(text.clone());
    let translated = translate(&text).ok_or_else(wrong)?;
    let regex = RegexBuilder::new(&translated).dot_matches_new_line(true).size_limit(1 << 20).build();
    Ok(Some(Pattern { negated, regex: regex.map_err(|_| wrong())?, text }))
}

/// The path without `.`, `..`, doubled and outer slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if !path.starts_with('/') && parts.last().is_none_or(|last| *last == "..") => {
                parts.push("..")
            }
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The pattern as a regular expression.
fn translate(pattern: &str) -> Option<String> {
    let mut text = String::from("^");
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // `**/` also stands for no directory at all.
                rest.next_if_eq(&'/');
                text.push_str(if rest.peek().is_none() { ".*" } else { "(?:.*/)?" });
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' => class(&mut rest, &mut text)?,
            '\\' => text.push_str(&regex::escape(&rest.next()?.to_string())),
            literal => text.push_str(&regex::escape(&literal.to_string())),
        }
    }
    text.push('$');
    Some(text)
}

/// A character class, from behind its bracket to its end.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, text: &mut String) -> Option<()> {
    text.push('[');
    if rest.next_if_eq(&'^').is_some() {
        text.push('^');
    }
    let mut filled = false;
    loop {
        match rest.next()? {
            ']' if filled => break,
            ']' => return None,
            '-' if filled && rest.peek() != Some(&']') => {
                text.push('-');
                continue;
            }
            '\\' => text.push_str(&regex::escape(&rest.next()?.to_string())),
            literal @ ('[' | '&' | '~' | '-') => text.extend(['\\', literal]),
            literal => text.push_str(&regex::escape(&literal.to_string())),
        }
        filled = true;
    }
    text.push(']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(lines: &str, path: &str) -> bool {
        Ignore::read(lines).unwrap().excludes(path)
    }

    #[test]
    fn patterns_are_gos() {
        let cases = [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("**/*.md", "README.md", true),
            ("/dir", "dir/a/b", true),
            ("dir/", "dir", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("\\*.md", "*.md", true),
            ("# x", "# x", false),
            ("a/../b", "b/c", true),
            ("./x", "x", true),
            ("**", "any/thing", true),
        ];
        for (lines, path, expected) in cases {
            assert_eq!(excluded(lines, path), expected, "{lines} {path}");
        }
    }

    #[test]
    fn the_last_match_counts() {
        let lines = "*\n!src\nsrc/target\n!src/target/keep\n";
        assert!(excluded(lines, "Makefile") && !excluded(lines, "src/main.rs"));
        assert!(excluded(lines, "src/target/x") && !excluded(lines, "src/target/keep/y"));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert_eq!(Ignore::read("!").unwrap_err().to_string(), "illegal exclusion pattern: \"!\"");
        assert!(matches!(Ignore::read("[").unwrap_err(), IgnoreError::Syntax(_)));
        assert!(matches!(Ignore::read("[]a]").unwrap_err(), IgnoreError::Syntax(_)));
        assert!(matches!(Ignore::read("a\\").unwrap_err(), IgnoreError::Syntax(_)));
    }
}

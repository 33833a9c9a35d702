//! Shell patterns (`*`, `?`, `\x`) applied to a value.

use regex::{NoExpand, Regex, RegexBuilder};

/// Memory a compiled pattern may take, bytes.
const LARGEST: usize = 1 << 20;

/// The pattern as a regular expression's text; each star as long, or as short, as can be.
fn translate(pattern: impl Iterator<Item = Part>, longest: bool) -> String {
    let mut text = String::new();
    for part in pattern {
        match part {
            Part::Any => text.push_str(if longest { ".*" } else { ".*?" }),
            Part::One => text.push('.'),
            Part::Literal(literal) => text.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    text
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Any,
    One,
    Literal(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut rest = pattern.chars();
    let mut parts = Vec::new();
    while let Some(next) = rest.next() {
        parts.push(match next {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Literal(rest.next().unwrap_or('\\')),
            literal => Part::Literal(literal),
        });
    }
    parts
}

fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).dot_matches_new_line(true).size_limit(LARGEST).build();
    built.map_err(|_| "pattern is too large".to_owned())
}

/// `value` without the shortest, or longest, beginning that matches.
pub(super) fn without_prefix(value: &str, pattern: &str, longest: bool) -> Result<String, String> {
    let regex = compile(&format!("^(?:{})", translate(parts(pattern).into_iter(), longest)))?;
    Ok(regex.replace(value, "").into_owned())
}

/// `value` without the shortest, or longest, end that matches: a prefix, read backwards.
pub(super) fn without_suffix(value: &str, pattern: &str, longest: bool) -> Result<String, String> {
    let regex = compile(&format!("^(?:{})", translate(parts(pattern).into_iter().rev(), longest)))?;
    let backwards: String = value.chars().rev().collect();
    Ok(regex.replace(&backwards, "").chars().rev().collect())
}

/// `value` with the first match, or every one, replaced.
pub(super) fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, String> {
    let regex = compile(&translate(parts(pattern).into_iter(), true))?;
    let limit = usize::from(!all);
    Ok(regex.replacen(value, limit, NoExpand(replacement)).into_owned())
}

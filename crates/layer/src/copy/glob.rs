//! Patterns over a tree: Go's `filepath.Match`, one component at a time.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use wharf_sys::root::Root;

use crate::error::{Error, Result};

/// How many paths a pattern may name: more is a mistake or an attack.
const MOST: usize = 1 << 20;

/// Whether a path is a pattern.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// The paths that `path` names, whether it is a pattern or not; a path is cleaned, not looked for.
///
/// # Errors
/// A pattern that is none, or when the tree cannot be read.
pub fn expand(root: &Root, path: &str) -> Result<Vec<PathBuf>> {
    if is_pattern(path) { matches(root, path) } else { Ok(vec![super::clean(path)]) }
}

/// The paths that match, sorted, relative to the tree's top.
pub(super) fn matches(root: &Root, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let mut next = Vec::new();
        for directory in &found {
            if is_pattern(part) {
                entries(root, directory, part, &mut next)?;
            } else if root.exists(directory.join(part)) {
                next.push(directory.join(part));
            }
        }
        if next.len() > MOST {
            return Err(Error::Limit { limit: MOST as u64, unit: "matches" });
        }
        found = next;
    }
    Ok(found)
}

fn entries(root: &Root, directory: &Path, part: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let is_directory = root
        .stat_follow(directory)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if !is_directory {
        return Ok(());
    }
    for entry in root.dir(directory)?.entries()? {
        if matches_name(part.as_bytes(), entry.name.as_bytes())
            .ok_or_else(|| Error::Pattern(part.to_owned()))?
        {
            found.push(directory.join(entry.name));
        }
    }
    Ok(())
}

/// Whether a name matches; `None`: the pattern is wrong. A star that fails later takes one character more: linear in
/// pattern times name.
fn matches_name(pattern: &[u8], name: &[u8]) -> Option<bool> {
    let (mut at, mut named) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, named));
                at += 1;
                continue;
            }
            Some(_) => match name.get(named) {
                Some(&byte) => one(&pattern[at..], byte)?,
                None => {
                    check(&pattern[at..])?;
                    (false, 0)
                }
            },
            None if named == name.len() => return Some(true),
            None => (false, 0),
        };
        match (step, star) {
            ((true, length), _) => {
                at += length;
                named += 1;
            }
            (_, Some((behind, taken))) if taken < name.len() => {
                star = Some((behind, taken + 1));
                at = behind;
                named = taken + 1;
            }
            _ => return Some(false),
        }
    }
}

/// Whether the first item of a pattern takes a byte, and how long the item is.
fn one(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    match pattern[0] {
        b'?' => Some((true, 1)),
        b'\\' => pattern.get(1).map(|literal| (*literal == byte, 2)),
        b'[' => class(pattern, byte),
        literal => Some((literal == byte, 1)),
    }
}

/// A class: `[a-z]`, `[^x]`.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut hit = false;
    let mut filled = false;
    loop {
        let low = match pattern.get(at)? {
            b']' if filled => return Some((hit != negated, at + 1)),
            b']' | b'-' => return None,
            _ => member(pattern, &mut at)?,
        };
        let mut high = low;
        if pattern.get(at) == Some(&b'-') {
            at += 1;
            high = member(pattern, &mut at)?;
        }
        hit |= (low..=high).contains(&byte);
        filled = true;
    }
}

fn member(pattern: &[u8], at: &mut usize) -> Option<u8> {
    if pattern.get(*at) == Some(&b'\\') {
        *at += 1;
    }
    let byte = *pattern.get(*at)?;
    *at += 1;
    Some(byte)
}

/// Refuses what is left of a pattern where it is wrong.
fn check(mut pattern: &[u8]) -> Option<()> {
    while !pattern.is_empty() {
        let (_, length) = if pattern[0] == b'*' { (true, 1) } else { one(pattern, 0)? };
        pattern = &pattern[length..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let cases = [
            ("*", "abc", Some(true)),
            ("a*c", "abbc", Some(true)),
            ("a*c", "abcd", Some(false)),
            ("?b", "ab", Some(true)),
            ("[a-c]x", "bx", Some(true)),
            ("[^a-c]x", "bx", Some(false)),
            ("\\*", "*", Some(true)),
            ("a*b*c", "aXbYbZc", Some(true)),
            ("[", "a", None),
            ("a[", "a", None),
            ("[]a]", "a", None),
            ("", "", Some(true)),
            ("*x", "", Some(false)),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches_name(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}

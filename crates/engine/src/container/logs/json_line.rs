//! Lines of Docker's `json-file` format.
//!
//! Lines come in the very shape that Docker and our supervisor write, so that they are cut up in place;
//! anything else that is still the same JSON takes the slow way through `serde_json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::clock;

/// One log message.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) stderr: bool,
    pub(super) text: Text<'a>,
    /// RFC 3339, as written.
    pub(super) time: Cow<'a, str>,
    pub(super) attrs: Attrs<'a>,
}

/// What the process wrote.
#[derive(Debug, PartialEq)]
pub(super) enum Text<'a> {
    /// The inside of a JSON string.
    Escaped(&'a [u8]),
    Plain(String),
}

/// Extra attributes.
#[derive(Debug, PartialEq)]
pub(super) enum Attrs<'a> {
    None,
    /// A JSON object.
    Raw(&'a [u8]),
    Parsed(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Loose {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: String,
}

impl<'a> Line<'a> {
    /// Reads a line without its newline; `None` where it is damaged.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        Self::parse_usual(line).or_else(|| Self::parse_loose(line))
    }

    fn parse_usual(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"log\":\"")?;
        let end = string_end(rest)?;
        let text = Text::Escaped(&rest[..end]);
        let rest = rest[end..].strip_prefix(b"\",\"stream\":\"std")?;
        let (stderr, rest) = match rest.strip_prefix(b"out\"") {
            Some(rest) => (false, rest),
            None => (true, rest.strip_prefix(b"err\"")?),
        };
        let (attrs, rest) = match rest.strip_prefix(b",\"attrs\":") {
            None => (Attrs::None, rest),
            Some(rest) => {
                // Quotes inside strings are escaped: this ends the object and nothing else.
                let end = rest.windows(10).position(|window| window == b"},\"time\":\"")? + 1;
                (Attrs::Raw(&rest[..end]), &rest[end..])
            }
        };
        let time = rest.strip_prefix(b",\"time\":\"")?.strip_suffix(b"\"}")?;
        if time.iter().any(|&byte| byte == b'"' || byte == b'\\') {
            return None;
        }
        Some(Self { stderr, text, time: Cow::Borrowed(str::from_utf8(time).ok()?), attrs })
    }

    fn parse_loose(line: &[u8]) -> Option<Self> {
        let loose: Loose = serde_json::from_slice(line).ok()?;
        Some(Self {
            stderr: loose.stream == "stderr",
            text: Text::Plain(loose.log),
            time: Cow::Owned(loose.time),
            attrs: if loose.attrs.is_empty() { Attrs::None } else { Attrs::Parsed(loose.attrs) },
        })
    }

    /// Nanoseconds since 1970; damaged times are the oldest.
    pub(super) fn nanos(&self) -> i64 {
        clock::parse(self.time.as_bytes()).unwrap_or(i64::MIN)
    }

    /// The attributes, read now if they were not before.
    pub(super) fn attributes(&self) -> Cow<'_, BTreeMap<String, String>> {
        match &self.attrs {
            Attrs::None => Cow::Owned(BTreeMap::new()),
            Attrs::Raw(raw) => Cow::Owned(serde_json::from_slice(raw).unwrap_or_default()),
            Attrs::Parsed(map) => Cow::Borrowed(map),
        }
    }
}

impl Text<'_> {
    /// Appends what the process wrote.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Self::Escaped(raw) => unescape(raw, out),
        }
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Eight bytes at a time: whether one of them is `byte`, and where the first is (in little-endian order).
fn has_byte(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ (ONES * u64::from(byte));
    zeroed.wrapping_sub(ONES) & !zeroed & HIGHS
}

/// Where the first of `bytes` is that is one of the two.
fn find_either(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = has_byte(word, one) | has_byte(word, other);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == one || byte == other)?;
    Some(words.len() * 8 + at)
}

/// Where the first newline is.
pub(super) fn find_newline(bytes: &[u8]) -> Option<usize> {
    find_either(bytes, b'\n', b'\n')
}

/// Where the quote is that ends the string whose inside starts at `bytes`.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += find_either(bytes.get(at..)?, b'"', b'\\')?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Appends the inside of a JSON string, decoded. Lone surrogates become U+FFFD, as in Go.
fn unescape(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = find_either(raw, b'\\', b'\\') {
        out.extend_from_slice(&raw[..at]);
        let Some(&letter) = raw.get(at + 1) else { return };
        raw = &raw[at + 2..];
        match letter {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (character, taken) = unicode(raw);
                let mut buffer = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                raw = &raw[taken..];
            }
            // A quote, a backslash, a slash.
            other => out.push(other),
        }
    }
    out.extend_from_slice(raw);
}

/// The character that the hex digits after `\u` mean, and how many bytes it takes.
fn unicode(raw: &[u8]) -> (char, usize) {
    let Some(first) = hex4(raw) else { return (char::REPLACEMENT_CHARACTER, 0) };
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 4);
    }
    let second = raw[4..].strip_prefix(b"\\u").and_then(hex4).filter(|low| (0xdc00..0xe000).contains(low));
    match second {
        None => (char::REPLACEMENT_CHARACTER, 4),
        Some(low) => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
    }
}

fn hex4(raw: &[u8]) -> Option<u32> {
    let digits = raw.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        line.text.write(&mut out);
        out
    }

    #[test]
    fn usual_lines_are_cut_up_in_place() {
        let raw = br#"{"log":"a \"b\"\\\n","stream":"stderr","time":"2026-11-21T12:51:00.5Z"}"#;
        let line = Line::parse_usual(raw).unwrap();
        assert!(line.stderr);
        assert_eq!(text(&line), b"a \"b\"\\\n");
        assert_eq!(line.time, "2026-11-21T12:51:00.5Z");
        assert_eq!(line.attrs, Attrs::None);
    }

    #[test]
    fn attributes_with_braces_and_quotes() {
        let raw = br#"{"log":"x","stream":"stdout","attrs":{"a":"},\"time\":\"no","b":"}"},"time":"t"}"#;
        let line = Line::parse_usual(raw).unwrap();
        let attributes = line.attributes();
        assert_eq!(attributes["a"], "},\"time\":\"no");
        assert_eq!(attributes["b"], "}");
        assert_eq!(line.time, "t");
    }

    #[test]
    fn other_orders_take_the_slow_way() {
        let raw = br#"{ "time":"t", "stream":"stderr", "log":"\u00e9\n" }"#;
        assert!(Line::parse_usual(raw).is_none());
        let line = Line::parse(raw).unwrap();
        assert!(line.stderr);
        assert_eq!(text(&line), "é\n".as_bytes());
    }

    #[test]
    fn damaged_lines_are_none() {
        for raw in
            [&b""[..], b"\0\0\0", b"{\"log\":\"x", br#"{"log":"x","stream":"stdout"}"#, b"{\"log\":\"\\"]
        {
            assert_eq!(Line::parse(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn escapes_decode_as_a_json_reader_does() {
        for raw in [r"plain", r"\u003c\u0026\u003e", r"\ud83d\ude00!", r"\b\f\r\t\/", "é\\n", r"\u2028\u0000"]
        {
            let mut out = Vec::new();
            unescape(raw.as_bytes(), &mut out);
            let expected: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            assert_eq!(out, expected.as_bytes(), "{raw}");
        }
        for (raw, expected) in
            [(r"\ud83dx", "\u{fffd}x"), (r"\udc00", "\u{fffd}"), (r"\ud83d\u0041", "\u{fffd}A")]
        {
            let mut out = Vec::new();
            unescape(raw.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn bytes_are_found_wherever_they_are() {
        for length in 0..40 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = b'\n';
                assert_eq!(find_newline(&bytes), Some(at));
                bytes[length - 1] = b'\n';
                assert_eq!(find_newline(&bytes), Some(at));
            }
            assert_eq!(find_newline(&vec![0xff; length]), None);
        }
    }
}

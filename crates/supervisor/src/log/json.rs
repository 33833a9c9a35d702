//! Docker's json-file entries, byte for byte.
//!
//! `{"log":"text\n","stream":"stdout","attrs":{…},"time":"2024-01-01T00:00:00.123456789Z"}` and a newline.
//! Escaping is Docker's: `<`, `>` and `&` too, bytes that are no UTF-8 become U+FFFD.

use std::collections::BTreeMap;

use crate::log::Stream;

/// What every entry starts with.
const HEAD: &[u8] = b"{\"log\":\"";
/// Bytes looked at together while nothing needs escaping.
const BLOCK: usize = 16;

/// Writes entries; keeps what they have in common ready.
#[derive(Debug)]
pub(crate) struct JsonFormat {
    /// What follows the text, up to the time, for either stream.
    middles: [Vec<u8>; 2],
    /// All that follows the text at the time of the batch, after an escaped newline, for either stream.
    ends: [Vec<u8>; 2],
}

/// The newline that an entry's text ends with, escaped.
const NEWLINE: &[u8] = b"\\n";

impl JsonFormat {
    pub(crate) fn new(attrs: &BTreeMap<String, String>) -> Self {
        let middle = |stream: Stream| {
            let mut text = format!("\",\"stream\":\"{}\"", stream.name()).into_bytes();
            if !attrs.is_empty() {
                text.extend_from_slice(b",\"attrs\":");
                push_attrs(attrs, &mut text);
            }
            text.extend_from_slice(b",\"time\":\"");
            text
        };
        Self { middles: [middle(Stream::Stdout), middle(Stream::Stderr)], ends: Default::default() }
    }

    /// Sets the time of the entries that follow, in nanoseconds since 1970.
    pub(crate) fn set_time(&mut self, nanos: i64) {
        let time = rfc3339_nano(nanos);
        for (end, middle) in self.ends.iter_mut().zip(&self.middles) {
            end.clear();
            for part in [NEWLINE, middle, time.as_bytes(), b"\"}\n"] {
                end.extend_from_slice(part);
            }
        }
    }

    /// Appends one entry.
    pub(crate) fn push(&self, stream: Stream, text: &[u8], newline: bool, out: &mut Vec<u8>) {
        let end = &self.ends[stream.index()];
        out.reserve(HEAD.len() + text.len() + end.len());
        out.extend_from_slice(HEAD);
        push_escaped(text, out);
        out.extend_from_slice(if newline { end } else { &end[NEWLINE.len()..] });
    }
}

fn push_attrs(attrs: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in attrs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        for (text, end) in [(key, &b"\":"[..]), (value, b"\"")] {
            out.push(b'"');
            push_escaped(text.as_bytes(), out);
            out.extend_from_slice(end);
        }
    }
    out.push(b'}');
}

/// Wall-clock nanoseconds as Go's `RFC3339Nano` in UTC prints them: no trailing zeros.
pub(crate) fn rfc3339_nano(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| String::new(), |time| time.to_string())
}

/// Whether a byte stands for itself.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

/// Whether a whole block stands for itself. Without an early end, the compiler compares all bytes at once.
fn is_plain(block: &[u8; BLOCK]) -> bool {
    !block.iter().fold(false, |special, &b| {
        special
            | !(0x20..0x80).contains(&b)
            | (b == b'"')
            | (b == b'\\')
            | (b == b'<')
            | (b == b'>')
            | (b == b'&')
    })
}

/// How many bytes at the head of `text` stand for themselves.
fn plain_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = text[at..].first_chunk::<BLOCK>() {
        if !is_plain(block) {
            break;
        }
        at += BLOCK;
    }
    // The rest together with the end of what was looked at makes a block again.
    if at > 0 && text.len() - at < BLOCK && text.last_chunk().is_some_and(is_plain) {
        return text.len();
    }
    at + text[at..].iter().position(|&b| !PLAIN[usize::from(b)]).unwrap_or(text.len() - at)
}

/// Appends `text` as the inside of a JSON string.
fn push_escaped(mut text: &[u8], out: &mut Vec<u8>) {
    loop {
        let plain = plain_prefix(text);
        out.extend_from_slice(&text[..plain]);
        text = &text[plain..];
        let Some(&byte) = text.first() else { return };
        let used = if byte < 0x80 {
            push_ascii(byte, out);
            1
        } else {
            push_wide(text, out)
        };
        text = &text[used..];
    }
}

fn push_ascii(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Appends the characters beyond ASCII at the head of `text`; how many bytes they took.
fn push_wide(text: &[u8], out: &mut Vec<u8>) -> usize {
    let end = text.iter().position(|&b| b < 0x80).unwrap_or(text.len());
    let wide = &text[..end];
    for chunk in wide.utf8_chunks() {
        push_characters(chunk.valid(), out);
        for _ in chunk.invalid() {
            // Go's decoder steps over a bad sequence byte by byte.
            out.extend_from_slice(b"\\ufffd");
        }
    }
    end
}

/// Appends valid text; the two separators that break JavaScript are escaped.
fn push_characters(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.extend_from_slice(if rest[at..].starts_with('\u{2028}') { b"\\u2028" } else { b"\\u2029" });
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// How many bytes `text` has once it went through an entry and back.
pub(crate) fn length_read_back(text: &[u8]) -> usize {
    const REPLACEMENT: usize = 3;
    text.utf8_chunks().map(|chunk| chunk.valid().len() + chunk.invalid().len() * REPLACEMENT).sum()
}

/// Reads one line (without its newline) back: the stream and the text. `None`: it is no entry.
pub(crate) fn decode(line: &[u8], text: &mut Vec<u8>) -> Option<Stream> {
    let mut rest = line.strip_prefix(HEAD)?;
    text.clear();
    loop {
        let stop = rest.iter().position(|&b| b == b'"' || b == b'\\')?;
        text.extend_from_slice(&rest[..stop]);
        if rest[stop] == b'"' {
            rest = &rest[stop + 1..];
            break;
        }
        rest = unescape(&rest[stop + 1..], text)?;
    }
    let name = rest.strip_prefix(b",\"stream\":\"")?;
    if name.starts_with(b"stdout\"") {
        Some(Stream::Stdout)
    } else {
        name.starts_with(b"stderr\"").then_some(Stream::Stderr)
    }
}

/// Reads what follows a backslash; the rest of the line.
fn unescape<'a>(escape: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = escape.split_first()?;
    match kind {
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'u' => {
            let digits = std::str::from_utf8(rest.get(..4)?).ok()?;
            let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(4..);
        }
        other => text.push(other),
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_escaped(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        assert_eq!(
            escaped(b"plain text that is longer than one block"),
            "plain text that is longer than one block"
        );
        assert_eq!(
            escaped(b"a\"b\\c<d>e&f\tg\rh\x1b\x7f"),
            "a\\\"b\\\\c\\u003cd\\u003ee\\u0026f\\u0009g\\rh\\u001b\x7f"
        );
        assert_eq!(escaped("é€\u{2028}\u{2029}😀x".as_bytes()), "é€\\u2028\\u2029😀x");
        assert_eq!(escaped(b"\xff\xc3A\xe2\x82"), "\\ufffd\\ufffdA\\ufffd\\ufffd");
    }

    #[test]
    fn an_entry_has_dockers_shape_and_comes_back() {
        let mut format =
            JsonFormat::new(&BTreeMap::from([("b".into(), "<1>".into()), ("a".into(), "x".into())]));
        format.set_time(1_700_000_000_120_000_000);
        let mut out = Vec::new();
        format.push(Stream::Stderr, b"hi \x01\xff", true, &mut out);
        assert_eq!(
            String::from_utf8(out.clone()).unwrap(),
            "{\"log\":\"hi \\u0001\\ufffd\\n\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"x\",\"b\":\"\\u003c1\\u003e\"},\
             \"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        let mut text = Vec::new();
        assert_eq!(decode(&out, &mut text), Some(Stream::Stderr));
        assert_eq!(text, "hi \u{1}\u{fffd}\n".as_bytes());
        assert_eq!(decode(b"nonsense", &mut text), None);
        assert_eq!(decode(b"{\"log\":\"cut off", &mut text), None);
    }

    #[test]
    fn the_length_read_back_counts_replacements() {
        for text in [&b"abc"[..], b"\xff\xfe", b"a\xe2\x82b", "é".as_bytes()] {
            let mut out = HEAD.to_vec();
            push_escaped(text, &mut out);
            out.extend_from_slice(b"\",\"stream\":\"stdout\"");
            let mut back = Vec::new();
            decode(&out, &mut back).unwrap();
            assert_eq!(back.len(), length_read_back(text));
        }
    }

    #[test]
    fn times_lose_their_trailing_zeros() {
        assert_eq!(rfc3339_nano(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(1_700_000_000_000_000_001), "2023-11-14T22:13:20.000000001Z");
    }
}

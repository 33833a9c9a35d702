//! From log entries to the bytes a client gets.

use std::collections::BTreeMap;

use wharf_shim::log::{self as local, Decoded};

use super::clock;
use super::json_line::{Line, find_newline};

/// How entries lie in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    JsonFile,
    Local,
}

/// Which entries are wanted and what they look like.
#[derive(Debug, Clone)]
pub(super) struct Render {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Entries before are left out; nanoseconds since 1970.
    pub(super) since: i64,
    /// The first entry after ends the reading; `i64::MAX`: none does.
    pub(super) until: i64,
    pub(super) timestamps: bool,
    pub(super) details: bool,
    /// Whether each entry gets Docker's eight-byte header (there was no terminal).
    pub(super) framed: bool,
}

/// What became of some input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Bytes that are done with; the rest is the start of an entry.
    pub(super) consumed: usize,
    /// An entry after `until` was met.
    pub(super) past_end: bool,
}

/// An entry's time, as the file has it.
#[derive(Clone, Copy)]
enum Time<'a> {
    Text(&'a str),
    Nanos(i64),
}

impl Render {
    /// Reads whole entries from the head of `input` and appends what the client gets of them, until `out`
    /// holds `enough` bytes. `skip` counts entries that are passed over first.
    pub(super) fn feed(
        &self,
        format: Format,
        input: &[u8],
        skip: &mut u64,
        enough: usize,
        out: &mut Vec<u8>,
    ) -> Fed {
        let mut consumed = 0;
        while out.len() < enough {
            let rest = &input[consumed..];
            let taken = match format {
                Format::JsonFile => self.json_entry(rest, skip, out),
                Format::Local => self.local_entry(rest, skip, out),
            };
            match taken {
                Taken::Bytes(bytes) => consumed += bytes,
                Taken::Incomplete => break,
                Taken::PastEnd => return Fed { consumed, past_end: true },
            }
        }
        Fed { consumed, past_end: false }
    }

    fn json_entry(&self, input: &[u8], skip: &mut u64, out: &mut Vec<u8>) -> Taken {
        let Some(end) = find_newline(input) else { return Taken::Incomplete };
        let taken = Taken::Bytes(end + 1);
        if *skip > 0 {
            *skip -= 1;
            return taken;
        }
        // A damaged line (a power cut, a full disk) is passed over: the ones after it are worth having.
        let Some(line) = Line::parse(&input[..end]) else { return taken };
        if self.since != i64::MIN || self.until != i64::MAX {
            let time = line.nanos();
            if time > self.until {
                return Taken::PastEnd;
            }
            if time < self.since {
                return taken;
            }
        }
        if self.wants(line.stderr) {
            let start = self.head(line.stderr, Time::Text(&line.time), out);
            if self.details {
                write_attributes(&line.attributes(), out);
            }
            line.text.write(out);
            self.close(start, out);
        }
        taken
    }

    fn local_entry(&self, input: &[u8], skip: &mut u64, out: &mut Vec<u8>) -> Taken {
        let (entry, bytes) = match local::decode(input) {
            Decoded::Entry(entry, bytes) => (entry, bytes),
            Decoded::Incomplete => return Taken::Incomplete,
            // Entries carry no mark to find the next one by: the rest of this input is lost.
            Decoded::Damaged => return Taken::Bytes(input.len()),
        };
        if *skip > 0 {
            *skip -= 1;
            return Taken::Bytes(bytes);
        }
        if entry.time > self.until {
            return Taken::PastEnd;
        }
        let stderr = entry.flags & local::STDERR != 0;
        if entry.time >= self.since && self.wants(stderr) {
            let start = self.head(stderr, Time::Nanos(entry.time), out);
            if self.details {
                write_attributes(&BTreeMap::new(), out);
            }
            out.extend_from_slice(entry.text);
            if entry.flags & local::PARTIAL == 0 {
                out.push(b'\n');
            }
            self.close(start, out);
        }
        Taken::Bytes(bytes)
    }

    fn wants(&self, stderr: bool) -> bool {
        if stderr { self.stderr } else { self.stdout }
    }

    /// Starts an entry; gives back where it starts.
    fn head(&self, stderr: bool, time: Time<'_>, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        if self.framed {
            out.extend_from_slice(&[1 + u8::from(stderr), 0, 0, 0, 0, 0, 0, 0]);
        }
        if self.timestamps {
            match time {
                Time::Text(text) => clock::write_padded(text, out),
                Time::Nanos(nanos) => clock::write_nanos(nanos, out),
            }
            out.push(b' ');
        }
        start
    }

    /// Ends the entry that starts at `start`.
    fn close(&self, start: usize, out: &mut [u8]) {
        if self.framed {
            // Entries are far below 4 GiB: a reader's buffer holds each whole.
            let length = u32::try_from(out.len() - start - 8).unwrap_or(u32::MAX);
            out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
        }
    }
}

enum Taken {
    Bytes(usize),
    Incomplete,
    PastEnd,
}

/// `key=value,…` and a space, escaped as Go's `url.QueryEscape` does.
fn write_attributes(attributes: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    for (index, (key, value)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        query_escape(key, out);
        out.push(b'=');
        query_escape(value, out);
    }
    out.push(b' ');
}

fn query_escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = br#"{"log":"one\n","stream":"stdout","attrs":{"a":"b","c":"e,f","c2":"\u003cx\u003e"},"time":"1970-01-01T00:00:01.5Z"}
damaged
{"log":"two\n","stream":"stderr","time":"1970-01-01T00:00:02Z"}
{"log":"three","stream":"stdout","time":"1970-01-01T00:00:03Z"}
{"log":"cut"#;

    fn all() -> Render {
        Render {
            stdout: true,
            stderr: true,
            since: i64::MIN,
            until: i64::MAX,
            timestamps: false,
            details: false,
            framed: false,
        }
    }

    fn feed(render: &Render, input: &[u8]) -> (String, Fed) {
        let mut out = Vec::new();
        let fed = render.feed(Format::JsonFile, input, &mut 0, usize::MAX, &mut out);
        (String::from_utf8(out).unwrap(), fed)
    }

    #[test]
    fn whole_lines_are_taken_and_a_cut_one_left() {
        let (text, fed) = feed(&all(), LOG);
        assert_eq!(text, "one\ntwo\nthree");
        assert_eq!(fed, Fed { consumed: LOG.len() - 11, past_end: false });
        let mut out = Vec::new();
        let fed = all().feed(Format::JsonFile, LOG, &mut 2, 1, &mut out);
        assert_eq!((out.as_slice(), &LOG[fed.consumed..][..11]), (&b"two\n"[..], &b"{\"log\":\"thr"[..]));
    }

    #[test]
    fn frames_carry_stream_and_length() {
        let (text, _) = feed(&Render { framed: true, ..all() }, LOG);
        let expected = "\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n\x01\0\0\0\0\0\0\x05three";
        assert_eq!(text, expected);
    }

    #[test]
    fn streams_and_times_choose() {
        assert_eq!(feed(&Render { stdout: false, ..all() }, LOG).0, "two\n");
        assert_eq!(feed(&Render { since: 2_000_000_000, ..all() }, LOG).0, "two\nthree");
        let (text, fed) = feed(&Render { until: 2_000_000_000, ..all() }, LOG);
        assert_eq!((text.as_str(), fed.past_end), ("one\ntwo\n", true));
    }

    #[test]
    fn times_and_attributes_come_before_the_text() {
        let (text, _) = feed(&Render { timestamps: true, details: true, stderr: false, ..all() }, LOG);
        let expected = "1970-01-01T00:00:01.500000000Z a=b,c=e%2Cf,c2=%3Cx%3E one\n\
                        1970-01-01T00:00:03.000000000Z  three";
        assert_eq!(text, expected);
    }

    #[test]
    fn local_entries_get_their_newline_back() {
        let mut log = Vec::new();
        local::Entry { flags: 0, time: 1_500_000_000, text: b"one" }.encode(&mut log);
        local::Entry { flags: local::PARTIAL | local::STDERR, time: 2, text: b"\xff" }.encode(&mut log);
        let mut out = Vec::new();
        let render = Render { timestamps: true, ..all() };
        let fed = render.feed(Format::Local, &log, &mut 0, usize::MAX, &mut out);
        assert_eq!(fed.consumed, log.len());
        assert_eq!(out, b"1970-01-01T00:00:01.500000000Z one\n1970-01-01T00:00:00.000000002Z \xff");
    }
}

//! Entries out of rendered output: frames whose text starts with the time.

use super::super::clock;

/// One log entry on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) stderr: bool,
    /// Nanoseconds since 1970.
    pub(super) time: i64,
    /// The same as RFC 3339 text.
    pub(super) time_text: &'a str,
    /// Without the newline.
    pub(super) text: &'a [u8],
    /// The line goes on in the next entry.
    pub(super) partial: bool,
}

/// The entries in whole frames with timestamps.
pub(super) fn entries(mut output: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = output.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (frame, rest) = rest.split_at_checked(length)?;
        output = rest;
        let space = frame.iter().position(|&byte| byte == b' ')?;
        let time_text = str::from_utf8(&frame[..space]).ok()?;
        let text = &frame[space + 1..];
        let (text, partial) = match text.strip_suffix(b"\n") {
            Some(line) => (line, false),
            None => (text, true),
        };
        let time = clock::parse(time_text.as_bytes()).unwrap_or(0);
        Some(Entry { stderr: head[0] == 2, time, time_text, text, partial })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let mut output = Vec::new();
        for (stream, text) in
            [(1, "1970-01-01T00:00:01.000000000Z a b\n"), (2, "1970-01-01T00:00:02.000000000Z ")]
        {
            output.extend_from_slice(&[stream, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
            output.extend_from_slice(text.as_bytes());
        }
        let all: Vec<Entry<'_>> = entries(&output).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].text, all[0].time, all[0].stderr, all[0].partial),
            (&b"a b"[..], 1_000_000_000, false, false)
        );
        assert_eq!((all[1].text, all[1].stderr, all[1].partial), (&b""[..], true, true));
    }
}

//! The two kinds of ranges: what a download asks for, and where a chunk of an upload belongs.

/// What a `Range` header asks of a body of `size` bytes (RFC 9110, 14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no header, one that is not understood, or several ranges.
    Whole,
    /// The bytes from the first up to but without the second.
    Part(u64, u64),
    /// Nothing of it is there.
    Unsatisfiable,
}

/// Reads a `Range` header.
#[must_use]
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(ranges) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = ranges.split_once('-').filter(|_| !ranges.contains(',')) else {
        return Wanted::Whole;
    };
    match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first > last => Wanted::Whole,
        (Some(first), Some(_)) if first >= size => Wanted::Unsatisfiable,
        (Some(first), Some(last)) => Wanted::Part(first, last.saturating_add(1).min(size)),
        (Some(first), None) if last.trim().is_empty() => {
            if first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(first, size)
            }
        }
        (None, Some(0)) if first.trim().is_empty() => Wanted::Unsatisfiable,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Wanted::Unsatisfiable,
        (None, Some(tail)) if first.trim().is_empty() => Wanted::Part(size.saturating_sub(tail), size),
        _ => Wanted::Whole,
    }
}

/// Where a chunk belongs: its first byte and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The offset of its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Reads a chunk's `Content-Range`: `START-END` as in the distribution spec, both ends included; also the form of HTTP,
/// `bytes START-END/TOTAL`. Nothing when it is neither.
#[must_use]
pub fn chunk(header: &str) -> Option<Chunk> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (start, end) = text.split_once('-')?;
    let (start, end) = (number(start)?, number(end)?);
    let length = end.checked_sub(start)?.checked_add(1)?;
    Some(Chunk { start, length })
}

/// Decimal digits alone: `u64::from_str` would also take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        let cases = [
            ("bytes=0-4", Wanted::Part(0, 5)),
            ("bytes=5-", Wanted::Part(5, 10)),
            ("bytes=-3", Wanted::Part(7, 10)),
            ("bytes=-30", Wanted::Part(0, 10)),
            ("bytes=0-99", Wanted::Part(0, 10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-11", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=0-18446744073709551615", Wanted::Part(0, 10)),
        ];
        for (text, expected) in cases {
            assert_eq!(wanted(Some(text), 10), expected, "{text}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn ranges_of_chunks() {
        assert_eq!(chunk("0-9"), Some(Chunk { start: 0, length: 10 }));
        assert_eq!(chunk("bytes 10-19/*"), Some(Chunk { start: 10, length: 10 }));
        for bad in ["", "-", "5-4", "a-b", "1", "-1-2", "0-18446744073709551615", "0x1-2"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}

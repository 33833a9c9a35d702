//! PAX extended headers: records `LENGTH KEY=VALUE\n` that override fields of the next member.

use super::entry::Time;
use crate::error::{Error, Result};

/// The attributes' keys start so (star's convention, which all writers follow).
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// One record.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of an extended header.
pub(super) fn records(data: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut records = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (record, after) = record(rest).ok_or(Error::Header("malformed extended header"))?;
        records.push(record);
        rest = after;
    }
    Ok(records)
}

fn record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let blank = data.iter().take(10).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..blank]).ok()?).ok()?;
    let record = data.get(blank + 1..length)?;
    let (newline, record) = record.split_last()?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    // A NUL would end the key or the path for readers written in C and not for others.
    let textual = !key.starts_with(XATTR);
    let bad = *newline != b'\n' || key.is_empty() || key.contains(&0) || (textual && value.contains(&0));
    if bad { None } else { Some(((key, value), &data[length..])) }
}

/// A decimal number, digits only.
pub(super) fn decimal(text: &[u8]) -> Result<u64> {
    let bad = Error::Header("number that is not decimal");
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    Ok(text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// An owner's number.
pub(super) fn id(text: &[u8]) -> Result<u32> {
    u32::try_from(decimal(text)?).map_err(|_| Error::Header("owner out of range"))
}

/// A time: seconds, negative before 1970, with an optional fraction of which nine digits count.
pub(super) fn time(text: &[u8]) -> Result<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next().unwrap_or_default())?)
        .map_err(|_| Error::Header("time out of range"))?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Error::Header("malformed time"));
    }
    let nanos = (0..9)
        .fold(0u32, |value, at| value * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    Ok(match (negative, nanos) {
        (false, _) => Time { seconds: whole, nanos },
        (true, 0) => Time { seconds: -whole, nanos },
        (true, _) => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Appends a record, whose length counts its own digits.
pub(super) fn push(header: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + digits(length) != length {
        length = body + digits(length);
    }
    header.extend_from_slice(length.to_string().as_bytes());
    header.push(b' ');
    header.extend_from_slice(key);
    header.push(b'=');
    header.extend_from_slice(value);
    header.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// A time as a record's value, without trailing zeros.
pub(super) fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let mut header = Vec::new();
        let long = [b'x'; 90];
        for (key, value) in [(&b"path"[..], &long[..]), (b"a", b""), (b"SCHILY.xattr.user.n", b"\0=\n")] {
            push(&mut header, key, value);
        }
        let back = records(&header).unwrap();
        assert_eq!(back, [(&b"path"[..], &long[..]), (b"a", b""), (b"SCHILY.xattr.user.n", b"\0=\n")]);
    }

    #[test]
    fn lengths_count_their_own_digits() {
        for size in 0..1200 {
            let mut header = Vec::new();
            push(&mut header, b"k", &vec![b'v'; size]);
            assert_eq!(records(&header).unwrap()[0].1.len(), size);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for header in [
            &b"6 a=b\0"[..],
            b"5 =b\n",
            b"x a=b\n",
            b"99 a=b\n",
            b"4 a=b\n",
            b" 6 a=b\n",
            b"+6 a=b\n",
            b"0 a=b\n",
            b"12 path=a\0b\n",
        ] {
            assert!(records(header).is_err(), "{:?}", String::from_utf8_lossy(header));
        }
    }

    #[test]
    fn times_with_fractions_and_before_1970() {
        for (text, seconds, nanos) in
            [("5", 5, 0), ("5.25", 5, 250_000_000), ("-1.5", -2, 500_000_000), ("-3", -3, 0)]
        {
            let parsed = time(text.as_bytes()).unwrap();
            assert_eq!(parsed, Time { seconds, nanos });
            assert_eq!(format_time(parsed), text);
        }
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"--1").is_err());
    }
}

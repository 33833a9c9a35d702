//! Log times: RFC 3339 text and nanoseconds since 1970, both ways and fast, since every line has one.

use std::io::Write;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Nanoseconds since 1970 from RFC 3339 text; `None` where it is none.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    match text {
        [
            y1 @ b'0'..=b'9',
            y2,
            y3,
            y4,
            b'-',
            m1,
            m2,
            b'-',
            d1,
            d2,
            b'T',
            h1,
            h2,
            b':',
            n1,
            n2,
            b':',
            s1,
            s2,
            rest @ ..,
            b'Z',
        ] => {
            let year = digits(&[*y1, *y2, *y3, *y4])?;
            let days = days_from_civil(year, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?);
            let seconds = digits(&[*h1, *h2])? * 3600 + digits(&[*n1, *n2])? * 60 + digits(&[*s1, *s2])?;
            let nanos = match rest {
                [] => 0,
                [b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
                    digits(fraction)? * 10_i64.pow(9 - u32::try_from(fraction.len()).ok()?)
                }
                _ => return None,
            };
            (days * DAY + seconds).checked_mul(NANOS)?.checked_add(nanos)
        }
        // Another offset than ours: lines that someone else wrote.
        _ => {
            let time: jiff::Timestamp = str::from_utf8(text).ok()?.parse().ok()?;
            i64::try_from(time.as_nanosecond()).ok()
        }
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter()
        .try_fold(0, |value, &digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// Appends RFC 3339 text with all nine digits of the fraction, as `logs --timestamps` prints.
pub(super) fn write_nanos(nanos: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z");
}

/// Appends RFC 3339 text with its fraction filled up to nine digits.
pub(super) fn write_padded(text: &str, out: &mut Vec<u8>) {
    let Some((whole, fraction)) = text.as_bytes().split_at_checked(19) else {
        out.extend_from_slice(text.as_bytes());
        return;
    };
    let (fraction, zone) = match fraction.strip_prefix(b".") {
        None => (&b""[..], fraction),
        Some(rest) => {
            let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            rest.split_at(end.min(9))
        }
    };
    out.extend_from_slice(whole);
    out.push(b'.');
    out.extend_from_slice(fraction);
    out.extend_from_slice(&b"000000000"[fraction.len()..]);
    out.extend_from_slice(zone);
}

/// Days since 1970 of a date in the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_calendar_library() {
        for nanos in [0, 1, -1, 951_782_400_000_000_000, 1_795_265_126_747_180_292, 4_102_444_799_999_999_999]
        {
            let text = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap().to_string();
            assert_eq!(parse(text.as_bytes()), Some(nanos), "{text}");
            let mut out = Vec::new();
            write_nanos(nanos, &mut out);
            assert_eq!(parse(&out), Some(nanos));
        }
        let mut day = -800_000;
        while day < 800_000 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
            day += 17;
        }
    }

    #[test]
    fn fractions_are_filled_up() {
        for (text, padded) in [
            ("2026-11-21T12:44:48Z", "2026-11-21T12:44:48.000000000Z"),
            ("2026-11-21T12:44:48.32Z", "2026-11-21T12:44:48.320000000Z"),
            ("2026-11-21T12:44:48.123456789+01:00", "2026-11-21T12:44:48.123456789+01:00"),
        ] {
            let mut out = Vec::new();
            write_padded(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), padded);
        }
    }

    #[test]
    fn other_zones_and_other_texts() {
        assert_eq!(parse(b"1970-01-01T01:00:00+01:00"), Some(0));
        for text in ["", "x", "2026-11-21", "2026-11-21T12:44:48.Z", "2026-1x-21T12:44:48Z"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}

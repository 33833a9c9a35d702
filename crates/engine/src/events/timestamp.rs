//! `since` and `until` as clients send them: seconds since 1970, with an optional fraction.

use crate::error::{Error, Result};

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds since 1970 from `SECONDS[.FRACTION]`; `None` for an empty text. Errors carry Go's words, as
/// Docker's do, and are internal ones for the same reason.
pub fn parse_timestamp(text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = go_int(seconds)?;
    let nanos = if fraction.is_empty() { 0 } else { scale(go_int(fraction)?, fraction.len()) };
    Ok(Some(seconds.saturating_mul(NANOS).saturating_add(nanos)))
}

/// [`parse_timestamp`] where an empty text means `default`.
pub fn parse_timestamp_or(text: &str, default: i64) -> Result<i64> {
    Ok(parse_timestamp(text)?.unwrap_or(default))
}

/// The fraction's `digits` digits as nanoseconds.
fn scale(value: i64, digits: usize) -> i64 {
    let power = |exponent: usize| 10_i64.checked_pow(u32::try_from(exponent).unwrap_or(u32::MAX));
    if digits <= 9 {
        power(9 - digits).map_or(0, |factor| value.saturating_mul(factor))
    } else {
        power(digits - 9).map_or(0, |divisor| value / divisor)
    }
}

/// A decimal number as Go's `strconv.ParseInt(text, 10, 64)` takes it.
fn go_int(text: &str) -> Result<i64> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Error::internal(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_fractions() {
        assert_eq!(parse_timestamp("").unwrap(), None);
        assert_eq!(parse_timestamp("1.5").unwrap(), Some(1_500_000_000));
        assert_eq!(parse_timestamp("-1").unwrap(), Some(-1_000_000_000));
        assert_eq!(parse_timestamp("0.000000001").unwrap(), Some(1));
        assert_eq!(parse_timestamp("0.1234567899").unwrap(), Some(123_456_789));
        assert_eq!(parse_timestamp_or("", 7).unwrap(), 7);
    }

    #[test]
    fn other_texts_fail_with_gos_words() {
        let error = parse_timestamp("1.5x").unwrap_err();
        assert_eq!(error.message(), "strconv.ParseInt: parsing \"5x\": invalid syntax");
        let error = parse_timestamp("10m").unwrap_err();
        assert_eq!(error.message(), "strconv.ParseInt: parsing \"10m\": invalid syntax");
    }
}

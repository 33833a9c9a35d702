//! Limits of an endpoint: `io.wharf.egress=100mbit`, as the container sees them.

use std::collections::BTreeMap;

use wharf_network::types::Bandwidth;

use crate::error::{Error, Result};

/// What the container may send.
pub(crate) const EGRESS: &str = "io.wharf.egress";
/// What it may receive.
pub(crate) const INGRESS: &str = "io.wharf.ingress";

/// Reads the limits among an endpoint's driver options.
///
/// # Errors
/// Invalid, for a rate that cannot be read.
pub(super) fn limits(options: &BTreeMap<String, String>) -> Result<Bandwidth> {
    let rate = |key: &str| match options.get(key).map(String::as_str) {
        None | Some("" | "0" | "unlimited") => Ok(None),
        Some(text) => rate(text).map(Some).ok_or_else(|| {
            Error::invalid(format!("invalid rate {text:?} of {key}: a number and bit, kbit, mbit or gbit"))
        }),
    };
    Ok(Bandwidth { egress: rate(EGRESS)?, ingress: rate(INGRESS)? })
}

/// Bits per second. Units are tc's: `bit`, `kbit`, `mbit`, `gbit` (decimal), `kibit` … (binary), `bps`, `kbps` …
/// (bytes); `k`, `m`, `g` alone and no unit at all count bits.
fn rate(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim();
    let (unit, bits) = match unit.strip_suffix("bps") {
        Some(rest) => (rest, 8.0),
        None => (unit.strip_suffix("bit/s").or(unit.strip_suffix("bit")).unwrap_or(unit), 1.0),
    };
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bits = number * factor * bits;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    (8.0..1e15).contains(&bits).then_some(bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_tc_reads_them() {
        let all = [
            ("100mbit", 100_000_000),
            ("1.5gbit", 1_500_000_000),
            ("10Mbps", 80_000_000),
            ("8000", 8000),
            ("64kibit", 65_536),
            ("2m", 2_000_000),
            ("5 mbit/s", 5_000_000),
        ];
        for (text, bits) in all {
            assert_eq!(rate(text), Some(bits), "{text}");
        }
        for wrong in ["", "x", "-1mbit", "1furlong", "0", "1e3"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }
}

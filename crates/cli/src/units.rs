//! Sizes and ages as Docker says them to people.

use std::time::{SystemTime, UNIX_EPOCH};

/// `1.23MB`: powers of 1000, four significant digits.
pub(crate) fn size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 4)
}

/// The same with three digits, as `docker images` shows it.
pub(crate) fn short_size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// `1.23MiB`: powers of 1024.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(i64::try_from(bytes).unwrap_or(i64::MAX), 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

fn scaled(bytes: i64, base: f64, units: &[&str], digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number.abs() >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    format!("{}{}", significant(number, digits), units[unit])
}

/// Go's `%.Ng`: N significant digits, no trailing zeros.
fn significant(number: f64, digits: usize) -> String {
    let whole = if number.abs() < 1.0 { 1 } else { number.abs().log10().floor() as usize + 1 };
    let text = format!("{number:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `3 minutes ago` for a time in Unix seconds.
pub(crate) fn ago(unix: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
    format!("{} ago", human(u64::try_from(now - unix).unwrap_or(0)))
}

/// A number of seconds in Docker's words.
pub(crate) fn human(seconds: u64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, not cut.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A time in Unix seconds as Go prints it: `2024-01-01 00:00:00 +0000 UTC`, in the local zone.
pub(crate) fn date(unix: i64) -> String {
    let moment =
        jiff::Timestamp::from_second(unix).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    moment.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// The first twelve digits of an id, without `sha256:`.
pub(crate) fn short_id(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_says_them() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1_234_567), "1.235MB");
        assert_eq!(short_size(1_234_567), "1.23MB");
        assert_eq!(size(999), "999B");
        assert_eq!(short_size(123_456_789), "123MB");
        assert_eq!(binary_size(1024 * 1024 * 3 / 2), "1.5MiB");
    }

    #[test]
    fn ages_as_docker_says_them() {
        assert_eq!(human(0), "Less than a second");
        assert_eq!(human(59), "59 seconds");
        assert_eq!(human(119), "About a minute");
        assert_eq!(human(3599), "59 minutes");
        assert_eq!(human(3600 * 30), "30 hours");
        assert_eq!(human(3600 * 24 * 3), "3 days");
    }
}

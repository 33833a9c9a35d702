//! What an archive says of its own state: the `Release` file, whose signature was verified.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_oci::Digest;
use wharf_sys::root::Root;

use super::super::Failure;

/// Where the tool leaves it.
const LISTS: &str = "var/lib/apt/lists";
/// The most of it that is read, bytes.
const LIMIT: u64 = 16 << 20;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The state of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// When it was made, seconds since 1970.
    pub date: i64,
    /// The digest of the file: it names every package index by digest, and those every package.
    pub digest: String,
    /// `13.7`; empty where the archive has no numbers.
    pub version: String,
}

impl Release {
    /// Reads the one file that the first stage left.
    pub(super) fn find(root: &Root) -> Result<Self, Failure> {
        let entries = root.dir(LISTS)?.entries()?;
        let named = entries.iter().find(|entry| entry.name.as_bytes().ends_with(b"_Release"));
        let name = &named.ok_or_else(|| Failure::failed("the archive's Release file is not there"))?.name;
        Self::parse(&root.read(Path::new(LISTS).join(name), LIMIT)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let date = field("Date:").and_then(seconds);
        Ok(Self {
            date: date.ok_or_else(|| Failure::failed("the archive's Release file has no date"))?,
            digest: Digest::of(bytes).to_string(),
            version: field("Version:").unwrap_or_default().to_owned(),
        })
    }
}

/// `Sat, 12 Sep 2026 07:55:41 UTC` as seconds since 1970; the archive's dates are always in UTC.
fn seconds(text: &str) -> Option<i64> {
    let (_, text) = text.split_once(", ")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[day, month, year, time, "UTC" | "GMT" | "+0000"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<i64> = time.split(':').map_while(|part| part.parse().ok()).collect();
    let &[hour, minute, second] = clock.as_slice() else { return None };
    if !(1..=31).contains(&day) || !(1970..3000).contains(&year) {
        return None;
    }
    // Years that begin with March have their leap day at the end.
    let month = i64::try_from(month).ok()? + 1;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        assert_eq!(seconds("Sat, 12 Sep 2026 07:55:41 UTC"), Some(1_789_199_741));
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:00 UTC"), Some(1_709_164_800));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        for wrong in ["", "Sat, 12 Sep 2026", "Sat, 12 Foo 2026 07:55:41 UTC", "Sat, 12 Sep 2026 07:55 UTC"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_release_without_a_date_is_refused() {
        let text = b"Origin: Debian\nVersion: 13.7\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n";
        let release = Release::parse(text).ok().unwrap();
        assert_eq!((release.version.as_str(), release.date), ("13.7", 1_789_199_741));
        assert!(Release::parse(b"Origin: Debian\n").is_err());
    }
}

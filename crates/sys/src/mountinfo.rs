//! `/proc/self/mountinfo` (`man 5 proc_pid_mountinfo`): what is mounted where, as this process sees it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// One mount, a line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, below the root of this process.
    pub place: PathBuf,
    /// The type of its file system.
    pub kind: String,
    /// The options of the file system itself, comma-separated.
    pub options: String,
    /// Whether what is mounted below it appears at its peers too.
    pub shared: bool,
    /// Whether what is mounted below its master appears here too.
    pub slave: bool,
}

/// All mounts in the order of the kernel: a later one at the same place hides the earlier.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn read() -> Result<Vec<Entry>> {
    let table = std::fs::read("/proc/self/mountinfo").context(|| "read /proc/self/mountinfo")?;
    Ok(parse(&table))
}

/// The mounts of a table; lines that are none are left out.
pub(crate) fn parse(table: &[u8]) -> Vec<Entry> {
    table.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

/// The mount that `path`, which has no links in it, is on.
pub fn holding<'a>(table: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    // Of mounts at one place the last hides the others, and `max_by_key` answers the last.
    let around = table.iter().filter(|entry| path.starts_with(&entry.place));
    around.max_by_key(|entry| entry.place.components().count())
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let (mut shared, mut slave) = (false, false);
    // After the mount's own flags: any number of tags, then a dash.
    for tag in fields.by_ref().skip(1).take_while(|field| *field != b"-") {
        shared |= tag.starts_with(b"shared:");
        slave |= tag.starts_with(b"master:");
    }
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let (kind, options) = (text(fields.next()?), text(fields.nth(1)?));
    Some(Entry { place, kind, options, shared, slave })
}

/// Blanks, line ends and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match digits {
            Some(digits) if *first == b'\\' => {
                plain.push(digits.iter().fold(0, |sum: u8, digit| (sum << 3) | (digit - b'0')));
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let table =
            b"31 23 8:1 / /data\\040root/x\\134y rw,noatime shared:1 master:2 - ext4 /dev/vda rw,quota\n\
            32 31 0:29 / /sys rw - sysfs sys rw\n1 2 odd\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 2);
        let first = Entry {
            place: "/data root/x\\y".into(),
            kind: "ext4".to_owned(),
            options: "rw,quota".to_owned(),
            shared: true,
            slave: true,
        };
        assert_eq!(entries[0], first);
        assert_eq!((entries[1].kind.as_str(), entries[1].shared), ("sysfs", false));
    }

    #[test]
    fn the_deepest_and_last_mount_holds_a_path() {
        let table = parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /a rw - ext4 b rw\n3 1 8:3 / /a rw - ext4 b ro\n\
            4 1 8:4 / /ab rw - ext4 c rw\n",
        );
        let found = holding(&table, Path::new("/a/b")).unwrap();
        assert_eq!((found.place.as_path(), found.options.as_str()), (Path::new("/a"), "ro"));
        assert_eq!(holding(&table, Path::new("/c")).unwrap().place, Path::new("/"));
    }

    #[test]
    fn the_kernels_own_table_is_understood() {
        assert!(
            read().unwrap().iter().any(|entry| entry.place == Path::new("/proc") && entry.kind == "proc")
        );
    }
}

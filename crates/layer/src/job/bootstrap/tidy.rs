//! Takes away what differs from one run to the next, and what a base image has no use for.

use std::ffi::OsStr;

use rustix::fs::{FileType, Timespec};
use wharf_sys::root::{Dir, Root};

use super::super::Failure;
use super::{UNSAFE_IO, write};

/// Directories of which nothing is kept: package files and lists, devices (a container has its own), traces of the run.
const EMPTIED: &[&str] =
    &["dev", "tmp", "var/tmp", "var/cache/apt", "var/cache/ldconfig", "var/lib/apt/lists"];
/// Made by the run.
const REMOVED: &[&str] = &[
    UNSAFE_IO,
    "debootstrap",
    "etc/.pwd.lock",
    "run/mount",
    "var/lib/dpkg/available",
    "var/lib/dpkg/cmethopt",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/systemd/random-seed",
];
/// Directories whose files have an older copy beside them, and the end of its name.
const COPIES: &[(&str, &str)] = &[("etc", "-"), ("var/cache/debconf", "-old"), ("var/lib/dpkg", "-old")];
/// Files of the host that made it, or of the one machine that it is not.
const BLANKED: &[&str] = &["etc/hostname", "etc/resolv.conf"];
/// Where passwords are, each with the day of its last change.
const SHADOW: &str = "etc/shadow";
const DAY: i64 = 24 * 60 * 60;

/// Makes a tree what any other run on the archive of that `date` makes.
pub(super) fn tidy(root: &Root, sources: &str, date: i64) -> Result<(), Failure> {
    for path in EMPTIED {
        present(root.dir(path))?.map_or(Ok(()), |dir| dir.clear())?;
    }
    for path in REMOVED {
        remove(root, path)?;
    }
    for (path, end) in COPIES {
        copies(root, path, end)?;
    }
    for path in BLANKED {
        write(root, path, b"")?;
    }
    if root.exists("etc/machine-id") {
        write(root, "etc/machine-id", b"")?;
    }
    write(root, "etc/apt/sources.list", sources.as_bytes())?;
    if root.exists(SHADOW) {
        changed_on(root, date / DAY)?;
    }
    if let Some(logs) = present(root.dir("var/log"))? {
        silence(&logs)?;
    }
    clamp(&root.top()?, date)
}

fn present<T>(found: wharf_sys::root::Result<T>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn remove(root: &Root, path: &str) -> Result<(), Failure> {
    let Some(Some((dir, name))) = present(root.parent(path))? else { return Ok(()) };
    present(dir.remove_all(&name)).map(drop)
}

fn copies(root: &Root, path: &str, end: &str) -> Result<(), Failure> {
    let Some(dir) = present(root.dir(path))? else { return Ok(()) };
    let entries = dir.entries()?;
    for entry in entries.iter().filter(|entry| entry.kind == FileType::RegularFile) {
        let original = entry.name.to_str().and_then(|name| name.strip_suffix(end));
        if original.is_some_and(|original| entries.iter().any(|other| other.name == original)) {
            dir.unlink(&entry.name)?;
        }
    }
    Ok(())
}

/// Keeps the logs that a package owns, empty, with their owners; what a program made goes.
fn silence(dir: &Dir) -> Result<(), Failure> {
    for entry in dir.entries()? {
        match entry.kind {
            FileType::Directory => silence(&dir.dir(&entry.name)?)?,
            _ if entry.name.as_encoded_bytes().ends_with(b".log") => dir.unlink(&entry.name)?,
            FileType::RegularFile => {
                let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC;
                drop(dir.open(&entry.name, flags)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets the day of the last change of every password, in place.
fn changed_on(root: &Root, day: i64) -> Result<(), Failure> {
    const LIMIT: u64 = 1 << 20;
    let text = String::from_utf8_lossy(&root.read(SHADOW, LIMIT)?).into_owned();
    let lines = text.lines().map(|line| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if let Some(changed) = fields.get_mut(2).filter(|changed| !changed.is_empty()) {
            *changed = day.to_string();
        }
        fields.join(":") + "\n"
    });
    let text: String = lines.collect();
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC;
    let opened = root.open_at(SHADOW, flags, rustix::fs::Mode::empty())?;
    Ok(std::io::Write::write_all(&mut std::fs::File::from(opened), text.as_bytes())?)
}

/// No time is later than `latest`.
fn clamp(dir: &Dir, latest: i64) -> Result<(), Failure> {
    for entry in dir.entries()? {
        if entry.kind == FileType::Directory {
            clamp(&dir.dir(&entry.name)?, latest)?;
        }
        limit(dir, &entry.name, latest)?;
    }
    Ok(())
}

fn limit(dir: &Dir, name: &OsStr, latest: i64) -> Result<(), Failure> {
    let stat = dir.stat(name)?;
    if (stat.st_mtime, stat.st_mtime_nsec) > (latest, 0) {
        let time = Timespec { tv_sec: latest, tv_nsec: 0 };
        dir.set_times(name, time, time)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_the_run_go() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for (path, text) in [
            ("etc/hostname", "host"),
            ("etc/machine-id", "0123"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/passwd-", "old"),
            ("etc/odd-", "kept: there is no `odd`"),
            ("etc/shadow", "root:*:20778:0:99999:7:::\nlocked:!::0:::::\n"),
            ("etc/apt/sources.list", "deb x"),
            ("var/log/apt/history.log", "today"),
            ("var/log/wtmp", "today"),
            ("var/cache/ldconfig/aux-cache", "inodes"),
            ("usr/bin/tool", "kept"),
        ] {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), text).unwrap();
        }
        tidy(&Root::open(folder.path()).unwrap(), "deb y\n", 1_000_000_000)
            .map_err(|error| error.message)
            .unwrap();
        let read = |path: &str| std::fs::read_to_string(at(path)).ok();
        assert_eq!(read("etc/hostname").as_deref(), Some(""));
        assert_eq!(read("etc/machine-id").as_deref(), Some(""));
        assert_eq!(read("etc/passwd-"), None);
        assert!(read("etc/odd-").is_some());
        assert_eq!(read("etc/shadow").as_deref(), Some("root:*:11574:0:99999:7:::\nlocked:!::0:::::\n"));
        assert_eq!(read("etc/apt/sources.list").as_deref(), Some("deb y\n"));
        assert_eq!((read("var/log/apt/history.log"), read("var/log/wtmp").as_deref()), (None, Some("")));
        assert_eq!(read("var/cache/ldconfig/aux-cache"), None);
        let modified = std::fs::metadata(at("usr/bin/tool")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_000_000_000);
    }
}

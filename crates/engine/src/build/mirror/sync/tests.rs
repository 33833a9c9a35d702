use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::build::mirror::{MirrorKey, Mirrors};

fn key() -> MirrorKey {
    MirrorKey { directory: Some("project".to_owned()), part: "context".to_owned() }
}

fn entry(path: &str, kind: EntryKind, size: u64, modified: i64) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry { path: path.to_owned(), kind, mode, size, modified, ..Entry::default() }
}

fn file(path: &str, size: u64, modified: i64) -> Entry {
    entry(path, EntryKind::File, size, modified)
}

/// Sends a list with contents; returns which were asked for.
fn send(mirror: &mut Mirror, list: &[(Entry, &str)]) -> Result<Vec<String>> {
    let mut sync = mirror.sync();
    let mut asked = Vec::new();
    for (at, (entry, _)) in list.iter().enumerate() {
        if sync.entry(entry.clone())? {
            asked.push((at, entry.path.clone()));
        }
    }
    for (at, _) in &asked {
        let at = u32::try_from(*at).unwrap();
        sync.content(at, list[at as usize].1.as_bytes())?;
        sync.content(at, b"")?;
    }
    sync.finish()?;
    Ok(asked.into_iter().map(|(_, path)| path).collect())
}

#[test]
fn only_what_changed_is_asked_for() {
    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let first = [
        (file("a", 1, 5_000_000_001), "x"),
        (entry("d", EntryKind::Directory, 0, 7_000_000_000), ""),
        (file("d/b", 3, 1), "yyy"),
        (entry("d/e", EntryKind::Directory, 0, 1), ""),
        (file("d/e/f", 1, 1), "z"),
        (entry("l", EntryKind::Symlink("../../etc/passwd".to_owned()), 0, 1), ""),
        (entry("m", EntryKind::Link("a".to_owned()), 1, 5_000_000_001), ""),
    ];
    let mut mirror = mirrors.take(key()).unwrap();
    assert_eq!(send(&mut mirror, &first).unwrap(), ["a", "d/b", "d/e/f"]);
    let path = mirror.path().to_owned();
    assert_eq!(fs::metadata(path.join("a")).unwrap().mtime_nsec(), 1);
    assert_eq!(fs::metadata(path.join("a")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(path.join("d")).unwrap().mtime(), 7);
    drop(mirror);

    let mut mirror = mirrors.take(key()).unwrap();
    assert_eq!(mirror.path(), path);
    let revision = mirrors.revision(&path);
    assert!(revision.is_some());
    assert!(send(&mut mirror, &first).unwrap().is_empty());
    assert_eq!(mirrors.revision(&path), revision, "nothing changed");

    let second = [
        first[0].clone(),
        (entry("d", EntryKind::Directory, 0, 9_000_000_000), ""),
        (file("d/b", 3, 2), "new"),
        (file("n", 0, 3), ""),
    ];
    assert_eq!(send(&mut mirror, &second).unwrap(), ["d/b"]);
    assert_ne!(mirrors.revision(&path), revision);
    assert_eq!(fs::read_to_string(path.join("d/b")).unwrap(), "new");
    assert_eq!(fs::metadata(path.join("d")).unwrap().mtime(), 9);
    let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "d", "n"]);
    assert_eq!(fs::read_dir(path.join("d")).unwrap().count(), 1);
}

#[test]
fn kinds_change_places() {
    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let mut mirror = mirrors.take(key()).unwrap();
    let tree =
        [(entry("a", EntryKind::Directory, 0, 1), ""), (file("a/b", 1, 1), "x"), (file("c", 1, 1), "y")];
    send(&mut mirror, &tree).unwrap();
    let turned =
        [(file("a", 1, 1), "z"), (entry("c", EntryKind::Directory, 0, 1), ""), (file("c/d", 1, 1), "w")];
    assert_eq!(send(&mut mirror, &turned).unwrap(), ["a", "c/d"]);
    assert_eq!(fs::read_to_string(mirror.path().join("a")).unwrap(), "z");
    assert_eq!(fs::read_to_string(mirror.path().join("c/d")).unwrap(), "w");
}

#[test]
fn another_name_goes_with_its_file() {
    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let link = || (entry("m", EntryKind::Link("a".to_owned()), 0, 1), "");
    let mut mirror = mirrors.take(key()).unwrap();
    send(&mut mirror, &[(file("a", 3, 1), "old"), link()]).unwrap();
    drop(mirror);
    // The content has another length, the time is the same.
    let mut mirror = mirrors.take(key()).unwrap();
    assert_eq!(send(&mut mirror, &[(file("a", 5, 1), "newer"), link()]).unwrap(), ["a"]);
    let path = mirror.path().to_owned();
    assert_eq!(fs::read_to_string(path.join("m")).unwrap(), "newer");
    drop(mirror);
    let mut mirror = mirrors.take(key()).unwrap();
    assert!(send(&mut mirror, &[link()]).is_err(), "what it names is gone");
}

#[test]
fn hostile_lists_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let link = |target: &str| entry("l", EntryKind::Symlink(target.to_owned()), 0, 1);
    let lists: [&[(Entry, &str)]; 6] = [
        &[(file("../x", 1, 1), "x")],
        &[(file("/x", 1, 1), "x")],
        &[(link("/tmp"), ""), (file("l/x", 1, 1), "x")],
        &[(file("b", 1, 1), "x"), (file("a", 1, 1), "x")],
        &[(file("a", 1, 1), "x"), (file("a", 1, 1), "x")],
        &[(link("/etc/passwd"), ""), (entry("m", EntryKind::Link("l".to_owned()), 0, 1), "")],
    ];
    for list in lists {
        let mut mirror = mirrors.take(key()).unwrap();
        assert!(send(&mut mirror, list).is_err(), "{list:?}");
        let path = mirror.path().to_owned();
        drop(mirror);
        assert!(!path.exists(), "a copy that is not whole is not kept");
    }
    let mut mirror = mirrors.take(key()).unwrap();
    let mut sync = mirror.sync();
    assert!(!sync.entry(file("a", 0, 1)).unwrap());
    assert!(sync.content(0, b"x").is_err());
    assert!(sync.content(7, b"x").is_err());
}

#[test]
fn two_builds_have_two_copies() {
    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let (mut one, mut two) = (mirrors.take(key()).unwrap(), mirrors.take(key()).unwrap());
    assert_ne!(one.path(), two.path());
    send(&mut one, &[(file("a", 1, 1), "x")]).unwrap();
    send(&mut two, &[(file("a", 1, 1), "y")]).unwrap();
    drop((one, two));
    assert_eq!(mirrors.usage().len(), 2);
    assert_eq!(mirrors.prune(|_| true).len(), 2);
    assert_eq!(fs::read_dir(top.path().join("m")).unwrap().count(), 0);
}

#[test]
fn the_list_of_a_copy_says_what_the_disk_says() {
    use wharf_build::solve::ListedContent;

    let top = tempfile::tempdir().unwrap();
    let mirrors = Mirrors::open(top.path().join("m"), None).unwrap();
    let first = [
        (Entry { mode: 0o4755, uid: 7, gid: 8, ..file("a", 1, 1) }, "x"),
        (entry("d", EntryKind::Directory, 0, 1), ""),
        (file("d/b", 3, 1), "yyy"),
        (file("d/empty", 0, 1), ""),
        (Entry { mode: 0o600, ..entry("l", EntryKind::Symlink("d".to_owned()), 0, 1) }, ""),
        (entry("m", EntryKind::Link("a".to_owned()), 1, 1), ""),
        (entry("p", EntryKind::Fifo, 0, 1), ""),
    ];
    let mut mirror = mirrors.take(key()).unwrap();
    assert!(mirrors.listing(mirror.path()).is_none());
    send(&mut mirror, &first).unwrap();
    // What stays as it was stays known.
    for _ in 0..2 {
        let path = mirror.path().to_owned();
        let listing = mirrors.listing(&path).unwrap();
        for (at, (given, _)) in first.iter().enumerate() {
            let (listed, place) = (listing.entry(at).unwrap(), path.join(&given.path));
            let stat = fs::symlink_metadata(&place).unwrap();
            assert_eq!(
                (listed.path, listed.mode, listed.uid, listed.gid),
                (given.path.as_str(), stat.mode(), stat.uid(), stat.gid())
            );
            let content = match () {
                () if stat.is_dir() => ListedContent::Directory,
                () if stat.is_symlink() => ListedContent::Target("d"),
                () if stat.is_file() => ListedContent::Bytes(Digest::of(&fs::read(&place).unwrap())),
                () => ListedContent::Device(stat.rdev()),
            };
            assert_eq!(listed.content, Some(content), "{}", given.path);
            assert_eq!(listing.find(&given.path), Some(at));
        }
        assert!(listing.entry(first.len()).is_none() && listing.find("e").is_none());
        drop(listing);
        drop(mirror);
        mirror = mirrors.take(key()).unwrap();
        let sync = mirror.sync();
        assert!(mirrors.listing(&path).is_none());
        drop(sync);
        drop(mirror);
        mirror = mirrors.take(key()).unwrap();
        send(&mut mirror, &first).unwrap();
    }
}

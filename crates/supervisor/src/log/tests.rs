use std::collections::BTreeMap;
use std::fs;

use super::*;

fn json(directory: &tempfile::TempDir, max_size: Option<u64>) -> Log {
    let path = directory.path().join("json.log");
    Log::open(LogConfig::JsonFile { path, max_size, max_file: 2, attrs: BTreeMap::new() }).unwrap()
}

/// Streams and texts as a reader finds them.
fn entries(log: &Log, bytes: &[u8]) -> Vec<(Stream, String)> {
    let (mut found, mut rest, mut text) = (Vec::new(), bytes, Vec::new());
    while let Some(Some(entry)) = log.read_back(rest, &mut text) {
        found.push((entry.stream, String::from_utf8_lossy(&text).into_owned()));
        rest = &rest[entry.length..];
    }
    assert!(rest.is_empty());
    found
}

#[test]
fn lines_are_put_together_from_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = json(&directory, None);
    log.append(Stream::Stdout, b"one\ntw");
    log.append(Stream::Stderr, b"error\n");
    assert_eq!(log.pending(Stream::Stdout), b"tw");
    log.append(Stream::Stdout, b"o\n\nend");
    log.finish(Stream::Stdout);
    log.finish(Stream::Stderr);
    let written = fs::read(directory.path().join("json.log")).unwrap();
    let expected = [
        (Stream::Stdout, "one\n"),
        (Stream::Stderr, "error\n"),
        (Stream::Stdout, "two\n"),
        (Stream::Stdout, "\n"),
        (Stream::Stdout, "end"),
    ];
    assert_eq!(entries(&log, &written), expected.map(|(stream, text)| (stream, text.to_owned())));
}

#[test]
fn long_lines_are_split_where_docker_splits_them() {
    for (length, parts) in [(16383, vec![16384]), (16384, vec![16384, 1]), (40000, vec![16384, 16384, 7233])]
    {
        let directory = tempfile::tempdir().unwrap();
        let mut log = json(&directory, None);
        let line = vec![b'x'; length];
        for piece in line.chunks(5000) {
            log.append(Stream::Stdout, piece);
        }
        log.append(Stream::Stdout, b"\n");
        let written = fs::read(directory.path().join("json.log")).unwrap();
        let lengths: Vec<usize> = entries(&log, &written).iter().map(|(_, text)| text.len()).collect();
        assert_eq!(lengths, parts, "line of {length}");
    }
}

#[test]
fn local_entries_keep_every_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.log");
    let mut log = Log::open(LogConfig::Local { path: path.clone(), max_size: None, max_file: 1 }).unwrap();
    log.append(Stream::Stderr, b"\xff\x00\nrest");
    log.finish(Stream::Stderr);
    let written = fs::read(path).unwrap();
    let mut text = Vec::new();
    let first = log.read_back(&written, &mut text).unwrap().unwrap();
    assert_eq!((first.stream, &text[..]), (Stream::Stderr, &b"\xff\x00\n"[..]));
    log.read_back(&written[first.length..], &mut text).unwrap().unwrap();
    assert_eq!(text, b"rest");
}

#[test]
fn files_stay_within_their_size_by_one_entry() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = json(&directory, Some(1000));
    log.append(Stream::Stdout, &b"0123456789\n".repeat(100));
    let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
    assert!((1000..1200).contains(&size("json.log.1")), "{}", size("json.log.1"));
    assert!(size("json.log") < 1200);
}

#[test]
fn newlines_are_found_anywhere() {
    for length in 0..100 {
        let mut text = vec![b'a'; length];
        assert_eq!(find_newline(&text), None);
        text.push(b'\n');
        text.extend_from_slice(b"more\n");
        assert_eq!(find_newline(&text), Some(length));
    }
}

#[test]
fn a_full_disk_costs_lines_but_not_the_log() {
    let mut log =
        Log::open(LogConfig::Local { path: "/dev/full".into(), max_size: None, max_file: 1 }).unwrap();
    assert_eq!(log.append(Stream::Stdout, b"a\nb\n"), 0);
    assert_eq!(log.append(Stream::Stdout, b"c\n"), 0);
    // Room again.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let kept = log.kept.as_mut().unwrap();
    kept.file = RotatingFile::open(path.clone(), None, 1).unwrap();
    assert_eq!(log.append(Stream::Stdout, b"d\n"), 3);
    assert_eq!(log.append(Stream::Stdout, b"e\n"), 0);
    let texts: Vec<String> =
        entries(&log, &fs::read(path).unwrap()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["wharf: 3 log entries were dropped here\n", "d\n", "e\n"]);
}

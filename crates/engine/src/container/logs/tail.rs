//! Where the last N entries start.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use wharf_shim::log as local;

use super::files::{Content, Source};
use super::json_line::find_newline;
use super::render::Format;

/// How much is read at a time on the way back, in bytes.
const BLOCK: usize = 64 * 1024;

/// Cuts `sources` (oldest first) to their last `wanted` entries.
pub(super) fn keep_last(sources: &mut Vec<Source>, format: Format, mut wanted: u64) -> io::Result<()> {
    let mut first = sources.len();
    while first > 0 {
        let newest = first == sources.len();
        if wanted == 0 && !newest {
            break;
        }
        first -= 1;
        wanted -= cut(&mut sources[first], format, wanted)?;
    }
    sources.drain(..first);
    Ok(())
}

/// Lets `source` start at its last `wanted` entries; how many of them it has.
fn cut(source: &mut Source, format: Format, wanted: u64) -> io::Result<u64> {
    match &mut source.content {
        Content::Plain { file, offset, end } => {
            let end = end.unwrap_or(file.metadata()?.len());
            let (start, found) = match format {
                Format::JsonFile => lines_back(file, end, wanted)?,
                Format::Local => entries_back(file, end, wanted)?,
            };
            *offset = start;
            Ok(found)
        }
        Content::Gzip(decoder) => {
            // A second reading from the start is cheaper to have than all of it in memory.
            let path =
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(decoder.get_ref().get_ref()));
            let again = flate2::read::MultiGzDecoder::new(File::open(Path::new(&path))?);
            let total = count(BufReader::with_capacity(BLOCK, again), format)?;
            let found = total.min(wanted);
            source.skip = total - found;
            Ok(found)
        }
    }
}

/// Where the last `wanted` whole lines before `end` start, and how many there are.
fn lines_back(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; BLOCK];
    let mut upper = end;
    // Newlines seen so far. The last one ends the last line: one more than wanted is the one before them.
    let mut newlines = 0;
    while upper > 0 {
        let lower = upper.saturating_sub(BLOCK as u64);
        // A block is BLOCK bytes at most.
        let block = &mut block[..usize::try_from(upper - lower).unwrap_or(BLOCK)];
        read_exact_at(file, block, lower)?;
        for (index, &byte) in block.iter().enumerate().rev() {
            if byte == b'\n' {
                newlines += 1;
                if newlines > wanted {
                    return Ok((lower + index as u64 + 1, wanted));
                }
            }
        }
        upper = lower;
    }
    Ok((0, newlines))
}

/// [`lines_back`] for `local` entries, which end with their length.
fn entries_back(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut start = whole_entries(file, end)?;
    let mut found = 0;
    while found < wanted && start >= local::OVERHEAD as u64 {
        let mut length = [0; 4];
        read_exact_at(file, &mut length, start - 4)?;
        let entry = u64::from(u32::from_le_bytes(length)) + 8;
        if entry > start || entry < local::OVERHEAD as u64 {
            break;
        }
        start -= entry;
        found += 1;
    }
    Ok((start, found))
}

/// Where the last whole entry ends. As a rule that is `end`; else entries are followed from the start.
fn whole_entries(file: &File, end: u64) -> io::Result<u64> {
    let mut length = [0; 4];
    if end >= local::OVERHEAD as u64 {
        read_exact_at(file, &mut length, end - 4)?;
        let entry = u64::from(u32::from_le_bytes(length)) + 8;
        if (local::OVERHEAD as u64..=end).contains(&entry) {
            let mut head = [0; 4];
            read_exact_at(file, &mut head, end - entry)?;
            if head == length {
                return Ok(end);
            }
        }
    }
    let mut at = 0;
    while at + 4 <= end {
        read_exact_at(file, &mut length, at)?;
        let entry = u64::from(u32::from_le_bytes(length)) + 8;
        if entry < local::OVERHEAD as u64 || at + entry > end {
            break;
        }
        at += entry;
    }
    Ok(at)
}

fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// How many whole entries there are in all.
fn count(mut reader: impl BufRead, format: Format) -> io::Result<u64> {
    let mut total = 0;
    match format {
        Format::JsonFile => loop {
            let mut bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(total);
            }
            let length = bytes.len();
            while let Some(at) = find_newline(bytes) {
                total += 1;
                bytes = &bytes[at + 1..];
            }
            reader.consume(length);
        },
        Format::Local => {
            let mut head = [0; 4];
            while reader.read_exact(&mut head).is_ok() {
                let rest = u64::from(u32::from_le_bytes(head)) + 4;
                if io::copy(&mut io::Read::take(&mut reader, rest), &mut io::sink())? < rest {
                    break;
                }
                total += 1;
            }
            Ok(total)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::files::open_all;
    use super::*;

    fn rest(sources: Vec<Source>) -> String {
        let mut all = Vec::new();
        for mut source in sources {
            let mut text = Vec::new();
            let mut buffer = [0; 1024];
            loop {
                let length = source.read(&mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                text.extend_from_slice(&buffer[..length]);
            }
            let skipped = text.split_inclusive(|&byte| byte == b'\n').skip(source.skip as usize);
            all.extend(skipped.flatten().copied());
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn lines_are_counted_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut gzip = flate2::write::GzEncoder::new(
            File::create(dir.path().join("log.2.gz")).unwrap(),
            flate2::Compression::fast(),
        );
        gzip.write_all(b"1\n2\n3\n").unwrap();
        gzip.finish().unwrap();
        std::fs::write(dir.path().join("log.1"), "4\n5\n").unwrap();
        std::fs::write(&path, "6\n7\n8").unwrap();
        for (wanted, expected) in [
            (0, "8"),
            (1, "7\n8"),
            (2, "6\n7\n8"),
            (3, "5\n6\n7\n8"),
            (4, "4\n5\n6\n7\n8"),
            (5, "3\n4\n5\n6\n7\n8"),
            (7, "1\n2\n3\n4\n5\n6\n7\n8"),
            (99, "1\n2\n3\n4\n5\n6\n7\n8"),
        ] {
            let mut sources = open_all(&path, None).unwrap();
            keep_last(&mut sources, Format::JsonFile, wanted).unwrap();
            assert_eq!(rest(sources), expected, "last {wanted}");
        }
    }

    #[test]
    fn long_files_are_read_in_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let mut sources = open_all(&path, None).unwrap();
        keep_last(&mut sources, Format::JsonFile, 30_000).unwrap();
        let tail = rest(sources);
        assert!(tail.starts_with("line 20000\n") && tail.ends_with("line 49999\n"));
    }

    #[test]
    fn local_entries_are_followed_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for text in [&b"one"[..], b"", b"three"] {
            starts.push(bytes.len() as u64);
            local::Entry { flags: 0, time: 0, text }.encode(&mut bytes);
        }
        starts.push(bytes.len() as u64);
        bytes.extend_from_slice(&[20, 0, 0, 0, 1, 2]);
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        for (wanted, start, found) in [(0, 3, 0), (1, 2, 1), (2, 1, 2), (9, 0, 3)] {
            assert_eq!(entries_back(&file, bytes.len() as u64, wanted).unwrap(), (starts[start], found));
        }
        assert_eq!(count(&bytes[..], Format::Local).unwrap(), 3);
    }
}

//! Small files of the cgroup file systems.

use std::{collections::BTreeMap, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use crate::error::{Context, Error, Result};

/// What most files fit into; these have no size to ask for.
const USUAL: usize = 1024;

pub(super) fn read(path: &Path) -> Result<String> {
    let what = || format!("read {}", path.display());
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let (mut bytes, mut length) = (vec![0; USUAL], 0);
    loop {
        match rustix::io::read(&file, &mut bytes[length..]).context(what)? {
            0 => break,
            more => length += more,
        }
        if bytes.len() - length < USUAL / 2 {
            bytes.resize(bytes.len() * 2, 0);
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|_| Error::new(what(), Errno::ILSEQ))
}

/// Writes a value in one write, as these files demand.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    write_each(path, &[value])
}

/// Writes values one after the other.
pub(super) fn write_each<S: AsRef<str>>(path: &Path, values: &[S]) -> Result<()> {
    let what = |value: &str| format!("write {value:?} to {}", path.display());
    let first = values.first().map_or("", AsRef::as_ref);
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(|| what(first))?;
    for value in values.iter().map(AsRef::as_ref) {
        match rustix::io::write(&file, value.as_bytes()).context(|| what(value))? {
            written if written == value.len() => {}
            _ => return Err(Error::new(what(value), Errno::IO)),
        }
    }
    Ok(())
}

/// A single number; `max` and negative ones are no limit.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>> {
    Ok(read(path)?.trim().parse().ok())
}

/// Lines of `name number`.
pub(super) fn read_fields(path: &Path) -> Result<BTreeMap<String, u64>> {
    let text = read(path)?;
    let field = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(field).collect())
}

/// One of several lines of `name number`.
pub(super) fn read_field(path: &Path, name: &str) -> Result<Option<u64>> {
    let text = read(path)?;
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    Ok(text.lines().find_map(value))
}

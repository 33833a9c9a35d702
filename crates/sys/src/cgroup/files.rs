//! Small files of the cgroup file systems.

use std::{collections::BTreeMap, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use crate::error::{Context, Error, Result};

pub(super) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("read {}", path.display()))
}

/// Writes a value in one write, as these files demand.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    let what = || format!("write {value:?} to {}", path.display());
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    match rustix::io::write(&file, value.as_bytes()).context(what)? {
        written if written == value.len() => Ok(()),
        _ => Err(Error::new(what(), Errno::IO)),
    }
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

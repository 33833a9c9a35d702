//! What a control group uses.

use std::{collections::BTreeMap, path::Path};

use rustix::io::Errno;

use super::{Cgroup, Version, files};
use crate::error::Result;

/// What a group uses; a part whose controller is missing stays zero or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Which interface the values come from: some only exist in one.
    pub version: Version,
    /// Processors.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Bytes moved, by device and operation (`Read`, `Write`, …).
    pub block_bytes: Vec<BlockEntry>,
    /// Operations, by device and kind.
    pub block_operations: Vec<BlockEntry>,
    /// Number of processes and threads.
    pub pids_current: u64,
    /// Greatest number allowed.
    pub pids_limit: Option<u64>,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All time.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor (version 1).
    pub per_cpu: Vec<u64>,
    /// Periods with a quota in force.
    pub periods: u64,
    /// Periods in which the group was held back.
    pub throttled_periods: u64,
    /// Time it was held back.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most that was ever in use (version 1; version 2 from 5.19).
    pub max_usage: u64,
    /// Hard limit; `None` for none (version 1 shows a number near 2^63 then).
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub fail_count: u64,
    /// `memory.stat`.
    pub details: BTreeMap<String, u64>,
}

/// One device's counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, … in version 1; `read`, `write` in version 2.
    pub operation: String,
    /// The count.
    pub value: u64,
}

pub(super) fn read(group: &Cgroup) -> Result<Stats> {
    match group.version() {
        Version::V1 => read_v1(group),
        Version::V2 => read_v2(group.unified()?),
    }
}

/// A controller that is not enabled has no files.
fn optional<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::OPNOTSUPP) => Ok(T::default()),
        other => other,
    }
}

fn number(dir: &Path, file: &str) -> Result<u64> {
    Ok(optional(files::read_number(&dir.join(file)))?.unwrap_or(0))
}

fn take(fields: &BTreeMap<String, u64>, name: &str) -> u64 {
    fields.get(name).copied().unwrap_or(0)
}

fn read_v1(group: &Cgroup) -> Result<Stats> {
    /// `USER_HZ`, in which `cpuacct.stat` counts, is 100 on every supported architecture.
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let mut stats = Stats::empty(Version::V1);
    // A group that is gone is an error, a controller that is missing is not.
    group.primary().map_or(Ok(()), |dir| files::read(&dir.join("cgroup.procs")).map(drop))?;
    if let Some(dir) = group.controller("cpuacct") {
        let fields = optional(files::read_fields(&dir.join("cpuacct.stat")))?;
        stats.cpu.total = number(dir, "cpuacct.usage")?;
        stats.cpu.user = take(&fields, "user") * NANOSECONDS_PER_TICK;
        stats.cpu.system = take(&fields, "system") * NANOSECONDS_PER_TICK;
        let list = optional(files::read(&dir.join("cpuacct.usage_percpu")))?;
        stats.cpu.per_cpu = list.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    }
    if let Some(dir) = group.controller("cpu") {
        let fields = optional(files::read_fields(&dir.join("cpu.stat")))?;
        stats.cpu.periods = take(&fields, "nr_periods");
        stats.cpu.throttled_periods = take(&fields, "nr_throttled");
        stats.cpu.throttled_time = take(&fields, "throttled_time");
    }
    if let Some(dir) = group.controller("memory") {
        /// Page counters stop at the greatest signed number of bytes, rounded to a page.
        const NO_LIMIT: u64 = 0x7fff_ffff_ffff_0000;
        stats.memory = MemoryStats {
            usage: number(dir, "memory.usage_in_bytes")?,
            max_usage: number(dir, "memory.max_usage_in_bytes")?,
            limit: Some(number(dir, "memory.limit_in_bytes")?).filter(|limit| *limit < NO_LIMIT),
            fail_count: number(dir, "memory.failcnt")?,
            details: optional(files::read_fields(&dir.join("memory.stat")))?,
        };
    }
    if let Some(dir) = group.controller("blkio") {
        let entries = |file: &str| -> Result<_> { Ok(parse_blkio(&optional(files::read(&dir.join(file)))?)) };
        stats.block_bytes = entries("blkio.throttle.io_service_bytes_recursive")?;
        stats.block_operations = entries("blkio.throttle.io_serviced_recursive")?;
    }
    if let Some(dir) = group.controller("pids") {
        stats.pids_current = number(dir, "pids.current")?;
        stats.pids_limit = optional(files::read_number(&dir.join("pids.max")))?;
    }
    Ok(stats)
}

/// Lines of `MAJOR:MINOR Operation count`.
fn parse_blkio(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        Some(BlockEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn read_v2(dir: &Path) -> Result<Stats> {
    let mut stats = Stats::empty(Version::V2);
    // Exists in every group, with or without the controller.
    let cpu = files::read_fields(&dir.join("cpu.stat"))?;
    let nanoseconds = |name: &str| take(&cpu, name) * 1000;
    stats.cpu = CpuStats {
        total: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        per_cpu: Vec::new(),
        periods: take(&cpu, "nr_periods"),
        throttled_periods: take(&cpu, "nr_throttled"),
        throttled_time: nanoseconds("throttled_usec"),
    };
    stats.memory = MemoryStats {
        usage: number(dir, "memory.current")?,
        max_usage: number(dir, "memory.peak")?,
        limit: optional(files::read_number(&dir.join("memory.max")))?,
        fail_count: take(&optional(files::read_fields(&dir.join("memory.events")))?, "max"),
        details: optional(files::read_fields(&dir.join("memory.stat")))?,
    };
    (stats.block_bytes, stats.block_operations) =
        parse_io_stat(&optional(files::read(&dir.join("io.stat")))?);
    stats.pids_current = number(dir, "pids.current")?;
    stats.pids_limit = optional(files::read_number(&dir.join("pids.max")))?;
    Ok(stats)
}

/// Lines of `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`.
fn parse_io_stat(text: &str) -> (Vec<BlockEntry>, Vec<BlockEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry = |operation: &str| BlockEntry { major, minor, operation: operation.to_owned(), value };
            match name {
                "rbytes" => bytes.push(entry("read")),
                "wbytes" => bytes.push(entry("write")),
                "rios" => operations.push(entry("read")),
                "wios" => operations.push(entry("write")),
                _ => {}
            }
        }
    }
    (bytes, operations)
}

impl Stats {
    fn empty(version: Version) -> Self {
        Self {
            version,
            cpu: CpuStats::default(),
            memory: MemoryStats::default(),
            block_bytes: Vec::new(),
            block_operations: Vec::new(),
            pids_current: 0,
            pids_limit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_block_counters_are_read() {
        let v1 = parse_blkio("8:0 Read 10\n8:0 Write 20\nTotal 30\n");
        assert_eq!(v1.len(), 2);
        assert_eq!((v1[1].operation.as_str(), v1[1].value), ("Write", 20));
        let (bytes, operations) = parse_io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        assert_eq!((bytes.len(), operations.len(), operations[1].value), (2, 2, 4));
    }
}

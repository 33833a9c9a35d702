//! Limits of a control group, in version 1's terms, and how either version takes them.

use std::{collections::BTreeMap, path::Path};

use rustix::io::Errno;

use super::{Cgroup, DeviceRule, Version, devices, files};
use crate::error::{Error, Result};

/// All limits; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub cpu: Cpu,
    /// Greatest number of processes; zero or less means no limit.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Bytes of huge pages by page size (`2MB`).
    pub hugepages: Vec<(String, u64)>,
    /// Version 2 files written as they are.
    pub unified: BTreeMap<String, String>,
    /// Device access: everything is denied, then the rules apply in order.
    pub devices: Option<Vec<DeviceRule>>,
}

/// Memory limits in bytes, -1 for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Limit of memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory of TCP buffers (version 1).
    pub kernel_tcp: Option<i64>,
    /// 0 to 100 (version 1).
    pub swappiness: Option<u64>,
    /// Turns the OOM killer off (version 1).
    pub disable_oom_killer: bool,
}

/// Processor limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds in a period, zero or less for no limit.
    pub quota: Option<i64>,
    /// Length of a period in microseconds.
    pub period: Option<u64>,
    /// Microseconds of unused time that may pile up.
    pub burst: Option<u64>,
    /// Microseconds of real-time scheduling in a period (version 1).
    pub realtime_runtime: Option<i64>,
    /// Length of a real-time period in microseconds (version 1).
    pub realtime_period: Option<u64>,
    /// Processors (`0-2,4`).
    pub cpus: String,
    /// Memory nodes.
    pub mems: String,
    /// 1 lowers the group to SCHED_IDLE.
    pub idle: Option<i64>,
}

/// Block device limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// Weight by device.
    pub weight_device: Vec<WeightOf>,
    /// Bytes read a second.
    pub read_bps: Vec<Throttle>,
    /// Bytes written a second.
    pub write_bps: Vec<Throttle>,
    /// Reads a second.
    pub read_iops: Vec<Throttle>,
    /// Writes a second.
    pub write_iops: Vec<Throttle>,
}

/// A device's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightOf {
    /// Major and minor number.
    pub device: (i64, i64),
    /// 10 to 1000.
    pub weight: u16,
}

/// A device's greatest rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Major and minor number.
    pub device: (i64, i64),
    /// Units a second.
    pub rate: u64,
}

pub(super) fn apply(group: &Cgroup, limits: &Limits) -> Result<()> {
    if let Some(rules) = &limits.devices {
        devices::apply(group, rules)?;
    }
    match group.version() {
        Version::V1 => apply_v1(group, limits),
        Version::V2 => apply_v2(group.unified()?, limits),
    }
}

/// A version 1 controller's directory, or an error that says which one the kernel lacks.
fn need<'a>(group: &'a Cgroup, name: &str) -> Result<&'a Path> {
    group.controller(name).ok_or_else(|| Error::new(format!("find cgroup controller {name}"), Errno::NOENT))
}

fn apply_v1(group: &Cgroup, limits: &Limits) -> Result<()> {
    let set = |controller: &str, file: &str, value: Option<String>| match value {
        Some(value) => files::write(&need(group, controller)?.join(file), &value),
        None => Ok(()),
    };
    memory_v1(group, &limits.memory)?;
    let cpu = &limits.cpu;
    set("cpu", "cpu.shares", cpu.shares.filter(|shares| *shares != 0).map(|n| n.to_string()))?;
    period_and_quota_v1(group, cpu)?;
    set("cpu", "cpu.cfs_burst_us", cpu.burst.map(|n| n.to_string()))?;
    set("cpu", "cpu.rt_period_us", cpu.realtime_period.filter(|n| *n != 0).map(|n| n.to_string()))?;
    set("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime.filter(|n| *n != 0).map(|n| n.to_string()))?;
    set("cpu", "cpu.idle", cpu.idle.map(|n| n.to_string()))?;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    set("cpuset", "cpuset.cpus", text(&cpu.cpus))?;
    set("cpuset", "cpuset.mems", text(&cpu.mems))?;
    set("pids", "pids.max", limits.pids.map(pids_text))?;
    block_io_v1(group, &limits.block_io)?;
    for (size, bytes) in &limits.hugepages {
        set("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), Some(bytes.to_string()))?;
    }
    Ok(())
}

fn pids_text(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

/// The kernel refuses a quota that exceeds what the parent has per period, so a shorter period may have
/// to be set after the quota, and a longer one before it.
fn period_and_quota_v1(group: &Cgroup, cpu: &Cpu) -> Result<()> {
    let period = cpu.period.filter(|period| *period != 0).map(|n| n.to_string());
    let quota = cpu.quota.filter(|quota| *quota != 0).map(|n| n.to_string());
    if period.is_none() && quota.is_none() {
        return Ok(());
    }
    let dir = need(group, "cpu")?;
    let set = |file: &str, value: &Option<String>| {
        value.as_ref().map_or(Ok(()), |value| files::write(&dir.join(file), value))
    };
    match set("cpu.cfs_period_us", &period) {
        Err(error) if error.errno() == Errno::INVAL && quota.is_some() => {
            set("cpu.cfs_quota_us", &quota)?;
            set("cpu.cfs_period_us", &period)
        }
        result => {
            result?;
            set("cpu.cfs_quota_us", &quota)
        }
    }
}

fn memory_v1(group: &Cgroup, memory: &Memory) -> Result<()> {
    if *memory == Memory::default() {
        return Ok(());
    }
    let dir = need(group, "memory")?;
    let set = |file: &str, value: Option<i64>| match value {
        Some(value) if value != 0 => files::write(&dir.join(file), &value.to_string()),
        _ => Ok(()),
    };
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let swap = match (memory.swap, memory.limit) {
        // No limit of memory means none of memory and swap together either.
        (None | Some(0), Some(-1)) => dir.join(SWAP).exists().then_some(-1),
        (swap, _) => swap,
    };
    // The limit may never exceed that of memory and swap: whether it must be set first or last depends
    // on the values in force.
    match set(LIMIT, memory.limit) {
        Err(error) if error.errno() == Errno::INVAL => {
            set(SWAP, swap)?;
            set(LIMIT, memory.limit)?;
        }
        result => {
            result?;
            set(SWAP, swap)?;
        }
    }
    set("memory.soft_limit_in_bytes", memory.reservation)?;
    set("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)?;
    if memory.disable_oom_killer {
        files::write(&dir.join("memory.oom_control"), "1")?;
    }
    match memory.swappiness {
        Some(value) => files::write(&dir.join("memory.swappiness"), &value.to_string()),
        None => Ok(()),
    }
}

fn block_io_v1(group: &Cgroup, block: &BlockIo) -> Result<()> {
    if *block == BlockIo::default() {
        return Ok(());
    }
    let dir = need(group, "blkio")?;
    // The proportional weight lives under the name of whichever scheduler has it.
    let weight_file = |suffix: &str| {
        let names = [format!("blkio.bfq.weight{suffix}"), format!("blkio.weight{suffix}")];
        names.into_iter().map(|name| dir.join(name)).find(|path| path.exists())
    };
    if let (Some(weight), Some(file)) = (block.weight.filter(|weight| *weight != 0), weight_file("")) {
        files::write(&file, &weight.to_string())?;
    }
    for entry in &block.weight_device {
        if let Some(file) = weight_file("_device") {
            let (major, minor) = entry.device;
            files::write(&file, &format!("{major}:{minor} {}", entry.weight))?;
        }
    }
    let throttles = [
        ("read_bps", &block.read_bps),
        ("write_bps", &block.write_bps),
        ("read_iops", &block.read_iops),
        ("write_iops", &block.write_iops),
    ];
    for (name, entries) in throttles {
        for Throttle { device: (major, minor), rate } in entries {
            let file = dir.join(format!("blkio.throttle.{name}_device"));
            files::write(&file, &format!("{major}:{minor} {rate}"))?;
        }
    }
    Ok(())
}

/// The kernel documents no conversion; this linear one maps 2…262144 onto 1…10000 and is what all
/// runtimes used until now.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn limit_text(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn apply_v2(dir: &Path, limits: &Limits) -> Result<()> {
    let set = |file: &str, value: Option<String>| match value {
        Some(value) => files::write(&dir.join(file), &value),
        None => Ok(()),
    };
    let memory = &limits.memory;
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    set("memory.max", given(memory.limit).map(limit_text))?;
    set("memory.swap.max", swap_v2(memory)?)?;
    set("memory.low", given(memory.reservation).map(limit_text))?;
    let cpu = &limits.cpu;
    set("cpu.idle", cpu.idle.map(|n| n.to_string()))?;
    set("cpu.weight", cpu.shares.filter(|shares| *shares != 0).map(|n| weight_of_shares(n).to_string()))?;
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = cpu.quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |n| n.to_string());
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
        set("cpu.max", Some(format!("{quota} {period}")))?;
    }
    set("cpu.max.burst", cpu.burst.map(|n| n.to_string()))?;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    set("cpuset.cpus", text(&cpu.cpus))?;
    set("cpuset.mems", text(&cpu.mems))?;
    set("pids.max", limits.pids.map(pids_text))?;
    block_io_v2(dir, &limits.block_io)?;
    for (size, bytes) in &limits.hugepages {
        set(&format!("hugetlb.{size}.max"), Some(bytes.to_string()))?;
    }
    for (name, value) in &limits.unified {
        if name.contains('/') {
            return Err(Error::new(format!("cgroup file {name}"), Errno::INVAL));
        }
        set(name, Some(value.clone()))?;
    }
    Ok(())
}

/// Version 2 limits swap by itself, not together with memory.
fn swap_v2(memory: &Memory) -> Result<Option<String>> {
    match (memory.swap.unwrap_or(0), memory.limit.unwrap_or(0)) {
        (0, -1) | (-1, _) => Ok(Some("max".to_owned())),
        (0, _) => Ok(None),
        (swap, limit) if limit > 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        _ => Err(Error::new("limit of memory and swap together below that of memory", Errno::INVAL)),
    }
}

fn block_io_v2(dir: &Path, block: &BlockIo) -> Result<()> {
    let bfq = dir.join("io.bfq.weight");
    let write_weight = |prefix: &str, weight: u16| {
        if bfq.exists() {
            return files::write(&bfq, &format!("{prefix}{weight}"));
        }
        // 10…1000 onto 1…10000.
        let weight = 1 + (u64::from(weight.max(10)) - 10) * 9999 / 990;
        files::write(&dir.join("io.weight"), &format!("{prefix}{weight}"))
    };
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        write_weight("", weight)?;
    }
    for WeightOf { device: (major, minor), weight } in &block.weight_device {
        write_weight(&format!("{major}:{minor} "), *weight)?;
    }
    let throttles = [
        ("rbps", &block.read_bps),
        ("wbps", &block.write_bps),
        ("riops", &block.read_iops),
        ("wiops", &block.write_iops),
    ];
    for (name, entries) in throttles {
        for Throttle { device: (major, minor), rate } in entries {
            files::write(&dir.join("io.max"), &format!("{major}:{minor} {name}={rate}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_at_the_ends() {
        assert_eq!((weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn swap_is_separated_from_memory() {
        let memory = |limit, swap| Memory { limit, swap, ..Memory::default() };
        assert_eq!(swap_v2(&memory(Some(100), Some(150))).unwrap(), Some("50".to_owned()));
        assert_eq!(swap_v2(&memory(Some(100), Some(-1))).unwrap(), Some("max".to_owned()));
        assert_eq!(swap_v2(&memory(Some(100), None)).unwrap(), None);
        assert!(swap_v2(&memory(Some(100), Some(50))).is_err());
    }
}

//! `stats`: what a container uses, as a document a second.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wharf_api::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, ThrottlingData,
};
use wharf_sys::cgroup::{self, Cgroup, Version};
use wharf_sys::time::wall_nanos;

use super::{Container, Containers, State};
use crate::error::{Error, Result};
use crate::pools::{Class, Pools};

/// How long lies between two samples.
const PERIOD: Duration = Duration::from_secs(1);
/// Nanoseconds in one of `/proc/stat`'s ticks: Linux shows 100 a second to programs.
const TICK: u64 = 10_000_000;

/// A container's samples, one a second; the first comes at once.
#[derive(Debug)]
pub struct StatsStream {
    sampler: Sampler,
    ticks: tokio::time::Interval,
    last: Option<Stats>,
}

/// Takes samples of one container.
#[derive(Debug)]
struct Sampler {
    container: Arc<Container>,
    pools: Pools,
    cgroup: String,
    host_network: bool,
}

impl Containers {
    /// Samples of a container until it is gone, those of one that does not run being empty.
    pub fn stats(&self, asked: &str) -> Result<StatsStream> {
        let sampler = self.sampler(asked)?;
        let mut ticks = interval_at(Instant::now(), PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(StatsStream { sampler, ticks, last: None })
    }

    /// One sample; unless `one_shot`, taken a second after another one that it is compared with.
    pub async fn stats_once(&self, asked: &str, one_shot: bool) -> Result<Stats> {
        let sampler = self.sampler(asked)?;
        let first = sampler.sample().await?;
        if one_shot || !sampler.runs() {
            return Ok(first);
        }
        tokio::time::sleep(PERIOD).await;
        Ok(compared(sampler.sample().await?, &first))
    }

    fn sampler(&self, asked: &str) -> Result<Sampler> {
        let container = self.find(asked)?;
        let view = container.view();
        let host = &view.record.host_config;
        Ok(Sampler {
            cgroup: self.config.cgroup(container.id(), &host.cgroup_parent),
            host_network: host.network_mode == "host",
            pools: self.pools.clone(),
            container,
        })
    }
}

impl StatsStream {
    /// The next sample; `None` once the container is gone.
    pub async fn next(&mut self) -> Option<Result<Stats>> {
        self.ticks.tick().await;
        if matches!(self.sampler.container.view().state(), State::Removing(_) | State::Dead(_)) {
            return None;
        }
        let sample = match self.sampler.sample().await {
            Ok(sample) => sample,
            Err(error) => return Some(Err(error)),
        };
        let next = match &self.last {
            Some(last) => compared(sample, last),
            None => sample,
        };
        self.last = self.sampler.runs().then(|| next.clone());
        Some(Ok(next))
    }
}

/// `sample` with what the one before it said of the processor.
fn compared(sample: Stats, before: &Stats) -> Stats {
    Stats { preread: before.read.clone(), precpu_stats: before.cpu_stats.clone(), ..sample }
}

impl Sampler {
    fn runs(&self) -> bool {
        self.container.view().state().process().is_some()
    }

    async fn sample(&self) -> Result<Stats> {
        let view = self.container.view();
        let empty =
            Stats { name: format!("/{}", view.record.name), id: view.record.id.clone(), ..Stats::default() };
        let Some(running) = view.state().process().copied() else { return Ok(empty) };
        let (cgroup, host_network) = (self.cgroup.clone(), self.host_network);
        let read = move || {
            let used = Cgroup::open(&cgroup).and_then(|group| group.stats());
            // Its process may just have ended, and the group with it.
            let Ok(used) = used else { return Ok(None) };
            let networks = if host_network { None } else { networks(running.pid) };
            Ok(Some((used, Host::read()?, networks)))
        };
        let Some((used, host, networks)) = self.pools.run(Class::Host, read).await? else { return Ok(empty) };
        Ok(Stats { read: now(), networks, ..document(empty, used, &host) })
    }
}

fn now() -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(wall_nanos())) {
        Ok(time) => time.to_string(),
        Err(_) => wharf_api::NEVER.to_owned(),
    }
}

/// What the host has and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Host {
    /// Time all processors have spent, idle or not, in nanoseconds.
    cpu_time: u64,
    cpus: u32,
    /// Bytes.
    memory: u64,
}

impl Host {
    fn read() -> Result<Self> {
        let file = |path: &str| {
            fs::read_to_string(path).map_err(|error| Error::io(format_args!("read {path}"), &error))
        };
        let (cpu_time, cpus) = cpu_time(&file("/proc/stat")?);
        Ok(Self { cpu_time, cpus, memory: memory_total(&file("/proc/meminfo")?) })
    }
}

/// Time of all processors and their number, from `/proc/stat`.
fn cpu_time(stat: &str) -> (u64, u32) {
    let mut time = 0;
    let mut cpus = 0;
    for line in stat.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("cpu") {
            // User, nice, system, idle, iowait, irq, softirq; steal and guest count in others.
            time = words.take(7).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * TICK;
        } else {
            cpus += 1;
        }
    }
    (time, cpus)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
pub(crate) fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn document(empty: Stats, used: cgroup::Stats, host: &Host) -> Stats {
    let old = used.version == Version::V1;
    let cgroup::Stats { cpu, memory, .. } = used;
    let limit = memory.limit.filter(|&limit| limit < host.memory).unwrap_or(host.memory);
    Stats {
        pids_stats: PidsStats {
            current: used.pids_current,
            limit: used.pids_limit.unwrap_or(if old { 0 } else { u64::MAX }),
        },
        blkio_stats: blkio(entries(used.block_bytes), entries(used.block_operations), old),
        cpu_stats: CpuStats {
            cpu_usage: CpuUsage {
                total_usage: cpu.total,
                percpu_usage: Some(cpu.per_cpu).filter(|times| !times.is_empty()),
                usage_in_kernelmode: cpu.system,
                usage_in_usermode: cpu.user,
            },
            system_cpu_usage: host.cpu_time,
            online_cpus: host.cpus,
            throttling_data: ThrottlingData {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled_time,
            },
        },
        memory_stats: MemoryStats {
            usage: memory.usage,
            max_usage: if old { memory.max_usage } else { 0 },
            stats: memory.details,
            failcnt: memory.fail_count,
            limit,
        },
        ..empty
    }
}

/// Version 1 has all eight lists, most of them empty with today's schedulers; version 2 has one.
fn blkio(bytes: Vec<BlkioEntry>, operations: Vec<BlkioEntry>, old: bool) -> BlkioStats {
    if !old {
        return BlkioStats { io_service_bytes_recursive: Some(bytes), ..BlkioStats::default() };
    }
    let none = || Some(Vec::new());
    BlkioStats {
        io_service_bytes_recursive: Some(bytes),
        io_serviced_recursive: Some(operations),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

fn entries(entries: Vec<cgroup::BlockEntry>) -> Vec<BlkioEntry> {
    let entry = |entry: cgroup::BlockEntry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: entry.operation,
        value: entry.value,
    };
    entries.into_iter().map(entry).collect()
}

/// The interfaces of a process's network namespace but the loopback; `None` where there are none.
fn networks(pid: i32) -> Option<BTreeMap<String, NetworkStats>> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let interfaces = interfaces(&table);
    (!interfaces.is_empty()).then_some(interfaces)
}

/// `/proc/net/dev`: two lines of titles, then a name, eight numbers received and eight sent.
fn interfaces(table: &str) -> BTreeMap<String, NetworkStats> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = numbers[..]
        else {
            return None;
        };
        let stats = NetworkStats {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.trim().to_owned(), stats)).filter(|(name, _)| name != "lo")
    };
    table.lines().skip(2).filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_counts_seven_columns_of_all_processors() {
        let stat = "cpu  1 2 3 4 5 6 7 100 100 100\ncpu0 1 1 1 1\ncpu1 0 0 0 0\nintr 5\ncpu9 1\n";
        assert_eq!(cpu_time(stat), (28 * TICK, 2));
        let host = Host::read().unwrap();
        assert!(host.cpus > 0 && host.memory > 1 << 20 && host.cpu_time > 0);
    }

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let table = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:1168 14 1 2 0 0 0 0 126 3 4 5 0 0 0 0\n";
        let expected = NetworkStats {
            rx_bytes: 1168,
            rx_packets: 14,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 126,
            tx_packets: 3,
            tx_errors: 4,
            tx_dropped: 5,
        };
        assert_eq!(interfaces(table), BTreeMap::from([("eth0".to_owned(), expected)]));
    }

    fn used(version: Version) -> cgroup::Stats {
        cgroup::Stats {
            version,
            cpu: cgroup::CpuStats { total: 9, per_cpu: vec![4, 5], ..Default::default() },
            memory: cgroup::MemoryStats { usage: 7, max_usage: 8, ..Default::default() },
            block_bytes: Vec::new(),
            block_operations: Vec::new(),
            pids_current: 1,
            pids_limit: None,
        }
    }

    #[test]
    fn documents_have_the_shape_of_their_cgroup_version() {
        let host = Host { cpu_time: 50, cpus: 2, memory: 1000 };
        let old = serde_json::to_value(document(Stats::default(), used(Version::V1), &host)).unwrap();
        assert_eq!(old["pids_stats"], serde_json::json!({"current": 1}));
        assert_eq!(old["blkio_stats"]["sectors_recursive"], serde_json::json!([]));
        assert_eq!(old["memory_stats"]["limit"], 1000);
        assert_eq!(old["memory_stats"]["max_usage"], 8);
        assert_eq!(old["cpu_stats"]["cpu_usage"]["percpu_usage"], serde_json::json!([4, 5]));
        let new = cgroup::Stats { cpu: cgroup::CpuStats::default(), ..used(Version::V2) };
        let new = serde_json::to_value(document(Stats::default(), new, &host)).unwrap();
        assert_eq!(new["pids_stats"]["limit"], u64::MAX);
        assert!(new["blkio_stats"]["sectors_recursive"].is_null());
        assert!(new["memory_stats"].get("max_usage").is_none());
        assert!(new["cpu_stats"]["cpu_usage"].get("percpu_usage").is_none());
    }

    #[test]
    fn a_sample_remembers_the_one_before() {
        let first = Stats {
            read: "a".into(),
            cpu_stats: CpuStats { online_cpus: 3, ..Default::default() },
            ..Stats::default()
        };
        let second = compared(Stats { read: "b".into(), ..Stats::default() }, &first);
        assert_eq!(
            (second.preread.as_str(), second.read.as_str(), second.precpu_stats.online_cpus),
            ("a", "b", 3)
        );
    }
}

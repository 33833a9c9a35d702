//! Resource use of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::inspect::NEVER;
use crate::wire::omit;

/// One sample. The zero value is what a container that does not run answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// With a leading slash.
    pub name: String,
    pub id: String,
    /// When this sample was taken.
    pub read: String,
    /// When the one before was taken.
    pub preread: String,
    pub pids_stats: PidsStats,
    pub blkio_stats: BlkioStats,
    /// Windows.
    pub num_procs: u32,
    /// Windows.
    pub storage_stats: StorageStats,
    pub cpu_stats: CpuStats,
    pub precpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    /// By interface name; absent without a network.
    #[serde(skip_serializing_if = "omit")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            name: String::new(),
            id: String::new(),
            read: NEVER.to_owned(),
            preread: NEVER.to_owned(),
            pids_stats: PidsStats::default(),
            blkio_stats: BlkioStats::default(),
            num_procs: 0,
            storage_stats: StorageStats {},
            cpu_stats: CpuStats::default(),
            precpu_stats: CpuStats::default(),
            memory_stats: MemoryStats::default(),
            networks: None,
        }
    }
}

/// Numbers of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "omit")]
    pub current: u64,
    #[serde(skip_serializing_if = "omit")]
    pub limit: u64,
}

/// Windows only: always `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {}

/// Block I/O; `None` lists when the container does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `read`, `write`, …
    pub op: String,
    pub value: u64,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
    /// Nanoseconds of all processors of the host.
    #[serde(skip_serializing_if = "omit")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "omit")]
    pub online_cpus: u32,
    pub throttling_data: ThrottlingData,
}

/// Processor time used, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    pub total_usage: u64,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "omit")]
    pub percpu_usage: Option<Vec<u64>>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

/// How often a quota stopped the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "omit")]
    pub usage: u64,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "omit")]
    pub max_usage: u64,
    /// The kernel's `memory.stat`.
    #[serde(skip_serializing_if = "omit")]
    pub stats: BTreeMap<String, u64>,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "omit")]
    pub failcnt: u64,
    #[serde(skip_serializing_if = "omit")]
    pub limit: u64,
}

/// Counters of one network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

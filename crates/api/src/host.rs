//! How a container is run on this host: the half of its configuration that is not portable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mount::Mount;
use crate::wire::omit;

/// Ports of a container (`80/tcp`) and the host's ports they are published on. `None`: exposed, not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Declares a document that carries Docker's resource limits among its own fields, as Go's embedding does.
macro_rules! with_resources {
    ($(#[$meta:meta])* pub struct $name:ident { $($head:tt)* } then { $($tail:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($head)*
            /// Relative weight against other containers.
            pub cpu_shares: i64,
            /// Bytes.
            pub memory: i64,
            /// Billionths of a processor.
            pub nano_cpus: i64,
            pub cgroup_parent: String,
            /// 10 to 1000.
            pub blkio_weight: u16,
            pub blkio_weight_device: Option<Vec<WeightDevice>>,
            pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
            pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
            #[serde(rename = "BlkioDeviceReadIOps")]
            pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
            #[serde(rename = "BlkioDeviceWriteIOps")]
            pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
            /// Microseconds.
            pub cpu_period: i64,
            /// Microseconds of processor time in a period.
            pub cpu_quota: i64,
            pub cpu_realtime_period: i64,
            pub cpu_realtime_runtime: i64,
            pub cpuset_cpus: String,
            pub cpuset_mems: String,
            pub devices: Option<Vec<DeviceMapping>>,
            pub device_cgroup_rules: Option<Vec<String>>,
            pub device_requests: Option<Vec<DeviceRequest>>,
            #[serde(skip_serializing_if = "omit")]
            pub kernel_memory: i64,
            #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "omit")]
            pub kernel_memory_tcp: i64,
            /// Bytes.
            pub memory_reservation: i64,
            /// Memory and swap together, bytes; -1 is no limit.
            pub memory_swap: i64,
            /// 0 to 100; -1 is the kernel's default.
            pub memory_swappiness: Option<i64>,
            pub oom_kill_disable: Option<bool>,
            /// 0 and -1 are no limit.
            pub pids_limit: Option<i64>,
            pub ulimits: Option<Vec<Ulimit>>,
            /// Windows.
            pub cpu_count: i64,
            /// Windows.
            pub cpu_percent: i64,
            /// Windows.
            #[serde(rename = "IOMaximumIOps")]
            pub io_maximum_iops: u64,
            /// Windows.
            #[serde(rename = "IOMaximumBandwidth")]
            pub io_maximum_bandwidth: u64,
            $($tail)*
        }
    };
}

with_resources! {
    /// How a container is run on this host.
    pub struct HostConfig {
        /// `source:destination[:options]`.
        pub binds: Option<Vec<String>>,
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        pub log_config: LogConfig,
        /// `bridge`, `host`, `none`, `container:ID` or a network's name.
        pub network_mode: String,
        pub port_bindings: Option<PortMap>,
        pub restart_policy: RestartPolicy,
        pub auto_remove: bool,
        pub volume_driver: String,
        pub volumes_from: Option<Vec<String>>,
        /// Height, width.
        pub console_size: [u32; 2],
        #[serde(skip_serializing_if = "omit")]
        pub annotations: Option<BTreeMap<String, String>>,
        pub cap_add: Option<Vec<String>>,
        pub cap_drop: Option<Vec<String>>,
        pub cgroupns_mode: String,
        pub dns: Option<Vec<String>>,
        pub dns_options: Option<Vec<String>>,
        pub dns_search: Option<Vec<String>>,
        pub extra_hosts: Option<Vec<String>>,
        pub group_add: Option<Vec<String>>,
        pub ipc_mode: String,
        pub cgroup: String,
        pub links: Option<Vec<String>>,
        pub oom_score_adj: i64,
        pub pid_mode: String,
        pub privileged: bool,
        pub publish_all_ports: bool,
        pub readonly_rootfs: bool,
        pub security_opt: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")]
        pub storage_opt: Option<BTreeMap<String, String>>,
        /// Mount point to options.
        #[serde(skip_serializing_if = "omit")]
        pub tmpfs: Option<BTreeMap<String, String>>,
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        pub userns_mode: String,
        /// Bytes.
        pub shm_size: i64,
        #[serde(skip_serializing_if = "omit")]
        pub sysctls: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "omit")]
        pub runtime: String,
        pub isolation: String,
    } then {
        #[serde(skip_serializing_if = "omit")]
        pub mounts: Option<Vec<Mount>>,
        /// `None`: the default; empty: none.
        pub masked_paths: Option<Vec<String>>,
        /// `None`: the default; empty: none.
        pub readonly_paths: Option<Vec<String>>,
        /// `None`: the daemon's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }
}

with_resources! {
    /// New limits and restart policy of a container; zero leaves a value as it is.
    pub struct UpdateRequest {} then {
        pub restart_policy: RestartPolicy,
        /// Ports to be published beside those that are; Docker has no such thing.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub publish_add: Option<PortMap>,
        /// Ports to be published no more; without bindings, all of a port's.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub publish_remove: Option<PortMap>,
    }
}

/// The answer to an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// Which driver takes a container's output, and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    pub r#type: String,
    pub config: Option<BTreeMap<String, String>>,
}

/// Where a port is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    pub host_ip: String,
    /// A port or a range; empty: any.
    pub host_port: String,
}

/// When a container is started again by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no` or empty, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// For `on-failure`; 0 is no limit.
    pub maximum_retry_count: i64,
}

/// A host's device in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    pub path_on_host: String,
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices asked of a device driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    pub driver: String,
    /// -1: all.
    pub count: i64,
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    pub capabilities: Option<Vec<Vec<String>>>,
    pub options: Option<BTreeMap<String, String>>,
}

/// A resource limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}

/// A block device's weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    pub path: String,
    pub weight: u16,
}

/// A block device's limit, in bytes or operations a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    pub path: String,
    pub rate: u64,
}

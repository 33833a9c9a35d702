//! The flags of `run` and `create`: one row a flag, in Docker's names. [`request`] turns them into the document
//! that the daemon gets.

mod request;
mod values;

use std::path::PathBuf;

pub(crate) use request::request;
pub(crate) use values::{bytes, duration, publish};

/// Everything that describes a container.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ContainerFlags {
    /// Print usage
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "LIST")]
    add_host: Vec<String>,
    /// Add an annotation to the container
    #[arg(long, value_name = "MAP")]
    annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "LIST")]
    pub(crate) attach: Vec<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "UINT16", default_value_t = 0)]
    blkio_weight: u16,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "LIST")]
    blkio_weight_device: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "LIST")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "LIST")]
    cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cgroup_parent: String,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cgroupns: String,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "INT", default_value_t = 0, allow_negative_numbers = true)]
    cpu_period: i64,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "INT", default_value_t = 0, allow_negative_numbers = true)]
    cpu_quota: i64,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "INT", default_value_t = 0)]
    cpu_rt_period: i64,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "INT", default_value_t = 0)]
    cpu_rt_runtime: i64,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "INT", default_value_t = 0)]
    cpu_shares: i64,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Add a host device to the container
    #[arg(long, value_name = "LIST")]
    device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "LIST")]
    device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "LIST")]
    device_read_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "LIST")]
    device_read_iops: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "LIST")]
    device_write_bps: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "LIST")]
    device_write_iops: Vec<String>,
    /// Skip image verification (accepted for Docker's sake)
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Set custom DNS servers
    #[arg(long, value_name = "LIST")]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "LIST")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "LIST")]
    dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    domainname: String,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "STRING")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "LIST")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "LIST")]
    env_file: Vec<PathBuf>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "LIST")]
    expose: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "GPU-REQUEST")]
    gpus: Vec<String>,
    /// Kernel memory limit (deprecated; accepted and ignored, as Docker does)
    #[arg(long, value_name = "BYTES", value_parser = bytes, hide = true)]
    kernel_memory: Option<i64>,
    /// Add additional groups to join
    #[arg(long, value_name = "LIST")]
    group_add: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "STRING")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "INT")]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_timeout: Option<i64>,
    /// Container host name
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    hostname: String,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init: Option<bool>,
    /// Keep STDIN open even if not attached
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true, action = clap::ArgAction::Set)]
    pub(crate) interactive: bool,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "STRING")]
    ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "STRING")]
    ip6: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    ipc: String,
    /// Container isolation technology
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    isolation: String,
    /// Set meta data on a container
    #[arg(short, long, value_name = "LIST")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "LIST")]
    label_file: Vec<PathBuf>,
    /// Add link to another container
    #[arg(long, value_name = "LIST")]
    link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "LIST")]
    link_local_ip: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    log_driver: String,
    /// Log driver options
    #[arg(long, value_name = "LIST")]
    log_opt: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    mac_address: String,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = values::bytes_or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "INT", default_value_t = -1, allow_negative_numbers = true)]
    memory_swappiness: i64,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Assign a name to the container
    #[arg(long, value_name = "STRING")]
    pub(crate) name: Option<String>,
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, visible_alias = "net-alias", value_name = "LIST")]
    network_alias: Vec<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
    /// Disable OOM Killer
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oom_kill_disable: Option<bool>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "INT", default_value_t = 0, allow_negative_numbers = true)]
    oom_score_adj: i64,
    /// PID namespace to use
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    pid: String,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "INT", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "STRING", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub(crate) platform: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "LIST")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "STRING", default_value = "missing")]
    pub(crate) pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "STRING", default_value = "no")]
    restart: String,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    runtime: String,
    /// Security Options
    #[arg(long, value_name = "LIST")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    shm_size: Option<i64>,
    /// Signal to stop the container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    stop_signal: String,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "INT", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Storage driver options for the container
    #[arg(long, value_name = "LIST")]
    storage_opt: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "MAP")]
    sysctl: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "LIST")]
    tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true, action = clap::ArgAction::Set)]
    pub(crate) tty: bool,
    /// Ulimit options
    #[arg(long, value_name = "ULIMIT")]
    ulimit: Vec<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    user: String,
    /// User namespace to use
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    userns: String,
    /// UTS namespace to use
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    uts: String,
    /// Bind mount a volume
    #[arg(short, long, value_name = "LIST")]
    volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    volume_driver: String,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "LIST")]
    volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The image to run
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// What to run in it
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl ContainerFlags {
    /// Whether any port is to be published.
    pub(crate) fn publishes(&self) -> bool {
        self.publish_all || !self.publish.is_empty()
    }
}

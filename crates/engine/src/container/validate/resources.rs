//! Limits: what may be asked for, what this host cannot do, and updates.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use wharf_api::{HostConfig, UpdateRequest};

use crate::error::{Error, Result};

/// The least memory a container is limited to, as in Docker.
const MIN_MEMORY: i64 = 6 << 20;

/// What this host's cgroups can limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processors the engine may use.
    pub cpus: usize,
    /// Processors containers can be bound to, as the kernel lists them.
    pub cpuset_cpus: String,
    /// Memory nodes containers can be bound to.
    pub cpuset_mems: String,
    /// Memory limits.
    pub memory: bool,
    /// Soft memory limits.
    pub reservation: bool,
    /// Limits of memory and swap together.
    pub swap: bool,
    /// A container's own swappiness.
    pub swappiness: bool,
    /// Turning the OOM killer off.
    pub oom_kill_disable: bool,
    /// Limits of the number of processes.
    pub pids: bool,
    /// Relative processor shares.
    pub shares: bool,
    /// Processor quotas.
    pub quota: bool,
    /// Binding to processors and memory nodes.
    pub cpuset: bool,
    /// Weights of block input and output.
    pub io_weight: bool,
    /// The same by device.
    pub io_weight_device: bool,
    /// Throttles of block input and output.
    pub io_throttle: bool,
}

impl Facts {
    /// Looked up once.
    pub fn of_host() -> &'static Self {
        static FACTS: OnceLock<Facts> = OnceLock::new();
        FACTS.get_or_init(|| if has("cgroup.controllers") { Self::unified() } else { Self::by_controller() })
    }

    fn by_controller() -> Self {
        Self {
            cpuset_cpus: read("cpuset/cpuset.cpus"),
            cpuset_mems: read("cpuset/cpuset.mems"),
            memory: has("memory/memory.limit_in_bytes"),
            reservation: has("memory/memory.soft_limit_in_bytes"),
            swap: has("memory/memory.memsw.limit_in_bytes"),
            swappiness: has("memory/memory.swappiness"),
            oom_kill_disable: has("memory/memory.oom_control"),
            pids: has("pids"),
            shares: has("cpu/cpu.shares"),
            quota: has("cpu/cpu.cfs_quota_us"),
            cpuset: has("cpuset/cpuset.cpus"),
            io_weight: has("blkio/blkio.weight"),
            io_weight_device: has("blkio/blkio.weight_device"),
            io_throttle: has("blkio/blkio.throttle.read_bps_device"),
            ..Self::common()
        }
    }

    fn unified() -> Self {
        let controllers = read("cgroup.controllers");
        let with = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
        Self {
            cpuset_cpus: read("cpuset.cpus.effective"),
            cpuset_mems: read("cpuset.mems.effective"),
            memory: with("memory"),
            reservation: with("memory"),
            swap: with("memory") && Path::new("/proc/swaps").exists(),
            pids: with("pids"),
            shares: with("cpu"),
            quota: with("cpu"),
            cpuset: with("cpuset"),
            // The root group has no io.weight; whether its children have one is the scheduler's matter.
            io_weight: with("io"),
            io_weight_device: with("io"),
            io_throttle: with("io"),
            ..Self::common()
        }
    }

    fn common() -> Self {
        Self { cpus: std::thread::available_parallelism().map_or(1, usize::from), ..Self::default() }
    }
}

const CGROUPS: &str = "/sys/fs/cgroup";

fn has(name: &str) -> bool {
    Path::new(CGROUPS).join(name).exists()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(CGROUPS).join(name)).unwrap_or_default().trim().to_owned()
}

fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::invalid(why))
}

/// Checks the limits of a new container; drops, with a warning, what the host cannot do.
pub(super) fn check_new(host: &mut HostConfig, facts: &Facts) -> Result<Vec<String>> {
    check(host, facts, false)
}

fn check(host: &mut HostConfig, facts: &Facts, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    memory(host, facts, update, &mut warnings)?;
    oom_and_pids(host, facts, &mut warnings);
    cpu(host, facts, &mut warnings)?;
    cpuset(host, facts, &mut warnings)?;
    block_io(host, facts, &mut warnings)?;
    Ok(warnings)
}

const NO_CGROUP: &str = "or the cgroup is not mounted.";

fn memory(host: &mut HostConfig, facts: &Facts, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && !facts.memory {
        warnings.push(format!(
            "Your kernel does not support memory limit capabilities {NO_CGROUP} Limitation discarded."
        ));
        host.memory = 0;
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap != -1 && !facts.swap {
        let lost = "Memory limited without swap.";
        warnings.push(format!("Your kernel does not support swap limit capabilities {NO_CGROUP} {lost}"));
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory_swappiness.is_some() && !facts.swappiness {
        let lost = "Memory swappiness discarded.";
        warnings
            .push(format!("Your kernel does not support memory swappiness capabilities {NO_CGROUP} {lost}"));
        host.memory_swappiness = None;
    }
    if let Some(value) = host.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return invalid(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    if host.memory_reservation > 0 && !facts.reservation {
        warnings.push(format!(
            "Your kernel does not support memory soft limit capabilities {NO_CGROUP} Limitation discarded."
        ));
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    // Limits of kernel memory left Docker and the kernel.
    host.kernel_memory = 0;
    Ok(())
}

fn oom_and_pids(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) {
    if !facts.oom_kill_disable {
        if host.oom_kill_disable == Some(true) {
            warnings
                .push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        }
        host.oom_kill_disable = None;
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        let danger = "this can result in the system running out of resources.";
        warnings
            .push(format!("OOM killer is disabled for the container, but no memory limit is set, {danger}"));
    }
    if host.pids_limit.is_some() && !facts.pids {
        warnings.push(format!(
            "Your kernel does not support PIDs limit capabilities {NO_CGROUP} PIDs limit discarded."
        ));
        host.pids_limit = None;
    }
}

fn cpu(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    for (value, what) in [(host.cpu_period, "CPU Period"), (host.cpu_quota, "CPU Quota")] {
        if host.nano_cpus > 0 && value > 0 {
            return invalid(format!("Conflicting options: Nano CPUs and {what} cannot both be set"));
        }
    }
    if host.nano_cpus > 0 && !facts.quota {
        let why = "as your kernel does not support CPU CFS scheduler or the cgroup is not mounted";
        return invalid(format!("NanoCPUs can not be set, {why}"));
    }
    let cpus = i64::try_from(facts.cpus).unwrap_or(i64::MAX);
    if host.nano_cpus < 0 || host.nano_cpus > cpus.saturating_mul(1_000_000_000) {
        return invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if host.cpu_shares < 0 {
        let why = "value must be a positive integer";
        return invalid(format!("invalid CPU shares ({}): {why}", host.cpu_shares));
    }
    if host.cpu_shares > 0 && !facts.shares {
        warnings.push(format!("Your kernel does not support CPU shares {NO_CGROUP} Shares discarded."));
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !facts.quota {
        warnings
            .push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".to_owned());
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        let range = "less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        return invalid(format!("CPU cfs period can not be {range}"));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        host.cpu_percent = 0;
    }
    Ok(())
}

fn cpuset(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    let asked = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if asked && !facts.cpuset {
        warnings.push(format!("Your kernel does not support cpuset {NO_CGROUP} Cpuset discarded."));
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    let sets = [
        (&host.cpuset_cpus, &facts.cpuset_cpus, "cpus", "CPUs"),
        (&host.cpuset_mems, &facts.cpuset_mems, "mems", "memory nodes"),
    ];
    for (wanted, available, name, what) in sets {
        let set = parse_set(wanted).map_err(|why| {
            let why = why.replace("{}", wanted);
            Error::invalid(format!("Invalid value {wanted} for cpuset {name}: {why}"))
        })?;
        // The kernel's own list is always well formed; an unreadable one offers nothing to compare with.
        let offered = parse_set(available).unwrap_or_default();
        if !offered.is_empty() && !set.is_subset(&offered) {
            return invalid(format!(
                "Requested {what} are not available - requested {wanted}, available: {available}"
            ));
        }
    }
    Ok(())
}

/// The numbers of a list such as `0-2,7`.
fn parse_set(list: &str) -> Result<BTreeSet<u32>, &'static str> {
    const FORMAT: &str = "invalid format: {}";
    const MAX: u32 = 8192;
    let mut set = BTreeSet::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) =
            (first.parse().map_err(|_| FORMAT)?, last.parse().map_err(|_| FORMAT)?);
        if last < first {
            return Err(FORMAT);
        }
        if last > MAX {
            return Err("value of out range, maximum is 8192");
        }
        set.extend(first..=last);
    }
    Ok(set)
}

fn block_io(host: &mut HostConfig, facts: &Facts, warnings: &mut Vec<String>) -> Result<()> {
    if host.blkio_weight > 0 && !facts.io_weight {
        warnings.push(format!("Your kernel does not support Block I/O weight {NO_CGROUP} Weight discarded."));
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()) && !facts.io_weight_device {
        warnings.push(format!(
            "Your kernel does not support Block I/O weight_device {NO_CGROUP} Weight-device discarded."
        ));
        host.blkio_weight_device = Some(Vec::new());
    }
    let throttles = [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read", "Block I/O BPS read"),
        (&mut host.blkio_device_write_bps, "BPS Block I/O write", "Block I/O BPS write"),
        (&mut host.blkio_device_read_iops, "IOPS Block read", "Block I/O IOPS read"),
        (&mut host.blkio_device_write_iops, "IOPS Block I/O write", "Block I/O IOPS write"),
    ];
    for (list, what, lost) in throttles {
        if list.as_ref().is_some_and(|list| !list.is_empty()) && !facts.io_throttle {
            warnings.push(format!(
                "Your kernel does not support {what} limit {NO_CGROUP} {lost} limit discarded."
            ));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

/// The host configuration after an update; zero and absent values leave what is.
pub(super) fn update(
    current: &HostConfig,
    request: &UpdateRequest,
    facts: &Facts,
) -> Result<(HostConfig, Vec<String>)> {
    let mut asked = HostConfig {
        cpu_shares: request.cpu_shares,
        memory: request.memory,
        nano_cpus: request.nano_cpus,
        blkio_weight: request.blkio_weight,
        cpu_period: request.cpu_period,
        cpu_quota: request.cpu_quota,
        cpu_realtime_period: request.cpu_realtime_period,
        cpu_realtime_runtime: request.cpu_realtime_runtime,
        cpuset_cpus: request.cpuset_cpus.clone(),
        cpuset_mems: request.cpuset_mems.clone(),
        memory_reservation: request.memory_reservation,
        memory_swap: request.memory_swap,
        memory_swappiness: request.memory_swappiness,
        oom_kill_disable: request.oom_kill_disable,
        // Whatever is no limit: none.
        pids_limit: request.pids_limit.map(|limit| limit.max(0)),
        restart_policy: request.restart_policy.clone(),
        ..HostConfig::default()
    };
    let warnings = check(&mut asked, facts, true)?;
    super::host::check_restart_policy(&asked)?;
    let mut next = current.clone();
    check_against(current, &asked)?;
    for (new, old) in [
        (asked.cpu_shares, &mut next.cpu_shares),
        (asked.memory, &mut next.memory),
        (asked.nano_cpus, &mut next.nano_cpus),
        (asked.cpu_period, &mut next.cpu_period),
        (asked.cpu_quota, &mut next.cpu_quota),
        (asked.cpu_realtime_period, &mut next.cpu_realtime_period),
        (asked.cpu_realtime_runtime, &mut next.cpu_realtime_runtime),
        (asked.memory_reservation, &mut next.memory_reservation),
        (asked.memory_swap, &mut next.memory_swap),
    ] {
        if new != 0 {
            *old = new;
        }
    }
    for (new, old) in [(asked.cpuset_cpus, &mut next.cpuset_cpus), (asked.cpuset_mems, &mut next.cpuset_mems)]
    {
        if !new.is_empty() {
            *old = new;
        }
    }
    if asked.blkio_weight != 0 {
        next.blkio_weight = asked.blkio_weight;
    }
    if asked.pids_limit.is_some() {
        next.pids_limit = asked.pids_limit;
    }
    if !asked.restart_policy.name.is_empty() {
        if current.auto_remove && asked.restart_policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        next.restart_policy = asked.restart_policy;
    }
    Ok((next, warnings))
}

/// What of an update contradicts what the container has.
fn check_against(current: &HostConfig, asked: &HostConfig) -> Result<()> {
    for (old, what) in [(current.cpu_period, "CPU Period"), (current.cpu_quota, "CPU Quota")] {
        if asked.nano_cpus > 0 && old > 0 {
            return Err(Error::conflict(format!(
                "Conflicting options: Nano CPUs cannot be updated as {what} has already been set"
            )));
        }
    }
    for (new, what) in [(asked.cpu_quota, "CPU Quota"), (asked.cpu_period, "CPU Period")] {
        if new > 0 && current.nano_cpus > 0 {
            return Err(Error::conflict(format!(
                "Conflicting options: {what} cannot be updated as NanoCPUs has already been set"
            )));
        }
    }
    let memory = if asked.memory == 0 { current.memory } else { asked.memory };
    let swap = if asked.memory_swap == 0 { current.memory_swap } else { asked.memory_swap };
    if asked.memory != 0 && asked.memory > current.memory_swap && asked.memory_swap == 0 {
        let why = "update the memoryswap at the same time";
        return Err(Error::conflict(format!(
            "Memory limit should be smaller than already set memoryswap limit, {why}"
        )));
    }
    if swap > 0 && memory == 0 {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            cpus: 2,
            cpuset_cpus: "0-1".to_owned(),
            cpuset_mems: "0".to_owned(),
            memory: true,
            reservation: true,
            swap: true,
            swappiness: true,
            oom_kill_disable: true,
            pids: true,
            shares: true,
            quota: true,
            cpuset: true,
            io_throttle: true,
            ..Facts::default()
        }
    }

    fn of(change: impl Fn(&mut HostConfig)) -> Result<Vec<String>> {
        let mut host = HostConfig::default();
        change(&mut host);
        check_new(&mut host, &facts())
    }

    fn text(change: impl Fn(&mut HostConfig)) -> String {
        of(change).unwrap_err().message().to_owned()
    }

    #[test]
    fn memory_is_checked_as_recorded() {
        assert_eq!(text(|host| host.memory = -1), "Minimum memory limit allowed is 6MB");
        assert_eq!(text(|host| host.memory_reservation = 1), "Minimum memory reservation allowed is 6MB");
        let swap = "You should always set the Memory limit when using Memoryswap limit, see usage";
        assert_eq!(text(|host| host.memory_swap = 100), swap);
        let range = "Invalid value: 101, valid memory swappiness range is 0-100";
        assert_eq!(text(|host| host.memory_swappiness = Some(101)), range);
        let larger = "Minimum memoryswap limit should be larger than memory limit, see usage";
        assert_eq!(text(|host| (host.memory, host.memory_swap) = (10_000_000, 1_000_000)), larger);
        let less = "Minimum memory limit can not be less than memory reservation limit, see usage";
        assert_eq!(text(|host| (host.memory, host.memory_reservation) = (10_000_000, 20_000_000)), less);
        let warnings = of(|host| host.oom_kill_disable = Some(true)).unwrap();
        assert!(warnings[0].starts_with("OOM killer is disabled for the container"));
    }

    #[test]
    fn processors_are_checked_as_recorded() {
        let range = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
        assert_eq!(text(|host| host.nano_cpus = -1), range);
        assert_eq!(text(|host| host.nano_cpus = 99_000_000_000), range);
        assert_eq!(
            text(|host| host.cpu_shares = -1),
            "invalid CPU shares (-1): value must be a positive integer"
        );
        let period = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        assert_eq!(text(|host| host.cpu_period = 999), period);
        assert_eq!(text(|host| host.cpu_quota = 500), "CPU cfs quota can not be less than 1ms (i.e. 1000)");
        let both = "Conflicting options: Nano CPUs and CPU Quota cannot both be set";
        assert_eq!(text(|host| (host.nano_cpus, host.cpu_quota) = (1, 5_000)), both);
    }

    #[test]
    fn sets_are_checked_as_recorded() {
        let cpus = |set: &str| text(|host| set.clone_into(&mut host.cpuset_cpus));
        for wrong in ["x", "0,a", "3-1", " 0"] {
            assert_eq!(
                cpus(wrong),
                format!("Invalid value {wrong} for cpuset cpus: invalid format: {wrong}")
            );
        }
        let range = "Invalid value 0-1000000 for cpuset cpus: value of out range, maximum is 8192";
        assert_eq!(cpus("0-1000000"), range);
        assert_eq!(cpus("9"), "Requested CPUs are not available - requested 9, available: 0-1");
        let mems = text(|host| host.cpuset_mems = "5".to_owned());
        assert_eq!(mems, "Requested memory nodes are not available - requested 5, available: 0");
        assert!(of(|host| host.cpuset_cpus = "0-1".to_owned()).unwrap().is_empty());
    }

    #[test]
    fn what_the_host_cannot_do_is_dropped_with_a_warning() {
        let mut host = HostConfig { blkio_weight: 5, ..HostConfig::default() };
        let warnings = check_new(&mut host, &facts()).unwrap();
        let text =
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
        assert_eq!((warnings, host.blkio_weight), (vec![text.to_owned()], 0));
    }

    #[test]
    fn updates_change_what_they_name() {
        let current = HostConfig {
            memory: 10_000_000,
            memory_swap: 20_000_000,
            cpu_shares: 5,
            ..HostConfig::default()
        };
        let request = UpdateRequest { cpu_shares: 7, ..UpdateRequest::default() };
        let (next, _) = update(&current, &request, &facts()).unwrap();
        assert_eq!((next.cpu_shares, next.memory), (7, 10_000_000));
        let request = UpdateRequest { memory: 30_000_000, ..UpdateRequest::default() };
        let error = update(&current, &request, &facts()).unwrap_err();
        assert!(
            error.message().starts_with("Memory limit should be smaller than already set memoryswap limit")
        );
    }
}

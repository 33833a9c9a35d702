//! Limits of a container, in the runtime's form.

use std::os::unix::fs::MetadataExt;

use wharf_api::{HostConfig, ThrottleDevice, WeightDevice};
use wharf_oci::runtime::{
    self as oci, BlockIoResources, CpuResources, Linux, LinuxResources, MemoryResources, PidsResources,
};

use super::devices;
use crate::error::{Error, Result};

/// The limits, without rules of device access. Also what update applies.
///
/// # Errors
/// `stat …: no such file or directory` for a block device that is not there.
pub fn resources(host: &HostConfig) -> Result<LinuxResources> {
    Ok(LinuxResources {
        memory: memory(host),
        cpu: cpu(host),
        pids: host.pids_limit.filter(|limit| *limit > 0).map(|limit| PidsResources { limit }),
        block_io: block_io(host)?,
        ..LinuxResources::default()
    })
}

fn some(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value != 0)
}

fn memory(host: &HostConfig) -> Option<MemoryResources> {
    let memory = MemoryResources {
        limit: some(host.memory).filter(|limit| *limit > 0),
        reservation: some(host.memory_reservation).filter(|limit| *limit > 0),
        swap: some(host.memory_swap),
        swappiness: host.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: host.oom_kill_disable.filter(|disable| *disable),
        ..MemoryResources::default()
    };
    (memory != MemoryResources::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<CpuResources> {
    let mut cpu = CpuResources {
        shares: positive(host.cpu_shares),
        quota: some(host.cpu_quota),
        period: positive(host.cpu_period),
        realtime_runtime: some(host.cpu_realtime_runtime),
        realtime_period: positive(host.cpu_realtime_period),
        cpus: host.cpuset_cpus.clone(),
        mems: host.cpuset_mems.clone(),
        ..CpuResources::default()
    };
    if host.nano_cpus > 0 {
        // A period of 100 ms; a quota below 1 ms is refused by the kernel.
        cpu.period = Some(100_000);
        cpu.quota = Some((host.nano_cpus / 10_000).max(1_000));
    }
    (cpu != CpuResources::default()).then_some(cpu)
}

fn block_io(host: &HostConfig) -> Result<Option<BlockIoResources>> {
    let io = BlockIoResources {
        weight: Some(host.blkio_weight).filter(|weight| *weight != 0),
        leaf_weight: None,
        weight_device: host.blkio_weight_device.iter().flatten().map(weight).collect::<Result<_>>()?,
        throttle_read_bps_device: throttles(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttles(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttles(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttles(&host.blkio_device_write_iops)?,
    };
    Ok((io != BlockIoResources::default()).then_some(io))
}

fn number(path: &str) -> Result<(i64, i64)> {
    let meta = std::fs::metadata(path).map_err(|error| Error::io(format_args!("stat {path}"), &error))?;
    let device = meta.rdev();
    Ok((i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device))))
}

fn weight(device: &WeightDevice) -> Result<oci::WeightDevice> {
    let (major, minor) = number(&device.path)?;
    Ok(oci::WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
}

fn throttles(devices: &Option<Vec<ThrottleDevice>>) -> Result<Vec<oci::ThrottleDevice>> {
    let one = |device: &ThrottleDevice| {
        let (major, minor) = number(&device.path)?;
        Ok(oci::ThrottleDevice { major, minor, rate: device.rate })
    };
    devices.iter().flatten().map(one).collect()
}

/// Adds devices and the rules of their access.
pub(super) fn devices(host: &HostConfig, linux: &mut Linux) -> Result<()> {
    let mut nodes = Vec::new();
    let rules = if host.privileged {
        nodes = devices::all_of_host();
        vec![devices::allow_all()]
    } else {
        let mut rules = devices::default_rules();
        for text in host.device_cgroup_rules.iter().flatten() {
            rules.push(devices::parse_rule(text)?);
        }
        rules
    };
    linux.resources.get_or_insert_default().devices = rules;
    linux.devices = nodes;
    for mapping in host.devices.iter().flatten() {
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let permissions = &mapping.cgroup_permissions;
        // A privileged container has all devices under the host's names already; here it is only about another name.
        let permissions = if host.privileged && permissions.is_empty() { "rwm" } else { permissions };
        let granted = devices::grant(&mapping.path_on_host, inside, permissions)?;
        linux.devices.retain(|old| granted.nodes.iter().all(|new| new.path != old.path));
        linux.devices.extend(granted.nodes);
        if !host.privileged {
            linux.resources.get_or_insert_default().devices.extend(granted.rules);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_is_nothing_said() {
        assert_eq!(resources(&HostConfig::default()).unwrap(), LinuxResources::default());
    }

    #[test]
    fn cpus_become_a_quota() {
        let host = HostConfig { nano_cpus: 1_500_000_000, ..HostConfig::default() };
        let cpu = resources(&host).unwrap().cpu.unwrap();
        assert_eq!((cpu.period, cpu.quota), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn memory_and_pids() {
        let host = HostConfig {
            memory: 10_000_000,
            memory_swap: -1,
            oom_kill_disable: Some(false),
            pids_limit: Some(-1),
            ..HostConfig::default()
        };
        let resources = resources(&host).unwrap();
        let memory = resources.memory.unwrap();
        assert_eq!(
            (memory.limit, memory.swap, memory.disable_oom_killer),
            (Some(10_000_000), Some(-1), None)
        );
        assert_eq!(resources.pids, None);
    }

    #[test]
    fn a_missing_block_device_is_named() {
        let device = ThrottleDevice { path: "/nosuch".to_owned(), rate: 1 };
        let host = HostConfig { blkio_device_read_bps: Some(vec![device]), ..HostConfig::default() };
        assert_eq!(resources(&host).unwrap_err().message(), "stat /nosuch: no such file or directory");
    }
}

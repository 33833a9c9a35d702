//! The specification's limits as the cgroup layer takes them.

use wharf_oci::runtime::{DeviceRule, LinuxResources, ThrottleDevice};
use wharf_sys::cgroup::{self, BlockIo, Cpu, DeviceAccess, DeviceKind, Limits, Memory, Throttle, WeightOf};

use crate::error::{LaunchError, Result};

/// Devices every container has, whatever its rules say (OCI runtime spec, "Default Devices"), besides
/// making nodes of any kind, which gives no access: type, major, minor.
const ALWAYS_ALLOWED: [(DeviceKind, Option<u32>, Option<u32>, &str); 10] = [
    (DeviceKind::Character, None, None, "m"),
    (DeviceKind::Block, None, None, "m"),
    (DeviceKind::Character, Some(1), Some(3), ""),
    (DeviceKind::Character, Some(1), Some(8), ""),
    (DeviceKind::Character, Some(1), Some(7), ""),
    (DeviceKind::Character, Some(5), Some(0), ""),
    (DeviceKind::Character, Some(1), Some(5), ""),
    (DeviceKind::Character, Some(1), Some(9), ""),
    (DeviceKind::Character, Some(136), None, ""),
    (DeviceKind::Character, Some(5), Some(2), ""),
];

/// Converts limits.
///
/// # Errors
/// Device numbers or kinds that cannot be.
pub fn limits(resources: &LinuxResources) -> Result<Limits> {
    let mut limits = Limits {
        unified: resources.unified.clone(),
        hugepages: resources.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
        pids: resources.pids.as_ref().map(|pids| pids.limit).filter(|limit| *limit != 0),
        ..Limits::default()
    };
    if let Some(memory) = &resources.memory {
        limits.memory = Memory {
            limit: memory.limit,
            reservation: memory.reservation,
            swap: memory.swap,
            kernel_tcp: memory.kernel_tcp,
            swappiness: memory.swappiness,
            disable_oom_killer: memory.disable_oom_killer.unwrap_or(false),
        };
    }
    if let Some(cpu) = &resources.cpu {
        limits.cpu = Cpu {
            shares: cpu.shares,
            quota: cpu.quota,
            period: cpu.period,
            burst: cpu.burst,
            realtime_runtime: cpu.realtime_runtime,
            realtime_period: cpu.realtime_period,
            cpus: cpu.cpus.clone(),
            mems: cpu.mems.clone(),
            idle: cpu.idle,
        };
    }
    if let Some(block) = &resources.block_io {
        let throttle = |list: &[ThrottleDevice]| {
            list.iter().map(|d| Throttle { device: (d.major, d.minor), rate: d.rate }).collect()
        };
        let weight = |d: &wharf_oci::runtime::WeightDevice| {
            Some(WeightOf { device: (d.major, d.minor), weight: d.weight? })
        };
        limits.block_io = BlockIo {
            weight: block.weight,
            weight_device: block.weight_device.iter().filter_map(weight).collect(),
            read_bps: throttle(&block.throttle_read_bps_device),
            write_bps: throttle(&block.throttle_write_bps_device),
            read_iops: throttle(&block.throttle_read_iops_device),
            write_iops: throttle(&block.throttle_write_iops_device),
        };
    }
    limits.devices = device_rules(&resources.devices)?;
    Ok(limits)
}

/// No rules at all leave device access alone.
fn device_rules(rules: &[DeviceRule]) -> Result<Option<Vec<cgroup::DeviceRule>>> {
    if rules.is_empty() {
        return Ok(None);
    }
    let mut converted = rules.iter().map(device_rule).collect::<Result<Vec<_>>>()?;
    let everything = |rule: &cgroup::DeviceRule| rule.allow && rule.kind == DeviceKind::All;
    if !converted.last().is_some_and(everything) {
        converted.extend(ALWAYS_ALLOWED.map(|(kind, major, minor, access)| cgroup::DeviceRule {
            allow: true,
            kind,
            major,
            minor,
            access: DeviceAccess::parse(access),
        }));
    }
    Ok(Some(converted))
}

fn device_rule(rule: &DeviceRule) -> Result<cgroup::DeviceRule> {
    let kind = match rule.kind.as_str() {
        "" | "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" | "u" => DeviceKind::Character,
        other => return Err(LaunchError::other(format!("device rule: unknown type {other:?}"))),
    };
    // -1 is how runc writes "any".
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| LaunchError::other(format!("device rule: number {n} out of range"))),
    };
    Ok(cgroup::DeviceRule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: DeviceAccess::parse(&rule.access),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_devices_follow_the_rules_unless_all_are_allowed() {
        let deny = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
        let allow = DeviceRule { allow: true, access: "rwm".into(), ..DeviceRule::default() };
        assert_eq!(device_rules(&[]).unwrap(), None);
        assert_eq!(device_rules(&[deny]).unwrap().unwrap().len(), 1 + ALWAYS_ALLOWED.len());
        assert_eq!(device_rules(&[allow]).unwrap().unwrap().len(), 1);
    }
}

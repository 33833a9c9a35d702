//! The host's half: mounts, hosts, ports, policies, capabilities, runtime; and its defaults.

use std::sync::OnceLock;

use wharf_api::{HostConfig, Mount, PortBinding};

use super::Ask;
use crate::config::{EngineConfig, OWN_RUNTIMES};
use crate::container::spec::peers::joined;
use crate::container::spec::points::{check_absolute, clean};
use crate::container::spec::register::parse_mount;
use crate::container::spec::{capability, security};
use crate::error::{Error, Result};

/// What Docker refuses while it reads a request.
pub(super) fn check_request(host: &mut HostConfig) -> Result<()> {
    if !matches!(host.isolation.as_str(), "" | "default") {
        let why = "linux only supports 'default'";
        return Err(Error::invalid(format!("invalid isolation ({}): {why}", host.isolation)));
    }
    for (value, what) in [(host.io_maximum_bandwidth, "bandwidth"), (host.io_maximum_iops, "IOPs")] {
        if value != 0 {
            let why = format!("QoS maximum {what} configuration is not supported on linux");
            return Err(Error::invalid(format!("invalid option: {why}")));
        }
    }
    if host.cpu_realtime_period != 0 && host.cpu_realtime_runtime > host.cpu_realtime_period {
        return Err(Error::invalid("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    for (names, field) in [(&host.cap_add, "CapAdd"), (&host.cap_drop, "CapDrop")] {
        let checked = capability::normalize(names.as_deref().unwrap_or_default());
        checked.map_err(|error| error.context(format_args!("invalid {field}")))?;
    }
    for mount in host.mounts.iter().flatten() {
        check_kind(mount)?;
    }
    if host.annotations.iter().flatten().any(|(name, _)| name.is_empty()) {
        return Err(Error::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    // No limit is written in one way only.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    Ok(())
}

fn check_kind(mount: &Mount) -> Result<()> {
    let kind = mount.r#type.as_str();
    let options = [
        (mount.bind_options.is_some(), "bind", "BindOptions"),
        (mount.volume_options.is_some(), "volume", "VolumeOptions"),
        (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
    ];
    match options.into_iter().find(|(present, of, _)| *present && *of != kind) {
        Some((_, _, field)) => {
            Err(Error::invalid(format!("{field} must not be specified on mount type {kind:?}")))
        }
        None => Ok(()),
    }
}

/// What Docker's daemon refuses.
pub(super) fn check(host: &mut HostConfig) -> Result<()> {
    let policy = host.restart_policy.name.as_str();
    if host.auto_remove && !matches!(policy, "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    for mount in host.mounts.iter().flatten() {
        parse_mount(mount)?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        check_extra_host(entry)?;
    }
    for (port, bindings) in host.port_bindings.iter().flatten() {
        check_port(port, bindings.as_deref().unwrap_or_default())?;
    }
    check_restart_policy(host)?;
    for path in host.tmpfs.iter().flatten().map(|(path, _)| path) {
        if clean(path) == "/" {
            return Err(Error::invalid("invalid specification: destination can't be '/'"));
        }
        check_absolute(path).map_err(Error::invalid)?;
    }
    Ok(())
}

fn check_extra_host(entry: &str) -> Result<()> {
    let parts = entry.split_once(':').filter(|(name, _)| !name.is_empty());
    let (_, address) = parts.ok_or_else(|| Error::invalid(format!("bad format for add-host: {entry:?}")))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")))
}

fn check_port(port: &str, bindings: &[PortBinding]) -> Result<()> {
    let wrong = |text: &str| Error::invalid(format!("invalid port specification: {text:?}"));
    let number = port.split('/').next().unwrap_or_default();
    if !number.is_empty() && number.parse::<u16>().is_err() {
        return Err(wrong(number));
    }
    for binding in bindings.iter().filter(|binding| !binding.host_port.is_empty()) {
        let range = &binding.host_port;
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parsed = (first.parse::<u16>(), last.parse::<u16>());
        if !matches!(parsed, (Ok(first), Ok(last)) if first <= last) {
            return Err(wrong(range));
        }
    }
    Ok(())
}

/// Also checked by update.
pub(super) fn check_restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    let wrong = |why: String| Err(Error::invalid(format!("invalid restart policy: {why}")));
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        "on-failure" if count < 0 => wrong("maximum retry count cannot be negative".to_owned()),
        "on-failure" => Ok(()),
        "" | "no" | "always" | "unless-stopped" if count != 0 => {
            let negative = if count < 0 { " and cannot be negative" } else { "" };
            wrong(format!("maximum retry count can only be used with 'on-failure'{negative}"))
        }
        "" | "no" | "always" | "unless-stopped" => Ok(()),
        name => wrong(format!(
            "unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

/// What depends on this engine and this host.
pub(super) fn check_platform(
    engine: &EngineConfig,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    let adjust = host.oom_score_adj;
    if !(-1000..=1000).contains(&adjust) {
        return Err(Error::invalid(format!(
            "Invalid value {adjust}, range for oom score adj is [-1000, 1000]"
        )));
    }
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    crate::userns::check(engine, host)?;
    foresee_limits(host, warnings);
    if host.runtime.is_empty() {
        host.runtime = engine.live(|now| now.default_runtime.clone());
    }
    let known = engine.live(|now| now.runtimes.contains_key(&host.runtime));
    if !OWN_RUNTIMES.contains(&host.runtime.as_str()) && !known {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    crate::container::quota::check(host, &engine.data_root)?;
    Ok(())
}

/// What the kernel will refuse an engine without CAP_SYS_RESOURCE, and the start then does without.
fn foresee_limits(host: &HostConfig, warnings: &mut Vec<String>) {
    if wharf_sys::capability::permitted().is_ok_and(|own| own.has("CAP_SYS_RESOURCE")) {
        return;
    }
    const LACKS: &str = "needs CAP_SYS_RESOURCE, which the engine lacks";
    for limit in host.ulimits.iter().flatten() {
        let name = format!("RLIMIT_{}", limit.name.to_uppercase());
        let Ok(own) = wharf_sys::rlimit::hard(&name) else { continue };
        if limit.hard.cast_unsigned() > own {
            warnings.push(format!("{name} {}:{} {LACKS}: lowered to {own}", limit.soft, limit.hard));
        }
    }
    static OWN_SCORE: OnceLock<Option<i64>> = OnceLock::new();
    let own = *OWN_SCORE
        .get_or_init(|| std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok());
    if own.is_some_and(|own| host.oom_score_adj < own) {
        warnings.push(format!("oom_score_adj {} {LACKS}", host.oom_score_adj));
    }
}

/// Defaults, and names of containers made ids.
pub(super) fn fill(ask: &Ask<'_>, host: &mut HostConfig) -> Result<()> {
    let engine = ask.engine;
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.shm_size == 0 {
        host.shm_size = engine.live(|now| now.shm_size);
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = engine.live(|now| now.default_ipc.clone());
    }
    static UNIFIED: OnceLock<bool> = OnceLock::new();
    let unified = *UNIFIED.get_or_init(|| std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
    if host.cgroupns_mode.is_empty() {
        let mode = if unified { engine.default_cgroupns.as_str() } else { "host" };
        mode.clone_into(&mut host.cgroupns_mode);
    }
    if !unified && host.oom_kill_disable.is_none() {
        host.oom_kill_disable = Some(false);
    }
    if host.restart_policy.name.is_empty() {
        "no".clone_into(&mut host.restart_policy.name);
    }
    for mode in [&mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(name) = joined(mode).filter(|name| !name.is_empty()) {
            let id = (ask.container_id)(name)
                .ok_or_else(|| Error::invalid(format!("No such container: {name}")))?;
            *mode = format!("container:{id}");
        }
    }
    // A network to join may come later; Docker finds out at start.
    if let Some(id) = joined(&host.network_mode).and_then(|name| (ask.container_id)(name)) {
        host.network_mode = format!("container:{id}");
    }
    check_links(ask, host)?;
    fill_protection(host);
    Ok(())
}

/// A mode that is no network of the user's own.
fn is_predefined(mode: &str) -> bool {
    matches!(mode, "" | "default" | "bridge" | "host" | "none") || joined(mode).is_some()
}

fn check_links(ask: &Ask<'_>, host: &HostConfig) -> Result<()> {
    for link in host.links.iter().flatten() {
        let (name, alias) = link.split_once(':').unwrap_or((link, ""));
        if alias.contains(':') {
            return Err(Error::internal(format!("bad format for links: {link}")));
        }
        // In networks that answer names, the target may come later.
        if is_predefined(&host.network_mode) && (ask.container_id)(name).is_none() {
            return Err(Error::invalid(format!(
                "could not get container for {name}: No such container: {name}"
            )));
        }
    }
    Ok(())
}

/// Masked and read-only paths, and the label option that Docker adds where SELinux would be in the way.
fn fill_protection(host: &mut HostConfig) {
    if !host.privileged {
        let paths = || security::READONLY.iter().map(|path| (*path).to_owned()).collect();
        host.masked_paths.get_or_insert_with(security::masked_paths);
        host.readonly_paths.get_or_insert_with(paths);
    }
    let open = host.privileged || host.pid_mode == "host" || host.ipc_mode == "host";
    if host.security_opt.is_none() && open {
        host.security_opt = Some(vec!["label=disable".to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{create_with, refusal};
    use super::*;
    use wharf_api::{BindOptions, ContainerConfig, RestartPolicy};

    fn of(change: impl Fn(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        refusal(host)
    }

    fn one(text: &str) -> Option<Vec<String>> {
        Some(vec![text.to_owned()])
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        assert_eq!(
            of(|host| host.isolation = "hyperv".to_owned()),
            "invalid isolation (hyperv): linux only supports 'default'"
        );
        let text = "invalid option: QoS maximum IOPs configuration is not supported on linux";
        assert_eq!(of(|host| host.io_maximum_iops = 4), text);
        assert_eq!(of(|host| host.cap_add = one("foo")), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
        assert_eq!(of(|host| host.cap_drop = one("foo")), "invalid CapDrop: unknown capability: \"CAP_FOO\"");
        assert_eq!(of(|host| host.extra_hosts = one("x")), "bad format for add-host: \"x\"");
        assert_eq!(of(|host| host.extra_hosts = one("a=1.2.3.4")), "bad format for add-host: \"a=1.2.3.4\"");
        assert_eq!(of(|host| host.extra_hosts = one("x:y")), "invalid IP address in add-host: \"y\"");
        assert_eq!(of(|host| host.runtime = "foo".to_owned()), "unknown or invalid runtime name: foo");
        assert_eq!(of(|host| host.shm_size = -1), "SHM size can not be less than 0");
        let text = "Invalid value 1001, range for oom score adj is [-1000, 1000]";
        assert_eq!(of(|host| host.oom_score_adj = 1001), text);
        assert_eq!(of(|host| host.pid_mode = "container:zz".to_owned()), "No such container: zz");
        assert_eq!(of(|host| host.links = one("x:y")), "could not get container for x: No such container: x");
        assert_eq!(of(|host| host.links = one("a:b:c")), "bad format for links: a:b:c");
        assert_eq!(of(|host| host.security_opt = one("foo")), "invalid --security-opt 1: \"foo\"");
        let tmpfs = |path: &str| Some([(path.to_owned(), String::new())].into());
        assert_eq!(of(|host| host.tmpfs = tmpfs("x")), "invalid mount path: 'x' mount path must be absolute");
        assert_eq!(of(|host| host.tmpfs = tmpfs("/")), "invalid specification: destination can't be '/'");
        let option = |name: &str| Some([(name.to_owned(), "x".to_owned())].into());
        assert_eq!(of(|host| host.storage_opt = option("foo")), "Unknown option foo");
        let text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
        assert_eq!(of(|host| host.storage_opt = option("size")), text);
        let mount = Mount {
            r#type: "volume".to_owned(),
            bind_options: Some(BindOptions::default()),
            ..Mount::default()
        };
        let text = "BindOptions must not be specified on mount type \"volume\"";
        assert_eq!(of(|host| host.mounts = Some(vec![mount.clone()])), text);
    }

    #[test]
    fn ports_are_checked_as_recorded() {
        let text = |port: &str, host_port: &str| {
            let binding = PortBinding { host_port: host_port.to_owned(), ..PortBinding::default() };
            check_port(port, &[binding]).err().map(|error| error.message().to_owned())
        };
        let wrong = |text: &str| Some(format!("invalid port specification: {text:?}"));
        assert_eq!(text("80/tcp", "x"), wrong("x"));
        assert_eq!(text("x/tcp", "80"), wrong("x"));
        assert_eq!(text("80/tcp", "99999"), wrong("99999"));
        assert_eq!(text("80-82/tcp", "8000-8002"), wrong("80-82"));
        assert_eq!(text("80/tcp", "8002-8000"), wrong("8002-8000"));
        for (port, host_port) in
            [("80/tcp", "8000-8002"), ("80/foo", "80"), ("0/tcp", "80"), ("/tcp", ""), ("", "")]
        {
            assert_eq!(text(port, host_port), None);
        }
    }

    #[test]
    fn restart_policies_are_checked_as_recorded() {
        let text = |name: &str, count| {
            of(|host| {
                host.restart_policy = RestartPolicy { name: name.to_owned(), maximum_retry_count: count }
            })
        };
        let start = "invalid restart policy: ";
        let unknown = "unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'";
        assert_eq!(text("foo", 0), format!("{start}{unknown}"));
        assert_eq!(
            text("always", 3),
            format!("{start}maximum retry count can only be used with 'on-failure'")
        );
        let negative = "maximum retry count can only be used with 'on-failure' and cannot be negative";
        assert_eq!(text("no", -1), format!("{start}{negative}"));
        assert_eq!(text("on-failure", -1), format!("{start}maximum retry count cannot be negative"));
        let removed = of(|host| {
            host.auto_remove = true;
            host.restart_policy.name = "always".to_owned();
        });
        assert_eq!(removed, "can't create 'AutoRemove' container with restart policy");
    }

    #[test]
    fn defaults_are_the_recorded_ones() {
        let mut host = HostConfig { memory: 10_000_000, pids_limit: Some(-1), ..HostConfig::default() };
        create_with(&mut ContainerConfig::default(), &mut host).unwrap();
        assert_eq!(
            (host.network_mode.as_str(), host.ipc_mode.as_str(), host.runtime.as_str()),
            ("bridge", "private", "runc")
        );
        assert_eq!((host.shm_size, host.memory_swap, host.pids_limit), (64 << 20, 20_000_000, None));
        assert_eq!((host.restart_policy.name.as_str(), host.log_config.r#type.as_str()), ("no", "json-file"));
        assert_eq!(host.readonly_paths.unwrap().len(), 5);
        assert!(host.masked_paths.unwrap().len() >= 12);
        let mut open = HostConfig { privileged: true, ..HostConfig::default() };
        create_with(&mut ContainerConfig::default(), &mut open).unwrap();
        assert_eq!((open.masked_paths, open.readonly_paths), (None, None));
        assert_eq!(open.security_opt, one("label=disable"));
    }
}

//! Flags to the create request.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_api::{
    ContainerConfig, CreateRequest, DeviceRequest, Empty, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, LogConfig, NetworkingConfig, PortMap, RestartPolicy, ThrottleDevice, WeightDevice,
};

use super::{ContainerFlags, values};
use crate::error::CliError;

/// The document for `POST /containers/create`; `detached` says that no stream will be attached.
pub(crate) fn request(flags: &ContainerFlags, detached: bool) -> Result<CreateRequest, CliError> {
    if flags.rm && !matches!(flags.restart.as_str(), "no" | "") {
        return Err(CliError::new("conflicting options: cannot specify both --restart and --rm"));
    }
    modes(flags)?;
    let (published, exposed) = ports(flags).map_err(CliError::new)?;
    let config = config(flags, detached, exposed)?;
    let host = host(flags, published)?;
    let networking = networking(flags, &host.network_mode).map_err(CliError::new)?;
    Ok(CreateRequest { config, host_config: Some(host), networking_config: Some(networking) })
}

/// Namespaces are the container's own, the host's, or another container's where Docker knows that.
fn modes(flags: &ContainerFlags) -> Result<(), CliError> {
    let wrong = |flag: &str, kind: &str| Err(CliError::new(format!("--{flag}: invalid {kind} mode")));
    let other = flags.pid.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    match () {
        () if !other && !matches!(&*flags.pid, "" | "host") => wrong("pid", "PID"),
        () if !matches!(&*flags.uts, "" | "host") => wrong("uts", "UTS"),
        () if !matches!(&*flags.userns, "" | "host") => wrong("userns", "USER"),
        () if !matches!(&*flags.cgroupns, "" | "host" | "private") => wrong("cgroupns", "CGROUP"),
        () => Ok(()),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn given(list: &[String]) -> Option<Vec<String>> {
    some(list.to_vec())
}

fn parsed<T>(list: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<Vec<T>>, CliError> {
    let parsed: Result<Vec<T>, String> = list.iter().map(|text| parse(text)).collect();
    Ok(some(parsed.map_err(CliError::new)?))
}

fn config(
    flags: &ContainerFlags,
    detached: bool,
    exposed: BTreeMap<String, Empty>,
) -> Result<ContainerConfig, CliError> {
    let wants = |stream: &str| flags.attach.iter().any(|name| name.eq_ignore_ascii_case(stream));
    let all = flags.attach.is_empty() && !detached;
    if let Some(wrong) = flags
        .attach
        .iter()
        .find(|name| !["stdin", "stdout", "stderr"].contains(&name.to_ascii_lowercase().as_str()))
    {
        return Err(CliError::new(format!(
            "invalid argument \"{wrong}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
        )));
    }
    let attach_stdin = wants("stdin") || (all && flags.interactive);
    let volumes: BTreeMap<String, Empty> = flags
        .volume
        .iter()
        .filter(|volume| !volume.contains(':'))
        .map(|volume| (volume.clone(), Empty {}))
        .collect();
    Ok(ContainerConfig {
        hostname: flags.hostname.clone(),
        domainname: flags.domainname.clone(),
        user: flags.user.clone(),
        attach_stdin,
        attach_stdout: wants("stdout") || all,
        attach_stderr: wants("stderr") || all,
        exposed_ports: Some(exposed),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attach_stdin,
        env: some(environment(flags)?),
        cmd: given(&flags.command),
        healthcheck: health(flags)?,
        image: flags.image.clone(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: flags.workdir.clone(),
        entrypoint: flags.entrypoint.clone().map(|word| vec![word]),
        mac_address: flags.mac_address.clone(),
        labels: Some(labels(flags)?),
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..ContainerConfig::default()
    })
}

/// Files first, then the flags; a name alone takes the value from here, if there is one.
fn environment(flags: &ContainerFlags) -> Result<Vec<String>, CliError> {
    let mut list = lines(&flags.env_file)?;
    list.extend(flags.env.iter().cloned());
    Ok(list
        .into_iter()
        .filter_map(|entry| {
            if entry.contains('=') {
                Some(entry)
            } else {
                std::env::var(&entry).ok().map(|value| format!("{entry}={value}"))
            }
        })
        .collect())
}

fn labels(flags: &ContainerFlags) -> Result<BTreeMap<String, String>, CliError> {
    let mut list = lines(&flags.label_file)?;
    list.extend(flags.label.iter().cloned());
    Ok(values::pairs(&list))
}

/// The lines of files that are neither empty nor comments.
fn lines(files: &[impl AsRef<Path>]) -> Result<Vec<String>, CliError> {
    let mut list = Vec::new();
    for file in files {
        let path = file.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::new(format!("open {}: {}", path.display(), crate::error::reason(&error)))
        })?;
        for line in
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let name = line.split('=').next().unwrap_or(line);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(CliError::new(format!(
                    "invalid env file ({}): variable '{name}' contains whitespaces",
                    path.display()
                )));
            }
            list.push(line.to_owned());
        }
    }
    Ok(list)
}

fn health(flags: &ContainerFlags) -> Result<Option<HealthConfig>, CliError> {
    let tuned = [
        flags.health_interval,
        flags.health_timeout,
        flags.health_start_period,
        flags.health_start_interval,
        flags.health_retries,
    ];
    let any = flags.health_cmd.is_some() || tuned.iter().any(Option::is_some);
    if flags.no_healthcheck {
        if any {
            return Err(CliError::new("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }));
    }
    let test = flags.health_cmd.as_ref().map(|line| vec!["CMD-SHELL".to_owned(), line.clone()]);
    Ok(any.then(|| HealthConfig {
        test,
        interval: flags.health_interval.unwrap_or(0),
        timeout: flags.health_timeout.unwrap_or(0),
        start_period: flags.health_start_period.unwrap_or(0),
        start_interval: flags.health_start_interval.unwrap_or(0),
        retries: flags.health_retries.unwrap_or(0),
    }))
}

fn host(flags: &ContainerFlags, published: PortMap) -> Result<HostConfig, CliError> {
    let binds = flags.volume.iter().filter(|volume| volume.contains(':')).map(|volume| {
        let (source, rest) = volume.split_once(':').unwrap_or((volume, ""));
        format!("{}:{rest}", values::source(source))
    });
    let throttles =
        |list: &[String]| -> Result<Option<Vec<ThrottleDevice>>, CliError> { parsed(list, values::throttle) };
    let limits = parsed(&flags.ulimit, |text| {
        values::ulimit(text)
            .map_err(|error| format!("invalid argument \"{text}\" for \"--ulimit\" flag: {error}"))
    })?;
    // A device is a node of the host's, or one that its vendor has a name for.
    let (named, nodes): (Vec<String>, Vec<String>) =
        flags.device.iter().cloned().partition(|device| values::is_vendors_name(device));
    let mut requests = parsed(&flags.gpus, values::gpus)?.unwrap_or_default();
    if !named.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(named),
            ..DeviceRequest::default()
        });
    }
    Ok(HostConfig {
        cpu_shares: flags.cpu_shares,
        memory: flags.memory.unwrap_or(0),
        nano_cpus: nano_cpus(flags)?,
        cgroup_parent: flags.cgroup_parent.clone(),
        blkio_weight: flags.blkio_weight,
        blkio_weight_device: parsed(&flags.blkio_weight_device, weight)?,
        blkio_device_read_bps: throttles(&flags.device_read_bps)?,
        blkio_device_write_bps: throttles(&flags.device_write_bps)?,
        blkio_device_read_iops: throttles(&flags.device_read_iops)?,
        blkio_device_write_iops: throttles(&flags.device_write_iops)?,
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpu_realtime_period: flags.cpu_rt_period,
        cpu_realtime_runtime: flags.cpu_rt_runtime,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        devices: parsed(&nodes, values::device)?,
        device_requests: some(requests),
        device_cgroup_rules: given(&flags.device_cgroup_rule),
        memory_reservation: flags.memory_reservation.unwrap_or(0),
        memory_swap: flags.memory_swap.unwrap_or(0),
        memory_swappiness: Some(flags.memory_swappiness),
        oom_kill_disable: flags.oom_kill_disable,
        pids_limit: flags.pids_limit,
        ulimits: limits,
        binds: some(binds.collect()),
        container_id_file: flags
            .cidfile
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        log_config: LogConfig {
            r#type: flags.log_driver.clone(),
            config: Some(values::pairs(&flags.log_opt)),
        },
        network_mode: flags
            .network
            .first()
            .map_or_else(|| "default".to_owned(), |network| network_name(network)),
        port_bindings: Some(published),
        restart_policy: restart(&flags.restart)?,
        auto_remove: flags.rm,
        volume_driver: flags.volume_driver.clone(),
        volumes_from: given(&flags.volumes_from),
        annotations: Some(values::pairs(&flags.annotation)),
        cap_add: given(&flags.cap_add),
        cap_drop: given(&flags.cap_drop),
        cgroupns_mode: flags.cgroupns.clone(),
        dns: given(&flags.dns),
        dns_options: given(&flags.dns_option),
        dns_search: given(&flags.dns_search),
        extra_hosts: some(flags.add_host.iter().map(|pair| pair.replacen('=', ":", 1)).collect()),
        group_add: given(&flags.group_add),
        ipc_mode: flags.ipc.clone(),
        links: given(&flags.link),
        oom_score_adj: flags.oom_score_adj,
        pid_mode: flags.pid.clone(),
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        security_opt: some(security(&flags.security_opt)?),
        storage_opt: Some(values::pairs(&flags.storage_opt)),
        tmpfs: Some(flags.tmpfs.iter().map(|text| split(text, ':')).collect()),
        uts_mode: flags.uts.clone(),
        userns_mode: flags.userns.clone(),
        shm_size: flags.shm_size.unwrap_or(0),
        sysctls: Some(values::pairs(&flags.sysctl)),
        runtime: flags.runtime.clone(),
        isolation: flags.isolation.clone(),
        mounts: parsed(&flags.mount, |text| {
            values::mount(text)
                .map_err(|error| format!("invalid argument \"{text}\" for \"--mount\" flag: {error}"))
        })?,
        init: flags.init,
        ..HostConfig::default()
    })
}

fn split(text: &str, at: char) -> (String, String) {
    let (name, value) = text.split_once(at).unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn nano_cpus(flags: &ContainerFlags) -> Result<i64, CliError> {
    let Some(text) = &flags.cpus else { return Ok(0) };
    let number: f64 = text.parse().map_err(|_| {
        CliError::new(format!(
            "invalid argument \"{text}\" for \"--cpus\" flag: failed to parse {text} as a rational number"
        ))
    })?;
    #[expect(clippy::cast_possible_truncation, reason = "billionths of a few processors fit")]
    Ok((number * 1e9).round() as i64)
}

fn weight(text: &str) -> Result<WeightDevice, String> {
    let wrong = || format!("invalid value for blkio weight device: {text}");
    let (path, weight) = text.rsplit_once(':').ok_or_else(wrong)?;
    Ok(WeightDevice { path: path.to_owned(), weight: weight.parse().map_err(|_| wrong())? })
}

fn restart(text: &str) -> Result<RestartPolicy, CliError> {
    let (name, count) = split(text, ':');
    if count.is_empty() && text.ends_with(':') {
        return Err(CliError::new("invalid restart policy format: no policy provided before colon"));
    }
    let maximum_retry_count = match count.as_str() {
        "" => 0,
        count => count.parse().map_err(|_| {
            CliError::new("invalid restart policy format: maximum retry count must be an integer")
        })?,
    };
    Ok(RestartPolicy { name, maximum_retry_count })
}

/// A seccomp profile is named by its file here and sent whole.
fn security(options: &[String]) -> Result<Vec<String>, CliError> {
    let mut list = Vec::new();
    for option in options {
        match option.strip_prefix("seccomp=") {
            Some(path) if !matches!(path, "unconfined" | "builtin") => {
                let text = std::fs::read(path).map_err(|error| {
                    CliError::new(format!(
                        "opening seccomp profile ({path}) failed: open {path}: {}",
                        crate::error::reason(&error)
                    ))
                })?;
                let document: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
                    CliError::new(format!("compacting json for seccomp profile ({path}) failed: {error}"))
                })?;
                list.push(format!("seccomp={document}"));
            }
            _ => list.push(option.clone()),
        }
    }
    Ok(list)
}

fn ports(flags: &ContainerFlags) -> Result<(PortMap, BTreeMap<String, Empty>), String> {
    let mut published = PortMap::new();
    let mut exposed = BTreeMap::new();
    for text in &flags.publish {
        for (port, binding) in values::publish(text)? {
            exposed.insert(port.clone(), Empty {});
            published.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in &flags.expose {
        let (range, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let ports =
            values::range(range).ok_or_else(|| format!("invalid range format for --expose: {text}"))?;
        exposed.extend(ports.map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    Ok((published, exposed))
}

/// `--network` is a name, or `name=…,alias=…` pairs.
fn network_name(text: &str) -> String {
    let name = text.split(',').find_map(|field| field.strip_prefix("name="));
    name.unwrap_or(text).to_owned()
}

fn networking(flags: &ContainerFlags, mode: &str) -> Result<NetworkingConfig, String> {
    let mut endpoints = BTreeMap::new();
    let networks = if flags.network.is_empty() { vec![mode.to_owned()] } else { flags.network.clone() };
    for (index, text) in networks.iter().enumerate() {
        let mut settings = EndpointSettings::default();
        let mut addresses = EndpointIpamConfig::default();
        for field in text.split(',').filter(|field| field.contains('=')) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "name" => {}
                "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
                "ip" => addresses.ipv4_address = value.to_owned(),
                "ip6" => addresses.ipv6_address = value.to_owned(),
                "mac-address" => settings.mac_address = value.to_owned(),
                "link-local-ip" => addresses.link_local_ips.get_or_insert_default().push(value.to_owned()),
                "driver-opt" => drop(
                    settings
                        .driver_opts
                        .get_or_insert_default()
                        .insert(split(value, '=').0, split(value, '=').1),
                ),
                "gw-priority" => {
                    settings.gw_priority =
                        value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?
                }
                _ => {
                    return Err(format!(
                        "invalid argument \"{text}\" for \"--network\" flag: invalid field key {key}"
                    ));
                }
            }
        }
        if index == 0 {
            settings.aliases =
                some([settings.aliases.unwrap_or_default(), flags.network_alias.clone()].concat());
            addresses.ipv4_address = flags.ip.clone().unwrap_or(addresses.ipv4_address);
            addresses.ipv6_address = flags.ip6.clone().unwrap_or(addresses.ipv6_address);
            addresses.link_local_ips =
                some([addresses.link_local_ips.unwrap_or_default(), flags.link_local_ip.clone()].concat());
        }
        settings.ipam_config = (addresses != EndpointIpamConfig::default()).then_some(addresses);
        endpoints.insert(network_name(text), Some(settings));
    }
    // A container that shares another's network has no endpoint of its own.
    endpoints.retain(|name, _| !name.starts_with("container:"));
    Ok(NetworkingConfig { endpoints_config: Some(endpoints) })
}

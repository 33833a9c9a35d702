//! A build's process as a container that nobody lists: from what the graph says to what a start needs.

use wharf_api::{ContainerConfig, CreateRequest, HostConfig, LogConfig, Ulimit};
use wharf_build::dockerfile::{NetworkMode, Security};
use wharf_build::graph::Execute;
use wharf_build::solve::Process;

use super::super::host::Hosted;
use super::Streams;
use crate::build::Build;
use crate::container::record::Record;
use crate::container::spec::points::Point;

/// The host name of a process that is given none, BuildKit's.
const HOSTNAME: &str = "buildkitsandbox";

/// What a start needs to know.
pub(super) fn of(
    host: &Hosted<'_>,
    id: &str,
    process: &Process<'_>,
    mounts: Vec<Point>,
    streams: Streams,
) -> Result<Record, String> {
    let containers = &host.build.builds.containers;
    let request = CreateRequest {
        config: ContainerConfig {
            open_stdin: streams.stdin,
            stdin_once: streams.stdin,
            tty: streams.terminal,
            ..config(host, process.execute)?
        },
        host_config: Some(host_config(host, process.execute)?),
        networking_config: None,
    };
    let (request, _) = containers.checked(id, request).map_err(|error| error.to_string())?;
    let record = containers.draft(id, &format!("build-{}", &id[..12]), None, request);
    Ok(Record { mounts, ..record })
}

/// The variables of a process, those that come of secrets among them.
pub(super) fn environment(build: &Build, execute: &Execute) -> Result<Vec<String>, String> {
    // The engine's own variable for containers is none of a build's.
    let mut environment = vec!["HOSTNAME".to_owned()];
    environment.extend(execute.environment.iter().cloned());
    environment.extend(execute.proxies.iter().cloned());
    for (variable, id, required) in &execute.secret_environment {
        match build.client().secret(id)? {
            Some(value) => environment.push(format!("{variable}={}", String::from_utf8_lossy(&value))),
            None if *required => return Err(format!("secret {id}: not found")),
            None => {}
        }
    }
    Ok(environment)
}

fn config(host: &Hosted<'_>, execute: &Execute) -> Result<ContainerConfig, String> {
    let hostname = match execute.hostname.as_str() {
        // Another container's network comes with that one's name.
        "" if network(host, execute.network)?.starts_with("container:") => "",
        "" => HOSTNAME,
        hostname => hostname,
    };
    Ok(ContainerConfig {
        hostname: hostname.to_owned(),
        user: execute.user.clone(),
        env: Some(environment(host.build, execute)?),
        cmd: Some(execute.arguments.clone()),
        working_dir: execute.directory.clone(),
        ..ContainerConfig::default()
    })
}

fn host_config(host: &Hosted<'_>, execute: &Execute) -> Result<HostConfig, String> {
    let limits = &host.options.limits;
    let privileged = execute.security == Security::Insecure;
    if privileged && !host.options.entitlements.insecure {
        return Err("security.insecure is not allowed".to_owned());
    }
    let own = |name: &str| execute.ulimits.iter().any(|(given, ..)| given == name);
    let usual = limits.ulimits.iter().filter(|(name, ..)| !own(name));
    let ulimits = usual.chain(&execute.ulimits).map(|(name, soft, hard)| Ulimit {
        name: name.clone(),
        soft: *soft,
        hard: *hard,
    });
    let parent =
        [&execute.cgroup_parent, &limits.cgroup_parent].into_iter().find(|parent| !parent.is_empty());
    Ok(HostConfig {
        network_mode: network(host, execute.network)?,
        extra_hosts: Some(execute.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        log_config: LogConfig { r#type: "none".to_owned(), ..LogConfig::default() },
        memory: limits.memory,
        memory_swap: limits.memory_swap,
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        shm_size: limits.shm_size,
        ulimits: Some(ulimits.collect()),
        cgroup_parent: parent.cloned().unwrap_or_default(),
        security_opt: Some(limits.security.clone()),
        ipc_mode: "private".to_owned(),
        init: Some(false),
        privileged,
        ..HostConfig::default()
    })
}

/// The network: what the instruction says, else what the request does.
fn network(host: &Hosted<'_>, asked: NetworkMode) -> Result<String, String> {
    let mode = match asked {
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Default => match host.options.network.as_str() {
            "" | "default" => "bridge",
            other => other,
        },
    };
    if mode == "host" && asked == NetworkMode::Host && !host.options.entitlements.network_host {
        return Err("network.host is not allowed".to_owned());
    }
    Ok(mode.to_owned())
}

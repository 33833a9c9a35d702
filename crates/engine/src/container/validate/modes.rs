//! Modes of namespaces, and what does not go together with them.

use wharf_api::{ContainerConfig, HostConfig};

use crate::container::spec::peers::joined;
use crate::error::{Error, Result};

fn conflict(what: &str) -> Error {
    Error::invalid(format!("conflicting options: {what}"))
}

fn some(list: Option<&Vec<String>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

pub(super) fn check(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let peer = joined(&host.network_mode);
    if peer == Some("") || host.network_mode == "container" {
        return Err(Error::invalid("invalid network mode: invalid container format container:<name|id>"));
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(conflict("hostname and the UTS mode"));
    }
    let links = some(host.links.as_ref());
    if host.network_mode == "host" && links {
        return Err(conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    if peer.is_some() {
        with_anothers_network(config, host, links)?;
    }
    check_names(host)
}

fn with_anothers_network(config: &ContainerConfig, host: &HostConfig, links: bool) -> Result<()> {
    if links {
        return Err(conflict(
            "container type network can't be used with links. This would result in undefined behavior",
        ));
    }
    if !config.hostname.is_empty() {
        return Err(conflict("hostname and the network mode"));
    }
    if some(host.dns.as_ref()) {
        return Err(conflict("dns and the network mode"));
    }
    if some(host.extra_hosts.as_ref()) {
        return Err(conflict("custom host-to-IP mapping and the network mode"));
    }
    if host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return Err(conflict("port publishing and the container type network mode"));
    }
    if config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return Err(conflict("port exposing and the container type network mode"));
    }
    Ok(())
}

fn check_names(host: &HostConfig) -> Result<()> {
    let named = |mode: &str| joined(mode).is_some_and(|name| !name.is_empty());
    let pid = host.pid_mode.as_str();
    if !matches!(pid, "" | "host") && !named(pid) {
        return Err(Error::invalid(format!("invalid PID mode: {pid}")));
    }
    let ipc = host.ipc_mode.as_str();
    if !matches!(ipc, "" | "none" | "private" | "shareable" | "host") && joined(ipc).is_none() {
        return Err(Error::invalid(format!("invalid IPC mode: {ipc}")));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(Error::invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::refusal;
    use super::*;

    #[test]
    fn unknown_modes_are_refused_as_recorded() {
        let of = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            refusal(host)
        };
        let network = "invalid network mode: invalid container format container:<name|id>";
        assert_eq!(of(|host| host.network_mode = "container:".to_owned()), network);
        assert_eq!(of(|host| host.network_mode = "container".to_owned()), network);
        assert_eq!(of(|host| host.pid_mode = "private".to_owned()), "invalid PID mode: private");
        assert_eq!(of(|host| host.pid_mode = "container:".to_owned()), "invalid PID mode: container:");
        assert_eq!(of(|host| host.ipc_mode = "foo".to_owned()), "invalid IPC mode: foo");
        assert_eq!(of(|host| host.uts_mode = "private".to_owned()), "invalid UTS mode: private");
        assert_eq!(of(|host| host.cgroupns_mode = "foo".to_owned()), "invalid cgroup namespace mode: foo");
    }

    #[test]
    fn what_does_not_go_with_anothers_network_is_refused() {
        let host = |change: fn(&mut HostConfig)| {
            let mut host = HostConfig { network_mode: "container:x".to_owned(), ..HostConfig::default() };
            change(&mut host);
            check(&ContainerConfig::default(), &host).unwrap_err().message().to_owned()
        };
        assert_eq!(
            host(|host| host.dns = Some(vec!["1.1.1.1".to_owned()])),
            "conflicting options: dns and the network mode"
        );
        let text = "conflicting options: custom host-to-IP mapping and the network mode";
        assert_eq!(host(|host| host.extra_hosts = Some(vec!["a:1.1.1.1".to_owned()])), text);
        let text = "conflicting options: port publishing and the container type network mode";
        assert_eq!(host(|host| host.publish_all_ports = true), text);
        let named = ContainerConfig { hostname: "x".to_owned(), ..ContainerConfig::default() };
        let joined = HostConfig { network_mode: "container:x".to_owned(), ..HostConfig::default() };
        let text = "conflicting options: hostname and the network mode";
        assert_eq!(check(&named, &joined).unwrap_err().message(), text);
        let uts = HostConfig { uts_mode: "host".to_owned(), ..HostConfig::default() };
        assert_eq!(
            check(&named, &uts).unwrap_err().message(),
            "conflicting options: hostname and the UTS mode"
        );
    }
}

//! Which namespaces a container has of its own, which it joins, and the sysctls that belong to them.

use std::collections::BTreeMap;

use wharf_api::HostConfig;
use wharf_oci::runtime::{IdMapping, Namespace, NamespaceKind};
use wharf_sys::namespace::IdRange;

use super::peers::{Peer, joined};
use super::{Build, runtime_error};
use crate::error::Result;
use crate::userns;

/// The namespaces to make or join; one that is not listed is the host's.
pub(super) fn namespaces(ask: &Build<'_>) -> Vec<Namespace> {
    let host = ask.host;
    let mut list = vec![Namespace::new(NamespaceKind::Mount)];
    let mut add = |kind, mode: &str, peer: &Option<Peer>, file: &str| match peer {
        Some(peer) => list.push(Namespace { kind, path: path(peer, file) }),
        None if mode == "host" => {}
        None => list.push(Namespace::new(kind)),
    };
    add(NamespaceKind::Network, &host.network_mode, &ask.peers.network, "net");
    add(NamespaceKind::Uts, &host.uts_mode, &None, "uts");
    add(NamespaceKind::Ipc, &host.ipc_mode, &ask.peers.ipc, "ipc");
    add(NamespaceKind::Pid, &host.pid_mode, &ask.peers.pid, "pid");
    add(NamespaceKind::Cgroup, &host.cgroupns_mode, &None, "cgroup");
    if userns::of(ask.engine, host).is_some() {
        // What is joined belongs to the user namespace of that container; only there is it any use.
        let peers = &ask.peers;
        let peer = peers.network.as_ref().or(peers.ipc.as_ref()).or(peers.pid.as_ref());
        let path = peer.map(|peer| path(peer, "user")).unwrap_or_default();
        list.push(Namespace { kind: NamespaceKind::User, path });
    }
    list
}

/// The ids of the container's user namespace, where it has one: users, groups.
pub(super) fn ids(ask: &Build<'_>) -> (Vec<IdMapping>, Vec<IdMapping>) {
    let Some(ids) = userns::of(ask.engine, ask.host) else { return (Vec::new(), Vec::new()) };
    let list = |ranges: &[IdRange]| {
        let mapping = |range: &IdRange| IdMapping {
            container_id: range.inside,
            host_id: range.outside,
            size: range.size,
        };
        ranges.iter().map(mapping).collect()
    };
    (list(&ids.users), list(&ids.groups))
}

fn path(peer: &Peer, file: &str) -> String {
    // peers() has refused those that do not run.
    format!("/proc/{}/ns/{file}", peer.pid.unwrap_or_default())
}

/// The sysctls set in the container: those asked for, and the two that let anyone bind low ports and ping, where the
/// network is its own.
pub(super) fn sysctls(ask: &Build<'_>) -> Result<BTreeMap<String, String>> {
    let host = ask.host;
    let mut sysctls = BTreeMap::new();
    let own_network = host.network_mode != "host" && joined(&host.network_mode).is_none();
    if own_network && !host.privileged {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    // A user namespace does not map all groups.
    let own_ids = userns::of(ask.engine, host).is_some();
    if own_network && !host.privileged && !own_ids {
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    for (name, value) in host.sysctls.iter().flatten() {
        check(name, host)?;
        sysctls.insert(name.clone(), value.clone());
    }
    Ok(sysctls)
}

/// Sysctls of the IPC namespace, but for `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Refuses what would change the host, in runc's words.
fn check(name: &str, host: &HostConfig) -> Result<()> {
    let dotted = name.replace('/', ".");
    let refuse = |why: String| Err(runtime_error(why));
    if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        if host.ipc_mode == "host" {
            return refuse(format!("sysctl {name:?} is not allowed in the hosts ipc namespace"));
        }
        return Ok(());
    }
    if dotted.starts_with("net.") {
        if host.network_mode == "host" {
            return refuse(format!("sysctl {name:?} not allowed in host network namespace"));
        }
        return Ok(());
    }
    match dotted.as_str() {
        "kernel.hostname" => {
            refuse(format!("sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"))
        }
        "kernel.domainname" if host.uts_mode != "host" => Ok(()),
        _ => refuse(format!("sysctl {name:?} is not in a separate kernel namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, host: &HostConfig) -> Option<String> {
        let text = check(name, host).err()?.message().to_owned();
        Some(text.strip_prefix(super::super::CREATE_FAILED).unwrap().to_owned())
    }

    #[test]
    fn what_is_not_namespaced_is_refused_as_recorded() {
        let own = HostConfig::default();
        assert_eq!(refusal("foo", &own).unwrap(), "sysctl \"foo\" is not in a separate kernel namespace");
        assert_eq!(
            refusal("vm.swappiness", &own).unwrap(),
            "sysctl \"vm.swappiness\" is not in a separate kernel namespace"
        );
        let text =
            "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field";
        assert_eq!(refusal("kernel.hostname", &own).unwrap(), text);
        for fine in [
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "net.ipv4.ip_forward",
            "net/ipv4/ip_forward",
            "kernel.domainname",
        ] {
            assert_eq!(refusal(fine, &own), None);
        }
        let shared = HostConfig {
            network_mode: "host".to_owned(),
            ipc_mode: "host".to_owned(),
            uts_mode: "host".to_owned(),
            ..HostConfig::default()
        };
        for name in ["kernel.shmmax", "net.ipv4.ip_forward", "kernel.domainname"] {
            assert!(refusal(name, &shared).is_some());
        }
    }
}

//! The containers whose namespaces another one joins (`container:X`).

use std::path::PathBuf;

use wharf_api::HostConfig;

use crate::error::{Error, Result};

/// A container to join, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Its first process while it runs (paused counts, restarting does not).
    pub pid: Option<i32>,
    /// `created`, `running`, `exited` … as in inspect.
    pub status: String,
    /// Whether it waits for a restart by its policy.
    pub restarting: bool,
    /// Its ipc mode.
    pub ipc_mode: String,
    /// Its bundle directory, where its `hosts`, `hostname` and `resolv.conf` are.
    pub bundle: PathBuf,
}

/// Whom a container joins, each running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Shares its network.
    pub network: Option<Peer>,
    /// Shares its process ids.
    pub pid: Option<Peer>,
    /// Shares its System V IPC and `/dev/shm`.
    pub ipc: Option<Peer>,
}

/// The container named by a mode such as `container:X`.
pub fn joined(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

/// Finds the containers that a start has to join. `lookup` finds one by id, name or prefix.
///
/// # Errors
/// Docker's, where one does not exist, does not run or does not share.
pub fn peers(host: &HostConfig, lookup: &dyn Fn(&str) -> Option<Peer>) -> Result<Peers> {
    let missing = |name: &str| format!("No such container: {name}");
    let mut peers = Peers::default();
    if let Some(name) = joined(&host.ipc_mode) {
        let peer = lookup(name)
            .ok_or_else(|| Error::not_found(missing(name)).context("failed to join IPC namespace"))?;
        peers.ipc = Some(ipc(peer)?);
    }
    if let Some(name) = joined(&host.pid_mode) {
        let peer = lookup(name)
            .ok_or_else(|| Error::not_found(missing(name)).context("failed to join PID namespace"))?;
        peers.pid = Some(pid(peer)?);
    }
    if let Some(name) = joined(&host.network_mode) {
        let context = "joining network namespace of container";
        let peer = lookup(name).ok_or_else(|| Error::internal(missing(name)).context(context))?;
        peers.network = Some(network(peer)?);
    }
    Ok(peers)
}

fn ipc(peer: Peer) -> Result<Peer> {
    let context = "failed to join IPC namespace";
    if peer.pid.is_none() {
        return Err(Error::conflict(format!("container {} is not running", peer.id)).context(context));
    }
    if peer.restarting {
        return Err(Error::conflict(format!("container {} is restarting", peer.id)).context(context));
    }
    match peer.ipc_mode.as_str() {
        "shareable" | "host" => Ok(peer),
        _ => {
            let why = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
            Err(Error::invalid(format!("container {}: {why}", peer.id)).context(context))
        }
    }
}

fn pid(peer: Peer) -> Result<Peer> {
    let context = "failed to join PID namespace";
    if peer.pid.is_none() {
        return Err(Error::internal(format!("container {} is not running", peer.id)).context(context));
    }
    if peer.restarting {
        return Err(Error::internal(format!("container {} is restarting", peer.id)).context(context));
    }
    Ok(peer)
}

fn network(peer: Peer) -> Result<Peer> {
    if peer.pid.is_none() {
        let why = "cannot join network namespace of a non running container";
        return Err(Error::conflict(format!("{why}: container {} is {}", peer.name, peer.status)));
    }
    if peer.restarting {
        let why = "is restarting, wait until the container is running";
        return Err(Error::conflict(format!("container {} {why}", peer.id)));
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn peer(pid: Option<i32>, ipc: &str) -> Peer {
        Peer {
            id: "abc".to_owned(),
            name: "donor".to_owned(),
            pid,
            status: if pid.is_some() { "running" } else { "created" }.to_owned(),
            restarting: false,
            ipc_mode: ipc.to_owned(),
            bundle: PathBuf::new(),
        }
    }

    fn ask(host: HostConfig, peer: Option<Peer>) -> Result<Peers> {
        peers(&host, &|_| peer.clone())
    }

    #[test]
    fn those_that_do_not_run_are_refused_as_recorded() {
        let mode = "container:donor".to_owned();
        let network = HostConfig { network_mode: mode.clone(), ..HostConfig::default() };
        let error = ask(network.clone(), Some(peer(None, "private"))).unwrap_err();
        let text = "cannot join network namespace of a non running container: container donor is created";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, text));
        let error = ask(network, None).unwrap_err();
        let text = "joining network namespace of container: No such container: donor";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, text));
        let pid = HostConfig { pid_mode: mode.clone(), ..HostConfig::default() };
        let error = ask(pid, Some(peer(None, "private"))).unwrap_err();
        let text = "failed to join PID namespace: container abc is not running";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, text));
        let ipc = HostConfig { ipc_mode: mode, ..HostConfig::default() };
        let error = ask(ipc, Some(peer(None, "private"))).unwrap_err();
        let text = "failed to join IPC namespace: container abc is not running";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, text));
    }

    #[test]
    fn ipc_is_joined_only_where_it_is_shared() {
        let host = HostConfig { ipc_mode: "container:donor".to_owned(), ..HostConfig::default() };
        let error = ask(host.clone(), Some(peer(Some(1), "private"))).unwrap_err();
        let text = "failed to join IPC namespace: container abc: non-shareable IPC (hint: use IpcMode:shareable for the \
                    donor container)";
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, text));
        assert!(ask(host, Some(peer(Some(1), "shareable"))).unwrap().ipc.is_some());
    }
}

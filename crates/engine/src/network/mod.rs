//! Networks, and what running containers have of them.
//!
//! ```text
//! create ─▶ Known ── on disk, its subnets in the address space, a bridge in the kernel
//!             │ plan: addresses for a container's endpoints, by memory alone
//!             ▼
//!          Sandbox ── attach: namespace, interfaces, ports (network.json in the bundle)
//!             │ connect / disconnect while it runs
//!             ▼
//!           leave: all of it goes with the container's end
//! ```
//!
//! The lock of [`Networks`] is held for calculations only, never while the kernel or the disk is waited for.
//! The kernel's side is opened when the first container or network needs it.

mod attach;
mod bandwidth;
pub(crate) mod check;
mod create;
mod default;
mod document;
mod kernel;
mod known;
mod list;
mod live;
mod names;
mod options;
mod plan;
mod ports;
mod reach;
mod recover;
mod remove;
mod sandbox;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_network::ipam::Ipam;
use wharf_store::Store;

pub use ipnet::IpNet;
pub use reach::Reachable;
pub use settings::{DefaultBridge, NetworkConfig};
pub use wharf_network::helper::Protocol;
pub use wharf_network::ipam::DefaultPool;
pub use wharf_network::types::{Opening, PublishPolicy};

pub(crate) use attach::Joined;
pub(crate) use bandwidth::{EGRESS, INGRESS};
pub(crate) use document::Shown;
pub(crate) use known::Known;
pub(crate) use live::Changed;
pub(crate) use names::split as split_link;
pub(crate) use ports::change as change_ports;
pub(crate) use sandbox::Sandbox;

use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::events::{Events, Kind};
use crate::pools::Pools;
use kernel::Kernel;
use known::Definition;

/// The names of the networks that are always there.
pub const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];
/// Where the store keeps them.
const DOCUMENTS: &str = "networks";

/// The engine's networks.
#[derive(Debug)]
pub struct Networks {
    config: Arc<EngineConfig>,
    pools: Pools,
    store: Arc<Store>,
    events: Arc<Events>,
    /// This program's file, for the net helper.
    executable: OwnedFd,
    state: Mutex<State>,
    /// Opened by the first who needs it, while others wait.
    kernel: Mutex<Option<Arc<Kernel>>>,
}

/// All that is known, in memory.
#[derive(Debug)]
struct State {
    /// By id.
    known: BTreeMap<String, Arc<Known>>,
    /// Names of networks being made or removed.
    busy: BTreeSet<String>,
    ipam: Ipam,
    /// What containers have that run, by the container's id.
    sandboxes: HashMap<String, Arc<Sandbox>>,
    /// The addresses that a container had when it last ran, by container and network: it gets them again if it can.
    last: HashMap<String, Vec<(String, IpAddr)>>,
    /// Running containers that an opening engine found and the kernel's side has not heard of.
    found: Vec<recover::Found>,
}

impl Networks {
    /// Reads the networks from the disk. The kernel is not touched.
    ///
    /// # Errors
    /// When the database fails, or a network in it contradicts the others.
    pub(crate) fn open(
        config: Arc<EngineConfig>,
        pools: Pools,
        store: Arc<Store>,
        events: Arc<Events>,
        executable: &OwnedFd,
    ) -> Result<Self> {
        let executable = executable.as_fd().try_clone_to_owned();
        let executable = executable.map_err(|error| Error::io("copy descriptor", &error))?;
        let defaults = match config.network.pools.as_slice() {
            [] => DefaultPool::defaults(&config.data_root.to_string_lossy()),
            pools => pools.to_vec(),
        };
        let mut ipam = Ipam::new(defaults);
        let mut known = BTreeMap::new();
        let mut stored = None;
        for (id, bytes) in store.documents(DOCUMENTS).all()? {
            let damaged = |why: &dyn std::fmt::Display| Error::internal(format!("read network {id}: {why}"));
            let definition: Definition = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
            if definition.document.name == "bridge" {
                stored = Some(definition);
                continue;
            }
            definition.claim(&mut ipam).map_err(|error| damaged(&error))?;
            known.insert(id.clone(), Arc::new(definition.known()?));
        }
        for definition in default::built_in(&config, stored, &mut ipam)? {
            known.insert(definition.document.id.clone(), Arc::new(definition.known()?));
        }
        let (sandboxes, last) = (HashMap::new(), HashMap::new());
        let found = Vec::new();
        let state = Mutex::new(State { known, busy: BTreeSet::new(), ipam, sandboxes, last, found });
        Ok(Self { config, pools, store, events, executable, state, kernel: Mutex::new(None) })
    }

    // Nothing panics while it is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network by name, id or the start of its id.
    ///
    /// # Errors
    /// `network NAME not found`, or several begin so.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Known>> {
        self.state().find(name)
    }

    /// Differs when the networks that there are do.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.state().known.keys().for_each(|id| id.hash(&mut hasher));
        hasher.finish()
    }

    /// What a running container has of networks.
    pub(crate) fn sandbox(&self, container: &str) -> Option<Arc<Sandbox>> {
        self.state().sandboxes.get(container).cloned()
    }

    fn settings(&self) -> &NetworkConfig {
        &self.config.network
    }

    fn emit(&self, action: &str, network: &wharf_api::Network, more: &[(&str, &str)]) {
        let mut attributes: BTreeMap<String, String> =
            [("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())].into();
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.events.emit(Kind::Network, action, &network.id, attributes);
    }

    /// Tells that a container joined its networks or left them.
    pub(crate) fn announce(&self, action: &str, container: &str) {
        let networks: Vec<Arc<Known>> = {
            let state = self.state();
            let endpoints = state.sandboxes.get(container).into_iter().flat_map(|one| &one.endpoints);
            endpoints.filter_map(|endpoint| state.known.get(&endpoint.network).cloned()).collect()
        };
        networks.iter().for_each(|network| self.announce_one(action, container, network));
    }

    /// Tells that a container joined a network or left it.
    pub(crate) fn announce_one(&self, action: &str, container: &str, network: &Known) {
        self.emit(action, network.document(), &[("container", container)]);
    }

    /// What of the host's firewall stands in the way of containers, as sentences; nothing while no network is in use.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        self.opened().map(|kernel| kernel.plane.obstacles()).unwrap_or_default()
    }

    /// What `host-gateway` stands for: the host, as seen from containers.
    pub fn host_gateways(&self) -> Vec<IpAddr> {
        match self.settings().host_gateways.as_slice() {
            [] => {
                let bridge = self.find("bridge").ok();
                [false, true].into_iter().filter_map(|v6| bridge.as_ref()?.gateway(v6)).collect()
            }
            given => given.to_vec(),
        }
    }
}

impl State {
    fn find(&self, name: &str) -> Result<Arc<Known>> {
        let by_name = || self.known.values().find(|network| network.name() == name);
        if let Some(found) = self.known.get(name).or_else(by_name) {
            return Ok(found.clone());
        }
        let prefixed = |network: &&Arc<Known>| !name.is_empty() && network.id().starts_with(name);
        let mut found = self.known.values().filter(prefixed);
        match (found.next(), found.next()) {
            (Some(network), None) => Ok(network.clone()),
            (Some(_), Some(_)) => {
                let why = format!("network {name} is ambiguous (matched by prefix on several ids)");
                Err(Error::invalid(why))
            }
            _ => Err(Error::not_found(format!("network {name} not found"))),
        }
    }
}

/// An error of the kernel plane or the address space in the class that Docker gives it.
impl From<wharf_network::Error> for Error {
    fn from(error: wharf_network::Error) -> Self {
        use wharf_network::Error as Plane;
        let text = error.to_string();
        match error {
            Plane::PoolOverlaps { .. } | Plane::AddressTaken(_) => Self::forbidden(text),
            Plane::PoolsExhausted | Plane::AddressOutside(_) | Plane::Invalid(_) | Plane::NoInterface(_) => {
                Self::invalid(text)
            }
            Plane::NoNetwork(_) => Self::not_found(text),
            Plane::Full { .. } => Self::conflict(text),
            Plane::Unsupported(_) => Self::not_implemented(text),
            _ => Self::internal(text),
        }
    }
}

impl From<wharf_network::helper::HelperError> for Error {
    fn from(error: wharf_network::helper::HelperError) -> Self {
        Self::internal(error.to_string())
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Networks over a store of their own; the kernel is never opened.
    pub(super) fn networks(config: EngineConfig) -> (tempfile::TempDir, Networks) {
        let folder = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            data_root: folder.path().to_owned(),
            exec_root: folder.path().join("run"),
            ..config
        };
        let store = Store::open(folder.path(), Some(wharf_store::Driver::Vfs)).unwrap();
        let events = Arc::new(Events::open(folder.path()).unwrap());
        let executable = std::fs::File::open("/proc/self/exe").unwrap().into();
        let networks =
            Networks::open(Arc::new(config), Pools::default(), store, events, &executable).unwrap();
        (folder, networks)
    }
}

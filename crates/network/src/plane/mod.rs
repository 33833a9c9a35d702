//! The kernel plane: networks, endpoints and ports of one instance as kernel objects.
//!
//! ```text
//! open ── reconcile ── create_network ── attach ── publish / unpublish / set_bandwidth / set_gateways
//!                       update_network     │  └─ detach (the namespace lives on: network disconnect)
//!                       remove_network     └─ forget (the namespace is going: the kernel takes the link)
//! ```
//!
//! All calls block for as long as the kernel takes; calls for different endpoints may come from different
//! threads. Nothing here waits for an interface's removal but [`Plane::detach`], [`Plane::remove_network`] and
//! [`Plane::dismantle`].

mod endpoint;
mod forwarding;
mod gateway;
mod isolation;
mod known;
mod names;
mod network;
mod ports;
mod reconcile;
mod uplink;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use wharf_sys::netlink::Family;

use self::known::Known;
use crate::error::{Error, Result};
use crate::firewall::{Firewall, Watch};
use crate::netlink::Channel;
use crate::sysctl;
use crate::types::{Capabilities, Mapping, Reach, Settings};

pub use self::gateway::Gateway;
pub(crate) use self::names::group;
pub use self::names::{bridge_name, default_bridge_name, mac_of, random_mac};

/// Where an endpoint goes: a network namespace and a `NETLINK_ROUTE` socket opened inside it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'fd> {
    /// The namespace.
    pub namespace: BorrowedFd<'fd>,
    /// The socket.
    pub route: BorrowedFd<'fd>,
}

/// The networks of one instance in the kernel.
#[derive(Debug)]
pub struct Plane {
    settings: Settings,
    /// One question at a time; the kernel changes interfaces one at a time anyway.
    route: Mutex<Channel>,
    firewall: Arc<Firewall>,
    watch: Mutex<Option<Watch>>,
    networks: RwLock<HashMap<String, Arc<Known>>>,
    /// Neighbour entries of endpoints that are gone: interface and address. They go with the next endpoint's
    /// batch, so that an end waits for nothing.
    stale: Mutex<Vec<(u32, IpAddr)>>,
    v6: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded here is never left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plane {
    /// Opens the plane of this network namespace. `firewall` is the `NETLINK_NETFILTER` socket that owns the
    /// table, or shall own it (one of [`wharf_sys::netlink::Socket::open`]). Changes nothing yet but the host's
    /// forwarding, where it may; call [`Plane::reconcile`] before anything else.
    ///
    /// # Errors
    /// [`Error::TableOwned`]; what the kernel refused.
    pub fn open(settings: Settings, firewall: OwnedFd) -> Result<Self> {
        let firewall = Arc::new(Firewall::open(&settings, firewall)?);
        let plane = Self {
            route: Mutex::new(Channel::open(Family::Route)?),
            firewall,
            watch: Mutex::new(None),
            networks: RwLock::new(HashMap::new()),
            stale: Mutex::new(vec![]),
            v6: Path::new("/proc/sys/net/ipv6").exists() && !sysctl::is_on("ipv6/conf/all/disable_ipv6"),
            settings,
        };
        plane.forward(false)?;
        Ok(plane)
    }

    /// What the kernel offers, as it is now.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let call = |name| sysctl::read(&format!("bridge/{name}")).map(|value| value == "1");
        Capabilities {
            ipv6: self.v6,
            persistent_table: self.firewall.persistent(),
            bridge_nf_call_iptables: call("bridge-nf-call-iptables"),
            bridge_nf_call_ip6tables: call("bridge-nf-call-ip6tables"),
            forwards4: sysctl::is_on("ipv4/ip_forward"),
            forwards6: sysctl::is_on("ipv6/conf/all/forwarding"),
        }
    }

    /// From where a port is reached under the host's firewall as it is now.
    #[must_use]
    pub fn reach(&self, port: &Mapping) -> Reach {
        self.firewall.reach(port)
    }

    /// What of the host's firewall stands in the way of containers and could not be helped, as sentences; for
    /// the warnings of `info`.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        self.firewall.obstacles()
    }

    /// Removes everything of this instance: its networks, its table, its rule in the tables of others. What
    /// runs loses its network.
    ///
    /// # Errors
    /// The first thing that the kernel refused; everything else is gone.
    pub fn dismantle(&self) -> Result<()> {
        drop(lock(&self.watch).take());
        let ids: Vec<_> = self.read_networks(|networks| networks.keys().cloned().collect());
        let mut result = Ok(());
        for id in ids {
            result = result.and(self.remove_network(&id));
        }
        result.and(self.firewall.remove())
    }

    fn read_networks<T>(&self, look: impl FnOnce(&HashMap<String, Arc<Known>>) -> T) -> T {
        look(&self.networks.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_networks<T>(&self, change: impl FnOnce(&mut HashMap<String, Arc<Known>>) -> T) -> T {
        change(&mut self.networks.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, id: &str) -> Result<Arc<Known>> {
        self.read_networks(|networks| networks.get(id).cloned())
            .ok_or_else(|| Error::NoNetwork(id.to_owned()))
    }
}

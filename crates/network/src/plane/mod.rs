//! The kernel plane: networks, endpoints and ports of one instance as kernel objects.
//!
//! ```text
//! open ── reconcile ── create_network ── attach ── publish / unpublish / set_bandwidth / set_gateways
//!                       update_network     │  └─ detach (the namespace lives on: network disconnect)
//!                       remove_network     └─ forget (the namespace is going: the kernel takes the link)
//! ```
//!
//! All calls block for as long as the kernel takes; calls for different endpoints may come from different
//! threads. Nothing here waits for an interface's removal but [`Plane::detach`] and
//! [`Plane::remove_network`].

use std::os::fd::{BorrowedFd, OwnedFd};

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::types::{
    Attached, Bandwidth, Capabilities, Endpoint, MacAddress, Mapping, Network, Reach, Reconciled, Settings,
};

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
}

impl Plane {
    /// Opens the plane of this network namespace. `firewall` is the `NETLINK_NETFILTER` socket that owns the
    /// table, or shall own it. Changes nothing yet but the host's forwarding, where it may; call
    /// [`Plane::reconcile`] before anything else.
    ///
    /// # Errors
    /// [`Error::TableOwned`]; what the kernel refused.
    pub fn open(settings: Settings, firewall: OwnedFd) -> Result<Self> {
        drop(firewall);
        Ok(Self { settings })
    }

    /// What the kernel offers.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Makes the kernel agree with what should be there: bridges are made or corrected, the table is written
    /// anew in one transaction, what nobody owns is removed. Connections through published ports go on.
    ///
    /// # Errors
    /// What the kernel refused; the table stays as it was.
    pub fn reconcile(&self, networks: &[Network], endpoints: &[Attached]) -> Result<Reconciled> {
        let _ = (networks, endpoints, &self.settings);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Makes a network: its bridge with addresses, or the parent of macvlan and ipvlan.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a driver that the kernel lacks, [`Error::NoInterface`] for a parent that is
    /// not there; what the kernel refused. Nothing is left behind then.
    pub fn create_network(&self, network: &Network) -> Result<()> {
        let _ = network;
        Err(Error::Unsupported("not yet".into()))
    }

    /// Changes what may change while endpoints are there: icc, masquerade, internal, gateway modes, mtu.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::Invalid`] for another driver or other subnets; what the kernel refused.
    pub fn update_network(&self, network: &Network) -> Result<()> {
        let _ = network;
        Err(Error::Unsupported("not yet".into()))
    }

    /// Removes a network and what was made for it. One that is not there is no error.
    ///
    /// # Errors
    /// What the kernel refused; the network is gone from the plane all the same.
    pub fn remove_network(&self, id: &str) -> Result<()> {
        let _ = id;
        Err(Error::Unsupported("not yet".into()))
    }

    /// Connects a namespace to a network, with addresses, routes, limits and published ports; all of it or,
    /// on failure, nothing.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::NoNetwork`]; what the kernel refused.
    pub fn attach(&self, endpoint: &Endpoint, target: Target<'_>) -> Result<Attached> {
        let _ = (endpoint, target);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Takes an endpoint out of a namespace that lives on, and its ports back; waits for the kernel.
    ///
    /// # Errors
    /// What the kernel refused; everything else is gone all the same.
    pub fn detach(&self, attached: &Attached, target: Target<'_>) -> Result<()> {
        let _ = (attached, target);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Takes back what an endpoint had outside its namespace (ports, neighbour entries, its place on the
    /// bridge), whose interfaces go with the namespace; never waits for them.
    ///
    /// # Errors
    /// What the kernel refused; everything else is gone all the same.
    pub fn forget(&self, attached: &Attached) -> Result<()> {
        let _ = attached;
        Err(Error::Unsupported("not yet".into()))
    }

    /// Publishes more ports of an endpoint, all or none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn publish(&self, attached: &mut Attached, ports: &[Mapping]) -> Result<()> {
        let _ = (attached, ports);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Takes ports back; those that are not published are skipped.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unpublish(&self, attached: &mut Attached, ports: &[Mapping]) -> Result<()> {
        let _ = (attached, ports);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Changes an endpoint's limits while it runs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_bandwidth(
        &self,
        attached: &mut Attached,
        limits: Bandwidth,
        target: Target<'_>,
    ) -> Result<()> {
        let _ = (attached, limits, target);
        Err(Error::Unsupported("not yet".into()))
    }

    /// Replaces a namespace's default routes of both families, when a network was connected or disconnected:
    /// each goes through the endpoint named with it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_gateways(&self, gateways: &[(&Attached, Gateway)], target: Target<'_>) -> Result<()> {
        let _ = (gateways, target);
        Err(Error::Unsupported("not yet".into()))
    }

    /// From where a port is reached under the host's firewall as it is now.
    #[must_use]
    pub fn reach(&self, port: &Mapping) -> Reach {
        let _ = port;
        Reach::Anywhere
    }

    /// The subnets that the host has routes to, which address pools must not take.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn host_subnets(&self) -> Result<Vec<IpNet>> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// The packet size of the host's uplink in bytes: the interface of the default route; 1500 without one.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn uplink_mtu(&self) -> Result<u32> {
        Err(Error::Unsupported("not yet".into()))
    }
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Through this router.
    Via(std::net::IpAddr),
    /// Straight to the link, IPv4.
    OnLink4,
    /// Straight to the link, IPv6.
    OnLink6,
}

/// The bridge of a user-defined network: `wh-` and 12 hexadecimal digits of its id, as Docker's `br-…`.
#[must_use]
pub fn bridge_name(network: &str) -> String {
    format!("wh-{}", network.get(..12).unwrap_or(network))
}

/// The bridge of an instance's default network: `wharf0`, or for an instance of another name one that derives
/// from it and fits into 15 bytes.
#[must_use]
pub fn default_bridge_name(instance: &str) -> String {
    if instance == "wharf" {
        "wharf0".to_owned()
    } else {
        format!("wh0-{:08x}", crate::plane::digest(instance))
    }
}

/// A MAC address from random bytes: unicast, locally administered.
#[must_use]
pub fn random_mac() -> MacAddress {
    let mut bytes = [0; 6];
    // The kernel's generator is seeded long before any container runs; short reads happen above 256 bytes.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[0] = bytes[0] & 0xfc | 0x02;
    MacAddress(bytes)
}

/// FNV-1a: names of other instances, shortened.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

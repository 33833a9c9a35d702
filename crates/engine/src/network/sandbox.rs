//! What one running container has of networks: its endpoints and published ports.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_network::helper::{Protocol, Reservation};
use wharf_network::types::{Attached, Bandwidth, MacAddress};

use super::IpNet;
use crate::error::{Error, Result};

/// The file in a container's bundle that says what it has, for the next daemon.
const FILE: &str = "network.json";

/// All of one container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// 64 hex digits.
    pub(crate) id: String,
    /// The container's name.
    pub(crate) name: String,
    /// In the order in which they were joined.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) published: Vec<Published>,
    /// Names are answered at 127.0.0.11.
    #[serde(default)]
    pub(crate) resolver: bool,
    /// The digest of the `resolv.conf` that was written; a file that has another was edited by someone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) resolv_conf: String,
}

/// A container's place in one network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// 64 hex digits.
    pub(crate) id: String,
    /// The network's id.
    pub(crate) network: String,
    pub(crate) network_name: String,
    /// It has an interface and addresses of its own.
    pub(crate) linked: bool,
    /// Names are answered there.
    pub(crate) named: bool,
    /// The network has no way out.
    pub(crate) internal: bool,
    /// The interface's name inside.
    pub(crate) interface: String,
    /// Asked for; what it got is in `attached`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<MacAddress>,
    /// From the network's subnets, at most one of each family.
    pub(crate) addresses: Vec<IpNet>,
    /// Asked for beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) link_local: Vec<IpNet>,
    /// The network's routers, at most one of each family.
    pub(crate) gateways: Vec<IpAddr>,
    /// There is no router and none is needed.
    #[serde(default)]
    pub(crate) on_link: bool,
    /// The highest has the default routes.
    pub(crate) priority: i64,
    /// What others there call the container, its own name first.
    pub(crate) names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sysctls: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) bandwidth: Bandwidth,
    /// Where ports without a host address are published; `None`: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_binding: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attached: Option<Attached>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) protocol: Protocol,
    /// Inside.
    pub(crate) port: u16,
    /// Outside, one for each address.
    pub(crate) held: Vec<Reservation>,
}

impl Sandbox {
    /// The endpoint in a network.
    pub(crate) fn endpoint(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == network)
    }

    /// Whether the kernel has anything of it.
    pub(crate) fn has_links(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.linked)
    }

    /// The endpoint that has the default route of a family.
    pub(crate) fn gateway(&self, v6: bool) -> Option<&Endpoint> {
        let leads_out = |endpoint: &&Endpoint| {
            !endpoint.internal
                && (endpoint.router(v6).is_some() || (endpoint.on_link && endpoint.address(v6).is_some()))
        };
        let better =
            |endpoint: &&Endpoint| (std::cmp::Reverse(endpoint.priority), endpoint.network_name.clone());
        self.endpoints.iter().filter(leads_out).min_by_key(better)
    }

    /// All addresses that lead to the container.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNet::addr))
    }

    /// Writes it into the bundle.
    pub(super) fn save(&self, bundle: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::internal(error.to_string()))?;
        std::fs::write(bundle.join(FILE), text).map_err(|error| Error::io("write network.json", &error))
    }

    /// Reads it from the bundle; `None`: the container had nothing.
    pub(super) fn load(bundle: &Path) -> Option<Self> {
        let text = std::fs::read(bundle.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes it away from the bundle.
    pub(super) fn erase(bundle: &Path) {
        let _not_there = std::fs::remove_file(bundle.join(FILE));
    }
}

impl Endpoint {
    /// Its address of one family.
    pub(crate) fn address(&self, v6: bool) -> Option<IpNet> {
        self.addresses.iter().copied().find(|net| net.addr().is_ipv6() == v6)
    }

    /// The network's router of one family.
    pub(crate) fn router(&self, v6: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == v6)
    }

    /// Its MAC address; ipvlan has none of its own.
    pub(crate) fn mac(&self) -> Option<MacAddress> {
        let attached = self.attached.as_ref().map(|attached| attached.mac);
        attached.filter(|mac| *mac != MacAddress::default()).or(self.mac)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn endpoint(network: &str, gateway: &str, priority: i64) -> Endpoint {
        Endpoint {
            id: format!("endpoint-{network}"),
            network: format!("id-{network}"),
            network_name: network.to_owned(),
            linked: true,
            named: true,
            internal: false,
            interface: "eth0".to_owned(),
            mac: None,
            addresses: Vec::new(),
            link_local: Vec::new(),
            gateways: gateway.parse().into_iter().collect(),
            on_link: false,
            priority,
            names: vec!["web".to_owned()],
            sysctls: Vec::new(),
            bandwidth: Bandwidth::default(),
            host_binding: None,
            attached: None,
        }
    }

    #[test]
    fn default_routes_go_by_priority_then_by_name() {
        let of = |list: &[Endpoint], v6| {
            let sandbox = Sandbox { endpoints: list.to_vec(), ..Sandbox::default() };
            sandbox.gateway(v6).map(|endpoint| endpoint.network_name.clone())
        };
        let (b, a) = (endpoint("b", "10.0.0.1", 0), endpoint("a", "10.1.0.1", 0));
        assert_eq!(of(&[b.clone(), a.clone()], false).as_deref(), Some("a"));
        assert_eq!(of(&[endpoint("z", "10.2.0.1", 5), a.clone()], false).as_deref(), Some("z"));
        let closed = Endpoint { internal: true, ..a };
        assert_eq!(of(&[b, closed], false).as_deref(), Some("b"));
        assert_eq!(of(&[endpoint("v", "fd00::1", 0)], false), None);
        assert_eq!(of(&[endpoint("v", "fd00::1", 0)], true).as_deref(), Some("v"));
    }
}

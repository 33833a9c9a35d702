//! What one running container has of networks: its endpoints and published ports.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_network::helper::{Protocol, Reservation};
use wharf_network::types::{Attached, Bandwidth, MacAddress, Mapping};

use super::IpNet;
use crate::error::{Error, Result};

/// The file in a container's bundle that says what it has, for the next daemon.
const FILE: &str = "network.json";
/// So many changes of ports may stand behind the whole before it is written anew.
const MOST_CHANGES: u32 = 200;

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
    /// Changes that the file has behind the whole.
    #[serde(skip)]
    pub(super) changes: u32,
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

/// Ports of a running container that came and went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) published: Vec<Published>,
    /// What held the ports that went.
    pub(super) closed: Vec<Reservation>,
    pub(super) mapped: Vec<Mapped>,
}

/// What the kernel translates to an endpoint since, and what not any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mapped {
    /// Its id.
    pub(super) endpoint: String,
    pub(super) opened: Vec<Mapping>,
    pub(super) closed: Vec<Mapping>,
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

    /// Writes what has changed behind what is in the bundle: of thousands of ports that stay nothing is written.
    pub(super) fn save_change(&mut self, bundle: &Path, change: &Change) -> Result<()> {
        if self.changes >= MOST_CHANGES {
            self.changes = 0;
            return self.save(bundle);
        }
        let text = serde_json::to_vec(change).map_err(|error| Error::internal(error.to_string()))?;
        let file = File::options().append(true).open(bundle.join(FILE));
        let written = file.and_then(|mut file| file.write_all(&text));
        self.changes += 1;
        written.map_err(|error| Error::io("write network.json", &error))
    }

    /// Reads it from the bundle; `None`: the container had nothing.
    pub(super) fn load(bundle: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(bundle.join(FILE)).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut whole = serde_json::Deserializer::from_slice(text).into_iter::<Self>();
        let mut sandbox = whole.next()?.ok()?;
        // Of a change that was being written when the daemon ended, the kernel's part is found by its next look.
        let changes =
            serde_json::Deserializer::from_slice(&text[whole.byte_offset()..]).into_iter::<Change>();
        for change in changes.map_while(std::result::Result::ok) {
            sandbox.apply(change);
        }
        Some(sandbox)
    }

    fn apply(&mut self, change: Change) {
        self.changes += 1;
        for one in &mut self.published {
            one.held.retain(|held| !change.closed.contains(held));
        }
        self.published.retain(|one| !one.held.is_empty());
        self.published.extend(change.published);
        for mapped in change.mapped {
            let of = |endpoint: &&mut Endpoint| endpoint.id == mapped.endpoint;
            let Some(attached) = self.endpoints.iter_mut().find(of).and_then(|one| one.attached.as_mut())
            else {
                continue;
            };
            attached.ports.retain(|port| !mapped.closed.contains(port));
            attached.ports.extend(mapped.opened);
        }
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
    fn changes_of_ports_are_read_back() {
        let held = |port| Reservation { protocol: Protocol::Tcp, address: [0, 0, 0, 0].into(), port };
        let published = |port| Published { protocol: Protocol::Tcp, port, held: vec![held(port)] };
        let mut sandbox = Sandbox { published: vec![published(80), published(81)], ..Sandbox::default() };
        let bundle = tempfile::tempdir().unwrap();
        sandbox.save(bundle.path()).unwrap();
        for port in 0..=u16::try_from(MOST_CHANGES).unwrap() + 1 {
            let change = Change {
                published: vec![published(1000 + port)],
                closed: vec![held(81)],
                mapped: Vec::new(),
            };
            sandbox.apply(change.clone());
            sandbox.changes -= 1;
            sandbox.save_change(bundle.path(), &change).unwrap();
            let read = Sandbox::load(bundle.path()).unwrap();
            assert_eq!(
                (read.published, read.changes),
                (sandbox.published.clone(), sandbox.changes),
                "{port}"
            );
        }
        // A change that was not written to its end never was.
        let file = bundle.path().join(FILE);
        let text = std::fs::read(&file).unwrap();
        let less = Sandbox::parse(&text[..text.len() - 3]).unwrap();
        assert_eq!(less.published.len() + 1, sandbox.published.len());
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

//! What a network, an endpoint and a published port are to the kernel plane.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::helper::protocol::Protocol;

/// How one instance's plane behaves; `daemon.json` in other words.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instance's name; names of kernel objects derive from it.
    pub instance: String,
    /// A directory that is lost with the running kernel (`EXEC_ROOT/net`): what the plane turned on is noted
    /// there.
    pub run_dir: PathBuf,
    /// Whether packets of IPv4 are filtered and translated at all (`--iptables`).
    pub firewall4: bool,
    /// The same for IPv6 (`--ip6tables`).
    pub firewall6: bool,
    /// Whether forwarding may be turned on (`--ip-forward`).
    pub ip_forward: bool,
    /// Whether forwarding between interfaces of others is dropped once it was turned on here
    /// (`--ip-forward-no-drop` unset).
    pub forward_guard: bool,
    /// Who decides which published ports the outside reaches.
    pub publish_policy: PublishPolicy,
    /// What is open to the outside although the host's firewall is closed (`--publish-allow`).
    pub publish_allow: Vec<Opening>,
    /// Below which the configuration of ufw and firewalld is found: `/`.
    pub host_root: PathBuf,
}

impl Settings {
    /// Docker's defaults, and the host's firewall respected.
    #[must_use]
    pub fn new(instance: &str, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.to_owned(),
            run_dir: run_dir.into(),
            firewall4: true,
            firewall6: true,
            ip_forward: true,
            forward_guard: true,
            publish_policy: PublishPolicy::default(),
            publish_allow: vec![],
            host_root: PathBuf::from("/"),
        }
    }
}

/// Who decides which published ports the outside reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishPolicy {
    /// What the host's firewall closes stays closed.
    #[default]
    HostFirewall,
    /// A published port is open, as Docker has it.
    Open,
}

/// Something that the outside may reach: ports, perhaps from some sources or through one interface only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The transport; `None`: all.
    pub protocol: Option<Protocol>,
    /// First and last port; `None`: all.
    pub ports: Option<(u16, u16)>,
    /// Where packets come from; `None`: anywhere.
    pub source: Option<IpNet>,
    /// Through which interface; `None`: any.
    pub interface: Option<String>,
}

/// A network as the plane needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id, opaque.
    pub id: String,
    /// What users call it; for messages only.
    pub name: String,
    /// How its endpoints are connected.
    pub driver: Driver,
    /// Packet size in bytes; `None`: that of the host's uplink.
    pub mtu: Option<u32>,
    /// No way out and none in.
    pub internal: bool,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet.
    pub net: IpNet,
    /// The router's address: the bridge's own, or for macvlan and ipvlan one outside.
    pub gateway: Option<IpAddr>,
}

/// How endpoints are connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A bridge of the host with a veth pair for each endpoint.
    Bridge(Bridge),
    /// Endpoints are interfaces on top of one of the host's, with MAC addresses of their own.
    Macvlan {
        /// The host's interface, or `NAME.VLAN`, which is made when missing; `None`: one that leads nowhere.
        parent: Option<String>,
        /// How endpoints see each other.
        mode: MacvlanMode,
    },
    /// Endpoints are interfaces on top of one of the host's and share its MAC address.
    Ipvlan {
        /// As in [`Driver::Macvlan`].
        parent: Option<String>,
        /// Where packets are switched.
        mode: IpvlanMode,
        /// Who may talk to whom.
        flag: IpvlanFlag,
    },
}

/// Options of a bridge network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge's name, at most 15 bytes (see [`crate::plane::bridge_name`]).
    pub interface: String,
    /// Whether the bridge is made and removed with the network, or belongs to the administrator
    /// (`--bridge`).
    pub own: bool,
    /// How IPv4 leaves and enters.
    pub mode4: GatewayMode,
    /// How IPv6 leaves and enters.
    pub mode6: GatewayMode,
    /// Whether endpoints may talk to each other.
    pub icc: bool,
    /// Whether sources are translated to the host's address on the way out.
    pub masquerade: bool,
    /// Whether the bridge does without an IPv4 address of its own (`com.docker.network.bridge.inhibit_ipv4`).
    pub inhibit_ipv4: bool,
    /// Translate sources to this address instead of the uplink's (`com.docker.network.host_ipv4`).
    pub source4: Option<std::net::Ipv4Addr>,
    /// The same for IPv6 (`com.docker.network.host_ipv6`).
    pub source6: Option<std::net::Ipv6Addr>,
}

/// `com.docker.network.bridge.gateway_mode_ipv4` and `…_ipv6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Ports are translated, sources masqueraded, direct access dropped.
    #[default]
    Nat,
    /// As [`GatewayMode::Nat`], but every port can be reached directly.
    NatUnprotected,
    /// No translation; published ports can be reached directly.
    Routed,
    /// The bridge has no address (internal networks only).
    Isolated,
}

/// `macvlan_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// Endpoints never see each other.
    Private,
    /// Between endpoints the external switch decides.
    Vepa,
    /// Endpoints see each other directly.
    #[default]
    Bridge,
    /// One endpoint gets the whole interface.
    Passthru,
}

/// `ipvlan_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvlanMode {
    /// Switched.
    #[default]
    L2,
    /// Routed.
    L3,
    /// Routed, through the host's connection tracking.
    L3s,
}

/// `ipvlan_flag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvlanFlag {
    /// Endpoints see each other directly.
    #[default]
    Bridge,
    /// Endpoints never see each other.
    Private,
    /// Between endpoints the external switch decides.
    Vepa,
}

/// An endpoint to be made: one interface of a namespace on one network, with its published ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id, opaque; the host-side interface's name derives from it.
    pub id: String,
    /// The network's id.
    pub network: String,
    /// The interface's name inside: `eth0`.
    pub interface: String,
    /// `None`: [`crate::plane::mac_of`] its addresses.
    pub mac: Option<MacAddress>,
    /// Its addresses with their subnets' prefix lengths, link-local ones among them.
    pub addresses: Vec<IpNet>,
    /// Default routes through this endpoint, at most one of each family; empty where another endpoint has them.
    /// An address outside the subnets is no error: it is reached on the link.
    pub gateways: Vec<IpAddr>,
    /// Default routes without a next hop, where the network has no gateway (ipvlan l3).
    pub on_link: bool,
    /// Sysctls for the interface, `IFNAME` in the name standing for it: `net.ipv4.conf.IFNAME.log_martians`.
    pub sysctls: Vec<(String, String)>,
    /// Limits.
    pub bandwidth: Bandwidth,
    /// Published ports, reserved already.
    pub ports: Vec<Mapping>,
}

/// An endpoint that was made: everything that is needed to change, remove or find it again. Kept on disk by
/// the engine while the container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The endpoint's id.
    pub endpoint: String,
    /// The network's id.
    pub network: String,
    /// The host's end; `None` for macvlan and ipvlan.
    pub host_interface: Option<String>,
    /// Number of the host's end, 0 where there is none.
    pub host_index: u32,
    /// The name inside.
    pub interface: String,
    /// The number inside.
    pub index: u32,
    /// The MAC address inside; all zero for ipvlan.
    pub mac: MacAddress,
    /// Addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Limits in force.
    pub bandwidth: Bandwidth,
    /// Published ports.
    pub ports: Vec<Mapping>,
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapping {
    /// The transport.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` and `::` for all of their family, to which the publish policy applies.
    /// Has the family of `container`.
    pub host: IpAddr,
    /// The port there.
    pub host_port: u16,
    /// The container's address.
    pub container: IpAddr,
    /// The container's port.
    pub container_port: u16,
}

/// From where a published port can be reached, as far as the host decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From everywhere.
    Anywhere,
    /// From wherever the address it is bound to can be reached.
    Address(IpAddr),
    /// From the host and its containers: the named chain of the host's firewall keeps the rest out.
    HostOnly {
        /// `TABLE CHAIN`, as `ip filter INPUT`.
        closed_by: String,
    },
    /// As [`Reach::HostOnly`], and from what was opened.
    Some(Vec<Opening>),
}

/// Limits of an endpoint in bits per second, as the container sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What it may send; `None`: no limit.
    pub egress: Option<u64>,
    /// What it may receive.
    pub ingress: Option<u64>,
}

/// What the running kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// IPv6 exists and is not turned off.
    pub ipv6: bool,
    /// A table that survives its owner (6.9); else it lives as long as its socket.
    pub persistent_table: bool,
    /// Whether packets within a bridge pass the IPv4 firewall too; `None`: `br_netfilter` is not loaded.
    pub bridge_nf_call_iptables: Option<bool>,
    /// The same for IPv6.
    pub bridge_nf_call_ip6tables: Option<bool>,
    /// IPv4 packets are forwarded between interfaces.
    pub forwards4: bool,
    /// IPv6 packets are forwarded between interfaces.
    pub forwards6: bool,
}

/// What [`crate::plane::Plane::reconcile`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Endpoints whose host-side interface is gone: their containers have no network.
    pub lost: Vec<String>,
    /// Interfaces of this instance that belonged to nothing and were removed.
    pub swept: Vec<String>,
    /// Networks that could not be made again, by id, and why.
    pub failed: Vec<(String, String)>,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Text that is no MAC address.
#[derive(Debug, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMac(String);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl Network {
    /// The bridge's options, where it is one.
    #[must_use]
    pub fn bridge(&self) -> Option<&Bridge> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            Driver::Macvlan { .. } | Driver::Ipvlan { .. } => None,
        }
    }
}

impl Bridge {
    /// The gateway mode of an address's family.
    #[must_use]
    pub fn mode(&self, of: IpAddr) -> GatewayMode {
        if of.is_ipv4() { self.mode4 } else { self.mode6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_text() {
        let address: MacAddress = "02:42:AC-11:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        for wrong in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "gg:42:ac:11:00:02"] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}

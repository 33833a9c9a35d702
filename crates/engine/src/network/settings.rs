//! What the engine is told about networks when it opens.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wharf_network::ipam::DefaultPool;
use wharf_network::types::{Opening, PublishPolicy};

use super::IpNet;

/// All settings of networks; filled by the daemon from flags and `daemon.json`.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The default network.
    pub bridge: DefaultBridge,
    /// What networks without a subnet of their own are cut from; empty: Docker's pools.
    pub pools: Vec<DefaultPool>,
    /// Options of new networks that do not say, by driver.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// What `host-gateway` stands for; empty: the default network's gateways.
    pub host_gateways: Vec<IpAddr>,
    /// Whether packets of IPv4 are filtered and translated at all.
    pub iptables: bool,
    /// The same for IPv6.
    pub ip6tables: bool,
    /// Whether forwarding may be turned on.
    pub ip_forward: bool,
    /// Whether forwarding between interfaces of others is dropped once it was turned on.
    pub forward_guard: bool,
    /// Who decides which published ports the outside reaches.
    pub publish_policy: PublishPolicy,
    /// What is open to the outside although the host's firewall is closed.
    pub publish_allow: Vec<Opening>,
}

/// Settings of the default network.
#[derive(Debug, Clone)]
pub struct DefaultBridge {
    /// An interface that the administrator made; `none`: there is no default network. Empty: one of its own.
    pub interface: String,
    /// The bridge's own address with its prefix length.
    pub address: Option<IpNet>,
    /// The same for IPv6.
    pub address6: Option<IpNet>,
    /// Addresses are given from here only.
    pub range: Option<IpNet>,
    /// The same for IPv6.
    pub range6: Option<IpNet>,
    /// Containers' router, where it is not the bridge.
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway6: Option<IpAddr>,
    pub ipv6: bool,
    pub icc: bool,
    pub masquerade: bool,
    /// Bytes; `None`: that of the host's uplink.
    pub mtu: Option<u32>,
    /// Where ports without a host address are published.
    pub host_binding: IpAddr,
}

impl Default for DefaultBridge {
    fn default() -> Self {
        Self {
            interface: String::new(),
            address: None,
            address6: None,
            range: None,
            range6: None,
            gateway: None,
            gateway6: None,
            ipv6: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_binding: std::net::Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: DefaultBridge::default(),
            pools: Vec::new(),
            default_options: BTreeMap::new(),
            host_gateways: Vec::new(),
            iptables: true,
            ip6tables: true,
            ip_forward: true,
            forward_guard: true,
            publish_policy: PublishPolicy::default(),
            publish_allow: Vec::new(),
        }
    }
}

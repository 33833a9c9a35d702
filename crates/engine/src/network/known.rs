//! One network: what clients see of it, its subnets, and what the kernel plane makes of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use wharf_network::ipam::{self, Ipam};
use wharf_network::{plane, types};

use super::IpNet;
use super::options::Options;
use super::settings::NetworkConfig;
use crate::error::Result;

/// A network as it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// As clients see it, without containers.
    pub(super) document: wharf_api::Network,
    /// The subnets in force; the document only says what was asked for.
    pub(super) subnets: Vec<Subnet>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub(super) net: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<IpNet>,
    /// Addresses that others have, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) aux: BTreeMap<String, IpAddr>,
    /// Asked for, not cut from a pool.
    #[serde(default)]
    pub(super) by_user: bool,
}

/// A network that is there.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(super) definition: Definition,
    pub(super) options: Options,
}

impl Definition {
    /// Reads the options.
    pub(super) fn known(self) -> Result<Known> {
        let none = BTreeMap::new();
        let options = self.document.options.as_ref().unwrap_or(&none);
        let driver = if self.document.config_only { "null" } else { &self.document.driver };
        let options = Options::parse(driver, options)?;
        Ok(Known { definition: self, options })
    }

    /// Takes its subnets again, as they were.
    pub(super) fn claim(&self, ipam: &mut Ipam) -> Result<()> {
        for subnet in &self.subnets {
            let request = ipam::Request {
                v6: subnet.net.addr().is_ipv6(),
                subnet: Some(subnet.net),
                range: subnet.range,
                gateway: subnet.gateway,
                no_gateway: subnet.gateway.is_none(),
                aux: subnet.aux.iter().map(|(name, address)| (name.clone(), *address)).collect(),
            };
            ipam.allocate(&self.document.id, &request, &[])?;
        }
        Ok(())
    }
}

impl Known {
    pub(crate) fn id(&self) -> &str {
        &self.definition.document.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.definition.document.name
    }

    pub(crate) fn driver(&self) -> &str {
        &self.definition.document.driver
    }

    /// As clients see it, without containers.
    pub(crate) fn document(&self) -> &wharf_api::Network {
        &self.definition.document
    }

    /// Whether endpoints of it have interfaces and addresses.
    pub(crate) fn has_links(&self) -> bool {
        !self.document().config_only && matches!(self.driver(), "bridge" | "macvlan" | "ipvlan")
    }

    /// Whether it is one of those that people make: names are answered there, addresses can be asked for.
    pub(crate) fn is_user_defined(&self) -> bool {
        !super::BUILT_IN.contains(&self.name())
    }

    /// The router of one family.
    pub(crate) fn gateway(&self, v6: bool) -> Option<IpAddr> {
        let fits = |subnet: &&Subnet| subnet.net.addr().is_ipv6() == v6;
        self.definition.subnets.iter().filter(fits).find_map(|subnet| subnet.gateway)
    }

    /// Whether `address` lies in a subnet that was asked for, so that it can be asked for too.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        self.definition.subnets.iter().any(|subnet| subnet.by_user && subnet.net.contains(&address))
    }

    /// Whether any subnet was asked for.
    pub(super) fn has_own_subnet(&self, v6: bool) -> bool {
        self.definition.subnets.iter().any(|subnet| subnet.by_user && subnet.net.addr().is_ipv6() == v6)
    }

    /// The subnets that were asked for of a family that is turned off: endpoints may ask for their addresses, and get none.
    pub(super) fn subnets_turned_off(&self, v6: bool) -> Vec<IpNet> {
        let document = self.document();
        let enabled = if v6 { document.enable_ipv6 } else { document.enable_ipv4 };
        if enabled {
            return Vec::new();
        }
        let configs = document.ipam.config.iter().flatten();
        let subnets = configs.filter_map(|config| config.subnet.parse::<IpNet>().ok());
        subnets.filter(|subnet| subnet.addr().is_ipv6() == v6).collect()
    }

    /// The network as the kernel plane needs it; `None`: the kernel has nothing of it.
    pub(super) fn kernel(&self, instance: &str, config: &NetworkConfig) -> Option<types::Network> {
        if !self.has_links() {
            return None;
        }
        let options = &self.options;
        let driver = match self.driver() {
            "bridge" => types::Driver::Bridge(self.bridge(instance, config)),
            "macvlan" => types::Driver::Macvlan { parent: options.parent.clone(), mode: options.macvlan },
            _ => types::Driver::Ipvlan {
                parent: options.parent.clone(),
                mode: options.ipvlan,
                flag: options.ipvlan_flag,
            },
        };
        let subnets = self.definition.subnets.iter();
        Some(types::Network {
            id: self.id().to_owned(),
            name: self.name().to_owned(),
            driver,
            mtu: options.mtu,
            internal: self.document().internal,
            subnets: subnets
                .map(|subnet| types::Subnet { net: subnet.net, gateway: subnet.gateway })
                .collect(),
        })
    }

    /// The bridge's interface on the host.
    pub(super) fn interface(&self, instance: &str, config: &NetworkConfig) -> String {
        match &self.options.bridge {
            Some(name) => name.clone(),
            None if self.is_user_defined() => plane::bridge_name(self.id()),
            None => default_interface(instance, config),
        }
    }

    fn bridge(&self, instance: &str, config: &NetworkConfig) -> types::Bridge {
        let options = &self.options;
        types::Bridge {
            interface: self.interface(instance, config),
            own: self.is_user_defined() || config.bridge.interface.is_empty(),
            mode4: options.mode4,
            mode6: options.mode6,
            icc: options.icc,
            masquerade: options.masquerade,
            inhibit_ipv4: options.inhibit_ipv4,
            source4: options.source4.and_then(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            source6: options.source6.and_then(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
        }
    }
}

/// The bridge of the default network.
pub(super) fn default_interface(instance: &str, config: &NetworkConfig) -> String {
    match config.bridge.interface.as_str() {
        "" => plane::default_bridge_name(instance),
        given => given.to_owned(),
    }
}

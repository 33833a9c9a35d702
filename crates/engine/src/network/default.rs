//! The networks that are always there, and the subnet of the one that containers join by default.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use wharf_api::{ConfigReference, Ipam as IpamDocument, IpamConfig, Network};
use wharf_network::ipam::{Ipam, Request};

use super::known::{Definition, Subnet, default_interface};
use super::settings::NetworkConfig;
use super::{IpNet, Known, Networks, options};
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// The built-in networks. The default one keeps the subnet it has on disk, unless the settings say otherwise;
/// without either, it has none until the kernel is asked which are free.
pub(super) fn built_in(
    config: &EngineConfig,
    stored: Option<Definition>,
    ipam: &mut Ipam,
) -> Result<Vec<Definition>> {
    let mut all = vec![empty(config, "host", "host"), empty(config, "none", "null")];
    let network = &config.network;
    if network.bridge.interface == "none" {
        return Ok(all);
    }
    let mut bridge = empty(config, "bridge", "bridge");
    bridge.document.options = Some(bridge_options(config));
    bridge.document.enable_ipv6 = network.bridge.ipv6;
    let wanted = requests(network);
    if wanted.iter().any(|request| request.subnet.is_none()) {
        match stored {
            Some(stored) if fits(&stored, network) => {
                bridge.subnets = stored.subnets;
                bridge.document.ipam = stored.document.ipam;
                bridge.document.created = stored.document.created;
                bridge.claim(ipam)?;
            }
            _ => {}
        }
    } else {
        bridge.take(ipam, &wanted, &[])?;
    }
    all.push(bridge);
    Ok(all)
}

fn fits(stored: &Definition, network: &NetworkConfig) -> bool {
    let has = |v6: bool| stored.subnets.iter().any(|subnet| subnet.net.addr().is_ipv6() == v6);
    let same = |wanted: Option<IpNet>| {
        wanted.is_none_or(|wanted| stored.subnets.iter().any(|subnet| subnet.net == wanted.trunc()))
    };
    let ranges = [network.bridge.range, network.bridge.range6];
    let ranged = |subnet: &Subnet| ranges.into_iter().flatten().any(|range| subnet.range == Some(range));
    has(false)
        && has(true) == network.bridge.ipv6
        && same(network.bridge.address)
        && same(network.bridge.address6)
        && stored.subnets.iter().all(|subnet| subnet.range.is_none() || ranged(subnet))
        && ranges.into_iter().flatten().all(|range| stored.subnets.iter().any(|one| one.range == Some(range)))
}

/// What the address space is asked for: a subnet a family.
fn requests(network: &NetworkConfig) -> Vec<Request> {
    let bridge = &network.bridge;
    let of = |v6: bool, address: Option<IpNet>, range: Option<IpNet>, gateway: Option<IpAddr>| Request {
        v6,
        // A range alone is the whole subnet too.
        subnet: address.or(range).map(|address| address.trunc()),
        range: range.filter(|range| address.is_some_and(|address| address.trunc() != *range)),
        gateway: gateway.or(address.map(|address| address.addr())),
        no_gateway: false,
        aux: Vec::new(),
    };
    let mut requests = vec![of(false, bridge.address, bridge.range, bridge.gateway)];
    if bridge.ipv6 {
        requests.push(of(true, bridge.address6, bridge.range6, bridge.gateway6));
    }
    requests
}

impl Definition {
    /// Takes subnets for a network that has none, and writes them into its document.
    fn take(&mut self, ipam: &mut Ipam, requests: &[Request], host: &[IpNet]) -> Result<()> {
        for request in requests {
            let given = ipam.allocate(&self.document.id, request, host)?;
            self.subnets.push(Subnet {
                net: given.subnet,
                gateway: given.gateway,
                range: request.range,
                aux: BTreeMap::new(),
                by_user: false,
            });
        }
        let shown = |subnet: &Subnet| IpamConfig {
            subnet: subnet.net.to_string(),
            ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            auxiliary_addresses: None,
        };
        self.document.ipam.config = Some(self.subnets.iter().map(shown).collect());
        Ok(())
    }
}

impl Networks {
    /// Gives the default network a subnet that the host does not use, if it has none or lost it to the host.
    pub(super) fn settle_default(&self, host: &[IpNet]) -> Result<()> {
        let mut state = self.state();
        let Ok(bridge) = state.find("bridge") else { return Ok(()) };
        let interface = default_interface(&self.config.instance, self.settings());
        let is_up = Path::new("/sys/class/net").join(interface).exists();
        let lost = |subnet: &Subnet| {
            let overlaps = |other: &IpNet| {
                other.prefix_len() > 0
                    && (other.contains(&subnet.net.network()) || subnet.net.contains(&other.network()))
            };
            !is_up && host.iter().any(overlaps)
        };
        let fixed = self.settings().bridge.address.is_some();
        let in_use = state.sandboxes.values().any(|one| one.endpoint(bridge.id()).is_some());
        let keeps = fixed || in_use || !bridge.definition.subnets.iter().any(lost);
        if !bridge.definition.subnets.is_empty() && keeps {
            return Ok(());
        }
        let mut definition = empty(&self.config, "bridge", "bridge");
        definition.document.options = Some(bridge_options(&self.config));
        definition.document.enable_ipv6 = self.settings().bridge.ipv6;
        state.ipam.release_network(bridge.id());
        definition.take(&mut state.ipam, &requests(self.settings()), host)?;
        let text = serde_json::to_vec(&definition).map_err(|error| Error::internal(error.to_string()))?;
        let known: Known = definition.known()?;
        let id = known.id().to_owned();
        state.known.insert(id.clone(), std::sync::Arc::new(known));
        drop(state);
        Ok(self.store.documents(super::DOCUMENTS).put(&id, &text)?)
    }
}

fn bridge_options(config: &EngineConfig) -> BTreeMap<String, String> {
    let bridge = &config.network.bridge;
    let mtu = bridge.mtu.map(|mtu| mtu.to_string());
    let mut options: BTreeMap<String, String> = [
        (options::DEFAULT_BRIDGE, "true".to_owned()),
        (options::ICC, bridge.icc.to_string()),
        (options::MASQUERADE, bridge.masquerade.to_string()),
        (options::HOST_BINDING, bridge.host_binding.to_string()),
        (options::BRIDGE_NAME, default_interface(&config.instance, &config.network)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(mtu) = mtu {
        options.insert(options::MTU.to_owned(), mtu);
    }
    options
}

/// A built-in network; its id derives from the instance and its data root, so that it stays from run to run.
fn empty(config: &EngineConfig, name: &str, driver: &str) -> Definition {
    let root = &config.data_root;
    let created = std::fs::metadata(root).and_then(|meta| meta.created().or_else(|_| meta.modified()));
    let created = created.ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
    let seed = format!("network {} {} {name}", config.instance, root.display());
    let document = Network {
        name: name.to_owned(),
        id: hex::encode(Sha256::digest(seed)),
        created: created.to_string(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: IpamDocument { driver: "default".to_owned(), ..IpamDocument::default() },
        config_from: ConfigReference::default(),
        options: Some(BTreeMap::new()),
        labels: Some(BTreeMap::new()),
        ..Network::default()
    };
    Definition { document, subnets: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::networks;
    use super::*;

    #[test]
    fn the_default_network_gets_a_free_subnet_once() {
        let (_folder, networks) = networks(EngineConfig::default());
        assert!(networks.find("bridge").unwrap().definition.subnets.is_empty());
        let taken: IpNet = "172.17.0.0/16".parse().unwrap();
        networks.settle_default(&[taken]).unwrap();
        let bridge = networks.find("bridge").unwrap();
        let config = bridge.document().ipam.config.clone().unwrap();
        assert_eq!((config[0].subnet.as_str(), config[0].gateway.as_str()), ("172.18.0.0/16", "172.18.0.1"));
        networks.settle_default(&[]).unwrap();
        assert_eq!(networks.find("bridge").unwrap().definition.subnets[0].net.to_string(), "172.18.0.0/16");
        assert_eq!(networks.store.documents(super::super::DOCUMENTS).all().unwrap().len(), 1);
    }

    #[test]
    fn settings_win() {
        let mut config = EngineConfig::default();
        config.network.bridge.address = Some("10.9.0.1/24".parse().unwrap());
        config.network.bridge.range = Some("10.9.0.128/25".parse().unwrap());
        let (_folder, networks) = networks(config);
        let subnet = &networks.find("bridge").unwrap().definition.subnets[0];
        assert_eq!(subnet.net.to_string(), "10.9.0.0/24");
        assert_eq!(subnet.gateway.unwrap().to_string(), "10.9.0.1");
        assert_eq!(subnet.range.unwrap().to_string(), "10.9.0.128/25");
    }

    #[test]
    fn there_may_be_no_default_network() {
        let mut config = EngineConfig::default();
        config.network.bridge.interface = "none".to_owned();
        let (_folder, networks) = networks(config);
        assert!(networks.find("bridge").is_err() && networks.find("host").is_ok());
    }
}

//! Which endpoints a container gets, and with which addresses: decided in memory, before anything is made.

use std::net::IpAddr;
use std::sync::Arc;

use wharf_api::EndpointSettings;
use wharf_network::Error as PlaneError;
use wharf_network::ipam::Ipam;

use super::sandbox::{Endpoint, Sandbox};
use super::{IpNet, Known, Networks, State, bandwidth, names};
use crate::container::record::Record;
use crate::container::spec::peers::joined;
use crate::error::{Error, Result};
use crate::names::new_id;

/// Docker's words before whatever goes wrong with networks at a start.
pub(super) const FAILED: &str = "failed to set up container networking";
const IFNAME: &str = "com.docker.network.endpoint.ifname";
pub(super) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

impl Networks {
    /// The networks a container joins when it starts, that of its mode first; none where it has no network of
    /// its own.
    pub(crate) fn of(&self, record: &Record) -> Result<Vec<(Arc<Known>, EndpointSettings)>> {
        self.state().of(record)
    }

    /// Decides a container's endpoints and takes their addresses. `None`: it has no network of its own.
    ///
    /// # Errors
    /// Docker's, for networks that are not there and addresses that cannot be had.
    pub(crate) fn plan(&self, record: &Record) -> Result<Option<Arc<Sandbox>>> {
        let failed = |error: Error| error.context(FAILED);
        self.decide(record).map_err(failed)?;
        let mut state = self.state();
        let wanted = state.of(record).map_err(failed)?;
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut sandbox = Sandbox { id: new_id(), name: record.name.clone(), ..Sandbox::default() };
        for (network, settings) in wanted {
            match state.endpoint(record, &network, &settings, &sandbox.endpoints) {
                Ok(endpoint) => sandbox.endpoints.push(endpoint),
                Err(error) => {
                    state.give_back(&sandbox.endpoints);
                    return Err(failed(error));
                }
            }
        }
        sandbox.resolver = sandbox.endpoints.iter().any(|endpoint| endpoint.named);
        let sandbox = Arc::new(sandbox);
        state.sandboxes.insert(record.id.clone(), sandbox.clone());
        Ok(Some(sandbox))
    }
}

impl Networks {
    /// Lets the default network have its subnet before the first container joins it. Sleeps that once.
    fn decide(&self, record: &Record) -> Result<()> {
        let undecided = self.find("bridge").is_ok_and(|bridge| bridge.definition.subnets.is_empty());
        if undecided && self.of(record)?.iter().any(|(network, _)| network.has_links()) {
            self.kernel()?;
        }
        Ok(())
    }
}

impl State {
    pub(super) fn of(&self, record: &Record) -> Result<Vec<(Arc<Known>, EndpointSettings)>> {
        let mode = &record.host_config.network_mode;
        if record.config.network_disabled || joined(mode).is_some() {
            return Ok(Vec::new());
        }
        let settings =
            |name| record.endpoints.get(name).map(|one| EndpointSettings::clone(one)).unwrap_or_default();
        let mut all: Vec<(Arc<Known>, EndpointSettings)> = Vec::new();
        // A container that was disconnected from its first network has the others only.
        let first =
            Some(mode).filter(|mode| record.endpoints.is_empty() || record.endpoints.contains_key(*mode));
        for name in first.into_iter().chain(record.endpoints.keys().filter(|name| *name != mode)) {
            let network = match self.find(name) {
                // With `--bridge none` there is none: who is on it has no network.
                Err(_) if name == "bridge" => continue,
                found => found?,
            };
            if !all.iter().any(|(known, _)| known.id() == network.id()) {
                all.push((network, settings(name)));
            }
        }
        Ok(all)
    }

    /// One endpoint, its addresses taken.
    pub(super) fn endpoint(
        &mut self,
        record: &Record,
        network: &Arc<Known>,
        settings: &EndpointSettings,
        others: &[Endpoint],
    ) -> Result<Endpoint> {
        if network.document().config_only {
            return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
        }
        let linked = network.has_links();
        let named = linked && network.is_user_defined();
        let options = settings.driver_opts.clone().unwrap_or_default();
        let interface = interface(network, options.get(IFNAME), others)?;
        let mac = Some(settings.mac_address.as_str()).filter(|mac| linked && !mac.is_empty());
        let mac = mac
            .map(str::parse)
            .transpose()
            .map_err(|error: wharf_network::types::InvalidMac| Error::invalid(error.to_string()))?;
        let bandwidth = bandwidth::limits(&options)?;
        // Addresses last: whatever fails before has taken none.
        let (link_local, addresses) = match linked {
            true => (link_local(settings)?, self.addresses(&record.id, network, settings)?),
            false => (Vec::new(), Vec::new()),
        };
        let gateways = [false, true].into_iter().filter_map(|v6| network.gateway(v6));
        Ok(Endpoint {
            id: new_id(),
            network: network.id().to_owned(),
            network_name: network.name().to_owned(),
            linked,
            named,
            internal: network.document().internal,
            interface,
            mac,
            addresses,
            link_local,
            gateways: gateways.filter(|_| linked && !network.document().internal).collect(),
            on_link: network.driver() == "ipvlan" && network.options.ipvlan != Default::default(),
            priority: settings.gw_priority,
            names: if linked { names::of(record, settings) } else { Vec::new() },
            sysctls: options.get(SYSCTLS).map(|text| sysctls(text)).unwrap_or_default(),
            bandwidth,
            host_binding: network.options.host_binding,
            attached: None,
        })
    }

    fn addresses(
        &mut self,
        container: &str,
        network: &Known,
        settings: &EndpointSettings,
    ) -> Result<Vec<IpNet>> {
        let asked = settings.ipam_config.clone().unwrap_or_default();
        let last: Vec<IpAddr> = self
            .last
            .get(container)
            .into_iter()
            .flatten()
            .filter(|(id, _)| id == network.id())
            .map(|(_, address)| *address)
            .collect();
        let mut taken: Vec<IpNet> = Vec::new();
        for (v6, text) in [(false, &asked.ipv4_address), (true, &asked.ipv6_address)] {
            let has_family = network.definition.subnets.iter().any(|one| one.net.addr().is_ipv6() == v6);
            let wanted = Some(text).filter(|text| !text.is_empty()).map(|text| text.parse::<IpAddr>());
            let wanted =
                wanted.transpose().map_err(|_| Error::invalid(format!("invalid address: {text}")))?;
            if !has_family && (wanted.is_none() || !network.subnets_turned_off(v6).is_empty()) {
                continue;
            }
            let before = last.iter().copied().find(|address| address.is_ipv6() == v6);
            match take(&mut self.ipam, network, v6, wanted, before) {
                Ok(address) => taken.push(address),
                Err(error) => {
                    for net in taken {
                        self.ipam.give_back(network.id(), net.addr());
                    }
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Gives addresses back that endpoints had.
    pub(super) fn give_back(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            for net in &endpoint.addresses {
                self.ipam.give_back(&endpoint.network, net.addr());
            }
        }
    }
}

fn take(
    ipam: &mut Ipam,
    network: &Known,
    v6: bool,
    wanted: Option<IpAddr>,
    before: Option<IpAddr>,
) -> Result<IpNet> {
    let taken = match (wanted, before) {
        (Some(wanted), _) => {
            super::check::address(network, wanted)?;
            ipam.take(network.id(), v6, Some(wanted))
        }
        // The same as before, if nobody else has it by now.
        (None, Some(before)) => {
            ipam.take(network.id(), v6, Some(before)).or_else(|_| ipam.take(network.id(), v6, None))
        }
        (None, None) => ipam.take(network.id(), v6, None),
    };
    taken.map_err(|error| match error {
        PlaneError::AddressesExhausted { v6, .. } => {
            let network = format!("{} ({})", network.name(), network.id());
            PlaneError::AddressesExhausted { network, v6 }.into()
        }
        other => other.into(),
    })
}

fn link_local(settings: &EndpointSettings) -> Result<Vec<IpNet>> {
    let asked = settings.ipam_config.iter().filter_map(|ipam| ipam.link_local_ips.as_ref()).flatten();
    let parse = |text: &String| {
        let address: IpAddr =
            text.parse().map_err(|_| Error::invalid(format!("invalid link-local IP address: {text}")))?;
        Ok(match address {
            IpAddr::V4(address) => IpNet::new_assert(address.into(), 16),
            IpAddr::V6(address) => IpNet::new_assert(address.into(), 64),
        })
    };
    asked.filter(|text| !text.is_empty()).map(parse).collect()
}

/// `name=value` pairs, separated by commas.
fn sysctls(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The name asked for, or the network's prefix and the first free number.
fn interface(network: &Known, asked: Option<&String>, others: &[Endpoint]) -> Result<String> {
    if !network.has_links() {
        return Ok(String::new());
    }
    let is_taken = |name: &str| others.iter().any(|other| other.interface == name);
    if let Some(name) = asked.filter(|name| !name.is_empty()) {
        let legal = name.len() < 16 && !matches!(name.as_str(), "." | "..");
        if !legal || name.contains(['/', ':']) || name.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("invalid interface name: {name}")));
        }
        return match is_taken(name) {
            true => Err(Error::conflict(format!("interface name {name} is already in use"))),
            false => Ok(name.clone()),
        };
    }
    let prefix = &network.options.prefix;
    let name = (0..=others.len()).map(|number| format!("{prefix}{number}")).find(|name| !is_taken(name));
    // One more number than others have names.
    Ok(name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_come_as_pairs() {
        let pairs = sysctls("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra = 2");
        assert_eq!(pairs[0], ("net.ipv4.conf.IFNAME.log_martians".to_owned(), "1".to_owned()));
        assert_eq!(pairs[1].1, "2");
    }
}

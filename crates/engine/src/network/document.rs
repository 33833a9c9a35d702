//! What clients see of networks and of containers' places in them.

use std::sync::Arc;

use wharf_api::{EndpointResource, EndpointSettings, Endpoints, Network, PortMap};

use super::sandbox::{Endpoint, Sandbox};
use super::{IpNet, Known, Networks, State, names, ports};
use crate::container::record::Record;
use crate::error::Result;

/// A container's networks as its inspection shows them.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) sandbox_id: String,
    pub(crate) ports: PortMap,
    pub(crate) networks: Endpoints,
    /// Whether the process shares the host's network.
    pub(crate) host: bool,
}

impl Networks {
    /// A network with the containers that run in it.
    ///
    /// # Errors
    /// `network NAME not found`.
    pub async fn inspect(self: &Arc<Self>, name: &str) -> Result<Network> {
        let found = self.find(name)?;
        if found.name() == "bridge"
            && let Err(error) = self.ready().await
        {
            tracing::warn!("{error}");
        }
        let state = self.state();
        let network = state.find(found.id())?;
        Ok(state.document(&network))
    }

    /// A container's networks. `runs`: whether it does, and `started` whether it ever did. `names`: with what it is
    /// called there.
    pub(crate) fn shown(&self, record: &Record, started: bool, runs: bool, names: bool) -> Shown {
        let state = self.state();
        let sandbox = state.sandboxes.get(&record.id).filter(|_| runs);
        let mut shown = Shown::default();
        for (name, settings) in &record.endpoints {
            let mut settings = settings.clone();
            let network = state.find(name).ok();
            let endpoint = network.as_ref().and_then(|network| sandbox?.endpoint(network.id()));
            settings.mac_address = endpoint.and_then(Endpoint::mac).map_or_else(
                || if started { String::new() } else { settings.mac_address.clone() },
                |mac| mac.to_string(),
            );
            if let Some(network) = network.filter(|_| started) {
                network.id().clone_into(&mut settings.network_id);
                if names && network.has_links() && network.is_user_defined() {
                    settings.dns_names = Some(names::of(record, &settings));
                }
            }
            if !names {
                settings.aliases = None;
            }
            if let Some(endpoint) = endpoint {
                fill(&mut settings, endpoint);
            }
            shown.networks.insert(name.clone(), settings);
        }
        if let Some(sandbox) = sandbox {
            shown.sandbox_id.clone_from(&sandbox.id);
            shown.ports = ports::document(record, &sandbox.published);
            shown.host = record.host_config.network_mode == "host";
        }
        shown
    }
}

/// Writes what an endpoint has into its document.
fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    settings.endpoint_id.clone_from(&endpoint.id);
    let router = |v6: bool| endpoint.router(v6).map(|address| address.to_string()).unwrap_or_default();
    let split = |net: Option<IpNet>| {
        net.map(|net| (net.addr().to_string(), i64::from(net.prefix_len()))).unwrap_or_default()
    };
    (settings.ip_address, settings.ip_prefix_len) = split(endpoint.address(false));
    (settings.global_ipv6_address, settings.global_ipv6_prefix_len) = split(endpoint.address(true));
    if endpoint.address(false).is_some() {
        settings.gateway = router(false);
    }
    if endpoint.address(true).is_some() {
        settings.ipv6_gateway = router(true);
    }
}

impl State {
    /// A network's document with the containers that run in it.
    fn document(&self, network: &Known) -> Network {
        let member = |(container, sandbox): (&String, &Arc<Sandbox>)| {
            let endpoint = sandbox.endpoint(network.id())?;
            Some((container.clone(), resource(&sandbox.name, endpoint)))
        };
        let containers = self.sandboxes.iter().filter_map(member).collect();
        Network { containers, ..network.document().clone() }
    }
}

fn resource(name: &str, endpoint: &Endpoint) -> EndpointResource {
    let address = |v6: bool| endpoint.address(v6).map(|net| net.to_string()).unwrap_or_default();
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.id.clone(),
        mac_address: endpoint.mac().map(|mac| mac.to_string()).unwrap_or_default(),
        ipv4_address: address(false),
        ipv6_address: address(true),
    }
}

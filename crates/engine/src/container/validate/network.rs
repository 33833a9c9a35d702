//! Networks asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_api::{ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig};

use crate::container::spec::peers::joined;
use crate::error::{Error, Result};
use crate::network::{BUILT_IN, Known, check};

fn mode(host: &HostConfig) -> &str {
    match host.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    }
}

fn built_in(name: &str) -> bool {
    name == "default" || BUILT_IN.contains(&name)
}

/// Checks endpoints, and moves the container's own MAC address to its endpoint.
pub(super) fn check_endpoints(
    config: &ContainerConfig,
    host: &HostConfig,
    networking: &mut NetworkingConfig,
    find: &dyn Fn(&str) -> Option<Arc<Known>>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let endpoints = networking.endpoints_config.get_or_insert_default();
    let mode = mode(host);
    if !config.mac_address.is_empty() {
        if !matches!(mode, "host" | "none") && joined(mode).is_none() {
            let endpoint = endpoints.entry(mode.to_owned()).or_default().get_or_insert_default();
            if endpoint.mac_address.is_empty() {
                endpoint.mac_address.clone_from(&config.mac_address);
            }
        }
        let instead = "It should be specified in EndpointsConfig instead.";
        warnings.push(format!("The container-wide MacAddress field is now deprecated. {instead}"));
    }
    for (name, endpoint) in endpoints.iter() {
        let wrong = |why: &str| Error::invalid(format!("invalid config for network {name}: {why}"));
        let endpoint = endpoint.as_ref().ok_or_else(|| wrong("EndpointsConfig is nil"))?;
        check::mac(&endpoint.mac_address).map_err(|error| wrong(error.message()))?;
        let known = find(name);
        let settings = check::settings(endpoint, built_in(name), known.as_deref());
        settings.map_err(|error| wrong(error.message()))?;
    }
    Ok(())
}

/// Fills in the network mode and the endpoint that goes with it.
pub(super) fn settle(
    config: &ContainerConfig,
    host: &mut HostConfig,
    networking: &mut NetworkingConfig,
    find: &dyn Fn(&str) -> Option<Arc<Known>>,
) {
    host.network_mode = mode(host).to_owned();
    let endpoints = networking.endpoints_config.get_or_insert_default();
    if let Some(endpoint) = endpoints.remove("default") {
        endpoints.insert("bridge".to_owned(), endpoint);
    }
    if joined(&host.network_mode).is_some() || config.network_disabled {
        *endpoints = BTreeMap::new();
    } else if endpoints.is_empty() {
        endpoints.insert(host.network_mode.clone(), Some(EndpointSettings::default()));
    }
    // A network goes by its name, however it was asked for.
    let asked = std::mem::take(endpoints);
    for (name, mut endpoint) in asked {
        let name = find(&name).map_or(name, |known| known.name().to_owned());
        if let Some(endpoint) = &mut endpoint {
            endpoint.ipam_config = endpoint.ipam_config.take().filter(|ipam| *ipam != Default::default());
        }
        endpoints.entry(name).or_insert(endpoint);
    }
    let mode =
        find(&host.network_mode).map_or_else(|| host.network_mode.clone(), |known| known.name().to_owned());
    let links = host.links.as_ref().filter(|links| !links.is_empty() && mode != "bridge");
    if let (Some(links), Some(Some(endpoint))) = (links, endpoints.get_mut(&mode)) {
        endpoint.links.get_or_insert_with(|| links.clone());
    }
    if !endpoints.is_empty() {
        endpoints.entry(mode).or_insert_with(|| Some(EndpointSettings::default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::EndpointIpamConfig;

    fn ask(endpoint: Option<EndpointSettings>) -> Result<()> {
        let endpoints_config = Some([("bridge".to_owned(), endpoint)].into());
        let mut networking = NetworkingConfig { endpoints_config };
        let (config, host) = (ContainerConfig::default(), HostConfig::default());
        check_endpoints(&config, &host, &mut networking, &|_| None, &mut Vec::new())
    }

    fn text(endpoint: Option<EndpointSettings>) -> String {
        ask(endpoint).unwrap_err().message().to_owned()
    }

    #[test]
    fn endpoints_are_refused_as_recorded() {
        let start = "invalid config for network bridge: ";
        assert_eq!(text(None), format!("{start}EndpointsConfig is nil"));
        let endpoint = EndpointSettings { mac_address: "zz".to_owned(), ..EndpointSettings::default() };
        assert_eq!(text(Some(endpoint)), format!("{start}invalid MAC address zz"));
        let ipam =
            EndpointIpamConfig { ipv4_address: "172.17.0.9".to_owned(), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() };
        let why = "user specified IP address is supported on user defined networks only";
        assert_eq!(text(Some(endpoint)), format!("{start}invalid endpoint settings:\n{why}"));
        let endpoint =
            EndpointSettings { aliases: Some(vec!["a".to_owned()]), ..EndpointSettings::default() };
        let why = "network-scoped alias is supported only for containers in user defined networks";
        assert_eq!(text(Some(endpoint)), format!("{start}invalid endpoint settings:\n{why}"));
        assert!(ask(Some(EndpointSettings::default())).is_ok());
    }

    #[test]
    fn every_mode_has_its_endpoint() {
        let names = |mode: &str| {
            let mut host = HostConfig { network_mode: mode.to_owned(), ..HostConfig::default() };
            let mut networking = NetworkingConfig::default();
            settle(&ContainerConfig::default(), &mut host, &mut networking, &|_| None);
            networking.endpoints_config.unwrap().into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["bridge"]);
        assert_eq!(names("none"), ["none"]);
        assert_eq!(names("container:x"), Vec::<String>::new());
    }
}

//! Networks asked for. Only the three built-in ones are there yet, and the default one has loopback alone.

use std::collections::BTreeMap;

use wharf_api::{ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig};

use crate::container::spec::peers::joined;
use crate::error::{Error, Result};
use crate::network::BUILT_IN;

/// Said at create about every container on the default network.
const LOOPBACK_ONLY: &str = "The bridge network is not available in this version of Wharf: the container has a loopback interface only.";

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
        if !endpoint.mac_address.is_empty() && !is_mac(&endpoint.mac_address) {
            return Err(wrong(&format!("invalid MAC address {}", endpoint.mac_address)));
        }
        let problems = problems(endpoint, built_in(name));
        match problems.as_slice() {
            [] => {}
            [one] => return Err(wrong(&format!("invalid endpoint settings:\n{one}"))),
            many => return Err(wrong(&format!("invalid endpoint settings:\n* {}", many.join("\n* ")))),
        }
    }
    Ok(())
}

fn problems(endpoint: &EndpointSettings, built_in: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let addresses = !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty();
    if built_in && addresses {
        problems.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if built_in && endpoint.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
        problems.push(
            "network-scoped alias is supported only for containers in user defined networks".to_owned(),
        );
    }
    let (v4, v6) = (&ipam.ipv4_address, &ipam.ipv6_address);
    if !v4.is_empty() && v4.parse::<std::net::Ipv4Addr>().is_err() {
        problems.push(format!("invalid IPv4 address: {v4}"));
    }
    if !v6.is_empty() && v6.parse::<std::net::Ipv6Addr>().is_err() {
        problems.push(format!("invalid IPv6 address: {v6}"));
    }
    problems
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let pair = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(pair)
}

/// Fills in the network mode and the endpoint that goes with it.
pub(super) fn settle(
    config: &ContainerConfig,
    host: &mut HostConfig,
    networking: &mut NetworkingConfig,
    warnings: &mut Vec<String>,
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
    if host.network_mode == "bridge" && !config.network_disabled {
        warnings.push(LOOPBACK_ONLY.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::EndpointIpamConfig;

    fn ask(endpoint: Option<EndpointSettings>) -> Result<()> {
        let endpoints_config = Some([("bridge".to_owned(), endpoint)].into());
        let mut networking = NetworkingConfig { endpoints_config };
        check_endpoints(&ContainerConfig::default(), &HostConfig::default(), &mut networking, &mut Vec::new())
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
            let (mut networking, mut warnings) = (NetworkingConfig::default(), Vec::new());
            settle(&ContainerConfig::default(), &mut host, &mut networking, &mut warnings);
            (networking.endpoints_config.unwrap().into_keys().collect::<Vec<_>>(), warnings.len())
        };
        assert_eq!(names(""), (vec!["bridge".to_owned()], 1));
        assert_eq!(names("none"), (vec!["none".to_owned()], 0));
        assert_eq!(names("container:x"), (vec![], 0));
    }
}

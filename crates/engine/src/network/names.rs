//! What a container is called in its networks, and what it may ask for.

use std::net::IpAddr;

use wharf_api::EndpointSettings;
use wharf_network::names::{Endpoint as NamesIn, Link, Names};

use super::sandbox::Sandbox;
use crate::config::EngineConfig;
use crate::container::record::Record;

/// The names of a container in a network: its own, the aliases, the short id, its host name.
pub(super) fn of(record: &Record, settings: &EndpointSettings) -> Vec<String> {
    let aliases = settings.aliases.iter().flatten().map(String::as_str);
    let all = [record.name.as_str()].into_iter().chain(aliases);
    let all = all.chain([record.short_id(), record.config.hostname.as_str()]);
    let mut names: Vec<String> = Vec::new();
    for name in all.filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The record for the net helper.
pub(super) fn table(engine: &EngineConfig, record: &Record, sandbox: &Sandbox) -> Names {
    let endpoints = sandbox.endpoints.iter().filter(|endpoint| endpoint.named);
    let endpoints = endpoints.map(|endpoint| NamesIn {
        network: endpoint.network.clone(),
        network_name: endpoint.network_name.clone(),
        internal: endpoint.internal,
        addresses: endpoint.addresses.iter().map(super::IpNet::addr).collect(),
        names: endpoint.names.clone(),
    });
    let host = &record.host_config;
    let servers = Some(host.dns.as_deref().unwrap_or_default()).filter(|list| !list.is_empty());
    let servers = servers.unwrap_or(&engine.dns).iter().filter_map(|server| server.parse::<IpAddr>().ok());
    let options = Some(host.dns_options.as_deref().unwrap_or_default()).filter(|list| !list.is_empty());
    let options = options.unwrap_or(&engine.dns_options).iter();
    let mut ndots = options.filter_map(|option| option.strip_prefix("ndots:"));
    Names {
        endpoints: endpoints.collect(),
        links: links(record, sandbox),
        servers: servers.collect(),
        ndots: ndots.any(|number| number.parse::<u32>().is_ok_and(|number| number > 0)),
    }
}

/// `--link TARGET:ALIAS` in networks that answer names.
fn links(record: &Record, sandbox: &Sandbox) -> Vec<Link> {
    let mut links = Vec::new();
    for endpoint in sandbox.endpoints.iter().filter(|endpoint| endpoint.named) {
        let asked = record.endpoints.get(&endpoint.network_name).and_then(|one| one.links.as_ref());
        for text in asked.into_iter().flatten() {
            let (target, alias) = split(text);
            let (alias, target) = (alias.to_owned(), target.to_owned());
            links.push(Link { alias, target, network: endpoint.network.clone() });
        }
    }
    links
}

/// A link's target and alias.
pub(crate) fn split(link: &str) -> (&str, &str) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    let plain = |name| str::trim_start_matches(name, '/');
    // Kept as `/target:/name/alias` by engines of old.
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (plain(target), if alias.is_empty() { plain(target) } else { alias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_a_target_and_an_alias() {
        assert_eq!(split("db"), ("db", "db"));
        assert_eq!(split("/db:/web/base"), ("db", "base"));
        assert_eq!(split("db:base"), ("db", "base"));
    }
}

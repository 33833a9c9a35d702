//! From where published ports can be reached, under the host's firewall as it is now.

use std::sync::Arc;

use wharf_network::types::{Opening, Reach};

use super::{Networks, ports};
use crate::error::Result;
use crate::pools::Class;

/// One published port and who can reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// `0.0.0.0:8080->80/tcp`.
    pub port: String,
    /// For people: `everywhere`, `this host only (closed by ip filter INPUT)`.
    pub from: String,
}

impl Networks {
    /// Who can reach the published ports of a running container; those that everybody reaches are left out.
    ///
    /// # Errors
    /// Never so far; the kernel is asked for nothing.
    pub async fn limited_ports(self: &Arc<Self>, container: &str) -> Result<Vec<Reachable>> {
        let (networks, container) = (self.clone(), container.to_owned());
        self.pools.run(Class::Network, move || Ok(networks.limited(&container))).await
    }

    fn limited(&self, container: &str) -> Vec<Reachable> {
        let (Some(sandbox), Some(kernel)) = (self.sandbox(container), self.opened()) else {
            return Vec::new();
        };
        let (mappings, _) = ports::routes(&sandbox, &sandbox.published);
        let limited = |mapping: &wharf_network::types::Mapping| {
            let from = match kernel.plane.reach(mapping) {
                Reach::Anywhere | Reach::Address(_) => return None,
                Reach::HostOnly { closed_by } => {
                    format!("this host and its containers only (the host's firewall, {closed_by}, closes it)")
                }
                Reach::Some(openings) => {
                    let all: Vec<String> = openings.iter().map(opening).collect();
                    format!("this host, its containers and {} only", all.join(", "))
                }
            };
            let place = std::net::SocketAddr::new(mapping.host, mapping.host_port);
            let port = format!("{place}->{}/{}", mapping.container_port, mapping.protocol.name());
            Some(Reachable { port, from })
        };
        mappings.iter().filter_map(limited).collect()
    }
}

fn opening(one: &Opening) -> String {
    match (&one.source, &one.interface) {
        (Some(source), Some(interface)) => format!("{source} through {interface}"),
        (Some(source), None) => source.to_string(),
        (None, Some(interface)) => format!("whatever comes through {interface}"),
        (None, None) => "everybody".to_owned(),
    }
}

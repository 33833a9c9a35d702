//! What the host's own routes say.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Plane, lock};
use crate::error::Result;
use crate::{link, route};

impl Plane {
    /// The subnets that the host has routes to and its name servers, which address pools must not take.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn host_subnets(&self) -> Result<Vec<IpNet>> {
        let routes = route::list(&mut lock(&self.route))?;
        let mut subnets: Vec<_> = routes.iter().filter_map(|route| route.to).collect();
        let settings = std::fs::read_to_string(self.settings.host_root.join("etc/resolv.conf"));
        subnets.extend(name_servers(&settings.unwrap_or_default()).map(IpNet::from));
        subnets.sort();
        subnets.dedup();
        Ok(subnets)
    }

    /// The packet size of the host's uplink in bytes: the interface of the best default route; 1500 without
    /// one.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn uplink_mtu(&self) -> Result<u32> {
        /// Ethernet's.
        const DEFAULT: u32 = 1500;
        let mut channel = lock(&self.route);
        let routes = route::list(&mut channel)?;
        // IPv4 comes first in the list and wins at equal metrics.
        let best = routes.iter().filter(|route| route.to.is_none()).min_by_key(|route| {
            let v6 = route.gateway.is_some_and(|gateway| gateway.is_ipv6());
            (v6, route.metric)
        });
        let Some(index) = best.and_then(|route| route.interface) else { return Ok(DEFAULT) };
        Ok(link::by_index(&mut channel, index)?.map_or(DEFAULT, |link| link.mtu))
    }
}

fn name_servers(settings: &str) -> impl Iterator<Item = IpAddr> {
    settings
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .filter(|address| !address.is_loopback())
}

//! What the plane remembers of a network.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::link::MAX_PORTS;
use crate::types::{MacAddress, Network};

/// A network that is there.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) network: Network,
    /// The bridge, or the parent of macvlan and ipvlan.
    pub(super) interface: String,
    pub(super) index: u32,
    /// The bridge's address.
    pub(super) mac: MacAddress,
    pub(super) mtu: u32,
    /// The interface was made here and goes with the network.
    pub(super) made: bool,
    endpoints: Mutex<HashSet<String>>,
    /// Whether its ports on the bridge are cut off from each other now.
    pub(super) isolated: AtomicBool,
}

impl Known {
    pub(super) fn new(network: Network, link: &crate::link::Link, made: bool) -> Self {
        Self {
            network,
            interface: link.name.clone(),
            index: link.index,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
            made,
            endpoints: Mutex::default(),
            isolated: AtomicBool::new(false),
        }
    }

    /// With another packet size for endpoints than the interface has now.
    pub(super) fn of_size(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// The same network with other settings; the endpoints stay.
    pub(super) fn with(&self, network: Network, mtu: u32) -> Self {
        let endpoints = Mutex::new(super::lock(&self.endpoints).clone());
        let isolated = AtomicBool::new(self.isolated.load(Ordering::Relaxed));
        Self { network, interface: self.interface.clone(), mtu, endpoints, isolated, ..*self }
    }

    /// Takes one more endpoint in.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub(super) fn enter(&self, endpoint: &str) -> Result<()> {
        let mut endpoints = super::lock(&self.endpoints);
        if self.network.bridge().is_some() && endpoints.len() >= MAX_PORTS && !endpoints.contains(endpoint) {
            return Err(self.full());
        }
        endpoints.insert(endpoint.to_owned());
        Ok(())
    }

    pub(super) fn leave(&self, endpoint: &str) {
        super::lock(&self.endpoints).remove(endpoint);
    }

    pub(super) fn full(&self) -> Error {
        Error::Full { name: self.network.name.clone(), limit: MAX_PORTS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Link;
    use crate::types::{Bridge, Driver, GatewayMode};

    #[test]
    fn a_bridge_carries_so_many_and_no_more() {
        let bridge = Bridge {
            interface: "wharf0".into(),
            own: true,
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            icc: true,
            masquerade: true,
            inhibit_ipv4: false,
            source4: None,
            source6: None,
        };
        let network = Network {
            id: "id".into(),
            name: "crowd".into(),
            driver: Driver::Bridge(bridge),
            mtu: None,
            internal: false,
            subnets: vec![],
        };
        let link = Link {
            index: 7,
            name: "wharf0".into(),
            kind: "bridge".into(),
            mtu: 1500,
            mac: None,
            below: None,
            master: None,
            up: true,
            alias: String::new(),
        };
        let known = Known::new(network, &link, true);
        for number in 0..1023 {
            known.enter(&number.to_string()).unwrap();
        }
        let full = known.enter("one more").unwrap_err();
        assert_eq!(full.to_string(), "network crowd is full: a bridge carries 1023 endpoints");
        known.enter("7").unwrap();
        known.leave("7");
        known.enter("one more").unwrap();
    }
}

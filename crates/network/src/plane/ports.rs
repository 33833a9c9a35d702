//! Published ports.

use super::known::Known;
use super::{Plane, lock};
use crate::conntrack;
use crate::error::Result;
use crate::link::{self, PortOptions};
use crate::netlink::Batch;
use crate::types::{Attached, Mapping, Protocol};

impl Plane {
    /// Publishes more ports of an endpoint, all or none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn publish(&self, attached: &mut Attached, ports: &[Mapping]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let known = self.known(&attached.network)?;
        if attached.ports.is_empty() && attached.host_index != 0 {
            let mut batch = Batch::new();
            let options = PortOptions { hairpin: Some(true), isolated: None };
            link::set_port(&mut batch, attached.host_index, options);
            lock(&self.route).run(batch)?;
        }
        self.open_ports(attached, &known, ports)
    }

    /// The table's part of publishing.
    pub(super) fn open_ports(&self, attached: &mut Attached, known: &Known, ports: &[Mapping]) -> Result<()> {
        self.firewall.publish(&attached.endpoint, &known.network, ports)?;
        let new: Vec<_> = ports.iter().filter(|port| !attached.ports.contains(port)).cloned().collect();
        attached.ports.extend(new);
        forget_connections(ports);
        Ok(())
    }

    /// Takes ports back; those that are not published are skipped.
    ///
    /// # Errors
    /// What the kernel refused; the ports are forgotten all the same.
    pub fn unpublish(&self, attached: &mut Attached, ports: &[Mapping]) -> Result<()> {
        let known = self.known(&attached.network)?;
        attached.ports.retain(|port| !ports.contains(port));
        let closed = self.firewall.unpublish(&attached.endpoint, &known.network, ports);
        forget_connections(ports);
        closed
    }

    /// Takes back all ports of an endpoint.
    pub(super) fn close_ports(&self, attached: &Attached) -> Result<()> {
        let closed = self.firewall.forget(&attached.endpoint);
        forget_connections(&attached.ports);
        closed
    }
}

/// A port whose old connections can't be forgotten is published all the same.
fn forget_connections(ports: &[Mapping]) {
    for v6 in [false, true] {
        let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp && port.host.is_ipv6() == v6);
        let udp: Vec<_> = udp.map(|port| port.host_port).collect();
        if let Err(error) = conntrack::forget_udp(v6, &udp) {
            tracing::warn!("forget connections to published ports: {error}");
        }
    }
}

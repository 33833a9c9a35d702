//! Published ports.

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
        self.firewall.publish(&attached.endpoint, &known.network, ports)?;
        let first = attached.ports.is_empty();
        let new: Vec<_> = ports.iter().filter(|port| !attached.ports.contains(port)).cloned().collect();
        attached.ports.extend(new);
        if first && attached.host_index != 0 {
            let mut batch = Batch::new();
            link::set_port(
                &mut batch,
                attached.host_index,
                PortOptions { hairpin: Some(true), isolated: None },
            );
            lock(&self.route).run(batch)?;
        }
        forget_connections(ports)
    }

    /// Takes ports back; those that are not published are skipped.
    ///
    /// # Errors
    /// What the kernel refused; the ports are forgotten all the same.
    pub fn unpublish(&self, attached: &mut Attached, ports: &[Mapping]) -> Result<()> {
        let known = self.known(&attached.network)?;
        attached.ports.retain(|port| !ports.contains(port));
        let closed = self.firewall.unpublish(&attached.endpoint, &known.network, ports);
        closed.and(forget_connections(ports))
    }

    /// Takes back all ports of an endpoint.
    pub(super) fn close_ports(&self, attached: &Attached) -> Result<()> {
        self.firewall.forget(&attached.endpoint).and(forget_connections(&attached.ports))
    }
}

fn forget_connections(ports: &[Mapping]) -> Result<()> {
    let mut result = Ok(());
    for v6 in [false, true] {
        let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp && port.host.is_ipv6() == v6);
        let udp: Vec<_> = udp.map(|port| port.host_port).collect();
        result = result.and(conntrack::forget_udp(v6, &udp));
    }
    result
}

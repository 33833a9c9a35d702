//! Endpoints: a namespace's place on a network.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use rustix::io::Errno;

use super::gateway::Gateway;
use super::known::Known;
use super::names::{host_end, mac_of};
use super::{Plane, Target, lock};
use crate::error::{Error, Result};
use crate::link::{self, Link, Pair, PortOptions};
use crate::netlink::{Batch, Channel};
use crate::types::{Attached, Bandwidth, Driver, Endpoint, MacAddress};
use crate::{address, bandwidth, neighbour, sysctl};

/// More removals than this wait for no next endpoint.
const STALE: usize = 64;

impl Plane {
    /// Connects a namespace to a network, with addresses, routes, limits and published ports; all of it or,
    /// on failure, nothing.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::NoNetwork`]; what the kernel refused.
    pub fn attach(&self, endpoint: &Endpoint, target: Target<'_>) -> Result<Attached> {
        let known = self.known(&endpoint.network)?;
        known.enter(&endpoint.id)?;
        let attached = self.connect(endpoint, &known, target);
        if attached.is_err() {
            known.leave(&endpoint.id);
        }
        attached
    }

    fn connect(&self, endpoint: &Endpoint, known: &Known, target: Target<'_>) -> Result<Attached> {
        let mut inside = Channel::borrow(target.route)?;
        let mac = endpoint.mac.unwrap_or_else(|| mac_of(&endpoint.addresses));
        let mut attached = self.make_link(endpoint, known, mac, target.namespace, &mut inside)?;
        let set_up = self
            .configure(endpoint, known, &attached, target.namespace, &mut inside)
            .and_then(|()| self.open_ports(&mut attached, known, &endpoint.ports));
        match set_up {
            Ok(()) => Ok(attached),
            Err(error) => {
                // The first error counts; what is left over, the namespace takes with it.
                let _ = self.take_down(&attached, known, &mut inside);
                Err(error)
            }
        }
    }

    /// The interface inside, down, and the host's end of it, up.
    fn make_link(
        &self,
        endpoint: &Endpoint,
        known: &Known,
        mac: MacAddress,
        namespace: BorrowedFd<'_>,
        inside: &mut Channel,
    ) -> Result<Attached> {
        let attached = |host: Option<&Link>, index, mac| Attached {
            endpoint: endpoint.id.clone(),
            network: endpoint.network.clone(),
            host_interface: host.map(|link| link.name.clone()),
            host_index: host.map_or(0, |link| link.index),
            interface: endpoint.interface.clone(),
            index,
            mac,
            addresses: endpoint.addresses.clone(),
            bandwidth: Bandwidth::default(),
            ports: vec![],
        };
        if known.network.bridge().is_some() {
            let host = self.make_pair(endpoint, known, mac, namespace)?;
            let index =
                host.below.ok_or_else(|| Error::Unexpected(format!("create interface {}", host.name)))?;
            return Ok(attached(Some(&host), index, mac));
        }
        let mut batch = Batch::new();
        let parent = (known.index, known.interface.as_str(), known.mtu);
        let name = endpoint.interface.as_str();
        match &known.network.driver {
            Driver::Ipvlan { mode, flag, .. } => {
                link::create_ipvlan(&mut batch, parent, *mode, *flag, name, namespace);
            }
            Driver::Macvlan { mode, .. } => {
                link::create_macvlan(&mut batch, parent, *mode, (name, mac), namespace);
            }
            Driver::Bridge(_) => {}
        }
        lock(&self.route).run(batch)?;
        let made = link::find(inside, name)?;
        let made = made.ok_or_else(|| Error::Unexpected(format!("create interface {name}")))?;
        Ok(attached(None, made.index, made.mac.unwrap_or(mac)))
    }

    fn make_pair(
        &self,
        endpoint: &Endpoint,
        known: &Known,
        mac: MacAddress,
        namespace: BorrowedFd<'_>,
    ) -> Result<Link> {
        let name = host_end(&endpoint.id);
        let isolated = self.isolation(known)?;
        let mut batch = Batch::new();
        for (index, address) in lock(&self.stale).drain(..) {
            neighbour::remove(&mut batch, index, address);
        }
        let pair = Pair {
            name: &name,
            master: known.index,
            inside: &endpoint.interface,
            mac,
            mtu: known.mtu,
            namespace,
            v6: self.v6,
            port: PortOptions { hairpin: Some(!endpoint.ports.is_empty()), isolated: Some(isolated) },
        };
        link::create_pair(&mut batch, &pair);
        for address in &endpoint.addresses {
            neighbour::add(&mut batch, known.index, address.addr(), mac);
        }
        link::ask(&mut batch, &name);
        let mut made = None;
        let mut channel = lock(&self.route);
        let sent = channel.send(batch, |message| made = Link::parse(message));
        match (sent, made) {
            (Ok(()), Some(link)) => Ok(link),
            (Ok(()), None) => Err(Error::Unexpected(format!("create interface {name}"))),
            (Err(error), made) => {
                // One that was there before stays.
                if let Some(link) = made.filter(|_| error.errno() != Some(Errno::EXIST)) {
                    link::remove(&mut channel, link.index, &name)?;
                }
                Err(if error.errno() == Some(Errno::XFULL) { known.full() } else { error })
            }
        }
    }

    /// Addresses, routes, settings and limits.
    fn configure(
        &self,
        endpoint: &Endpoint,
        known: &Known,
        attached: &Attached,
        namespace: BorrowedFd<'_>,
        inside: &mut Channel,
    ) -> Result<()> {
        if !endpoint.sysctls.is_empty() {
            sysctl::write_inside(namespace, &endpoint.interface, &endpoint.sysctls)?;
        }
        let mut batch = Batch::new();
        let index = attached.index;
        let has = |v6| endpoint.addresses.iter().any(|net| matches!(net, IpNet::V6(_)) == v6);
        if self.v6 && !has(true) {
            link::set_up_without_link_local(&mut batch, index);
        } else {
            link::set_up(&mut batch, index, true);
        }
        for net in &endpoint.addresses {
            address::add(&mut batch, index, *net);
        }
        if let Some(bridge) = known.network.bridge() {
            let isolated = |gateway: IpAddr| bridge.mode(gateway) == crate::types::GatewayMode::Isolated;
            for gateway in known.network.subnets.iter().filter_map(|subnet| subnet.gateway) {
                if has(gateway.is_ipv6())
                    && known.made
                    && !isolated(gateway)
                    && !(gateway.is_ipv4() && bridge.inhibit_ipv4)
                {
                    neighbour::add(&mut batch, index, gateway, known.mac);
                }
            }
        }
        for gateway in &endpoint.gateways {
            Gateway::Via(*gateway).add(&mut batch, index, &endpoint.addresses);
        }
        if endpoint.on_link {
            for (gateway, v6) in [(Gateway::OnLink4, false), (Gateway::OnLink6, true)] {
                if has(v6) {
                    gateway.add(&mut batch, index, &[]);
                }
            }
        }
        inside.run(batch)?;
        self.limit(attached, endpoint.bandwidth, known.mtu, inside)
    }

    /// Sets limits; `attached` says which there were.
    fn limit(&self, attached: &Attached, wanted: Bandwidth, mtu: u32, inside: &mut Channel) -> Result<()> {
        let had = attached.bandwidth;
        if wanted.ingress.is_some() && attached.host_interface.is_none() {
            return Err(Error::Unsupported(
                "what a macvlan or ipvlan endpoint receives can't be limited".to_owned(),
            ));
        }
        let set = |channel: &mut Channel, index, had: Option<u64>, wanted: Option<u64>| {
            let mut batch = Batch::new();
            match (had, wanted) {
                (old, new) if old == new => {}
                (_, Some(rate)) => bandwidth::limit(&mut batch, index, rate, mtu),
                (_, None) => bandwidth::unlimit(&mut batch, index),
            }
            channel.run(batch)
        };
        set(inside, attached.index, had.egress, wanted.egress)?;
        set(&mut lock(&self.route), attached.host_index, had.ingress, wanted.ingress)
    }

    /// Changes an endpoint's limits while it runs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_bandwidth(
        &self,
        attached: &mut Attached,
        limits: Bandwidth,
        target: Target<'_>,
    ) -> Result<()> {
        let known = self.known(&attached.network)?;
        self.limit(attached, limits, known.mtu, &mut Channel::borrow(target.route)?)?;
        attached.bandwidth = limits;
        Ok(())
    }

    /// Takes an endpoint out of a namespace that lives on, and its ports back; waits for the kernel.
    ///
    /// # Errors
    /// What the kernel refused; everything else is gone all the same.
    pub fn detach(&self, attached: &Attached, target: Target<'_>) -> Result<()> {
        let known = self.known(&attached.network)?;
        let taken = Channel::borrow(target.route)
            .and_then(|mut inside| self.take_down(attached, &known, &mut inside));
        known.leave(&attached.endpoint);
        taken
    }

    fn take_down(&self, attached: &Attached, known: &Known, inside: &mut Channel) -> Result<()> {
        let closed = self.close_ports(attached);
        let mut batch = Batch::new();
        for address in &attached.addresses {
            neighbour::remove(&mut batch, known.index, address.addr());
        }
        let forgotten = if attached.host_interface.is_some() { lock(&self.route).run(batch) } else { Ok(()) };
        // With one end of a pair goes the other.
        link::remove(inside, attached.index, &attached.interface).and(closed).and(forgotten)
    }

    /// Takes back what an endpoint had outside its namespace (ports, neighbour entries, its place on the
    /// bridge), whose interfaces go with the namespace; never waits for them.
    ///
    /// # Errors
    /// What the kernel refused; everything else is gone all the same.
    pub fn forget(&self, attached: &Attached) -> Result<()> {
        let closed = self.close_ports(attached);
        // A network that was removed meanwhile took the rest with it.
        let Ok(known) = self.known(&attached.network) else { return closed };
        known.leave(&attached.endpoint);
        if attached.host_interface.is_none() {
            return closed;
        }
        let mut stale = lock(&self.stale);
        stale.extend(attached.addresses.iter().map(|net| (known.index, net.addr())));
        let many: Vec<_> = if stale.len() > STALE { stale.drain(..).collect() } else { vec![] };
        drop(stale);
        let mut batch = Batch::new();
        for (index, address) in many {
            neighbour::remove(&mut batch, index, address);
        }
        lock(&self.route).run(batch).and(closed)
    }
}

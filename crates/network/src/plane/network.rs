//! Networks: made, changed, removed.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use rustix::io::Errno;

use super::known::Known;
use super::names::{alias, group, nowhere, random_mac};
use super::{Plane, lock};
use crate::address;
use crate::error::{Error, Result};
use crate::link::{self, BridgeOptions, Link};
use crate::netlink::{Batch, Channel};
use crate::sysctl;
use crate::types::{Bridge, Driver, GatewayMode, Network};

impl Plane {
    /// Makes a network: its bridge with addresses, or the parent of macvlan and ipvlan. A bridge of that name
    /// which is there already is used and stays when the network goes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a driver that the kernel lacks, [`Error::NoInterface`] for a parent that is
    /// not there; what the kernel refused. Nothing is left behind then.
    pub fn create_network(&self, network: &Network) -> Result<()> {
        if self.read_networks(|networks| networks.contains_key(&network.id)) {
            return Err(Error::Invalid(format!("network {} exists already", network.name)));
        }
        let known = self.make_interface(network)?;
        let enabled = self.enable(network);
        if let Err(error) = enabled {
            let _first_error_counts = self.firewall.remove_network(&network.id);
            self.drop_interface(&known)?;
            return Err(error);
        }
        self.change_networks(|networks| networks.insert(network.id.clone(), Arc::new(known)));
        Ok(())
    }

    fn enable(&self, network: &Network) -> Result<()> {
        if has_family(network, true) && network.bridge().is_some() && !network.internal {
            self.forward(true)?;
        }
        self.firewall.set_network(network)
    }

    /// The network's interface, made or found, with its addresses and up.
    pub(super) fn make_interface(&self, network: &Network) -> Result<Known> {
        match &network.driver {
            Driver::Bridge(bridge) => self.make_bridge(network, bridge),
            Driver::Macvlan { parent, .. } => self.find_parent(network, parent.as_deref(), "macvlan"),
            Driver::Ipvlan { parent, .. } => self.find_parent(network, parent.as_deref(), "ipvlan"),
        }
    }

    fn make_bridge(&self, network: &Network, bridge: &Bridge) -> Result<Known> {
        let name = &bridge.interface;
        let mtu = match network.mtu {
            Some(mtu) => mtu,
            None => self.uplink_mtu()?,
        };
        let mut channel = lock(&self.route);
        let found = link::find(&mut channel, name)?;
        if let Some(link) = &found
            && link.kind != "bridge"
        {
            return Err(Error::Invalid(format!("interface {name} exists and is no bridge")));
        }
        let (link, made) = match found {
            Some(link) => {
                let ours = link.alias == alias(&self.settings.instance);
                (link, ours && bridge.own)
            }
            None if !bridge.own => return Err(Error::NoInterface(format!("bridge {name} not found"))),
            None => (self.create_bridge(&mut channel, bridge, mtu)?, true),
        };
        let known = Known::new(network.clone(), &link, made).of_size(mtu);
        match self.address_bridge(&mut channel, network, bridge, &known) {
            Ok(()) => Ok(known),
            Err(error) => {
                if made {
                    link::remove(&mut channel, link.index, name)?;
                }
                Err(error)
            }
        }
    }

    fn create_bridge(&self, channel: &mut Channel, bridge: &Bridge, mtu: u32) -> Result<Link> {
        let mut batch = Batch::new();
        let options = BridgeOptions {
            name: &bridge.interface,
            mac: random_mac(),
            mtu,
            alias: &alias(&self.settings.instance),
            localnet: self.settings.firewall4 && translates(bridge.mode4),
        };
        link::create_bridge(&mut batch, &options);
        ask_and_find(channel, batch, &bridge.interface)
    }

    fn address_bridge(
        &self,
        channel: &mut Channel,
        network: &Network,
        bridge: &Bridge,
        known: &Known,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let v6 = has_family(network, true);
        if v6 && !self.v6 {
            return Err(Error::Unsupported("the kernel has no IPv6, or it is turned off".to_owned()));
        }
        if known.made && self.v6 {
            link::set_up_without_link_local(&mut batch, known.index);
        } else {
            link::set_up(&mut batch, known.index, true);
        }
        if known.made {
            link::set_group(&mut batch, known.index, group(&self.settings.instance));
        }
        let wanted = bridge_addresses(network, bridge, known.made)?;
        if known.made {
            for (_, net) in address::list(channel)?.iter().filter(|(index, _)| *index == known.index) {
                if !wanted.contains(net) {
                    address::remove(&mut batch, known.index, *net);
                }
            }
        }
        for net in wanted {
            address::add(&mut batch, known.index, net);
        }
        channel.run(batch)?;
        if self.v6 && known.made {
            // A container must not become the host's router by saying so.
            sysctl::write(&format!("ipv6/conf/{}/accept_ra", bridge.interface), "0")?;
        }
        Ok(())
    }

    fn find_parent(&self, network: &Network, parent: Option<&str>, kind: &'static str) -> Result<Known> {
        let mut channel = lock(&self.route);
        if !link::has_kind(&mut channel, kind)? {
            return Err(Error::Unsupported(format!(
                "the kernel has no {kind} interfaces (CONFIG_{})",
                kind.to_uppercase()
            )));
        }
        let alias = alias(&self.settings.instance);
        let Some(parent) = parent else {
            let (near, far) = nowhere(&network.id);
            let mut batch = Batch::new();
            link::create_loop(&mut batch, (&near, &far), network.mtu.unwrap_or(1500), &alias, self.v6);
            let link = match link::find(&mut channel, &near)? {
                Some(link) => link,
                None => ask_and_find(&mut channel, batch, &near)?,
            };
            return up(&mut channel, network, &link, true);
        };
        if let Some(link) = link::find(&mut channel, parent)? {
            return up(&mut channel, network, &link, link.alias == alias);
        }
        let (below, id) = vlan(parent)?;
        let missing =
            || Error::NoInterface(format!("the parent interface {below} was not found on the host"));
        let below = link::find(&mut channel, below)?.ok_or_else(missing)?;
        let mut batch = Batch::new();
        link::create_vlan(&mut batch, below.index, parent, id, &alias);
        match ask_and_find(&mut channel, batch, parent) {
            Ok(link) => up(&mut channel, network, &link, true),
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Err(Error::Unsupported(format!(
                "the kernel has no VLAN interfaces (CONFIG_VLAN_8021Q): {parent} can't be made"
            ))),
            Err(error) => Err(error),
        }
    }

    /// Changes what may change while endpoints are there: icc, masquerade, internal, gateway modes, mtu (of
    /// later endpoints).
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::Invalid`] for another driver or other subnets; what the kernel refused.
    pub fn update_network(&self, network: &Network) -> Result<()> {
        let known = self.known(&network.id)?;
        let same_interface = match (&known.network.driver, &network.driver) {
            (Driver::Bridge(old), Driver::Bridge(new)) => {
                old.interface == new.interface && old.own == new.own
            }
            (old, new) => old == new,
        };
        if !same_interface || known.network.subnets != network.subnets {
            return Err(Error::Invalid(format!(
                "driver and subnets of network {} can't be changed",
                network.name
            )));
        }
        self.enable(network)?;
        let mtu = network.mtu.unwrap_or(known.mtu);
        let mut batch = Batch::new();
        if mtu != known.mtu && known.made {
            link::set_mtu(&mut batch, known.index, mtu);
        }
        lock(&self.route).run(batch)?;
        let changed = Arc::new(known.with(network.clone(), mtu));
        self.isolation(&changed)?;
        self.change_networks(|networks| networks.insert(network.id.clone(), changed));
        Ok(())
    }

    /// Removes a network and what was made for it; waits for the kernel. One that is not there is no error.
    ///
    /// # Errors
    /// What the kernel refused; the network is gone from the plane all the same.
    pub fn remove_network(&self, id: &str) -> Result<()> {
        let Some(known) = self.change_networks(|networks| networks.remove(id)) else { return Ok(()) };
        lock(&self.stale).retain(|(index, _)| *index != known.index);
        let closed = self.firewall.remove_network(id);
        self.drop_interface(&known).and(closed)
    }

    fn drop_interface(&self, known: &Known) -> Result<()> {
        // VLAN sub-interfaces may carry several networks.
        let shared = self.read_networks(|networks| networks.values().any(|other| other.index == known.index));
        if known.made && !shared {
            link::remove(&mut lock(&self.route), known.index, &known.interface)?;
        }
        Ok(())
    }
}

/// The addresses that a bridge has.
fn bridge_addresses(network: &Network, bridge: &Bridge, made: bool) -> Result<Vec<IpNet>> {
    let mut wanted = vec![];
    for subnet in &network.subnets {
        let Some(gateway) = subnet.gateway else { continue };
        if bridge.mode(gateway) == GatewayMode::Isolated || gateway.is_ipv4() && bridge.inhibit_ipv4 {
            continue;
        }
        // The gateway is of the subnet's family, whose prefix length it gets.
        let net = IpNet::new(gateway, subnet.net.prefix_len()).map_err(|_| Error::AddressOutside(gateway))?;
        wanted.push(net);
    }
    if made && has_family(network, true) && bridge.mode6 != GatewayMode::Isolated {
        // Neighbours ask from and for link-local addresses too; as Docker has it.
        let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        wanted.push(IpNet::V6(ipnet::Ipv6Net::new_assert(local, 64)));
    }
    Ok(wanted)
}

/// Whether ports of 127.0.0.1 lead into a network of this mode.
fn translates(mode: GatewayMode) -> bool {
    matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
}

pub(super) fn has_family(network: &Network, v6: bool) -> bool {
    network.subnets.iter().any(|subnet| matches!(subnet.net.addr(), IpAddr::V6(_)) == v6)
}

/// Sends a batch that makes an interface, and finds that.
fn ask_and_find(channel: &mut Channel, mut batch: Batch, name: &str) -> Result<Link> {
    link::ask(&mut batch, name);
    let mut found = None;
    let sent = channel.send(batch, |message| found = Link::parse(message));
    match (sent, found) {
        (Ok(()), Some(link)) => Ok(link),
        (Err(error), Some(link)) if error.errno() != Some(Errno::EXIST) => {
            // It was made, but not as it should be.
            link::remove(channel, link.index, name)?;
            Err(error)
        }
        (Err(error), _) => Err(error),
        (Ok(()), None) => Err(Error::Unexpected(format!("find interface {name}"))),
    }
}

fn up(channel: &mut Channel, network: &Network, link: &Link, made: bool) -> Result<Known> {
    if made {
        let mut batch = Batch::new();
        link::set_up(&mut batch, link.index, true);
        channel.run(batch)?;
    }
    Ok(Known::new(network.clone(), link, made).of_size(network.mtu.unwrap_or(link.mtu)))
}

/// `eth0.50`: the interface below and the VLAN's number.
fn vlan(name: &str) -> Result<(&str, u16)> {
    let numbered = name.rsplit_once('.').and_then(|(below, id)| Some((below, id.parse::<u16>().ok()?)));
    match numbered {
        Some((below, id)) if (1..4095).contains(&id) => Ok((below, id)),
        Some((_, id)) => Err(Error::Invalid(format!("vlan id must be between 1-4094, received: {id}"))),
        None => Err(Error::NoInterface(format!("the parent interface {name} was not found on the host"))),
    }
}

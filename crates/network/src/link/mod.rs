//! Network interfaces over `NETLINK_ROUTE` (`rtnetlink(7)`, `linux/if_link.h`).

mod bridge;
mod ipvlan;
mod macvlan;
mod veth;
mod vlan;

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::netlink::{Batch, Channel, Message, flags, text, u32_ne};
use crate::types::MacAddress;

pub(crate) use bridge::{BridgeOptions, MAX_PORTS, PortOptions, create_bridge, set_port};
pub(crate) use ipvlan::create_ipvlan;
pub(crate) use macvlan::create_macvlan;
pub(crate) use veth::{Pair, create_loop, create_pair};
pub(crate) use vlan::create_vlan;

pub(crate) const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
pub(crate) const SETLINK: u16 = 19;

/// `IFLA_*`.
pub(crate) mod attribute {
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const IFNAME: u16 = 3;
    pub(crate) const MTU: u16 = 4;
    pub(crate) const LINK: u16 = 5;
    pub(crate) const MASTER: u16 = 10;
    pub(crate) const LINKINFO: u16 = 18;
    pub(crate) const AF_SPEC: u16 = 26;
    pub(crate) const GROUP: u16 = 27;
    pub(crate) const NET_NS_FD: u16 = 28;
    pub(crate) const IFALIAS: u16 = 20;
    pub(crate) const INFO_KIND: u16 = 1;
    pub(crate) const INFO_DATA: u16 = 2;
}

/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;
const IFF_UP: u32 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `struct ifinfomsg`: interface by number (0: by name in the attributes), and whether it shall be up.
pub(crate) fn header(index: u32, up: Option<bool>) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(up) = up {
        bytes[8..12].copy_from_slice(&(if up { IFF_UP } else { 0 }).to_ne_bytes());
        bytes[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    bytes
}

/// An interface that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<MacAddress>,
    /// The other end of a pair, or the interface below; numbered in its own namespace.
    pub(crate) below: Option<u32>,
    pub(crate) master: Option<u32>,
    pub(crate) up: bool,
    /// What its maker wrote on it.
    pub(crate) alias: String,
}

impl Link {
    pub(crate) fn parse(message: Message<'_>) -> Option<Self> {
        if message.kind != NEWLINK {
            return None;
        }
        let index = u32_ne(message.payload.get(4..8)?)?;
        let up = u32_ne(message.payload.get(8..12)?)? & IFF_UP != 0;
        let attributes = message.attributes(HEADER);
        let number = |kind| attributes.get(kind).and_then(u32_ne);
        let words = |kind| attributes.get(kind).map(text).unwrap_or_default().to_owned();
        let kind = attributes.nested(attribute::LINKINFO).get(attribute::INFO_KIND).map(text);
        Some(Self {
            index,
            name: words(attribute::IFNAME),
            kind: kind.unwrap_or_default().to_owned(),
            mtu: number(attribute::MTU).unwrap_or(0),
            mac: attributes.get(attribute::ADDRESS).and_then(|mac| mac.try_into().ok()).map(MacAddress),
            below: number(attribute::LINK),
            master: number(attribute::MASTER),
            up,
            alias: words(attribute::IFALIAS),
        })
    }
}

/// Asks for one interface by name, as the last message of a batch.
pub(crate) fn ask(batch: &mut Batch, name: &str) {
    batch
        .message(GETLINK, 0, &header(0, None), format!("find interface {name}"))
        .text(attribute::IFNAME, name);
}

/// The interface of this name; `None`: there is none.
pub(crate) fn find(channel: &mut Channel, name: &str) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    ask(&mut batch, name);
    batch.tolerate(Errno::NODEV);
    let mut found = None;
    channel.send(batch, |message| found = Link::parse(message))?;
    Ok(found)
}

/// The interface of this number; `None`: there is none.
pub(crate) fn by_index(channel: &mut Channel, index: u32) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    batch.message(GETLINK, 0, &header(index, None), "find interface").tolerate(Errno::NODEV);
    let mut found = None;
    channel.send(batch, |message| found = Link::parse(message))?;
    Ok(found)
}

/// All interfaces of the namespace.
pub(crate) fn list(channel: &mut Channel) -> Result<Vec<Link>> {
    let mut batch = Batch::new();
    batch.message(GETLINK, flags::DUMP, &header(0, None), "list interfaces");
    let mut links = vec![];
    channel.dump(batch, |message| links.extend(Link::parse(message)))?;
    Ok(links)
}

/// Sets an interface up or down, in a batch.
pub(crate) fn set_up(batch: &mut Batch, index: u32, up: bool) {
    let what = if up { "set interface up" } else { "set interface down" };
    batch.message(SETLINK, 0, &header(index, Some(up)), what);
}

/// Sets an interface up whose only addresses will be those given to it. Two messages: in one, the kernel
/// would set it up first.
pub(crate) fn set_up_without_link_local(batch: &mut Batch, index: u32) {
    batch.message(SETLINK, 0, &header(index, None), "set interface up");
    no_link_local(batch);
    set_up(batch, index, true);
}

/// Puts an interface into a group.
pub(crate) fn set_group(batch: &mut Batch, index: u32, group: u32) {
    batch.message(SETLINK, 0, &header(index, None), "set interface's group").native(attribute::GROUP, group);
}

/// Changes an interface's packet size.
pub(crate) fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.message(SETLINK, 0, &header(index, None), "set packet size").native(attribute::MTU, mtu);
}

/// Removes an interface; waits until the kernel has taken it down. None there is no error.
pub(crate) fn remove(channel: &mut Channel, index: u32, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    delete(&mut batch, index, name);
    channel.run(batch)
}

/// As [`remove`], in a batch.
pub(crate) fn delete(batch: &mut Batch, index: u32, name: &str) {
    batch
        .message(DELLINK, 0, &header(index, None), format!("remove interface {name}"))
        .tolerate(Errno::NODEV);
}

/// `IFLA_LINKINFO` of a kind.
pub(crate) fn kind(batch: &mut Batch, name: &str, data: impl FnOnce(&mut Batch)) {
    batch.nest(attribute::LINKINFO, |info| {
        info.text(attribute::INFO_KIND, name).nest(attribute::INFO_DATA, data);
    });
}

/// No addresses of the kernel's own making (`IN6_ADDR_GEN_MODE_NONE`): ends of pairs that belong to a bridge
/// need none, and a container on a network without IPv6 shall have none.
pub(crate) fn no_link_local(batch: &mut Batch) {
    /// `IFLA_INET6_ADDR_GEN_MODE`.
    const ADDR_GEN_MODE: u16 = 8;
    batch.nest(attribute::AF_SPEC, |families| {
        families.nest(AF_INET6, |v6| {
            v6.bytes(ADDR_GEN_MODE, &[1]);
        });
    });
}

/// `net.ipv4.conf.NAME.route_localnet`: packets of 127/8 may leave and enter here.
pub(crate) fn route_localnet(batch: &mut Batch, on: bool) {
    /// `IFLA_INET_CONF`.
    const CONF: u16 = 1;
    /// `IPV4_DEVCONF_ROUTE_LOCALNET` of `linux/ip.h`.
    const ROUTE_LOCALNET: u16 = 26;
    batch.nest(attribute::AF_SPEC, |families| {
        families.nest(AF_INET, |v4| {
            v4.nest(CONF, |conf| {
                conf.native(ROUTE_LOCALNET, u32::from(on));
            });
        });
    });
}

/// Whether the kernel has a kind of interface (or loads it for the question).
pub(crate) fn has_kind(channel: &mut Channel, name: &'static str) -> Result<bool> {
    let mut batch = Batch::new();
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &header(0, None), format!("probe {name}"));
    // A parent that cannot be: known kinds refuse that, unknown ones are refused before.
    batch.native(attribute::LINK, u32::MAX >> 1);
    batch.text(attribute::IFNAME, "wharf-probe");
    kind(&mut batch, name, |_| {});
    match channel.run(batch) {
        Err(Error::Refused { errno: Errno::OPNOTSUPP, .. }) => Ok(false),
        Err(Error::Refused { errno: Errno::PERM, .. }) => {
            Err(Error::Unsupported(format!("probe {name}: operation not permitted")))
        }
        _ => Ok(true),
    }
}

/// `IFLA_NET_NS_FD`: where an interface is born.
pub(crate) fn into_namespace(batch: &mut Batch, namespace: BorrowedFd<'_>) {
    batch.native(attribute::NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
}

//! Addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use crate::error::Result;
use crate::netlink::{Batch, Channel, Message, flags, u32_ne};

const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;
/// `IFA_*`.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
/// No duplicate is looked for: nobody else gives addresses here, and a container shall not wait for it.
const NODAD: u8 = 0x02;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;

/// The kernel's number of an address family.
pub(crate) fn family(v6: bool) -> u8 {
    if v6 { 10 } else { 2 }
}

/// An address's bytes in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes.
pub(crate) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn header(net: IpNet, index: u32) -> [u8; HEADER] {
    let v6 = matches!(net, IpNet::V6(_));
    let scope = if is_link_local(net.addr()) { SCOPE_LINK } else { 0 };
    let mut bytes = [family(v6), net.prefix_len(), if v6 { NODAD } else { 0 }, scope, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Gives an interface an address; one that it has already is no error.
pub(crate) fn add(batch: &mut Batch, index: u32, net: IpNet) {
    let what = format!("add address {net}");
    batch.message(NEWADDR, flags::CREATE | flags::EXCL, &header(net, index), what).tolerate(Errno::EXIST);
    put(batch, net);
    if let IpNet::V4(net) = net
        && net.prefix_len() < 31
    {
        batch.bytes(BROADCAST, &net.broadcast().octets());
    }
}

/// Takes an address from an interface; none there is no error.
pub(crate) fn remove(batch: &mut Batch, index: u32, net: IpNet) {
    let what = format!("remove address {net}");
    batch.message(DELADDR, 0, &header(net, index), what).tolerate(Errno::ADDRNOTAVAIL);
    put(batch, net);
}

fn put(batch: &mut Batch, net: IpNet) {
    let address = octets(net.addr());
    batch.bytes(LOCAL, &address).bytes(ADDRESS, &address);
}

/// All addresses of the namespace: number of the interface, address with prefix length.
pub(crate) fn list(channel: &mut Channel) -> Result<Vec<(u32, IpNet)>> {
    let mut batch = Batch::new();
    batch.message(GETADDR, flags::DUMP, &[0; HEADER], "list addresses");
    let mut found = vec![];
    channel.dump(batch, |message| found.extend(parse(message)))?;
    Ok(found)
}

fn parse(message: Message<'_>) -> Option<(u32, IpNet)> {
    let prefix = *message.payload.get(1)?;
    let index = u32_ne(message.payload.get(4..8)?)?;
    let attributes = message.attributes(HEADER);
    let address = attributes.get(LOCAL).or_else(|| attributes.get(ADDRESS)).and_then(from_octets)?;
    Some((index, IpNet::new(address, prefix).ok()?))
}

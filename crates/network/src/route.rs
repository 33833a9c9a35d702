//! Routes.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use crate::address::{family, from_octets, octets};
use crate::error::Result;
use crate::netlink::{Batch, Channel, Message, flags, u32_ne};

const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
/// Length of `struct rtmsg`.
const HEADER: usize = 12;
/// `RTA_*`.
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;
const MAIN: u8 = 254;
/// `RTPROT_BOOT`: what ip(8) writes; `RTPROT_UNSPEC`: any, to remove by.
const BOOT: u8 = 3;
const UNICAST: u8 = 1;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
/// `RTNH_F_ONLINK`: the router is on the link, whatever the addresses say.
const ONLINK: u32 = 4;

fn header(v6: bool, protocol: u8, scope: u8, hop_flags: u32) -> [u8; HEADER] {
    let mut bytes = [family(v6), 0, 0, 0, MAIN, protocol, scope, UNICAST, 0, 0, 0, 0];
    bytes[8..].copy_from_slice(&hop_flags.to_ne_bytes());
    bytes
}

/// The default route through a router; one that is there is replaced. `on_link`: the router's address is in no
/// subnet of the interface.
pub(crate) fn default_via(batch: &mut Batch, index: u32, router: IpAddr, on_link: bool) {
    let what = format!("add default route via {router}");
    let header = header(router.is_ipv6(), BOOT, 0, if on_link { ONLINK } else { 0 });
    batch.message(NEWROUTE, flags::CREATE | flags::REPLACE, &header, what);
    batch.native(OIF, index).bytes(GATEWAY, &octets(router));
}

/// The default route straight to the link; one that is there is replaced.
pub(crate) fn default_on_link(batch: &mut Batch, index: u32, v6: bool) {
    let scope = if v6 { 0 } else { SCOPE_LINK };
    let header = header(v6, BOOT, scope, 0);
    batch.message(NEWROUTE, flags::CREATE | flags::REPLACE, &header, "add default route").native(OIF, index);
}

/// Removes the default route of a family; none there is no error.
pub(crate) fn remove_default(batch: &mut Batch, v6: bool) {
    let header = header(v6, 0, SCOPE_NOWHERE, 0);
    batch.message(DELROUTE, 0, &header, "remove default route").tolerate(Errno::SRCH).tolerate(Errno::NOENT);
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `None`: everywhere.
    pub(crate) to: Option<IpNet>,
    pub(crate) interface: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) metric: u32,
}

/// All routes of the main table, both families.
pub(crate) fn list(channel: &mut Channel) -> Result<Vec<Route>> {
    let mut found = vec![];
    for v6 in [false, true] {
        let mut batch = Batch::new();
        let mut header = [0; HEADER];
        header[0] = family(v6);
        batch.message(GETROUTE, flags::DUMP, &header, "list routes");
        channel.dump(batch, |message| found.extend(parse(message)))?;
    }
    Ok(found)
}

fn parse(message: Message<'_>) -> Option<Route> {
    let header = message.payload.get(..HEADER)?;
    let (prefix, kind) = (header[1], header[7]);
    let attributes = message.attributes(HEADER);
    let number = |kind| attributes.get(kind).and_then(u32_ne);
    let main = number(TABLE).unwrap_or(u32::from(header[4])) == u32::from(MAIN);
    if message.kind != NEWROUTE || kind != UNICAST || !main {
        return None;
    }
    let to = attributes.get(DST).and_then(from_octets).and_then(|address| IpNet::new(address, prefix).ok());
    Some(Route {
        to,
        interface: number(OIF),
        gateway: attributes.get(GATEWAY).and_then(from_octets),
        metric: number(PRIORITY).unwrap_or(0),
    })
}

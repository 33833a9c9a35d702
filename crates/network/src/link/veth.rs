//! Pairs of interfaces: one end on a bridge, the other in a container.

use std::os::fd::BorrowedFd;

use super::bridge::{PortOptions, port_options};
use super::{NEWLINK, SETLINK, attribute, header, into_namespace, kind, no_link_local};
use crate::netlink::{Batch, flags};
use crate::types::MacAddress;

/// `VETH_INFO_PEER`.
const PEER: u16 = 1;

/// A pair to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    /// The host's end.
    pub(crate) name: &'a str,
    /// The bridge that gets it.
    pub(crate) master: u32,
    /// The end inside.
    pub(crate) inside: &'a str,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    pub(crate) namespace: BorrowedFd<'a>,
    /// Whether the kernel has IPv6.
    pub(crate) v6: bool,
    /// How the bridge treats the host's end.
    pub(crate) port: PortOptions,
}

/// Makes a pair whose far end is born in the namespace, down, and whose host's end is up on its bridge. Until
/// the far end is set up there is no carrier, so that the kernel gives the host's end no address before it is
/// told to give none.
pub(crate) fn create_pair(batch: &mut Batch, pair: &Pair<'_>) {
    let (name, up) = (pair.name, header(0, Some(true)));
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &up, format!("create interface {name}"));
    batch.text(attribute::IFNAME, name);
    batch.native(attribute::MTU, pair.mtu);
    batch.native(attribute::MASTER, pair.master);
    kind(batch, "veth", |data| {
        data.nest(PEER, |peer| {
            peer.raw(&header(0, None));
            peer.text(attribute::IFNAME, pair.inside);
            peer.bytes(attribute::ADDRESS, &pair.mac.0);
            peer.native(attribute::MTU, pair.mtu);
            into_namespace(peer, pair.namespace);
        });
    });
    batch.message(NEWLINK, 0, &header(0, None), format!("configure interface {name}"));
    batch.text(attribute::IFNAME, name);
    port_options(batch, pair.port);
    if pair.v6 {
        no_link_local(batch);
    }
}

/// Makes a pair that leads nowhere: a parent for interfaces that shall see only each other. Unlike a bridge
/// without ports it has a carrier.
pub(crate) fn create_loop(batch: &mut Batch, (name, far): (&str, &str), mtu: u32, alias: &str, v6: bool) {
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &header(0, None), format!("create interface {name}"));
    batch.text(attribute::IFNAME, name);
    batch.native(attribute::MTU, mtu);
    kind(batch, "veth", |data| {
        data.nest(PEER, |peer| {
            peer.raw(&header(0, None)).text(attribute::IFNAME, far).native(attribute::MTU, mtu);
        });
    });
    for name in [name, far] {
        let what = || format!("set interface {name} up");
        batch.message(SETLINK, 0, &header(0, None), what()).text(attribute::IFNAME, name);
        batch.text(attribute::IFALIAS, alias);
        if v6 {
            no_link_local(batch);
        }
        batch.message(SETLINK, 0, &header(0, Some(true)), what()).text(attribute::IFNAME, name);
    }
}

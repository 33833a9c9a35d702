//! Interfaces on top of another that share its MAC address.

use std::os::fd::BorrowedFd;

use super::{NEWLINK, attribute, header, into_namespace, kind};
use crate::netlink::{Batch, flags};
use crate::types::{IpvlanFlag, IpvlanMode};

/// Makes one in a namespace, down.
pub(crate) fn create_ipvlan(
    batch: &mut Batch,
    (parent, parent_name, mtu): (u32, &str, u32),
    mode: IpvlanMode,
    flag: IpvlanFlag,
    name: &str,
    namespace: BorrowedFd<'_>,
) {
    /// `IFLA_IPVLAN_MODE` and `IFLA_IPVLAN_FLAGS`.
    const MODE: u16 = 1;
    const FLAGS: u16 = 2;
    let mode: u16 = match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    };
    let flag: u16 = match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    };
    let what = format!("create ipvlan interface on {parent_name}");
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &header(0, None), what);
    batch.native(attribute::LINK, parent);
    batch.text(attribute::IFNAME, name);
    batch.native(attribute::MTU, mtu);
    into_namespace(batch, namespace);
    kind(batch, "ipvlan", |data| {
        data.bytes(MODE, &mode.to_ne_bytes()).bytes(FLAGS, &flag.to_ne_bytes());
    });
}

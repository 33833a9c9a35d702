//! Interfaces on top of another, with MAC addresses of their own.

use std::os::fd::BorrowedFd;

use super::{NEWLINK, attribute, header, into_namespace, kind};
use crate::netlink::{Batch, flags};
use crate::types::{MacAddress, MacvlanMode};

/// Makes one in a namespace, down.
pub(crate) fn create_macvlan(
    batch: &mut Batch,
    (parent, parent_name, mtu): (u32, &str, u32),
    mode: MacvlanMode,
    (name, mac): (&str, MacAddress),
    namespace: BorrowedFd<'_>,
) {
    /// `IFLA_MACVLAN_MODE`.
    const MODE: u16 = 1;
    let value = match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    };
    let what = format!("create macvlan interface on {parent_name}");
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &header(0, None), what);
    batch.native(attribute::LINK, parent);
    batch.text(attribute::IFNAME, name);
    batch.bytes(attribute::ADDRESS, &mac.0);
    batch.native(attribute::MTU, mtu);
    into_namespace(batch, namespace);
    kind(batch, "macvlan", |data| {
        data.native(MODE, value);
    });
}

//! Sub-interfaces of one VLAN (802.1Q).

use super::{NEWLINK, attribute, header, kind};
use crate::netlink::{Batch, flags};

/// Makes one on a parent, up.
pub(crate) fn create_vlan(batch: &mut Batch, parent: u32, name: &str, id: u16, alias: &str) {
    /// `IFLA_VLAN_ID`.
    const ID: u16 = 1;
    let up = header(0, Some(true));
    batch.message(NEWLINK, flags::CREATE | flags::EXCL, &up, format!("create VLAN interface {name}"));
    batch.native(attribute::LINK, parent);
    batch.text(attribute::IFNAME, name);
    kind(batch, "vlan", |data| {
        data.bytes(ID, &id.to_ne_bytes());
    });
    batch.message(super::SETLINK, 0, &header(0, None), format!("mark VLAN interface {name}"));
    batch.text(attribute::IFNAME, name).text(attribute::IFALIAS, alias);
}

//! Connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! A UDP "connection" lives as long as packets come, with the translation it was born with. When a port
//! begins or ceases to lead somewhere, those to it are forgotten, so that the next packet is translated anew.

use rustix::io::Errno;
use wharf_sys::netlink::Family;

use crate::error::Result;
use crate::netlink::{Attributes, Batch, Channel, flags, u16_be};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `…_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_*`.
const ORIGINAL: u16 = 1;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_FILTER_ORIG_FLAGS` with `CTA_FILTER_FLAG(CTA_PROTO_NUM | CTA_PROTO_DST_PORT)`: which fields of the
/// tuple count.
const FILTER_ORIGINAL: u16 = 1;
const FIELDS: u32 = 1 << 3 | 1 << 5;
const UDP: u8 = 17;

/// Forgets the UDP connections to these ports of the host.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn forget_udp(v6: bool, ports: &[u16]) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut channel = Channel::open(Family::Netfilter)?;
    let entries = matching(&mut channel, v6, ports)?;
    let mut batch = Batch::new();
    for (original, zone) in entries {
        batch.message(DELETE, 0, &header(v6), "forget connection").tolerate(Errno::NOENT);
        batch.bytes(ORIGINAL | 0x8000, &original);
        if let Some(zone) = zone {
            batch.bytes(ZONE, &zone);
        }
    }
    channel.run(batch)
}

fn header(v6: bool) -> [u8; 4] {
    [crate::address::family(v6), 0, 0, 0]
}

type Entry = (Vec<u8>, Option<Vec<u8>>);

/// The tuples (and zones) of the connections. With one port the kernel looks through them (5.8); older ones
/// refuse the filter and tell all.
fn matching(channel: &mut Channel, v6: bool, ports: &[u16]) -> Result<Vec<Entry>> {
    let mut found = vec![];
    if let [port] = ports {
        let mut batch = Batch::new();
        batch.message(GET, flags::DUMP, &header(v6), "list connections");
        batch.nest(ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTO, |proto| {
                proto.bytes(PROTO_NUM, &[UDP]).bytes(PROTO_DST_PORT, &port.to_be_bytes());
            });
        });
        batch.nest(FILTER, |filter| {
            filter.native(FILTER_ORIGINAL, FIELDS);
        });
        match list(channel, batch, ports, &mut found) {
            Ok(()) => return Ok(found),
            Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => found.clear(),
            Err(error) => return Err(error),
        }
    }
    let mut batch = Batch::new();
    batch.message(GET, flags::DUMP, &header(v6), "list connections");
    list(channel, batch, ports, &mut found)?;
    Ok(found)
}

fn list(channel: &mut Channel, question: Batch, ports: &[u16], found: &mut Vec<Entry>) -> Result<()> {
    channel.dump(question, |message| {
        let attributes = message.attributes(4);
        let Some(original) = attributes.get(ORIGINAL) else { return };
        let proto = Attributes(original).nested(TUPLE_PROTO);
        let udp = proto.get(PROTO_NUM) == Some(&[UDP]);
        let port = proto.get(PROTO_DST_PORT).and_then(u16_be);
        if udp && port.is_some_and(|port| ports.contains(&port)) {
            found.push((original.to_vec(), attributes.get(ZONE).map(<[u8]>::to_vec)));
        }
    })
}

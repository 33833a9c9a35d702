//! Questions to 127.0.0.11:53 reach the resolver's own port, and its answers seem to come from 53.
//!
//! The ports are rewritten in the packets, without connection tracking: a container that uses no resolver at
//! the moment pays nothing for it, and no table of connections fills up. Both chains sit so that whatever the
//! container itself tracks or filters on the way out sees port 53 on both ways: questions are changed after
//! everything else, answers before.

use std::net::SocketAddrV4;

use wharf_sys::netlink::Family;

use crate::error::Result;
use crate::netlink::{Batch, Channel, flags};

/// The table's name, as the container sees it.
const TABLE: &str = "wharf";

/// `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`.
mod kind {
    pub(super) const SUBSYSTEM: u16 = 10;
    pub(super) const BEGIN: u16 = 0x10;
    pub(super) const END: u16 = 0x11;
    pub(super) const NEWTABLE: u16 = SUBSYSTEM << 8;
    pub(super) const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
    pub(super) const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
}

/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `NFT_REG32_00`.
const REGISTER: u32 = 8;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// One direction.
struct Way {
    chain: &'static str,
    priority: i32,
    /// Where the resolver's address is in the IPv4 header.
    address_at: u32,
    /// Where the port is in the TCP or UDP header.
    port_at: u32,
    from: u16,
    to: u16,
}

/// Lets packets of this network namespace to `public` reach `port` of the same address, TCP and UDP.
///
/// # Errors
/// What the kernel refused: `EOPNOTSUPP` and the like where it has no nf_tables.
pub(super) fn redirect(public: SocketAddrV4, port: u16) -> Result<()> {
    let ways = [
        Way { chain: "questions", priority: 300, address_at: 16, port_at: 2, from: public.port(), to: port },
        Way { chain: "answers", priority: -350, address_at: 12, port_at: 0, from: port, to: public.port() },
    ];
    let mut batch = Batch::new();
    let whole = [0, 0, 0, kind::SUBSYSTEM as u8];
    batch.message(kind::BEGIN, 0, &whole, "redirect questions for names");
    batch.message(kind::NEWTABLE, flags::CREATE, &header(), "create nftables table").text(1, TABLE);
    for way in &ways {
        chain(&mut batch, way);
        // Protocol, and where its checksum is.
        for (protocol, checksum_at) in [(17, 6), (6, 16)] {
            rule(&mut batch, way, public.ip().octets(), protocol, checksum_at);
        }
    }
    batch.message(kind::END, 0, &whole, "redirect questions for names");
    Channel::open(Family::Netfilter)?.run(batch)
}

fn header() -> [u8; 4] {
    [IPV4, 0, 0, 0]
}

fn chain(batch: &mut Batch, way: &Way) {
    const LOCAL_OUT: u32 = 3;
    let chain = batch.message(kind::NEWCHAIN, flags::CREATE, &header(), "create nftables chain");
    chain.text(1, TABLE).text(3, way.chain);
    chain.nest(4, |hook| {
        hook.big(1, LOCAL_OUT).big(2, way.priority.cast_unsigned());
    });
    chain.text(7, "filter");
}

fn rule(batch: &mut Batch, way: &Way, address: [u8; 4], protocol: u8, checksum_at: u32) {
    const META_L4PROTO: u32 = 16;
    let rule = batch.message(kind::NEWRULE, flags::CREATE | flags::APPEND, &header(), "add nftables rule");
    rule.text(1, TABLE).text(2, way.chain);
    rule.nest(4, |list| {
        load(list, NETWORK_HEADER, way.address_at, 4);
        compare(list, &address);
        expression(list, "meta", |data| {
            data.big(1, REGISTER).big(2, META_L4PROTO);
        });
        compare(list, &[protocol]);
        load(list, TRANSPORT_HEADER, way.port_at, 2);
        compare(list, &way.from.to_be_bytes());
        expression(list, "immediate", |data| {
            data.big(1, REGISTER);
            value(data, 2, &way.to.to_be_bytes());
        });
        expression(list, "payload", |data| {
            const CHECKSUM_INET: u32 = 1;
            data.big(5, REGISTER).big(2, TRANSPORT_HEADER).big(3, way.port_at).big(4, 2);
            data.big(6, CHECKSUM_INET).big(7, checksum_at);
        });
    });
}

fn expression(list: &mut Batch, name: &str, content: impl FnOnce(&mut Batch)) {
    list.nest(1, |expression| {
        expression.text(1, name);
        expression.nest(2, content);
    });
}

fn load(list: &mut Batch, header: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.big(1, REGISTER).big(2, header).big(3, offset).big(4, length);
    });
}

fn compare(list: &mut Batch, wanted: &[u8]) {
    const EQUAL: u32 = 0;
    expression(list, "cmp", |data| {
        data.big(1, REGISTER).big(2, EQUAL);
        value(data, 3, wanted);
    });
}

fn value(batch: &mut Batch, attribute: u16, bytes: &[u8]) {
    batch.nest(attribute, |data| {
        data.bytes(1, bytes);
    });
}

//! Questions to 127.0.0.11:53 reach the resolver's own port, and its answers seem to come from 53.
//!
//! The ports are rewritten in the packets, without connection tracking, so that no table of connections fills
//! up. Whatever the container itself tracks or filters on the way out sees port 53 on both ways: questions are
//! changed after everything else, where they come in by the loopback interface, answers before. What goes to the
//! world passes one chain of one rule.

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

/// `NFPROTO_IPV4` and `NFPROTO_NETDEV`.
const IPV4: u8 = 2;
const NETDEV: u8 = 5;
/// `NFT_REG32_00`.
const REGISTER: u32 = 8;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_PROTOCOL: u32 = 1;
const META_L4PROTO: u32 = 16;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// `NFT_REG_VERDICT` and `NFT_GOTO`.
const VERDICT: u32 = 0;
const GOTO: i32 = -4;

/// Where a chain sees packets.
#[derive(Clone, Copy)]
enum Place {
    /// All that leaves, in the order of this priority.
    Output(i32),
    /// What comes in by the loopback interface, before anything else.
    Loopback,
}

/// One direction.
struct Way {
    chain: &'static str,
    place: Place,
    /// The chain behind it, for packets of the resolver alone.
    rewrite: &'static str,
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
    // Kernels without CONFIG_NF_TABLES_NETDEV look at all that leaves a second time.
    redirect_at(Place::Loopback, public, port).or_else(|_| redirect_at(Place::Output(300), public, port))
}

fn redirect_at(questions: Place, public: SocketAddrV4, port: u16) -> Result<()> {
    let ways = [
        Way {
            chain: "questions",
            place: questions,
            rewrite: "ask",
            address_at: 16,
            port_at: 2,
            from: public.port(),
            to: port,
        },
        Way {
            chain: "answers",
            place: Place::Output(-350),
            rewrite: "answer",
            address_at: 12,
            port_at: 0,
            from: port,
            to: public.port(),
        },
    ];
    let mut batch = Batch::new();
    let whole = [0, 0, 0, kind::SUBSYSTEM as u8];
    batch.message(kind::BEGIN, 0, &whole, "redirect questions for names");
    for way in &ways {
        batch.message(kind::NEWTABLE, flags::CREATE, &way.header(), "create nftables table").text(1, TABLE);
        way.chains(&mut batch);
        way.guard(&mut batch, public.ip().octets());
        // Protocol, and where its checksum is.
        for (protocol, checksum_at) in [(17, 6), (6, 16)] {
            way.rule(&mut batch, protocol, checksum_at);
        }
    }
    batch.message(kind::END, 0, &whole, "redirect questions for names");
    Channel::open(Family::Netfilter)?.run(batch)
}

impl Way {
    fn header(&self) -> [u8; 4] {
        let family = if matches!(self.place, Place::Loopback) { NETDEV } else { IPV4 };
        [family, 0, 0, 0]
    }

    fn chains(&self, batch: &mut Batch) {
        const LOCAL_OUT: u32 = 3;
        const INGRESS: u32 = 0;
        let what = "create nftables chain";
        let chain = batch.message(kind::NEWCHAIN, flags::CREATE, &self.header(), what);
        chain.text(1, TABLE).text(3, self.rewrite);
        let chain = batch.message(kind::NEWCHAIN, flags::CREATE, &self.header(), what);
        chain.text(1, TABLE).text(3, self.chain);
        chain.nest(4, |hook| {
            match self.place {
                Place::Output(priority) => hook.big(1, LOCAL_OUT).big(2, priority.cast_unsigned()),
                Place::Loopback => hook.big(1, INGRESS).big(2, 0).text(3, "lo"),
            };
        });
        chain.text(7, "filter");
    }

    /// Packets from or to the resolver go on to the chain that rewrites them.
    fn guard(&self, batch: &mut Batch, address: [u8; 4]) {
        self.add(batch, self.chain, |list| {
            if matches!(self.place, Place::Loopback) {
                meta(list, META_PROTOCOL);
                compare(list, &ETHERTYPE_IPV4.to_be_bytes());
            }
            load(list, NETWORK_HEADER, self.address_at, 4);
            compare(list, &address);
            expression(list, "immediate", |data| {
                data.big(1, VERDICT);
                data.nest(2, |value| {
                    value.nest(2, |verdict| {
                        verdict.big(1, GOTO.cast_unsigned()).text(2, self.rewrite);
                    });
                });
            });
        });
    }

    fn rule(&self, batch: &mut Batch, protocol: u8, checksum_at: u32) {
        self.add(batch, self.rewrite, |list| {
            meta(list, META_L4PROTO);
            compare(list, &[protocol]);
            load(list, TRANSPORT_HEADER, self.port_at, 2);
            compare(list, &self.from.to_be_bytes());
            expression(list, "immediate", |data| {
                data.big(1, REGISTER);
                value(data, 2, &self.to.to_be_bytes());
            });
            expression(list, "payload", |data| {
                const CHECKSUM_INET: u32 = 1;
                data.big(5, REGISTER).big(2, TRANSPORT_HEADER).big(3, self.port_at).big(4, 2);
                data.big(6, CHECKSUM_INET).big(7, checksum_at);
            });
        });
    }

    fn add(&self, batch: &mut Batch, chain: &str, expressions: impl FnOnce(&mut Batch)) {
        let append = flags::CREATE | flags::APPEND;
        let rule = batch.message(kind::NEWRULE, append, &self.header(), "add nftables rule");
        rule.text(1, TABLE).text(2, chain);
        rule.nest(4, expressions);
    }
}

fn meta(list: &mut Batch, key: u32) {
    expression(list, "meta", |data| {
        data.big(1, REGISTER).big(2, key);
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

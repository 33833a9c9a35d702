//! Rules, written as they read.

use super::expression::{Compare, Expression, FIRST, Header, IPV4, IPV6, Verdict, ct, meta};
use crate::types::Protocol;

/// The protocol's number (IANA).
pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// An interface's name as the kernel compares it: 16 bytes.
pub(super) fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (target, byte) in key.iter_mut().zip(name.bytes().take(15)) {
        *target = byte;
    }
    key
}

/// A rule being written: conditions from left to right, then what is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) expressions: Vec<Expression>,
}

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn push(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn compare(self, how: Compare, value: &[u8]) -> Self {
        self.push(Expression::Compare { register: FIRST, how, value: value.to_vec() })
    }

    fn meta(self, key: u32, how: Compare, value: &[u8]) -> Self {
        self.push(Expression::LoadMeta { key, to: FIRST }).compare(how, value)
    }

    pub(super) fn v4(self) -> Self {
        self.meta(meta::NFPROTO, Compare::Equal, &[IPV4])
    }

    pub(super) fn v6(self) -> Self {
        self.meta(meta::NFPROTO, Compare::Equal, &[IPV6])
    }

    pub(super) fn family(self, v6: bool) -> Self {
        if v6 { self.v6() } else { self.v4() }
    }

    pub(super) fn protocol(self, protocol: u8) -> Self {
        self.meta(meta::L4PROTO, Compare::Equal, &[protocol])
    }

    pub(super) fn coming_by(self, name: &str) -> Self {
        self.meta(meta::IIFNAME, Compare::Equal, &interface_key(name))
    }

    pub(super) fn not_coming_by(self, name: &str) -> Self {
        self.meta(meta::IIFNAME, Compare::NotEqual, &interface_key(name))
    }

    /// Names that begin like this: compared up to there.
    pub(super) fn interface_prefix(self, incoming: bool, prefix: &str) -> Self {
        let key = if incoming { meta::IIFNAME } else { meta::OIFNAME };
        self.meta(key, Compare::Equal, prefix.as_bytes())
    }

    pub(super) fn between_bridges(self) -> Self {
        let kind = interface_key("bridge");
        self.meta(meta::IIFKIND, Compare::Equal, &kind).meta(meta::OIFKIND, Compare::Equal, &kind)
    }

    pub(super) fn coming_by_any(self, set: &'static str) -> Self {
        self.push(Expression::LoadMeta { key: meta::IIFNAME, to: FIRST }).lookup(set)
    }

    pub(super) fn leaving_by_any(self, set: &'static str) -> Self {
        self.push(Expression::LoadMeta { key: meta::OIFNAME, to: FIRST }).lookup(set)
    }

    /// By an interface of this group (`ip link set … group`).
    pub(super) fn coming_by_group(self, group: u32) -> Self {
        self.meta(meta::IIFGROUP, Compare::Equal, &group.to_ne_bytes())
    }

    pub(super) fn leaving_by_group(self, group: u32) -> Self {
        self.meta(meta::OIFGROUP, Compare::Equal, &group.to_ne_bytes())
    }

    fn lookup(self, set: &'static str) -> Self {
        self.push(Expression::Lookup { set, key: FIRST, to: None, inverted: false })
    }

    /// Verdict by both interfaces.
    pub(super) fn verdict_of_pair(self, map: &'static str) -> Self {
        self.push(Expression::LoadMeta { key: meta::IIFNAME, to: FIRST })
            .push(Expression::LoadMeta { key: meta::OIFNAME, to: FIRST + 4 })
            .push(Expression::Lookup { set: map, key: FIRST, to: Some(0), inverted: false })
    }

    /// Packets of connections that were let through before, and what belongs to them.
    pub(super) fn established(self) -> Self {
        // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
        self.ct_bits(ct::STATE, 2 | 4)
    }

    /// Packets of connections whose destination was translated (`IPS_DST_NAT`).
    pub(super) fn translated(self) -> Self {
        self.ct_bits(ct::STATUS, 0x20)
    }

    fn ct_bits(self, key: u32, bits: u32) -> Self {
        self.push(Expression::LoadCt { key, to: FIRST })
            .push(Expression::Bits { register: FIRST, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] })
            .compare(Compare::NotEqual, &[0; 4])
    }

    /// Packets to one of the host's own addresses (`RTN_LOCAL`), or to none.
    pub(super) fn for_host(self, yes: bool) -> Self {
        let how = if yes { Compare::Equal } else { Compare::NotEqual };
        self.push(Expression::LoadTargetType { to: FIRST }).compare(how, &2_u32.to_ne_bytes())
    }

    fn address(self, v6: bool, source: bool, to: u32) -> Self {
        let (offset, length) = match (v6, source) {
            (false, true) => (12, 4),
            (false, false) => (16, 4),
            (true, true) => (8, 16),
            (true, false) => (24, 16),
        };
        self.push(Expression::LoadPayload { header: Header::Network, offset, length, to })
    }

    /// The source or destination lies in a subnet. Only behind [`Rule::family`].
    pub(super) fn within(self, source: bool, net: ipnet::IpNet) -> Self {
        let mask = crate::address::octets(net.netmask());
        let network = crate::address::octets(net.network());
        self.address(matches!(net, ipnet::IpNet::V6(_)), source, FIRST)
            .push(Expression::Bits { register: FIRST, xor: vec![0; mask.len()], mask })
            .compare(Compare::Equal, &network)
    }

    /// The source or destination lies in 127/8: its first byte says so. Only behind [`Rule::v4`].
    pub(super) fn loopback(self, source: bool) -> Self {
        let offset = if source { 12 } else { 16 };
        self.push(Expression::LoadPayload { header: Header::Network, offset, length: 1, to: FIRST })
            .compare(Compare::Equal, &[127])
    }

    /// Source and destination as one key. Only behind [`Rule::family`].
    pub(super) fn both_within(self, v6: bool, set: &'static str) -> Self {
        let second = FIRST + if v6 { 4 } else { 1 };
        self.address(v6, true, FIRST).address(v6, false, second).lookup(set)
    }

    /// Destination address, protocol and port as one key in registers from the first; the family is checked.
    fn socket(self, v6: bool, with_address: bool) -> Self {
        let rule = self.family(v6);
        let (rule, next) = match (with_address, v6) {
            (false, _) => (rule, FIRST),
            (true, false) => (rule.address(false, false, FIRST), FIRST + 1),
            (true, true) => (rule.address(true, false, FIRST), FIRST + 4),
        };
        rule.push(Expression::LoadMeta { key: meta::L4PROTO, to: next }).push(Expression::LoadPayload {
            header: Header::Transport,
            offset: 2,
            length: 2,
            to: next + 1,
        })
    }

    /// Destination address, protocol and port are in a set.
    pub(super) fn socket_in(self, v6: bool, set: &'static str) -> Self {
        self.socket(v6, true).lookup(set)
    }

    /// Translates the destination to what a map says of it.
    pub(super) fn translate(self, v6: bool, with_address: bool, map: &'static str) -> Self {
        let port = FIRST + if v6 { 4 } else { 1 };
        let family = if v6 { IPV6 } else { IPV4 };
        self.socket(v6, with_address)
            .push(Expression::Lookup { set: map, key: FIRST, to: Some(FIRST), inverted: false })
            .push(Expression::Dnat { family, address: FIRST, port })
    }

    /// Translates the source to what a map says of the interface it came by.
    pub(super) fn translate_source(self, v6: bool, map: &'static str) -> Self {
        let family = if v6 { IPV6 } else { IPV4 };
        self.family(v6)
            .push(Expression::LoadMeta { key: meta::IIFNAME, to: FIRST })
            .push(Expression::Lookup { set: map, key: FIRST, to: Some(FIRST), inverted: false })
            .push(Expression::Snat { family, address: FIRST })
    }

    /// The destination port lies in a range. Only behind [`Rule::protocol`].
    pub(super) fn ports(self, first: u16, last: u16) -> Self {
        let rule =
            self.push(Expression::LoadPayload { header: Header::Transport, offset: 2, length: 2, to: FIRST });
        if first == last {
            return rule.compare(Compare::Equal, &first.to_be_bytes());
        }
        rule.compare(Compare::AtLeast, &first.to_be_bytes()).compare(Compare::AtMost, &last.to_be_bytes())
    }

    /// The first byte of ICMP and ICMPv6.
    pub(super) fn icmp_type(self, value: u8) -> Self {
        self.push(Expression::LoadPayload { header: Header::Transport, offset: 0, length: 1, to: FIRST })
            .compare(Compare::Equal, &[value])
    }

    /// Sets bits of the packet's mark.
    pub(super) fn add_mark(self, bits: u32) -> Self {
        self.push(Expression::LoadMeta { key: meta::MARK, to: FIRST })
            .push(Expression::Bits {
                register: FIRST,
                mask: (!bits).to_ne_bytes().to_vec(),
                xor: bits.to_ne_bytes().to_vec(),
            })
            .push(Expression::StoreMeta { key: meta::MARK, from: FIRST })
    }

    /// All of these bits of the mark are set.
    pub(super) fn marked(self, bits: u32) -> Self {
        self.push(Expression::LoadMeta { key: meta::MARK, to: FIRST })
            .push(Expression::Bits { register: FIRST, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] })
            .compare(Compare::Equal, &bits.to_ne_bytes())
    }

    pub(super) fn counter(self) -> Self {
        self.push(Expression::Counter)
    }

    pub(super) fn iptables_match(self, name: &'static str, revision: u32, info: Vec<u8>) -> Self {
        self.push(Expression::Match { name, revision, info })
    }

    pub(super) fn masquerade(self) -> Self {
        self.push(Expression::Masquerade)
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        self.push(Expression::Verdict(verdict))
    }
}

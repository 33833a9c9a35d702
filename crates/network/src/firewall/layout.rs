//! The table: its sets, its chains and their rules. How many ports, containers and networks there are changes
//! elements only, never rules.
//!
//! ```text
//! from outside ─ early ─ prerouting ─ inbound ─ specific: address and port → container
//!                (127/8     (to the          ├─ gate: what the host's firewall closes ends here
//!                 drops)     host?)          └─ any: port → container
//! from the host ─────────── output ──────────── specific ─ any
//!                                │
//!                             forward ─ ours: mark, established, same bridge?, internal?, published?,
//!                                │            isolation, out?, routed?, drop
//!                            postrouting: 127/8, hairpin, then masquerade on the way out
//! ```

use super::expression::Verdict;
use super::rule::Rule;
use super::transaction::{Field, Hook, SetDefinition, Transaction, Value};
use crate::types::{Opening, Protocol};

/// The bit of a packet's mark that says: let through by this table. Foreign chains that would drop at
/// `forward` accept what has it.
pub(crate) const ACCEPTED: u32 = 0x0200_0000;

/// Every bridge.
pub(super) const BRIDGES: &str = "bridges";
/// A bridge twice: what happens between its endpoints.
pub(super) const PAIRS: &str = "pairs";
/// The chain for endpoints of one bridge that may not talk to each other.
pub(super) const APART: &str = "apart";
/// Bridges without a way out or in.
pub(super) const INTERNAL: &str = "internal";

/// Sets of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Bridges whose sources are masqueraded.
    pub(super) masquerade: &'static str,
    /// Bridges whose sources become one address.
    pub(super) source: &'static str,
    /// Subnets twice: what comes back to where it came from.
    pub(super) hairpin: &'static str,
    /// Ports of one host address.
    pub(super) specific: &'static str,
    /// Ports of all host addresses.
    pub(super) any: &'static str,
    /// Ports that are reached without translation.
    pub(super) routed: &'static str,
    /// Bridges that are routed to: echo requests pass.
    pub(super) routers: &'static str,
    /// Bridges all of whose ports are reached.
    pub(super) direct: &'static str,
}

pub(super) const V4: Names = Names {
    masquerade: "masquerade4",
    source: "source4",
    hairpin: "hairpin4",
    specific: "specific4",
    any: "any4",
    routed: "routed4",
    routers: "routers4",
    direct: "direct4",
};

pub(super) const V6: Names = Names {
    masquerade: "masquerade6",
    source: "source6",
    hairpin: "hairpin6",
    specific: "specific6",
    any: "any6",
    routed: "routed6",
    routers: "routers6",
    direct: "direct6",
};

/// The sets of a family.
pub(super) fn names(v6: bool) -> &'static Names {
    if v6 { &V6 } else { &V4 }
}

/// How the table is written; what may change without elements changing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Families that are filtered and translated at all.
    pub(super) v4: bool,
    pub(super) v6: bool,
    /// Families whose forwarding was turned on here: between interfaces of others it stays off.
    pub(super) guard4: bool,
    pub(super) guard6: bool,
    /// The group of the bridges that the instance made.
    pub(super) group: u32,
    pub(super) gate: Gate,
}

/// What of the ports without a host address the outside reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Families that the host's firewall closes.
    pub(super) closed4: bool,
    pub(super) closed6: bool,
    /// What is open all the same.
    pub(super) openings: Vec<Opening>,
}

/// The chain that is rewritten when the host's firewall changes.
pub(super) const GATE: &str = "gate";

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
/// `NF_IP_PRI_RAW`: before connections are tracked and translated.
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
/// Before every chain of others at 0, so that they see the mark.
const BEFORE_FILTER: i32 = -10;

/// Bridges and their like of other engines, which see to their own forwarding.
const NEIGHBOURS: [&str; 9] =
    ["docker", "br-", "podman", "cni", "virbr", "lxcbr", "lxdbr", "incusbr", "nerdctl"];

/// Writes the whole table, without elements.
pub(super) fn write(transaction: &mut Transaction, shape: &Shape) {
    sets(transaction);
    early(transaction, shape);
    ports(transaction, shape);
    forward(transaction, shape);
    postrouting(transaction, shape);
}

fn sets(transaction: &mut Transaction) {
    use Field::{Interface, Ipv4, Ipv6, Port, Protocol};
    let mut set = |name, key, value, ranges| {
        transaction.set(&SetDefinition { name, key, value, ranges });
    };
    set(BRIDGES, &[Interface], Value::None, false);
    set(PAIRS, &[Interface, Interface], Value::Verdict, false);
    set(INTERNAL, &[Interface], Value::None, false);
    for names in [&V4, &V6] {
        for bridges in [names.masquerade, names.routers, names.direct] {
            set(bridges, &[Interface], Value::None, false);
        }
    }
    set(V4.source, &[Interface], Value::Fields(&[Ipv4]), false);
    set(V6.source, &[Interface], Value::Fields(&[Ipv6]), false);
    set(V4.hairpin, &[Ipv4, Ipv4], Value::None, true);
    set(V6.hairpin, &[Ipv6, Ipv6], Value::None, true);
    set(V4.specific, &[Ipv4, Protocol, Port], Value::Fields(&[Ipv4, Port]), false);
    set(V6.specific, &[Ipv6, Protocol, Port], Value::Fields(&[Ipv6, Port]), false);
    set(V4.any, &[Protocol, Port], Value::Fields(&[Ipv4, Port]), false);
    set(V6.any, &[Protocol, Port], Value::Fields(&[Ipv6, Port]), false);
    set(V4.routed, &[Ipv4, Protocol, Port], Value::None, false);
    set(V6.routed, &[Ipv6, Protocol, Port], Value::None, false);
}

/// A base chain that looks only at families that are filtered.
fn base(transaction: &mut Transaction, name: &'static str, hook: Hook, shape: &Shape) {
    transaction.chain(name, Some(hook));
    for (on, v6) in [(shape.v4, false), (shape.v6, true)] {
        if !on {
            transaction.append(name, &Rule::new().family(v6).verdict(Verdict::Accept));
        }
    }
}

/// With `route_localnet` a bridge takes packets to 127/8 for the host; and what is published on 127.0.0.1
/// would be translated for anyone on the link who sends there. Neither ever comes from outside honestly.
fn early(transaction: &mut Transaction, shape: &Shape) {
    let hook = Hook { chain_type: "filter", number: PREROUTING, priority: RAW };
    base(transaction, "early", hook, shape);
    for source in [true, false] {
        // What hardly any packet is comes first: all that come in pass here.
        let rule = Rule::new().v4().loopback(source).not_coming_by("lo");
        transaction.append("early", &rule.verdict(Verdict::Drop));
    }
}

fn ports(transaction: &mut Transaction, shape: &Shape) {
    for (chain, with_address) in [("specific", true), ("any", false)] {
        transaction.chain(chain, None);
        for v6 in [false, true] {
            let map = if with_address { names(v6).specific } else { names(v6).any };
            transaction.append(chain, &Rule::new().translate(v6, with_address, map));
        }
    }
    transaction.chain(GATE, None);
    gate(transaction, &shape.gate);
    transaction.chain("inbound", None);
    for chain in ["specific", GATE, "any"] {
        transaction.append("inbound", &Rule::new().verdict(Verdict::Jump(chain)));
    }

    let hook = |number| Hook { chain_type: "nat", number, priority: DSTNAT };
    base(transaction, "prerouting", hook(PREROUTING), shape);
    transaction.append("prerouting", &Rule::new().for_host(true).verdict(Verdict::Goto("inbound")));
    base(transaction, "output", hook(OUTPUT), shape);
    transaction.append("output", &Rule::new().for_host(false).verdict(Verdict::Accept));
    // The kernel does not route from ::1; the net helper carries that.
    let itself = ipnet::IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128));
    transaction.append("output", &Rule::new().v6().within(false, itself).verdict(Verdict::Accept));
    for chain in ["specific", "any"] {
        transaction.append("output", &Rule::new().verdict(Verdict::Jump(chain)));
    }
}

/// The gate's rules. What it accepts is not translated and goes on to the host's own firewall.
pub(super) fn gate(transaction: &mut Transaction, gate: &Gate) {
    if !gate.closed4 && !gate.closed6 {
        return;
    }
    transaction.append(GATE, &Rule::new().coming_by_any(BRIDGES).verdict(Verdict::Return));
    for opening in &gate.openings {
        for rule in open(opening) {
            transaction.append(GATE, &rule.verdict(Verdict::Return));
        }
    }
    for (closed, v6) in [(gate.closed4, false), (gate.closed6, true)] {
        if closed {
            transaction.append(GATE, &Rule::new().family(v6).verdict(Verdict::Accept));
        }
    }
}

fn open(opening: &Opening) -> Vec<Rule> {
    let mut rule = Rule::new();
    if let Some(interface) = &opening.interface {
        rule = rule.coming_by(interface);
    }
    if let Some(source) = opening.source {
        rule = rule.family(matches!(source, ipnet::IpNet::V6(_))).within(true, source);
    }
    let protocols = match (opening.protocol, opening.ports) {
        (Some(protocol), _) => vec![protocol],
        // Ports mean nothing without a protocol that has them.
        (None, Some(_)) => vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
        (None, None) => return vec![rule],
    };
    protocols
        .into_iter()
        .map(|protocol| {
            let rule = rule.clone().protocol(super::rule::number(protocol));
            match opening.ports {
                Some((first, last)) => rule.ports(first, last),
                None => rule,
            }
        })
        .collect()
}

fn forward(transaction: &mut Transaction, shape: &Shape) {
    ours(transaction);
    let hook = Hook { chain_type: "filter", number: FORWARD, priority: BEFORE_FILTER };
    base(transaction, "forward", hook, shape);
    // A number is compared with less than a name is looked up; bridges that people made are known by name alone.
    transaction.append("forward", &Rule::new().coming_by_group(shape.group).verdict(Verdict::Goto("ours")));
    transaction.append("forward", &Rule::new().leaving_by_group(shape.group).verdict(Verdict::Goto("ours")));
    transaction.append("forward", &Rule::new().coming_by_any(BRIDGES).verdict(Verdict::Goto("ours")));
    transaction.append("forward", &Rule::new().leaving_by_any(BRIDGES).verdict(Verdict::Goto("ours")));
    if !shape.guard4 && !shape.guard6 {
        return;
    }
    // Frames within a bridge of others are none of a router's business.
    transaction.append("forward", &Rule::new().between_bridges().verdict(Verdict::Accept));
    for prefix in NEIGHBOURS {
        for incoming in [true, false] {
            let rule = Rule::new().interface_prefix(incoming, prefix);
            transaction.append("forward", &rule.verdict(Verdict::Accept));
        }
    }
    for (guard, v6) in [(shape.guard4, false), (shape.guard6, true)] {
        if guard {
            transaction.append("forward", &Rule::new().family(v6).verdict(Verdict::Drop));
        }
    }
}

/// What goes to or comes from one of our bridges.
fn ours(transaction: &mut Transaction) {
    for chain in [APART, "ours"] {
        transaction.chain(chain, None);
    }
    // Endpoints of one bridge that may not talk to each other reach what is published all the same.
    transaction.append(APART, &Rule::new().translated().verdict(Verdict::Accept));
    transaction.append(APART, &Rule::new().verdict(Verdict::Drop));

    let mut rule = |rule: Rule| transaction.append("ours", &rule);
    let new = Rule::new;
    // What is dropped below carries the mark for nothing.
    rule(new().add_mark(ACCEPTED));
    rule(new().established().verdict(Verdict::Accept));
    rule(new().verdict_of_pair(PAIRS));
    rule(new().coming_by_any(INTERNAL).verdict(Verdict::Drop));
    rule(new().leaving_by_any(INTERNAL).verdict(Verdict::Drop));
    rule(new().translated().verdict(Verdict::Accept));
    for v6 in [false, true] {
        rule(new().socket_in(v6, names(v6).routed).verdict(Verdict::Accept));
    }
    // From one network to another there is no way but through what is published.
    rule(new().coming_by_any(BRIDGES).leaving_by_any(BRIDGES).verdict(Verdict::Drop));
    rule(new().coming_by_any(BRIDGES).verdict(Verdict::Accept));
    // From here on: from outside straight to a container's address.
    for (v6, (protocol, echo)) in [(false, (1, 8)), (true, (58, 128))] {
        let echo_request = new().family(v6).protocol(protocol).icmp_type(echo);
        rule(echo_request.leaving_by_any(names(v6).routers).verdict(Verdict::Accept));
        rule(new().family(v6).leaving_by_any(names(v6).direct).verdict(Verdict::Accept));
    }
    rule(new().verdict(Verdict::Drop));
}

fn postrouting(transaction: &mut Transaction, shape: &Shape) {
    let hook = Hook { chain_type: "nat", number: POSTROUTING, priority: SRCNAT };
    base(transaction, "postrouting", hook, shape);
    let mut rule = |rule: Rule| transaction.append("postrouting", &rule);
    let new = Rule::new;
    rule(new().v4().loopback(true).leaving_by_any(BRIDGES).masquerade());
    // By address: where br_netfilter translates within a bridge, the interface is not known here. Without
    // this a container would answer its neighbour directly, from an address the neighbour never asked.
    for v6 in [false, true] {
        rule(new().translated().family(v6).both_within(v6, names(v6).hairpin).masquerade());
    }
    rule(new().leaving_by_any(BRIDGES).verdict(Verdict::Accept));
    for v6 in [false, true] {
        rule(new().translate_source(v6, names(v6).source));
        rule(new().family(v6).coming_by_any(names(v6).masquerade).masquerade());
    }
}

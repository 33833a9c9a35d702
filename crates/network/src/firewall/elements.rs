//! Networks and ports as elements of the table's sets.

use std::net::IpAddr;

use ipnet::IpNet;

use super::layout::{APART, BRIDGES, INTERNAL, PAIRS, names};
use super::rule::{interface_key, number};
use super::transaction::{Data, Element};
use crate::address::octets;
use crate::types::{Bridge, GatewayMode, Mapping, Network};

fn plain(set: &'static str, key: impl Into<Vec<u8>>) -> Element {
    Element { set, key: key.into(), end: None, data: Data::None }
}

/// What a bridge network adds to the table; nothing for other networks.
pub(super) fn of_network(network: &Network) -> Vec<Element> {
    let Some(bridge) = network.bridge() else { return vec![] };
    let interface = interface_key(&bridge.interface);
    let between = if bridge.icc { Data::Accept } else { Data::Goto(APART) };
    let mut all = vec![
        plain(BRIDGES, interface),
        Element { set: PAIRS, key: [interface, interface].concat(), end: None, data: between },
    ];
    if network.internal {
        all.push(plain(INTERNAL, interface));
    }
    for subnet in &network.subnets {
        all.push(hairpin(subnet.net));
    }
    for v6 in [false, true] {
        if network.subnets.iter().any(|subnet| matches!(subnet.net, IpNet::V6(_)) == v6) {
            all.extend(of_family(network, bridge, v6));
        }
    }
    // Two subnets of one family say the same of the family.
    let mut seen = std::collections::HashSet::new();
    all.retain(|element| seen.insert(element.clone()));
    all
}

fn of_family(network: &Network, bridge: &Bridge, v6: bool) -> Vec<Element> {
    let interface = interface_key(&bridge.interface);
    let (names, mode) = (names(v6), if v6 { bridge.mode6 } else { bridge.mode4 });
    let mut all = vec![];
    match mode {
        GatewayMode::Nat | GatewayMode::NatUnprotected if bridge.masquerade && !network.internal => {
            let source = if v6 { bridge.source6.map(IpAddr::V6) } else { bridge.source4.map(IpAddr::V4) };
            all.push(match source {
                Some(source) => Element {
                    set: names.source,
                    key: interface.into(),
                    end: None,
                    data: Data::Bytes(octets(source)),
                },
                None => plain(names.masquerade, interface),
            });
        }
        _ => {}
    }
    match mode {
        GatewayMode::Routed => all.push(plain(names.routers, interface)),
        GatewayMode::NatUnprotected => all.push(plain(names.direct, interface)),
        GatewayMode::Nat | GatewayMode::Isolated => {}
    }
    all
}

/// From the subnet to the subnet.
fn hairpin(net: IpNet) -> Element {
    let (first, last) = (octets(net.network()), octets(net.broadcast()));
    Element {
        set: names(matches!(net, IpNet::V6(_))).hairpin,
        key: [first.clone(), first].concat(),
        end: Some([last.clone(), last].concat()),
        data: Data::None,
    }
}

/// What a published port adds to the table.
pub(super) fn of_port(network: &Network, port: &Mapping) -> Option<Element> {
    let bridge = network.bridge()?;
    let v6 = port.container.is_ipv6();
    let names = names(v6);
    let mode = bridge.mode(port.container);
    let protocol = [number(port.protocol), 0, 0, 0];
    let padded = |port: u16| {
        let [high, low] = port.to_be_bytes();
        [high, low, 0, 0]
    };
    if matches!(mode, GatewayMode::Routed | GatewayMode::Isolated) {
        let key = [&octets(port.container)[..], &protocol, &padded(port.container_port)].concat();
        return Some(plain(names.routed, key));
    }
    if port.host.is_ipv6() != v6 {
        return None;
    }
    let data = Data::Bytes([&octets(port.container)[..], &padded(port.container_port)].concat());
    let (set, address) =
        if port.host.is_unspecified() { (names.any, vec![]) } else { (names.specific, octets(port.host)) };
    let key = [&address[..], &protocol, &padded(port.host_port)].concat();
    Some(Element { set, key, end: None, data })
}

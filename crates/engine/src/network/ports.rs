//! Published ports: what a container asks for, who holds it on the host, where it leads.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wharf_api::{PortBinding, PortMap};
use wharf_network::helper::{Helper, PortChoice, PortRequest, Protocol, Relay, Reservation};
use wharf_network::types::Mapping;

use super::sandbox::{Published, Sandbox};
use crate::container::record::Record;
use crate::error::{Error, Result};

/// One port to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) choice: PortChoice,
}

/// A port as the API writes it: `80/tcp`, or `80`.
pub(crate) fn parse(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some((port.parse().ok()?, protocol))
}

/// All that a container wants published. `binding`: where ports without a host address go; `None`: everywhere.
pub(super) fn wishes(record: &Record, binding: Option<IpAddr>) -> Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    let exposed: BTreeSet<_> =
        record.config.exposed_ports.iter().flatten().filter_map(|(port, _)| parse(port)).collect();
    let mut given = BTreeSet::new();
    // As in Docker, a port that is not exposed is not published.
    let bound = record.host_config.port_bindings.iter().flatten();
    let bound = bound.filter_map(|(port, bindings)| Some((parse(port)?, bindings)));
    for ((number, protocol), bindings) in bound.filter(|(port, _)| exposed.contains(port)) {
        for one in bindings.iter().flatten() {
            given.insert((number, protocol));
            wishes.push(wish(number, protocol, one, binding)?);
        }
    }
    if record.host_config.publish_all_ports {
        for (number, protocol) in exposed.into_iter().filter(|port| !given.contains(port)) {
            wishes.push(wish(number, protocol, &PortBinding::default(), binding)?);
        }
    }
    // Ports that are asked for by number must not be lost to those that take any.
    wishes.sort_by_key(|wish| wish.choice == PortChoice::Any);
    Ok(wishes)
}

/// All bindings of a map.
pub(super) fn asked(ports: &PortMap, binding: Option<IpAddr>) -> Result<Vec<Wish>> {
    let mut wishes = Vec::new();
    for (port, bindings) in ports {
        let (number, protocol) = known(port)?;
        let none = [PortBinding::default()];
        for one in bindings.as_deref().filter(|list| !list.is_empty()).unwrap_or(&none) {
            wishes.push(wish(number, protocol, one, binding)?);
        }
    }
    Ok(wishes)
}

fn known(port: &str) -> Result<(u16, Protocol)> {
    parse(port).ok_or_else(|| Error::invalid(format!("invalid port specification: {port:?}")))
}

/// Takes ports out of a list; answers what went.
pub(super) fn take_out(published: &mut Vec<Published>, remove: &PortMap) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for (port, bindings) in remove {
        let (number, protocol) = known(port)?;
        let bindings = bindings.as_deref().unwrap_or_default();
        let meant = |held: &Reservation| bindings.is_empty() || bindings.iter().any(|one| is_held(one, held));
        let mut gone = Published { protocol, port: number, held: Vec::new() };
        for one in published.iter_mut().filter(|one| (one.port, one.protocol) == (number, protocol)) {
            let (out, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut one.held).into_iter().partition(meant);
            one.held = stay;
            gone.held.extend(out);
        }
        if gone.held.is_empty() {
            return Err(Error::not_found(format!("port {port} is not published")));
        }
        all.push(gone);
    }
    published.retain(|one| !one.held.is_empty());
    Ok(all)
}

fn is_held(binding: &PortBinding, held: &Reservation) -> bool {
    let port = matches!(binding.host_port.as_str(), "" | "0") || binding.host_port == held.port.to_string();
    port && (binding.host_ip.is_empty() || binding.host_ip.parse() == Ok(held.address))
}

/// Changes what a container asks for, to last over its next starts.
pub(crate) fn change(record: &mut Record, add: &PortMap, remove: &PortMap) -> Result<()> {
    let bindings = record.host_config.port_bindings.get_or_insert_default();
    for (port, gone) in remove {
        known(port)?;
        let gone = gone.as_deref().unwrap_or_default();
        let same = |own: &PortBinding| {
            gone.is_empty()
                || gone.iter().any(|one| {
                    let port = one.host_port.is_empty() || one.host_port == own.host_port;
                    port && (one.host_ip.is_empty() || one.host_ip == own.host_ip)
                })
        };
        if let Some(Some(list)) = bindings.get_mut(port) {
            list.retain(|own| !same(own));
        }
        bindings.retain(|_, list| list.as_ref().is_some_and(|list| !list.is_empty()));
    }
    for (port, new) in add {
        let (number, protocol) = known(port)?;
        let port = format!("{number}/{}", protocol.name());
        let list = bindings.entry(port.clone()).or_default().get_or_insert_default();
        match new.as_deref() {
            Some(new) if !new.is_empty() => list.extend(new.iter().cloned()),
            _ => list.push(PortBinding::default()),
        }
        record.config.exposed_ports.get_or_insert_default().entry(port).or_default();
    }
    Ok(())
}

/// One binding of a container's port.
pub(super) fn wish(
    port: u16,
    protocol: Protocol,
    asked: &PortBinding,
    binding: Option<IpAddr>,
) -> Result<Wish> {
    let addresses = match asked.host_ip.as_str() {
        "" => match binding {
            None => everywhere(),
            Some(IpAddr::V4(address)) if address.is_unspecified() => everywhere(),
            Some(address) => vec![address],
        },
        text => {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            vec![bare.parse().map_err(|_| Error::invalid(format!("invalid host IP address: {text}")))?]
        }
    };
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| Error::invalid(format!("invalid host port: {:?}", asked.host_port)))
    };
    let choice = match asked.host_port.split_once('-') {
        _ if matches!(asked.host_port.as_str(), "" | "0") => PortChoice::Any,
        None => PortChoice::fixed(number(&asked.host_port)?),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first {
                return Err(Error::invalid(format!("invalid host port: {:?}", asked.host_port)));
            }
            PortChoice::Range { first, last }
        }
    };
    Ok(Wish { protocol, port, addresses, choice })
}

fn everywhere() -> Vec<IpAddr> {
    vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
}

/// Holds the ports on the host, all or none.
pub(super) fn reserve(helper: &Helper, owner: &str, wishes: &[Wish]) -> Result<Vec<Published>> {
    let requests: Vec<PortRequest> = wishes
        .iter()
        .map(|wish| PortRequest {
            protocol: wish.protocol,
            addresses: wish.addresses.clone(),
            port: wish.choice,
        })
        .collect();
    let held = helper.reserve(owner, &requests)?;
    Ok(matched(wishes, held))
}

/// Which wish each held port answers: they come in the order asked for, families the host lacks left out.
fn matched(wishes: &[Wish], held: Vec<Reservation>) -> Vec<Published> {
    let mut held = held.into_iter().peekable();
    let of = |wish: &Wish| {
        let mut published = Published { protocol: wish.protocol, port: wish.port, held: Vec::new() };
        for address in &wish.addresses {
            let fits = |next: &Reservation| next.protocol == wish.protocol && next.address == *address;
            published.held.extend(held.next_if(|next| fits(next)));
        }
        published
    };
    wishes.iter().map(of).collect()
}

/// What the kernel is to translate, and what the net helper has to carry because the kernel cannot.
pub(super) fn routes(sandbox: &Sandbox, published: &[Published]) -> (Vec<Mapping>, Vec<Relay>) {
    let address =
        |v6: bool| sandbox.gateway(v6).and_then(|endpoint| endpoint.address(v6)).map(|net| net.addr());
    let (v4, v6) = (address(false), address(true));
    let (mut mappings, mut relays) = (Vec::new(), Vec::new());
    for port in published {
        for held in &port.held {
            let container = if held.address.is_ipv6() { v6 } else { v4 };
            if let Some(container) = container {
                mappings.push(Mapping {
                    protocol: held.protocol,
                    host: held.address,
                    host_port: held.port,
                    container,
                    container_port: port.port,
                });
            }
            if let Some(target) = container.or(v4) {
                relays.extend(Helper::relay_for(held, (target, port.port).into()));
            }
        }
    }
    (mappings, relays)
}

/// What clients are told: every exposed port, and where it is to be found.
pub(super) fn document(record: &Record, published: &[Published]) -> PortMap {
    let exposed = record.config.exposed_ports.iter().flatten();
    let mut ports: PortMap = exposed.map(|(port, _)| (port.clone(), None)).collect();
    for port in published {
        let bindings = ports.entry(format!("{}/{}", port.port, port.protocol.name())).or_default();
        let bindings = bindings.get_or_insert_default();
        bindings.extend(
            port.held.iter().map(|held| PortBinding {
                host_ip: held.address.to_string(),
                host_port: held.port.to_string(),
            }),
        );
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(ip: &str, port: &str) -> PortBinding {
        PortBinding { host_ip: ip.to_owned(), host_port: port.to_owned() }
    }

    #[test]
    fn bindings_are_read() {
        let of = |ip, port| wish(80, Protocol::Tcp, &binding(ip, port), None);
        assert_eq!(of("", "").unwrap().addresses.len(), 2);
        assert_eq!(of("", "0").unwrap().choice, PortChoice::Any);
        assert_eq!(of("127.0.0.1", "8080").unwrap().choice, PortChoice::fixed(8080));
        assert_eq!(of("[::1]", "1-3").unwrap().choice, PortChoice::Range { first: 1, last: 3 });
        assert!(of("x", "").is_err() && of("", "3-1").is_err() && of("", "70000").is_err());
        let local = Some(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(wish(80, Protocol::Tcp, &binding("", ""), local).unwrap().addresses.len(), 1);
    }

    #[test]
    fn held_ports_find_their_wish_where_a_family_is_missing() {
        let wishes = [
            wish(80, Protocol::Tcp, &binding("", "8080"), None).unwrap(),
            wish(81, Protocol::Udp, &binding("", "8081"), None).unwrap(),
        ];
        let held = |protocol, port| Reservation { protocol, address: Ipv4Addr::UNSPECIFIED.into(), port };
        let published = matched(&wishes, vec![held(Protocol::Tcp, 8080), held(Protocol::Udp, 8081)]);
        assert_eq!(published[0].held, [held(Protocol::Tcp, 8080)]);
        assert_eq!((published[1].port, &published[1].held[..]), (81, &[held(Protocol::Udp, 8081)][..]));
    }

    #[test]
    fn ports_are_taken_out_by_what_holds_them() {
        let held =
            |port| Reservation { protocol: Protocol::Tcp, address: Ipv4Addr::UNSPECIFIED.into(), port };
        let all = [Published { protocol: Protocol::Tcp, port: 80, held: vec![held(8080), held(8081)] }];
        let remove = |text: &str, bindings| {
            let mut published = all.to_vec();
            let gone = take_out(&mut published, &[(text.to_owned(), bindings)].into());
            gone.map(|gone| (gone.iter().map(|one| one.held.len()).sum::<usize>(), published.len()))
        };
        assert_eq!(remove("80", None).unwrap(), (2, 0));
        assert_eq!(remove("80/tcp", Some(vec![binding("", "8081")])).unwrap(), (1, 1));
        assert!(remove("81", None).is_err() && remove("80", Some(vec![binding("", "9")])).is_err());
    }

    #[test]
    fn ports_are_read_as_the_api_writes_them() {
        assert_eq!(parse("80/udp"), Some((80, Protocol::Udp)));
        assert_eq!(parse("80"), Some((80, Protocol::Tcp)));
        assert_eq!(parse("x/tcp"), None);
    }
}

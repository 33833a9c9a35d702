//! What firewalld's permanent configuration opens: services and ports of its zones.
//!
//! A zone holds for interfaces or sources; the default zone for all that no other zone names. The files are
//! XML of few forms; they are read as rows of tags.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ipnet::IpNet;

use crate::types::{Opening, Protocol};

/// Own configuration first, then the distribution's.
const PLACES: [&str; 2] = ["etc/firewalld", "usr/lib/firewalld"];

/// A protocol, or all, and its first and last port, or all.
type Ports = (Option<Protocol>, Option<(u16, u16)>);

/// All that is opened; nothing where the files are not there.
pub(super) fn openings(root: &Path) -> Vec<Opening> {
    let default = read(root, "firewalld.conf")
        .and_then(|text| {
            let line =
                text.lines().find_map(|line| line.trim().strip_prefix("DefaultZone=").map(str::to_owned));
            line.map(|zone| zone.trim().to_owned())
        })
        .unwrap_or_else(|| "public".to_owned());
    let mut all = vec![];
    for name in zones(root) {
        let Some(text) = read(root, &format!("zones/{name}.xml")) else { continue };
        all.extend(zone(root, &text, name == default));
    }
    all
}

fn read(root: &Path, file: &str) -> Option<String> {
    PLACES.iter().find_map(|place| std::fs::read_to_string(root.join(place).join(file)).ok())
}

fn zones(root: &Path) -> HashSet<String> {
    let files = PLACES.iter().filter_map(|place| std::fs::read_dir(root.join(place).join("zones")).ok());
    files
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".xml").map(str::to_owned))
        .collect()
}

/// A tag with its attributes.
#[derive(Debug)]
struct Tag<'a> {
    name: &'a str,
    attributes: HashMap<&'a str, &'a str>,
}

/// The tags of a document in order, closing ones with their slash.
fn tags(text: &str) -> Vec<Tag<'_>> {
    let pieces = text.split('<').skip(1).filter_map(|piece| piece.split_once('>').map(|(tag, _)| tag));
    pieces
        .map(|tag| {
            let tag = tag.trim_end_matches('/');
            let (name, mut rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
            let mut attributes = HashMap::new();
            while let Some((key, after)) = rest.split_once('=') {
                let Some(quote) = after.trim_start().chars().next() else { break };
                let mut parts = after.trim_start()[quote.len_utf8()..].splitn(2, quote);
                attributes.insert(key.trim(), parts.next().unwrap_or_default());
                rest = parts.next().unwrap_or_default();
            }
            Tag { name, attributes }
        })
        .collect()
}

fn zone(root: &Path, text: &str, default: bool) -> Vec<Opening> {
    // Rich rules have conditions of their own, which are not read: closed is the safe side.
    let mut in_rule = false;
    let plain = tags(text).into_iter().filter(|tag| {
        in_rule = tag.name == "rule" || in_rule && tag.name != "/rule";
        !in_rule
    });
    let tags: Vec<_> = plain.collect();
    let value = |tag: &Tag<'_>, key: &str| tag.attributes.get(key).map(|value| (*value).to_owned());
    let named = |name: &str, key: &str| -> Vec<String> {
        tags.iter().filter(|tag| tag.name == name).filter_map(|tag| value(tag, key)).collect()
    };
    let interfaces = named("interface", "name");
    let sources: Vec<IpNet> = named("source", "address").iter().filter_map(|text| network(text)).collect();
    let mut what = vec![];
    for tag in &tags {
        match tag.name {
            "port" => what.extend(port(tag)),
            "service" => {
                what.extend(value(tag, "name").into_iter().flat_map(|name| service(root, &name)));
            }
            _ => {}
        }
    }
    if tags.iter().any(|tag| tag.name == "zone" && tag.attributes.get("target") == Some(&"ACCEPT")) {
        what.push((None, None));
    }
    let mut places: Vec<(Option<String>, Option<IpNet>)> =
        interfaces.into_iter().map(|name| (Some(name), None)).collect();
    places.extend(sources.into_iter().map(|source| (None, Some(source))));
    if default {
        places.push((None, None));
    }
    let open = |(protocol, ports): Ports| {
        places.iter().map(move |(interface, source)| Opening {
            protocol,
            ports,
            source: *source,
            interface: interface.clone(),
        })
    };
    what.into_iter().flat_map(open).collect()
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

/// `<port port="80" protocol="tcp"/>`, with `8000-8100` for a range.
fn port(tag: &Tag<'_>) -> Option<Ports> {
    let protocol = match *tag.attributes.get("protocol")? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    let text = tag.attributes.get("port")?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((Some(protocol), Some((first.parse().ok()?, last.parse().ok()?))))
}

fn service(root: &Path, name: &str) -> Vec<Ports> {
    // Names come from the administrator's files; one with a slash names no service.
    if name.contains('/') {
        return vec![];
    }
    let Some(text) = read(root, &format!("services/{name}.xml")) else { return vec![] };
    let tags = tags(&text);
    // A service for one destination only is more than is said here.
    if tags.iter().any(|tag| tag.name == "destination") {
        return vec![];
    }
    tags.iter().filter(|tag| tag.name == "port").filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_open_ports_and_services() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/firewalld/firewalld.conf", "# zone\nDefaultZone=home\n");
        write(
            "etc/firewalld/zones/home.xml",
            "<?xml version=\"1.0\"?>\n<zone>\n <service name=\"http\"/>\n <port port='8000-8010' protocol='udp'/>\n\
             <rule family=\"ipv4\"><source address=\"10.0.0.1\"/><port port=\"22\" protocol=\"tcp\"/><accept/></rule>\n</zone>",
        );
        write(
            "usr/lib/firewalld/zones/work.xml",
            "<zone><interface name=\"eth1\"/><port port=\"443\" protocol=\"tcp\"/></zone>",
        );
        write("usr/lib/firewalld/zones/home.xml", "<zone><port port=\"1\" protocol=\"tcp\"/></zone>");
        write(
            "usr/lib/firewalld/services/http.xml",
            "<service><short>WWW</short><port protocol=\"tcp\" port=\"80\"/></service>",
        );
        let mut found: Vec<_> = openings(root.path())
            .into_iter()
            .map(|opening| (opening.protocol.unwrap().name(), opening.ports.unwrap(), opening.interface))
            .collect();
        found.sort();
        let wanted = [
            ("tcp", (80, 80), None),
            ("tcp", (443, 443), Some("eth1".to_owned())),
            ("udp", (8000, 8010), None),
        ];
        assert_eq!(found, wanted);
    }
}

//! What `ufw allow` has opened: its rules are kept as iptables has them, in `/etc/ufw/user.rules` and
//! `user6.rules` (`/lib/ufw` on old systems).

use std::path::Path;

use crate::types::{Opening, Protocol};

/// All that is opened; nothing where the files are not there.
pub(super) fn openings(root: &Path) -> Vec<Opening> {
    let mut all = vec![];
    for (file, chain) in [("user.rules", "ufw-user-input"), ("user6.rules", "ufw6-user-input")] {
        let text = ["etc/ufw", "lib/ufw"]
            .iter()
            .find_map(|directory| std::fs::read_to_string(root.join(directory).join(file)).ok());
        if let Some(text) = text {
            all.extend(parse(&text, chain));
        }
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|opening| seen.insert(opening.clone()));
    all
}

/// The rules of a chain up to the first that denies something: what comes behind it may be cut by it.
fn parse(text: &str, chain: &str) -> Vec<Opening> {
    let mut all = vec![];
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["-A", on, rest @ ..] = words.as_slice() else { continue };
        if *on != chain {
            continue;
        }
        match verdict(rest) {
            Some("ACCEPT") => all.extend(conditions(rest)),
            Some("DROP" | "REJECT") => break,
            _ => {}
        }
    }
    all
}

fn verdict<'a>(words: &[&'a str]) -> Option<&'a str> {
    let place = words.iter().position(|word| *word == "-j")?;
    words.get(place + 1).copied()
}

/// A rule's conditions; nothing where there is one that is not known here.
fn conditions(words: &[&str]) -> Vec<Opening> {
    let mut opening = Opening { protocol: None, ports: None, source: None, interface: None };
    let mut ports = vec![];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_default();
        let known = match *word {
            "-p" => match value() {
                "tcp" => {
                    opening.protocol = Some(Protocol::Tcp);
                    true
                }
                "udp" => {
                    opening.protocol = Some(Protocol::Udp);
                    true
                }
                "all" => true,
                _ => false,
            },
            "-m" => matches!(value(), "multiport" | "comment" | "tcp" | "udp"),
            "--comment" => {
                value();
                true
            }
            "--dport" | "--dports" => {
                let all: Option<Vec<_>> = value().split(',').map(range).collect();
                ports = all.unwrap_or_default();
                !ports.is_empty()
            }
            "-s" => {
                let text = value();
                opening.source = text
                    .parse()
                    .ok()
                    .or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from));
                opening.source.is_some()
            }
            "-i" => {
                opening.interface = Some(value().to_owned());
                true
            }
            "-j" => {
                value();
                true
            }
            _ => false,
        };
        if !known {
            return vec![];
        }
    }
    // "Anywhere" written out.
    opening.source = opening.source.filter(|source| source.prefix_len() > 0);
    if ports.is_empty() {
        return vec![opening];
    }
    ports.into_iter().map(|range| Opening { ports: Some(range), ..opening.clone() }).collect()
}

/// `80` or `8000:8100`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_ufw_writes_them() {
        let text = "*filter\n### RULES ###\n\
            ### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in\n\
            -A ufw-user-input -p tcp --dport 80 -j ACCEPT\n\
            -A ufw-user-input -p tcp -m multiport --dports 8000:8010,9000 -s 10.0.0.0/8 -j ACCEPT\n\
            -A ufw-user-input -i eth1 -p udp --dport 53 -j ACCEPT\n\
            -A ufw-user-forward -p tcp --dport 7 -j ACCEPT\n\
            -A ufw-user-input -s 192.168.1.7 -j ACCEPT\n\
            -A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set\n\
            -A ufw-user-input -p tcp --dport 25 -d 10.0.0.1 -j ACCEPT\n\
            -A ufw-user-input -p tcp --dport 443 -j DROP\n\
            -A ufw-user-input -p tcp --dport 444 -j ACCEPT\n";
        let found = parse(text, "ufw-user-input");
        let ports: Vec<_> = found.iter().map(|opening| opening.ports).collect();
        let one = |port| Some((port, port));
        assert_eq!(ports, [one(80), Some((8000, 8010)), one(9000), one(53), None]);
        assert_eq!(found[1].source, Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(found[3].interface.as_deref(), Some("eth1"));
        assert_eq!(found[4].source, Some("192.168.1.7/32".parse().unwrap()));
    }
}

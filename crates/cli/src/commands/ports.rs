//! Published ports as `ps` shows them: grouped by address and protocol, neighbours as ranges.

use std::collections::BTreeMap;

use wharf_api::PortSummary;

/// A run of neighbouring ports: the first and last inside, and the first outside (0: none).
struct Run {
    first: u16,
    last: u16,
    public: u16,
}

/// `0.0.0.0:8000-8001->80-81/tcp, 53/udp`.
pub(super) fn shown(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.r#type).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.r#type,
        ))
    });
    let (mut groups, mut moved): (BTreeMap<String, Run>, Vec<String>) = (BTreeMap::new(), Vec::new());
    let mut done: Vec<String> = Vec::new();
    for port in sorted {
        let kind = if port.r#type.is_empty() { "tcp" } else { &port.r#type };
        let key = if port.ip.is_empty() { kind.to_owned() } else { format!("{}/{kind}", port.ip) };
        let public = if port.ip.is_empty() { 0 } else { port.public_port };
        // Ports that keep neither their number nor an offset of a run stand alone.
        if public != 0 && public != port.private_port {
            moved.push(address(&port.ip, public, &port.private_port.to_string(), kind));
            continue;
        }
        match groups.get_mut(&key) {
            Some(run) if port.private_port == run.last => {}
            Some(run) if port.private_port == run.last + 1 => run.last = port.private_port,
            found => {
                if let Some(run) = found {
                    done.push(group(&key, run));
                }
                groups.insert(key, Run { first: port.private_port, last: port.private_port, public });
            }
        }
    }
    done.extend(groups.iter().map(|(key, run)| group(key, run)));
    done.extend(moved);
    done.sort_by_key(|text| key(text));
    done.join(", ")
}

/// Sorted by the number inside, then as text.
fn key(text: &str) -> (u32, String) {
    let inside = text.rsplit("->").next().unwrap_or(text);
    let digits: String = inside.chars().take_while(char::is_ascii_digit).collect();
    (digits.parse().unwrap_or(0), text.to_owned())
}

fn group(key: &str, run: &Run) -> String {
    let range =
        if run.first == run.last { run.first.to_string() } else { format!("{}-{}", run.first, run.last) };
    match key.rsplit_once('/') {
        Some((ip, kind)) if run.public != 0 => format!("{}:{range}->{range}/{kind}", bracketed(ip)),
        Some((_, kind)) => format!("{range}/{kind}"),
        None => format!("{range}/{key}"),
    }
}

fn address(ip: &str, public: u16, inside: &str, kind: &str) -> String {
    format!("{}:{public}->{inside}/{kind}", bracketed(ip))
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16, kind: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port, public_port, r#type: kind.into() }
    }

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        assert_eq!(
            shown(&[port("", 8080, 80, "tcp"), port("127.0.0.1", 53, 53, "udp")]),
            "127.0.0.1:53->53/udp, 80/tcp"
        );
        assert_eq!(
            shown(&[port("", 0, 80, "tcp"), port("", 0, 81, "tcp"), port("", 0, 90, "tcp")]),
            "80-81/tcp, 90/tcp"
        );
        assert_eq!(
            shown(&[port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            shown(&[port("0.0.0.0", 90, 90, "tcp"), port("0.0.0.0", 91, 91, "tcp")]),
            "0.0.0.0:90-91->90-91/tcp"
        );
    }
}

//! A container's `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`, kept in its bundle and mounted over the image's.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wharf_api::HostConfig;

use super::Build;
use super::peers::joined;
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Where the three files are, and what they are mounted on.
pub(super) type Files = [(PathBuf, &'static str); 3];

/// Writes the files; a container that shares another's network shares that one's files.
pub(super) fn write(ask: &Build<'_>) -> Result<Files> {
    let bundle = match &ask.peers.network {
        Some(peer) => peer.bundle.clone(),
        None => ask.engine.bundle(ask.id),
    };
    let files = [
        (bundle.join("resolv.conf"), "/etc/resolv.conf"),
        (bundle.join("hostname"), "/etc/hostname"),
        (bundle.join("hosts"), "/etc/hosts"),
    ];
    if ask.peers.network.is_none() && joined(&ask.host.network_mode).is_none() {
        put(&files[0].0, &resolv_conf(ask.engine, ask.host, ask.net.resolver)?)?;
        put(&files[1].0, &format!("{}\n", ask.config.hostname))?;
        put(&files[2].0, &hosts(ask))?;
        if let Some(ids) = crate::userns::of(ask.engine, ask.host) {
            let (user, group) = ids.root();
            for (path, _) in &files {
                std::os::unix::fs::chown(path, Some(user), Some(group))
                    .map_err(|error| Error::io(format_args!("chown {}", path.display()), &error))?;
            }
        }
    }
    Ok(files)
}

fn put(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
}

const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// What a container's files say of its networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Net {
    /// Its addresses.
    pub own: Vec<IpAddr>,
    /// Whether names are answered at [`RESOLVER`].
    pub resolver: bool,
    /// What `host-gateway` stands for.
    pub host_gateways: Vec<IpAddr>,
    /// Linked containers: address and names.
    pub links: Vec<(IpAddr, String)>,
    /// Variables that tell of linked containers.
    pub env: Vec<String>,
}

/// Where names are answered in networks that people made.
pub(crate) const RESOLVER: &str = "127.0.0.11";

fn hosts(ask: &Build<'_>) -> String {
    let host_network = ask.host.network_mode == "host";
    let mut text = match std::fs::read_to_string("/etc/hosts") {
        Ok(text) if host_network => text,
        _ => LOCAL.to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in ask.host.extra_hosts.iter().flatten() {
        let Some((name, address)) = entry.split_once(':') else { continue };
        for address in address.split(',') {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            match address {
                "host-gateway" if !ask.net.host_gateways.is_empty() => {
                    ask.net.host_gateways.iter().for_each(|one| line(&mut text, &one.to_string(), name));
                }
                // Without a bridge there is no gateway; in the host's own network the host is the loopback.
                "host-gateway" if host_network => line(&mut text, "127.0.0.1", name),
                "host-gateway" => {}
                address => line(&mut text, address, name),
            }
        }
    }
    for (address, names) in &ask.net.links {
        line(&mut text, &address.to_string(), names);
    }
    let names = own_names(&ask.config.hostname, &ask.config.domainname);
    for address in &ask.net.own {
        line(&mut text, &address.to_string(), &names);
    }
    text
}

/// What a container calls itself.
fn own_names(hostname: &str, domainname: &str) -> String {
    if domainname.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domainname} {hostname}") }
}

fn line(text: &mut String, address: &str, name: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{address}\t{name}");
}

/// A `hosts` file after a container's addresses have changed; what else is in it stays as it is.
pub(crate) fn hosts_changed(
    text: &str,
    (hostname, domainname): (&str, &str),
    before: &[IpAddr],
    after: &[IpAddr],
) -> String {
    let names = own_names(hostname, domainname);
    let of = |address: &IpAddr| format!("{address}\t{names}");
    let gone: Vec<String> = before.iter().filter(|one| !after.contains(one)).map(of).collect();
    let mut kept: String = text
        .lines()
        .filter(|line| !gone.iter().any(|gone| gone == line))
        .flat_map(|line| [line, "\n"])
        .collect();
    for address in after.iter().filter(|one| !before.contains(one)) {
        line(&mut kept, &address.to_string(), &names);
    }
    kept
}

/// What a `resolv.conf` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                // The last of both counts, as in the resolver library.
                Some("domain" | "search") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

const HEADER: &str = "# Generated by Wharf.\n\
    # This file can be edited; once it was, it is not written again while the container runs.\n\n";
const HOST: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes the servers it asks itself, and the address that it answers at.
const RESOLVED: (&str, &str) = ("/run/systemd/resolve/resolv.conf", "127.0.0.53");
/// Asked where the host names no server that a container could reach; Docker's choice.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The host's own settings: those behind systemd-resolved where that is the only server.
fn host_resolver() -> Resolver {
    let read = |path: &str| Resolver::parse(&std::fs::read_to_string(path).unwrap_or_default());
    let resolver = read(HOST);
    if resolver.servers == [RESOLVED.1] && Path::new(RESOLVED.0).exists() {
        read(RESOLVED.0)
    } else {
        resolver
    }
}

/// The digest by which a file that someone edited is told from one as it was written.
pub(crate) fn digest(text: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(&Sha256::digest(text)[..16])
}

/// A container's `resolv.conf`. `resolver`: names are answered at [`RESOLVER`], which asks the servers itself.
pub(crate) fn resolv_conf(engine: &EngineConfig, host: &HostConfig, resolver: bool) -> Result<String> {
    let internal = resolver;
    let host_network = host.network_mode == "host";
    let mut resolver = if host_network {
        Resolver::parse(&std::fs::read_to_string(HOST).unwrap_or_default())
    } else {
        host_resolver()
    };
    let pick = |own: &Option<Vec<String>>, engine: &[String], old: &mut Vec<String>| match own {
        Some(own) if !own.is_empty() => old.clone_from(own),
        _ if !engine.is_empty() => *old = engine.to_vec(),
        _ => {}
    };
    if !host_network {
        // The host's loopback is not the container's.
        resolver.servers.retain(|server| address(server).is_ok_and(|address| !address.is_loopback()));
        let own_network = host.network_mode != "none";
        if resolver.servers.is_empty() && own_network {
            resolver.servers = PUBLIC.map(str::to_owned).to_vec();
        }
    }
    pick(&host.dns, &engine.dns, &mut resolver.servers);
    pick(&host.dns_search, &engine.dns_search, &mut resolver.search);
    pick(&host.dns_options, &engine.dns_options, &mut resolver.options);
    for server in &resolver.servers {
        address(server).map_err(Error::internal)?;
    }
    // A lone dot asks for no search domain.
    if resolver.search == ["."] {
        resolver.search.clear();
    }
    if internal {
        resolver.servers = vec![RESOLVER.to_owned()];
        // A name without dots is most likely a container's: it is asked for as it is first.
        if !resolver.options.iter().any(|option| option.starts_with("ndots:")) {
            resolver.options.push("ndots:0".to_owned());
        }
    }
    Ok(resolver.text())
}

/// The address of a name server, which may carry a zone.
fn address(server: &str) -> Result<IpAddr, String> {
    let bare = server.split('%').next().unwrap_or_default();
    bare.parse()
        .map_err(|_| format!("bad nameserver address {server}: ParseAddr({server:?}): unable to parse IP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_file_is_read_and_written() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver ::1 ; y\ndomain a\nsearch b c # z\noptions ndots:1 edns0\n";
        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, ["127.0.0.53", "::1"]);
        assert_eq!(
            (resolver.search.join(" "), resolver.options.join(" ")),
            ("b c".to_owned(), "ndots:1 edns0".to_owned())
        );
        assert_eq!(Resolver::parse(&resolver.text()), resolver);
    }

    #[test]
    fn only_the_own_lines_of_a_hosts_file_change() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n# mine\n10.0.0.2\tother\n";
        let (before, after) = ([ip("10.0.0.2")], [ip("10.1.0.9"), ip("fd00::9")]);
        assert_eq!(
            hosts_changed(text, ("web", ""), &before, &after),
            "127.0.0.1\tlocalhost\n# mine\n10.0.0.2\tother\n10.1.0.9\tweb\nfd00::9\tweb\n"
        );
        assert_eq!(hosts_changed("", ("web", "a.b"), &[], &before), "10.0.0.2\tweb.a.b web\n");
    }

    #[test]
    fn networks_of_people_have_their_resolver() {
        let host = HostConfig {
            network_mode: "mine".to_owned(),
            dns: Some(vec!["9.9.9.9".to_owned()]),
            dns_search: Some(vec!["example.org".to_owned()]),
            dns_options: Some(vec!["timeout:1".to_owned()]),
            ..HostConfig::default()
        };
        let text = resolv_conf(&EngineConfig::default(), &host, true).unwrap();
        let text = text.strip_prefix(HEADER).unwrap();
        assert_eq!(text, "nameserver 127.0.0.11\nsearch example.org\noptions timeout:1 ndots:0\n");
        let text = resolv_conf(&EngineConfig::default(), &host, false).unwrap();
        assert!(text.contains("nameserver 9.9.9.9\n") && !text.contains("ndots"));
    }

    #[test]
    fn a_bad_name_server_is_refused_as_recorded() {
        assert_eq!(
            address("x").unwrap_err(),
            "bad nameserver address x: ParseAddr(\"x\"): unable to parse IP"
        );
        assert!(address("fe80::1%eth0").is_ok());
    }
}

//! resolv.conf(5), with the C library's limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// What a resolver must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) tcp: bool,
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                Some("domain" | "search") => {
                    conf.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf.servers.truncate(3);
        conf.search.retain(|suffix| !suffix.is_empty());
        conf.search.truncate(16);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(value)) => self.ndots = value.min(15) as usize,
            ("timeout", Ok(value)) => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            ("attempts", Ok(value)) => self.attempts = value.clamp(1, 5),
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// The full names that `name` may mean, in the order they are asked.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|suffix| format!("{name}.{suffix}"));
        if name.matches('.').count() >= self.ndots {
            return std::iter::once(name.to_owned()).chain(searched).collect();
        }
        searched.chain(std::iter::once(name.to_owned())).collect()
    }
}

/// An address, of IPv6 with an optional numeric scope.
fn server(text: &str) -> Option<SocketAddr> {
    let (address, scope) = text.split_once('%').unwrap_or((text, "0"));
    Some(match address.parse().ok()? {
        IpAddr::V4(address) => SocketAddr::from((address, 53)),
        IpAddr::V6(address) => SocketAddrV6::new(address, 53, 0, scope.parse().unwrap_or(0)).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file() {
        let conf = ResolvConf::parse(
            "# x\nnameserver 10.0.0.2\nnameserver fe80::1%2\nsearch a.example. b\noptions ndots:2 timeout:1 attempts:9\n",
        );
        assert_eq!(conf.servers.len(), 2);
        assert_eq!(conf.servers[1].to_string(), "[fe80::1%2]:53");
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (2, 1, 5));
        assert_eq!(conf.candidates("reg.x"), ["reg.x.a.example", "reg.x.b", "reg.x"]);
        assert_eq!(conf.candidates("a.b.c"), ["a.b.c", "a.b.c.a.example", "a.b.c.b"]);
        assert_eq!(conf.candidates("a."), ["a"]);
    }

    #[test]
    fn no_file_means_this_host() {
        assert_eq!(ResolvConf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }
}

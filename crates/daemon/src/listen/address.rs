//! Addresses as given with `--host`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `unix://PATH`.
    Unix(PathBuf),
    /// `tcp://HOST:PORT`; no port means 2375, or 2376 with TLS.
    Tcp(IpAddr, Option<u16>),
    /// `fd://`: all sockets handed over by systemd, or the one of that name or number.
    Activated(Option<String>),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp(host, Some(port)) => write!(out, "tcp://{}", SocketAddr::new(*host, *port)),
            Self::Tcp(host, None) => write!(out, "tcp://{host}"),
            Self::Activated(name) => write!(out, "fd://{}", name.as_deref().unwrap_or_default()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.is_empty() {
                Err(format!("{text}: no path"))
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        if let Some(name) = text.strip_prefix("fd://") {
            return Ok(Self::Activated((!matches!(name, "" | "*")).then(|| name.to_owned())));
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(format!(
                "invalid bind address ({text}): unix://PATH, tcp://HOST[:PORT] or fd:// expected"
            ));
        };
        let rest = rest.trim_end_matches('/');
        if let Ok(address) = rest.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address.ip(), Some(address.port())));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (
                host,
                Some(
                    port.parse()
                        .map_err(|_| format!("invalid bind address ({text}): invalid port {port}"))?,
                ),
            ),
            _ => (rest, None),
        };
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => {
                host.parse().map_err(|_| format!("invalid bind address ({text}): {host} is no IP address"))?
            }
        };
        Ok(Self::Tcp(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockerd_does() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(read("unix:///run/x.sock"), Ok(Address::Unix("/run/x.sock".into())));
        assert_eq!(read("tcp://0.0.0.0:2375"), Ok(Address::Tcp("0.0.0.0".parse().unwrap(), Some(2375))));
        assert_eq!(read("tcp://:1"), Ok(Address::Tcp(Ipv4Addr::LOCALHOST.into(), Some(1))));
        assert_eq!(read("tcp://[::1]:5"), Ok(Address::Tcp("::1".parse().unwrap(), Some(5))));
        assert_eq!(read("tcp://[::1]"), Ok(Address::Tcp("::1".parse().unwrap(), None)));
        assert_eq!(read("fd://"), Ok(Address::Activated(None)));
        assert_eq!(read("fd://api"), Ok(Address::Activated(Some("api".to_owned()))));
        assert!(
            read("/run/x.sock").is_err()
                && read("tcp://name.example:1").is_err()
                && read("tcp://1.2.3.4:x").is_err()
        );
    }
}

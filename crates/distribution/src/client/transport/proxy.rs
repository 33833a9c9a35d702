//! By which proxy a host is reached: Go's reading of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.

use std::net::IpAddr;

use base64::Engine as _;

use super::insecure::Network;
use super::url::{Origin, Scheme, Url};
use crate::client::config;

/// A proxy and who one is to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) url: Url,
    /// Value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.url)
    }
}

/// The proxies of a configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    none: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    Network(Network),
    Address(IpAddr, Option<u16>),
    /// With a leading dot; `itself` when the name without it counts too.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads settings.
    ///
    /// # Errors
    /// Which proxy cannot be understood.
    pub(crate) fn parse(settings: &config::Proxies) -> Result<Self, String> {
        Ok(Self {
            http: parse_proxy(&settings.http)?,
            https: parse_proxy(&settings.https)?,
            none: settings.none.split(',').filter_map(Exception::parse).collect(),
        })
    }

    /// The proxy for `origin`; `None` is a direct connection.
    pub(crate) fn for_origin(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = match origin.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        let ip = origin.ip();
        let local = origin.host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback());
        let excepted = || self.none.iter().any(|exception| exception.covers(&origin.host, ip, origin.port));
        (!local && !excepted()).then_some(proxy)
    }
}

fn parse_proxy(text: &str) -> Result<Option<Proxy>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let invalid = |error: String| format!("invalid proxy address: {error}");
    let end = rest.find('/').unwrap_or(rest.len());
    let (user, host) = match rest[..end].rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, &rest[..end]),
    };
    let url = Url::parse(&format!("{scheme}://{host}/")).map_err(invalid)?;
    let authorization = user.map(|user| {
        let plain = user.split_once(':').unwrap_or((user, ""));
        let pair = format!("{}:{}", unescape(plain.0), unescape(plain.1));
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    });
    Ok(Some(Proxy { url, authorization }))
}

/// Undoes percent-encoding; what is no escape stays.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some(network) = Network::parse(&entry) {
            return Some(Self::Network(network));
        }
        let (host, port) = match entry.parse::<IpAddr>() {
            Ok(_) => (entry.as_str(), None),
            Err(_) => match entry.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().ok()?)),
                None => (entry.as_str(), None),
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let suffix = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match suffix.strip_prefix('.') {
            _ if suffix.is_empty() || suffix == "." => None,
            Some(_) => Some(Self::Domain { suffix: suffix.to_owned(), itself: false, port }),
            None => Some(Self::Domain { suffix: format!(".{suffix}"), itself: true, port }),
        }
    }

    fn covers(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => ip.is_some_and(|ip| network.contains(ip)),
            Self::Address(address, on) => ip == Some(*address) && on.is_none_or(|on| on == port),
            Self::Domain { suffix, itself, port: on } => {
                let host = host.trim_end_matches('.');
                on.is_none_or(|on| on == port)
                    && (host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(none: &str) -> Proxies {
        Proxies::parse(&config::Proxies {
            http: "proxy:3128".into(),
            https: "http://us%20er:p%40ss@proxy".into(),
            none: none.into(),
        })
        .unwrap()
    }

    fn proxied(none: &str, url: &str) -> bool {
        proxies(none).for_origin(&Url::parse(url).unwrap().origin).is_some()
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let proxies = proxies("");
        let http = proxies.for_origin(&Url::parse("http://a/").unwrap().origin).unwrap();
        assert_eq!((http.url.origin.address().as_str(), &http.authorization), ("proxy:3128", &None));
        let https = proxies.for_origin(&Url::parse("https://a/").unwrap().origin).unwrap();
        assert_eq!(https.url.origin.port, 80);
        assert_eq!(https.authorization.as_deref(), Some("Basic dXMgZXI6cEBzcw=="));
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        assert!(!proxied("", "http://localhost:5000/"));
        assert!(!proxied("", "https://127.1.2.3/"));
        assert!(!proxied("", "https://[::1]/"));
        assert!(!proxied("*", "https://a/"));
        assert!(!proxied(" example.com ,x", "https://example.com/"));
        assert!(!proxied("example.com", "https://a.example.com/"));
        assert!(proxied("example.com", "https://anexample.com/"));
        assert!(proxied(".example.com", "https://example.com/"));
        assert!(!proxied("*.example.com", "https://a.example.com/"));
        assert!(!proxied("example.com:443", "https://example.com/"));
        assert!(proxied("example.com:443", "https://example.com:5000/"));
        assert!(!proxied("10.0.0.0/8", "http://10.1.1.1/"));
        assert!(!proxied("10.1.1.1:80,::2", "http://10.1.1.1/"));
        assert!(!proxied("::2", "http://[::2]/"));
        assert!(proxied(",.,:", "http://10.1.1.1/"));
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused() {
        let settings = config::Proxies { http: "socks5://p".into(), ..Default::default() };
        assert!(Proxies::parse(&settings).unwrap_err().contains("socks5"));
    }
}

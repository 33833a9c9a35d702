//! Addresses of registries: the part of RFC 3986 that HTTP needs, bounded and strict.

use std::fmt;
use std::net::IpAddr;

const LENGTH_LIMIT: usize = 8 << 10;

/// Whether a connection is private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Who is spoken to: what connections and credentials belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// `host:port`, as dialled and shown in errors.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// The host as an address, if it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host[:port]`, the port where it is not the scheme's own: the `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            return bracketed(&self.host);
        }
        self.address()
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// An address that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// `host[:port]` as it was written.
    written: String,
    /// Path and query, beginning with `/`.
    pub(crate) path: String,
}

impl Url {
    /// Reads an absolute `http` or `https` address without user information; a fragment is dropped.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = printable(text)?;
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("no scheme in {text:?}"))?;
        let scheme = if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else {
            return Err(format!("unsupported protocol scheme {scheme:?}"));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(scheme.default_port());
        Ok(Self { origin: Origin { scheme, host, port }, written: authority.to_owned(), path })
    }

    /// The address of `path` (absolute, with query) on the same host.
    pub(crate) fn at(&self, path: String) -> Self {
        Self { path, ..self.clone() }
    }

    /// Resolves what a `Location` or `Link` header says against this address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, String> {
        let reference = printable(reference)?;
        let scheme_end = reference.find("://").filter(|end| !reference[..*end].contains(['/', '?']));
        if scheme_end.is_some() {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.origin.scheme));
        }
        if reference.starts_with('/') {
            return Ok(self.at(reference.to_owned()));
        }
        let base = self.path.split('?').next().unwrap_or("/");
        if reference.starts_with('?') {
            return Ok(self.at(format!("{base}{reference}")));
        }
        let directory = base.rfind('/').map_or("/", |slash| &base[..=slash]);
        let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        Ok(self.at(format!("{}{query}", without_dots(&format!("{directory}{path}")))))
    }

    /// With `name=value` (escaped) added to the query.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        self.at(format!("{}{separator}{name}={}", self.path, escape(value)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.origin.scheme, self.written, self.path)
    }
}

/// The text without fragment, if it is short and of visible ASCII.
fn printable(text: &str) -> Result<&str, String> {
    if text.len() > LENGTH_LIMIT {
        return Err("address longer than 8 KiB".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("invalid character in {text:?}"));
    }
    Ok(text.split('#').next().unwrap_or_default())
}

/// `host[:port]`, the host in lower case and without brackets.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn split_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let invalid = || format!("invalid host {authority:?}");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" | ":" => None,
        port => {
            let digits = port.strip_prefix(':').ok_or_else(invalid)?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            Some(digits.parse().ok().filter(|port| plain && *port != 0).ok_or_else(invalid)?)
        }
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if host.is_empty() || host.len() > 255 || !host.bytes().all(named) {
        return Err(invalid());
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Percent-encoding of all but RFC 3986's unreserved characters, a space as `+`: a form's value.
pub(crate) fn escape(value: &str) -> String {
    use fmt::Write as _;
    value.bytes().fold(String::with_capacity(value.len()), |mut text, byte| {
        match byte {
            b' ' => text.push('+'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => {
                text.push(char::from(b))
            }
            // Writing to a String cannot fail.
            b => write!(text, "%{b:02X}").unwrap_or_default(),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for text in ["https://registry-1.docker.io/v2/", "http://[::1]:5000/v2/a?b=c", "http://h:1/"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let url = Url::parse("HTTPS://Host?x#frag").unwrap();
        assert_eq!(url.to_string(), "https://Host/?x");
        assert_eq!(url.origin.address(), "host:443");
        assert_eq!(Url::parse("http://[::1]:5000").unwrap().origin.authority(), "[::1]:5000");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("http://h/{}", "a".repeat(9000));
        for text in [
            "",
            "host/path",
            "ftp://h/",
            "http://",
            "http://u:p@h/",
            "http://h:0/",
            "http://h:99999/",
            "http://h:+1/",
            "http://a b/",
            "http://[::1/",
            "http://[x]/",
            "http://h/\r\nx: y",
            long.as_str(),
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references_resolve_as_the_rfc_says() {
        let base = Url::parse("http://h:5000/v2/a/tags/list?n=1").unwrap();
        let joined = |reference: &str| base.join(reference).unwrap().to_string();
        assert_eq!(joined("/v2/b"), "http://h:5000/v2/b");
        assert_eq!(joined("?n=2"), "http://h:5000/v2/a/tags/list?n=2");
        assert_eq!(joined("list?last=x"), "http://h:5000/v2/a/tags/list?last=x");
        assert_eq!(joined("../../../../etc"), "http://h:5000/etc");
        assert_eq!(joined("//other/x"), "http://other/x");
        assert_eq!(joined("https://cdn/x?y=http://z/"), "https://cdn/x?y=http://z/");
        assert_eq!(joined("/x?next=http://z/"), "http://h:5000/x?next=http://z/");
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escape("repository:a/b:pull,push x"), "repository%3Aa%2Fb%3Apull%2Cpush+x");
    }
}

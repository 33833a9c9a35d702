//! What a client must be told: registries that are special, proxies, patience.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`super::Client`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Mirrors of docker.io as `http://host[:port]/` or `https://…`, asked first and in this order.
    pub mirrors: Vec<String>,
    /// Registries that may be without TLS or with a certificate nobody signed: `host`, `host:port` or a CIDR.
    /// Loopback addresses always are.
    pub insecure: Vec<String>,
    /// Directories with a subdirectory of certificates a host (`certs.d`); the first that has one for a host is used.
    pub certificates: Vec<PathBuf>,
    /// By which proxies the world is reached.
    pub proxies: Proxies,
    /// How often a download or upload is tried before it is given up, at least 1 (`max-download-attempts`).
    pub attempts: u32,
    /// How long to wait for whom.
    pub patience: Patience,
    /// Where docker.io is.
    pub hub: String,
    /// Files that names are resolved by.
    pub names: NameFiles,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: format!("wharf/{}", env!("CARGO_PKG_VERSION")),
            mirrors: Vec::new(),
            insecure: Vec::new(),
            certificates: vec!["/etc/wharf/certs.d".into(), "/etc/docker/certs.d".into()],
            proxies: Proxies::default(),
            attempts: 5,
            patience: Patience::default(),
            hub: "https://registry-1.docker.io".to_owned(),
            names: NameFiles::default(),
        }
    }
}

/// Proxies, with the meaning that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` have for Docker.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For `http://` addresses: `[http[s]://][user:password@]host[:port]`; empty means none.
    pub http: String,
    /// For `https://` addresses, by CONNECT.
    pub https: String,
    /// Comma-separated hosts that are reached directly: names (with their subdomains), `.suffix`, addresses, CIDRs,
    /// each with an optional port, or `*`.
    pub none: String,
}

/// How long to wait for whom.
#[derive(Debug, Clone)]
pub struct Patience {
    /// For a TCP connection, over all addresses of the host.
    pub connect: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of an answer to a request that makes the registry read only.
    pub answer: Duration,
    /// For the head of an answer to a request that makes the registry store what it got.
    pub store: Duration,
    /// Within this time of waiting for a body, `stall_bytes` must come (or be taken).
    pub stall: Duration,
    /// See `stall`.
    pub stall_bytes: u64,
    /// The first pause before another attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest pause, also when the registry asks for a longer one.
    pub backoff_limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            store: Duration::from_secs(600),
            stall: Duration::from_secs(60),
            stall_bytes: 16 << 10,
            backoff: Duration::from_millis(500),
            backoff_limit: Duration::from_secs(60),
        }
    }
}

/// Files that names are resolved by; there is no name service in a static binary.
#[derive(Debug, Clone)]
pub struct NameFiles {
    /// hosts(5).
    pub hosts: PathBuf,
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
}

impl Default for NameFiles {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

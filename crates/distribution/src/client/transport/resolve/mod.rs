//! Names to addresses without the C library's name service: hosts(5), then DNS as resolv.conf(5) says.

mod conf;
mod dns;
mod hosts;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::conf::ResolvConf;
use crate::client::config::NameFiles;
use crate::client::error::TransportError;

/// Files are configuration of the host, but a runaway one must not be read whole.
const FILE_LIMIT: u64 = 4 << 20;

/// Resolves names by the host's files, read anew each time: they change while a daemon runs.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: NameFiles,
}

impl Resolver {
    pub(crate) const fn new(files: NameFiles) -> Self {
        Self { files }
    }

    /// The addresses of `host`, never none; an address stands for itself.
    ///
    /// # Errors
    /// [`TransportError::Lookup`] in Go's words: `host on 1.1.1.1:53: no such host`.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, TransportError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let name = host.trim_end_matches('.');
        let listed = hosts::lookup(&read(&self.files.hosts).await, name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        if name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = ResolvConf::parse(&read(&self.files.resolv_conf).await);
        dns::lookup(&conf, host).await
    }
}

/// The addresses of `host` by the files of this host, never none; an address stands for itself.
///
/// # Errors
/// [`TransportError::Lookup`] in Go's words.
pub async fn lookup_host(host: &str) -> Result<Vec<IpAddr>, TransportError> {
    Resolver::new(NameFiles::default()).lookup(host).await
}

/// The text of a file; one that cannot be read says nothing.
async fn read(path: &std::path::Path) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    if let Ok(file) = tokio::fs::File::open(path).await {
        // What was read before an error counts.
        let _ = file.take(FILE_LIMIT).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! Hosts that volumes name: servers of network file systems, plugins.

use std::io;
use std::net::IpAddr;

/// The addresses of a host, by our own reading of the host's files and its name servers. Sleeps.
///
/// # Errors
/// When nobody knows it, in Go's words.
pub(super) fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(wharf_distribution::client::lookup_host(host));
    found.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.to_string()))
}

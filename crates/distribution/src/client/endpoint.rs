//! Which servers stand behind a registry's name.

use std::sync::Arc;

use super::challenge::Challenge;
use super::transport::{Origin, Scheme, Transport, Url, split_authority};
use super::{Client, Error};

/// The hub's name in references; older clients write it in two other ways.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// One server of a registry.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Ends in `/`.
    pub(crate) base: Url,
    /// As `certs.d` names it.
    pub(crate) name: String,
    pub(crate) insecure: bool,
    pub(crate) mirror: bool,
    /// Whether it is on this host.
    pub(crate) local: bool,
}

impl Endpoint {
    async fn new(client: &Client, base: Url, mirror: bool) -> Self {
        let addresses = client.transport().addresses(&base.origin).await;
        let name = authority_of(&base);
        let insecure = client.insecure().covers(&name, &addresses);
        Self { insecure, mirror, local: Transport::all_local(&addresses), name, base }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.base.origin
    }

    /// The address of `path` below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.base.at(format!("{}v2/{path}", self.base.path))
    }
}

fn authority_of(url: &Url) -> String {
    let text = url.to_string();
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// Whether `host` is the hub by one of its names.
pub(crate) fn is_hub(host: &str) -> bool {
    HUB.contains(&host)
}

/// Reads a mirror's or the hub's address.
pub(crate) fn parse_base(text: &str) -> Result<Url, Error> {
    let invalid = |why: &str| Error::Setting(format!("invalid mirror: {why} in {text:?}"));
    if text.contains(['?', '#']) {
        return Err(invalid("query or fragment"));
    }
    let mut url = Url::parse(text).map_err(|error| invalid(&error))?;
    if !url.path.ends_with('/') {
        url.path.push('/');
    }
    Ok(url)
}

/// The servers of registry `host` in the order they are asked: mirrors (for reading), the registry itself by TLS, and
/// without it where that is allowed.
///
/// # Errors
/// [`Error::Setting`] when `host` is no host.
pub(crate) async fn candidates(client: &Client, host: &str, reading: bool) -> Result<Vec<Endpoint>, Error> {
    let mut found = Vec::new();
    if is_hub(host) {
        for mirror in client.mirrors().iter().filter(|_| reading) {
            found.push(Endpoint::new(client, mirror.clone(), true).await);
        }
        found.push(Endpoint::new(client, client.hub().clone(), false).await);
        return Ok(found);
    }
    split_authority(host).map_err(|error| Error::Setting(format!("invalid registry: {error}")))?;
    let base = Url::parse(&format!("https://{host}/")).map_err(Error::Setting)?;
    let endpoint = Endpoint::new(client, base, false).await;
    let plain = endpoint.insecure.then(|| {
        let mut plain = endpoint.clone();
        let (_, port) = split_authority(host).unwrap_or_default();
        plain.base = plain_http(&endpoint.base, port);
        plain
    });
    found.push(endpoint);
    found.extend(plain);
    Ok(found)
}

fn plain_http(base: &Url, port: Option<u16>) -> Url {
    let mut url = base.clone();
    url.origin.scheme = Scheme::Http;
    url.origin.port = port.unwrap_or(80);
    url
}

/// A server that has answered, and what it wants to see.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) challenges: Arc<[Challenge]>,
}

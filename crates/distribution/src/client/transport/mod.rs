//! From an address to an answer: names, proxies, TLS, connections, redirects, timeouts.

mod body;
mod certs;
mod connect;
mod exchange;
mod insecure;
mod pool;
mod proxy;
mod resolve;
mod tls;
mod url;
mod words;
mod x509;

pub(crate) use body::{Answer, Outgoing};
pub(crate) use exchange::{Exchange, Head, Transport, Wait};
pub(crate) use insecure::Insecure;
pub use resolve::lookup_host;
pub(crate) use url::{Origin, Scheme, Url, escape, split_authority};

use self::connect::Connector;
use self::proxy::Proxies;
use self::resolve::Resolver;
use self::tls::Tls;
use super::config::Config;

/// What makes connections as `config` says.
///
/// # Errors
/// Which proxy cannot be understood.
pub(crate) fn connector(config: &Config) -> Result<Connector, String> {
    Ok(Connector {
        resolver: Resolver::new(config.names.clone()),
        proxies: Proxies::parse(&config.proxies)?,
        tls: Tls::new(config.certificates.clone()),
        patience: config.patience.clone(),
        user_agent: config.user_agent.clone(),
    })
}

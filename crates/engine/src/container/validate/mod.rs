//! What a client may ask for at create, checked with the messages clients know, and the defaults that inspect shows.

mod config;
mod host;
mod logging;
mod merge;
mod modes;
mod network;
mod resources;

use std::fmt;
use std::sync::Arc;

use wharf_api::{ContainerConfig, HostConfig, NetworkingConfig, UpdateRequest};

pub use merge::merge_image;
pub use resources::Facts;

use crate::config::EngineConfig;
use crate::container::spec::security::Options;
use crate::error::Result;
use crate::network::Known;

/// What checking a create request needs to know.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The engine's settings, where the defaults come from.
    pub engine: &'a EngineConfig,
    /// The id the container will have; its first twelve digits are its host name.
    pub id: &'a str,
    /// Finds the full id of another container by id, name or prefix.
    pub container_id: &'a dyn Fn(&str) -> Option<String>,
    /// Finds a network by name, id or prefix.
    pub(crate) network: &'a dyn Fn(&str) -> Option<Arc<Known>>,
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ask").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Checks everything in a create request that can be checked without its image, and fills in the defaults. Answers the
/// warnings to hand back. To be followed by [`merge_image`] and [`super::spec::register`].
///
/// # Errors
/// Docker's words and classes.
pub fn create(
    ask: &Ask<'_>,
    config: &mut ContainerConfig,
    host: &mut HostConfig,
    networking: &mut NetworkingConfig,
) -> Result<Vec<String>> {
    // The order is Docker's: first what it finds while it reads the request, then what its daemon checks.
    modes::check(config, host)?;
    host::check_request(host)?;
    let mut warnings = Vec::new();
    network::check_endpoints(config, host, networking, ask.network, &mut warnings)?;
    config::check(config)?;
    host::check(host)?;
    warnings.extend(resources::check_new(host, Facts::of_host())?);
    host::check_platform(ask.engine, host, &mut warnings)?;
    logging::settle(ask.engine, host)?;
    host::fill(ask, host)?;
    network::settle(config, host, networking, ask.network);
    config::fill(config, host, ask.id);
    Options::parse(host.security_opt.as_deref().unwrap_or_default())?;
    Ok(warnings)
}

/// Applies an update to a container's host configuration; what it does not name stays. Answers the new configuration
/// and the warnings. `running` containers cannot lower their kernel limits in some ways, which the kernel says itself.
///
/// # Errors
/// Docker's words and classes.
pub fn update(current: &HostConfig, request: &UpdateRequest) -> Result<(HostConfig, Vec<String>)> {
    resources::update(current, request, Facts::of_host())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Runs [`create`] with defaults for what a test does not care about.
    pub(crate) fn create_with(config: &mut ContainerConfig, host: &mut HostConfig) -> Result<Vec<String>> {
        let engine = EngineConfig::default();
        let ask =
            Ask { engine: &engine, id: "0123456789abcdef", container_id: &|_| None, network: &|_| None };
        let mut networking = NetworkingConfig::default();
        create(&ask, config, host, &mut networking)
    }

    /// The message with which a host configuration is refused.
    pub(crate) fn refusal(host: HostConfig) -> String {
        let mut host = host;
        create_with(&mut ContainerConfig::default(), &mut host).unwrap_err().message().to_owned()
    }
}

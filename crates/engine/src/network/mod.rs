//! Networks, as documents so far: the three that are always there.

mod list;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use wharf_api::{
    ConfigReference, Filters, Ipam, Network, NetworkConnectRequest, NetworkCreateRequest,
    NetworkCreateResponse, NetworkDisconnectRequest, NetworksPruned,
};

use crate::config::EngineConfig;
use crate::container::record::Record;
use crate::container::spec::peers::joined;
use crate::error::{Error, Result};
use crate::events::Events;

/// The names of the networks that are always there.
pub const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

/// The engine's networks.
#[derive(Debug)]
pub struct Networks {
    /// In the order of [`BUILT_IN`].
    documents: Vec<Network>,
}

impl Networks {
    /// The networks of an engine.
    pub fn new(config: &EngineConfig, _events: &Arc<Events>) -> Self {
        Self::open(&config.instance, &config.data_root)
    }

    /// The networks of `instance`; their ids derive from it and from its data root, so they stay from run to run.
    pub fn open(instance: &str, data_root: &Path) -> Self {
        let created =
            std::fs::metadata(data_root).and_then(|meta| meta.created().or_else(|_| meta.modified()));
        let created = created.ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
        let describe = |name: &&str| describe(name, instance, data_root, created);
        Self { documents: BUILT_IN.iter().map(describe).collect() }
    }

    /// The networks a container joins when it starts; none where it has no network of its own.
    pub fn of(&self, record: &Record) -> Vec<Network> {
        if record.config.network_disabled || joined(&record.host_config.network_mode).is_some() {
            return Vec::new();
        }
        record.endpoints.keys().filter_map(|name| self.inspect(name).ok()).collect()
    }

    /// All networks that pass the filters.
    ///
    /// # Errors
    /// Invalid, for filters that are none.
    pub fn list(&self, filters: &Filters) -> Result<Vec<Network>> {
        list::list(&self.documents, filters)
    }

    /// A network by name, id or the start of its id.
    ///
    /// # Errors
    /// `network NAME not found`.
    pub fn inspect(&self, name: &str) -> Result<Network> {
        let by_name = self.documents.iter().find(|network| network.name == name || network.id == name);
        let by_prefix = || {
            let mut found =
                self.documents.iter().filter(|network| !name.is_empty() && network.id.starts_with(name));
            found.next().filter(|_| found.next().is_none())
        };
        by_name
            .or_else(by_prefix)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("network {name} not found")))
    }

    /// Whether a container can start on `mode`; peers of `container:X` are looked up elsewhere.
    ///
    /// # Errors
    /// Docker's words of a start on a network that is not there.
    pub fn check_mode(&self, mode: &str) -> Result<()> {
        if joined(mode).is_some() {
            return Ok(());
        }
        let context = "failed to set up container networking";
        self.inspect(mode).map(drop).map_err(|error| error.context(context))
    }

    /// Makes a network.
    ///
    /// # Errors
    /// Always, for now.
    pub fn create(&self, ask: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        if BUILT_IN.contains(&ask.name.as_str()) {
            let why = "operation is not permitted on predefined";
            return Err(Error::forbidden(format!("{why} {} network ", ask.name)));
        }
        Err(missing("creating networks"))
    }

    /// Connects a container to a network.
    ///
    /// # Errors
    /// Always, for now.
    pub fn connect(&self, name: &str, _ask: NetworkConnectRequest) -> Result<()> {
        self.inspect(name)?;
        Err(missing("connecting containers to networks"))
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// Always, for now.
    pub fn disconnect(&self, name: &str, _ask: NetworkDisconnectRequest) -> Result<()> {
        self.inspect(name)?;
        Err(missing("disconnecting containers from networks"))
    }

    /// Removes a network.
    ///
    /// # Errors
    /// Always: the built-in ones stay.
    pub fn remove(&self, name: &str) -> Result<()> {
        let network = self.inspect(name)?;
        Err(Error::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)))
    }

    /// Removes the networks that no container uses; none of the built-in ones.
    ///
    /// # Errors
    /// Invalid, for filters that are none.
    pub fn prune(&self, filters: &Filters) -> Result<NetworksPruned> {
        filters.check(&["label", "label!", "until"]).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(NetworksPruned { networks_deleted: None })
    }
}

fn missing(what: &str) -> Error {
    Error::not_implemented(format!("{what} is not available in this version of Wharf"))
}

fn describe(name: &str, instance: &str, data_root: &Path, created: jiff::Timestamp) -> Network {
    use sha2::{Digest as _, Sha256};
    let seed = format!("network {instance} {} {name}", data_root.display());
    let driver = if name == "none" { "null" } else { name };
    Network {
        name: name.to_owned(),
        id: hex::encode(Sha256::digest(seed)),
        created: created.to_string(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
        config_from: ConfigReference::default(),
        options: Some(BTreeMap::new()),
        labels: Some(BTreeMap::new()),
        ..Network::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Networks {
        Networks::open("wharf", Path::new("/tmp"))
    }

    #[test]
    fn networks_are_found_by_name_and_id() {
        let networks = networks();
        let host = networks.inspect("host").unwrap();
        assert_eq!(networks.inspect(&host.id).unwrap(), host);
        assert_eq!(networks.inspect(&host.id[..12]).unwrap(), host);
        assert_eq!(networks.inspect("none").unwrap().driver, "null");
        assert_eq!(networks.inspect("nosuch").unwrap_err().message(), "network nosuch not found");
    }

    #[test]
    fn the_built_in_ones_stay() {
        let text = "bridge is a pre-defined network and cannot be removed";
        assert_eq!(networks().remove("bridge").unwrap_err().message(), text);
        assert!(networks().create(NetworkCreateRequest::default()).is_err());
    }

    #[test]
    fn a_start_needs_its_network() {
        assert!(networks().check_mode("none").is_ok() && networks().check_mode("container:x").is_ok());
        let text = "failed to set up container networking: network foo not found";
        assert_eq!(networks().check_mode("foo").unwrap_err().message(), text);
    }
}

//! What a container's networks look like to clients, and which image its name means by now.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest as _, Sha256};
use wharf_api::{EndpointSettings, Network, PortMap};
use wharf_oci::Digest;

use super::record::{Record, View};
use super::spec::peers::joined;
use super::{Containers, State};

impl Containers {
    /// Whether the name `asked` still means the image `id`.
    pub(super) fn still_means(&self, asked: &str, id: &str) -> bool {
        self.images.resolve(asked).is_ok_and(|image| image.id.to_string() == id)
    }

    /// Bytes of an image's layers, unpacked; nothing where it is not known.
    pub(super) fn image_size(&self, id: &str) -> i64 {
        let image = id.parse::<Digest>().ok().and_then(|id| self.store.image_below(&id));
        image.map_or(0, |image| i64::try_from(image.size()).unwrap_or(i64::MAX))
    }

    /// The ids of the image that `asked` means and of all that were made from it.
    pub(super) fn descendants(&self, asked: &str) -> HashSet<String> {
        let Ok(ancestor) = self.images.resolve(asked) else { return HashSet::new() };
        let layers = ancestor.diff_ids();
        let images = self.store.images();
        let made_from = images.iter().filter(|image| {
            image.id == ancestor.id || (!layers.is_empty() && image.diff_ids().starts_with(&layers))
        });
        made_from.map(|image| image.id.to_string()).collect()
    }

    /// A container's networks by name. The network's id is known from the first start on, the endpoint's while
    /// the container runs.
    pub(super) fn endpoints(&self, view: &View) -> BTreeMap<String, EndpointSettings> {
        let mut endpoints = view.record.endpoints.clone();
        let mode = &view.record.host_config.network_mode;
        if endpoints.is_empty() && joined(mode).is_none() {
            endpoints.insert(mode.clone(), EndpointSettings::default());
        }
        let was_started = !matches!(view.state(), State::Created { .. });
        for (name, endpoint) in endpoints.iter_mut().filter(|_| was_started) {
            let Ok(network) = self.networks.inspect(name) else { continue };
            if view.state().process().is_some() {
                endpoint.endpoint_id =
                    hex::encode(Sha256::digest(format!("{} {}", view.record.id, network.id)));
            }
            endpoint.network_id = network.id;
        }
        endpoints
    }

    /// The networks that a container joins when it starts.
    pub(super) fn joins(&self, record: &Record) -> Vec<Network> {
        let mode = &record.host_config.network_mode;
        if joined(mode).is_some() {
            return Vec::new();
        }
        let names: Vec<&String> =
            if record.endpoints.is_empty() { vec![mode] } else { record.endpoints.keys().collect() };
        names.into_iter().filter_map(|name| self.networks.inspect(name).ok()).collect()
    }

    /// A container's exposed ports, and where published ones are to be found.
    pub(super) fn ports(&self, view: &View) -> PortMap {
        if !view.state().is_active() {
            return PortMap::new();
        }
        let exposed = view.record.config.exposed_ports.iter().flatten();
        exposed.map(|(port, _)| (port.clone(), None)).collect()
    }
}

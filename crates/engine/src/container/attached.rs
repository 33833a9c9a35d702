//! What a container's networks look like to clients, and which image its name means by now.

use std::collections::HashSet;

use wharf_api::NetworkSettings;
use wharf_oci::Digest;

use super::record::View;
use super::{Containers, State};
use crate::network::Shown;

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
        let (layers, history) = (ancestor.diff_ids(), self.images.made_by(&ancestor.id));
        let images = self.store.images();
        // Images that differ in their settings alone stand on the same layers; how they were made tells them apart.
        let made_from = images.iter().filter(|image| {
            image.id == ancestor.id
                || (!layers.is_empty()
                    && image.diff_ids().starts_with(&layers)
                    && self.images.made_by(&image.id).starts_with(&history))
        });
        made_from.map(|image| image.id.to_string()).collect()
    }

    /// A container's networks and published ports as clients see them; `names`: with what it is called there.
    pub(super) fn shown(&self, view: &View, names: bool) -> Shown {
        let started = !matches!(view.state(), State::Created { .. });
        self.networks.shown(&view.record, started, view.state().process().is_some(), names)
    }

    /// What its inspection says of them. The namespace is found through the process that is in it.
    pub(super) fn network_settings(&self, view: &View) -> NetworkSettings {
        let Shown { sandbox_id, ports, networks, .. } = self.shown(view, true);
        let pid = view.state().process().filter(|_| !sandbox_id.is_empty()).map(|running| running.pid);
        let mut settings = NetworkSettings {
            sandbox_id,
            sandbox_key: pid.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
            ports,
            networks,
            ..NetworkSettings::default()
        };
        // Older clients look for the default network's address here.
        if let Some(bridge) = settings.networks.get("bridge").cloned() {
            settings.endpoint_id = bridge.endpoint_id;
            settings.gateway = bridge.gateway;
            settings.ip_address = bridge.ip_address;
            settings.ip_prefix_len = bridge.ip_prefix_len;
            settings.ipv6_gateway = bridge.ipv6_gateway;
            settings.global_ipv6_address = bridge.global_ipv6_address;
            settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
            settings.mac_address = bridge.mac_address;
        }
        settings
    }
}

//! Removing networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_api::{Filters, NetworksPruned};

use super::kernel::SubnetLock;
use super::{DOCUMENTS, Known, Networks};
use crate::error::{Error, Result};
use crate::image::until_time;
use crate::pools::Class;

impl Networks {
    /// Removes a network that no container uses.
    ///
    /// # Errors
    /// Docker's, for one that is used or built in.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        let (networks, name) = (self.clone(), name.to_owned());
        self.pools.run(Class::Network, move || networks.remove_network(&name)).await
    }

    fn remove_network(&self, name: &str) -> Result<()> {
        // Whoever makes one with the same bridge or subnet does so before or after, not meanwhile.
        let _alone = SubnetLock::take();
        let known = self.unlist(name)?;
        let mut failed = None;
        if known.has_links() {
            failed = self.kernel().and_then(|kernel| Ok(kernel.plane.remove_network(known.id())?)).err();
        }
        self.store.documents(DOCUMENTS).remove(known.id())?;
        self.state().ipam.release_network(known.id());
        self.emit("destroy", known.document(), &[]);
        // It is gone for clients all the same.
        if let Some(error) = failed {
            tracing::warn!("network {}: {error}", known.name());
        }
        Ok(())
    }

    /// Takes a network off the list, so that no container can join it any more.
    fn unlist(&self, name: &str) -> Result<Arc<Known>> {
        let mut state = self.state();
        let known = state.find(name)?;
        if !known.is_user_defined() {
            let why = "is a pre-defined network and cannot be removed";
            return Err(Error::forbidden(format!("{} {why}", known.name())));
        }
        if known.document().config_only {
            let dependent = |other: &&Arc<Known>| {
                let from = &other.document().config_from.network;
                from == known.name() || from == known.id()
            };
            if state.known.values().find(dependent).is_some() {
                let why = format!("configuration network {:?} is in use", known.name());
                return Err(Error::forbidden(why));
            }
        }
        let mut active: Vec<String> = state
            .sandboxes
            .values()
            .filter_map(|sandbox| {
                let endpoint = sandbox.endpoint(known.id())?;
                Some(format!("name:{:?} id:{:?}", sandbox.name, &endpoint.id[..12]))
            })
            .collect();
        if !active.is_empty() {
            active.sort();
            let (name, active) = (known.name(), active.join(", "));
            return Err(Error::forbidden(format!(
                "error while removing network: network {name} has active endpoints ({active})"
            )));
        }
        state.known.remove(known.id());
        Ok(known)
    }

    /// Removes the networks that no running container uses; none of the built-in ones.
    ///
    /// # Errors
    /// Invalid, for filters that are none.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<NetworksPruned> {
        filters.check(&["label", "label!", "until"]).map_err(|error| Error::invalid(error.to_string()))?;
        let until = until(filters)?;
        let none = BTreeMap::new();
        let candidates: Vec<String> = {
            let state = self.state();
            let passes = |known: &&Arc<Known>| {
                let document = known.document();
                let labels = document.labels.as_ref().unwrap_or(&none);
                let made = document.created.parse::<jiff::Timestamp>().ok();
                known.is_user_defined()
                    && filters.labels("label", labels)
                    && !excluded(filters, labels)
                    && until.is_none_or(|until| made.is_some_and(|made| made <= until))
                    && !state.sandboxes.values().any(|one| one.endpoint(known.id()).is_some())
            };
            state.known.values().filter(passes).map(|known| known.id().to_owned()).collect()
        };
        let mut deleted = Vec::new();
        for id in candidates {
            let Ok(known) = self.find(&id) else { continue };
            // Those that came into use meanwhile stay.
            if self.remove(&id).await.is_ok() {
                deleted.push(known.name().to_owned());
            }
        }
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.events.emit(crate::events::Kind::Network, "prune", "", attributes);
        Ok(NetworksPruned { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
    }
}

fn excluded(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    filters.get("label!").any(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
        None => labels.contains_key(wanted),
    })
}

fn until(filters: &Filters) -> Result<Option<jiff::Timestamp>> {
    filters.single("until").map_err(|error| Error::invalid(error.to_string()))?.map(until_time).transpose()
}

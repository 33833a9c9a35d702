//! Networks of a container that runs, changed.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use wharf_api::{EndpointSettings, PortMap};
use wharf_network::plane::{Gateway, Target};
use wharf_network::types::{Attached, Mapping};
use wharf_shim::protocol::Carried;

use super::attach::{not_published, request};
use super::kernel::Kernel;
use super::sandbox::{Change, Endpoint, Mapped, Published, Sandbox};
use super::{Joined, Known, Networks, names, ports};
use crate::container::record::Record;
use crate::error::{Error, Result};

/// What a change left for the container's supervisor to keep, and the files to be brought up to date.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) before: Arc<Sandbox>,
    pub(crate) after: Arc<Sandbox>,
    pub(crate) keep: Vec<(Carried, OwnedFd)>,
}

impl Networks {
    /// Connects a running container to a network more. Sleeps.
    ///
    /// # Errors
    /// Docker's, for addresses and ports that cannot be had; what the kernel refused. Nothing is changed then.
    pub(crate) fn connect(
        &self,
        record: &Record,
        network: &Arc<Known>,
        settings: &EndpointSettings,
        joined: &Joined,
    ) -> Result<Changed> {
        let before = self.sandbox(&record.id).ok_or_else(|| not_there(record))?;
        let mut after = self.enter(record, network, settings, &before)?;
        let added = after.endpoints[before.endpoints.len()..].to_vec();
        let result = self.kernel().and_then(|kernel| self.join(&kernel, record, &mut after, joined));
        let kept = result.and_then(|keep| after.save(&self.config.bundle(&record.id)).map(|()| keep));
        match kept {
            Ok(keep) => {
                let after = Arc::new(after);
                self.state().sandboxes.insert(record.id.clone(), after.clone());
                Ok(Changed { before, after, keep })
            }
            Err(error) => {
                added.iter().for_each(|endpoint| self.part(record, &mut after, &endpoint.id, joined));
                let mut state = self.state();
                state.give_back(&added);
                state.sandboxes.insert(record.id.clone(), before);
                Err(error)
            }
        }
    }

    /// A container's sandbox with an endpoint more, its addresses taken. The network is in use from here on, so that
    /// nobody removes it while the kernel is asked.
    fn enter(
        &self,
        record: &Record,
        network: &Arc<Known>,
        settings: &EndpointSettings,
        before: &Sandbox,
    ) -> Result<Sandbox> {
        let mut state = self.state();
        if !state.known.contains_key(network.id()) {
            return Err(Error::not_found(format!("network {} not found", network.name())));
        }
        let endpoint = state.endpoint(record, network, settings, &before.endpoints)?;
        let mut after = before.clone();
        after.endpoints.push(endpoint);
        state.sandboxes.insert(record.id.clone(), Arc::new(after.clone()));
        Ok(after)
    }

    fn join(
        &self,
        kernel: &Kernel,
        record: &Record,
        sandbox: &mut Sandbox,
        joined: &Joined,
    ) -> Result<Vec<(Carried, OwnedFd)>> {
        let owner = record.id.as_str();
        let mut keep = Vec::new();
        if !sandbox.resolver && sandbox.endpoints.iter().any(|endpoint| endpoint.named) {
            let made = kernel.helper.resolver(owner)?;
            keep.extend(made.resolver.map(Joined::sockets).unwrap_or_default());
            sandbox.resolver = true;
        }
        let route = kernel.helper.route(owner)?;
        let target = Target { namespace: joined.namespace(), route: route.as_fd() };
        let at = sandbox.endpoints.len() - 1;
        let mut asked = request(sandbox, &sandbox.endpoints[at], &[]);
        // All default routes are set in one go below.
        (asked.gateways, asked.on_link) = (Vec::new(), false);
        sandbox.endpoints[at].attached = Some(kernel.plane.attach(&asked, target)?);
        kernel.plane.set_gateways(&gateways(sandbox), target)?;
        self.republish(kernel, record, sandbox)?;
        kernel.helper.set_names(owner, &names::table(&self.config, record, sandbox))?;
        Ok(keep)
    }

    /// Takes a running container out of a network. Sleeps.
    ///
    /// # Errors
    /// `container ID is not connected to network NAME`; what the kernel refused.
    pub(crate) fn disconnect(&self, record: &Record, network: &Known, joined: &Joined) -> Result<Changed> {
        let before = self.sandbox(&record.id).ok_or_else(|| not_there(record))?;
        let endpoint = before.endpoint(network.id()).ok_or_else(|| {
            Error::internal(format!("container {} is not connected to network {}", record.id, network.name()))
        })?;
        let endpoint = endpoint.clone();
        let mut after = (*before).clone();
        self.part(record, &mut after, &endpoint.id, joined);
        self.state().give_back(std::slice::from_ref(&endpoint));
        self.changed(record, before, after, Vec::new())
    }

    /// Takes an endpoint away; what cannot be undone is told in the log.
    fn part(&self, record: &Record, sandbox: &mut Sandbox, endpoint: &str, joined: &Joined) {
        let Some(kernel) = self.opened() else { return };
        let warn = |error: &dyn std::fmt::Display| tracing::warn!("container {}: {error}", record.id);
        let Some(at) = sandbox.endpoints.iter().position(|one| one.id == endpoint) else { return };
        let gone = sandbox.endpoints[at].clone();
        let mut rest = sandbox.clone();
        rest.endpoints.remove(at);
        let parted = || -> Result<()> {
            let route = kernel.helper.route(&record.id)?;
            let target = Target { namespace: joined.namespace(), route: route.as_fd() };
            if let Some(attached) = &gone.attached {
                kernel.plane.detach(attached, target)?;
            }
            Ok(kernel.plane.set_gateways(&gateways(&rest), target)?)
        };
        if let Err(error) = parted() {
            warn(&error);
        }
        if let Err(error) = self.republish(&kernel, record, &mut rest) {
            warn(&error);
        }
        if rest.resolver
            && let Err(error) =
                kernel.helper.set_names(&record.id, &names::table(&self.config, record, &rest))
        {
            warn(&error);
        }
        // The place of the one that went is still wanted by whoever undoes a connection.
        (sandbox.published, sandbox.endpoints) = (rest.published, rest.endpoints);
    }

    /// Lets published ports lead to where the default routes are now.
    pub(super) fn republish(&self, kernel: &Kernel, record: &Record, sandbox: &mut Sandbox) -> Result<()> {
        let outward = sandbox.gateway(false).or_else(|| sandbox.gateway(true)).cloned();
        match &outward {
            None => {
                let held: Vec<_> = sandbox.published.iter().flat_map(|one| one.held.clone()).collect();
                sandbox.published.clear();
                kernel.helper.unreserve(&record.id, &held)?;
            }
            Some(outward) if sandbox.published.is_empty() => {
                let wishes = ports::wishes(record, outward.host_binding)?;
                let held = ports::reserve(&kernel.helper, &record.id, &wishes);
                sandbox.published = held.map_err(|error| not_published(record, outward, error))?;
            }
            Some(_) => {}
        }
        route_ports(kernel, &record.id, sandbox)
    }

    /// Publishes more ports of a running container and takes others back, at a cost that does not grow with those
    /// that stay. Sleeps.
    ///
    /// # Errors
    /// Docker's, for ports that cannot be had: nothing is changed then.
    pub(crate) fn change_ports(&self, record: &Record, add: &PortMap, remove: &PortMap) -> Result<()> {
        let before = self.sandbox(&record.id).ok_or_else(|| not_there(record))?;
        let outward = before.gateway(false).or_else(|| before.gateway(true));
        let Some(outward) = outward.filter(|outward| outward.attached.is_some()) else {
            let why = "is in no network that leads to the outside";
            return Err(Error::conflict(format!("container {} {why}", record.name)));
        };
        let mut after = (*before).clone();
        let kernel = self.kernel()?;
        let wishes = ports::asked(add, outward.host_binding)?;
        let held = ports::reserve(&kernel.helper, &record.id, &wishes);
        let new = held.map_err(|error| not_published(record, outward, error))?;
        let changed = ports::take_out(&mut after.published, remove)
            .and_then(|gone| exchange(&kernel, &record.id, &mut after, new.clone(), gone));
        match changed {
            Err(error) => {
                let new: Vec<_> = new.into_iter().flat_map(|one| one.held).collect();
                kernel.helper.unreserve(&record.id, &new)?;
                Err(error)
            }
            Ok(change) => {
                kernel.helper.unreserve(&record.id, &change.closed)?;
                let saved = after.save_change(&self.config.bundle(&record.id), &change);
                self.state().sandboxes.insert(record.id.clone(), Arc::new(after));
                saved
            }
        }
    }

    /// Changes the limits of a running container's endpoint. Sleeps.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn limit(
        &self,
        record: &Record,
        network: &Known,
        options: &BTreeMap<String, String>,
        joined: &Joined,
    ) -> Result<()> {
        let before = self.sandbox(&record.id).ok_or_else(|| not_there(record))?;
        let mut after = (*before).clone();
        let kernel = self.kernel()?;
        let limits = super::bandwidth::limits(options)?;
        let route = kernel.helper.route(&record.id)?;
        let target = Target { namespace: joined.namespace(), route: route.as_fd() };
        for endpoint in after.endpoints.iter_mut().filter(|one| one.network == network.id()) {
            if let Some(attached) = &mut endpoint.attached {
                kernel.plane.set_bandwidth(attached, limits, target)?;
            }
            endpoint.bandwidth = limits;
        }
        self.changed(record, before, after, Vec::new()).map(drop)
    }

    fn changed(
        &self,
        record: &Record,
        before: Arc<Sandbox>,
        after: Sandbox,
        keep: Vec<(Carried, OwnedFd)>,
    ) -> Result<Changed> {
        let after = Arc::new(after);
        self.state().sandboxes.insert(record.id.clone(), after.clone());
        after.save(&self.config.bundle(&record.id))?;
        Ok(Changed { before, after, keep })
    }

    /// Notes a change of a container's sandbox that the kernel has nothing of.
    pub(crate) fn note(&self, record: &Record, change: impl FnOnce(&mut Sandbox)) -> Result<()> {
        let Some(sandbox) = self.sandbox(&record.id) else { return Ok(()) };
        let mut after = (*sandbox).clone();
        change(&mut after);
        if after.has_links() {
            after.save(&self.config.bundle(&record.id))?;
        }
        self.state().sandboxes.insert(record.id.clone(), Arc::new(after));
        Ok(())
    }

    /// A container was given another name. Sleeps.
    pub(crate) fn renamed(&self, record: &Record) -> Result<()> {
        self.note(record, |sandbox| {
            sandbox.name.clone_from(&record.name);
            for endpoint in &mut sandbox.endpoints {
                let settings = record.endpoints.get(&endpoint.network_name).cloned().unwrap_or_default();
                if endpoint.linked {
                    endpoint.names = names::of(record, &settings);
                }
            }
        })?;
        match (self.sandbox(&record.id), self.opened()) {
            (Some(sandbox), Some(kernel)) if sandbox.resolver => {
                Ok(kernel.helper.set_names(&record.id, &names::table(&self.config, record, &sandbox))?)
            }
            _ => Ok(()),
        }
    }
}

/// Makes the kernel's and the helper's idea of published ports that of the sandbox.
pub(super) fn route_ports(kernel: &Kernel, owner: &str, sandbox: &mut Sandbox) -> Result<()> {
    let published: &[Published] = &sandbox.published;
    let (mappings, relays) = ports::routes(sandbox, published);
    kernel.helper.relay(owner, &relays)?;
    for endpoint in &mut sandbox.endpoints {
        let own = |address| endpoint.addresses.iter().any(|net| net.addr() == address);
        let wanted: Vec<_> = mappings.iter().filter(|mapping| own(mapping.container)).cloned().collect();
        let Some(attached) = &mut endpoint.attached else { continue };
        // There may be thousands.
        let (was, is): (HashSet<_>, HashSet<_>) = (attached.ports.iter().collect(), wanted.iter().collect());
        let gone: Vec<_> = attached.ports.iter().filter(|one| !is.contains(one)).cloned().collect();
        let new: Vec<_> = wanted.iter().filter(|one| !was.contains(one)).cloned().collect();
        if !gone.is_empty() {
            kernel.plane.unpublish(attached, &gone)?;
        }
        if !new.is_empty() {
            kernel.plane.publish(attached, &new)?;
        }
    }
    Ok(())
}

/// Takes ports back and publishes `new` ones; both are reserved.
fn exchange(
    kernel: &Kernel,
    owner: &str,
    sandbox: &mut Sandbox,
    new: Vec<Published>,
    gone: Vec<Published>,
) -> Result<Change> {
    let (opened, relays) = ports::routes(sandbox, &new);
    let (closed, _) = ports::routes(sandbox, &gone);
    kernel.helper.relay(owner, &relays)?;
    let mut mapped = Vec::new();
    for endpoint in &mut sandbox.endpoints {
        let Some(attached) = &mut endpoint.attached else { continue };
        let own = |mapping: &&Mapping| endpoint.addresses.iter().any(|net| net.addr() == mapping.container);
        let closed: Vec<_> = closed.iter().filter(own).cloned().collect();
        let opened: Vec<_> = opened.iter().filter(own).cloned().collect();
        if !closed.is_empty() {
            kernel.plane.unpublish(attached, &closed)?;
        }
        if !opened.is_empty() {
            kernel.plane.publish(attached, &opened)?;
        }
        mapped.push(Mapped { endpoint: endpoint.id.clone(), opened, closed });
    }
    sandbox.published.extend(new.iter().cloned());
    Ok(Change { published: new, closed: gone.into_iter().flat_map(|one| one.held).collect(), mapped })
}

/// The default routes that a sandbox should have.
fn gateways(sandbox: &Sandbox) -> Vec<(&Attached, Gateway)> {
    let of = |v6: bool| -> Option<(&Attached, Gateway)> {
        let endpoint: &Endpoint = sandbox.gateway(v6)?;
        let gateway = match endpoint.router(v6) {
            Some(router) if !endpoint.on_link => Gateway::Via(router),
            _ if v6 => Gateway::OnLink6,
            _ => Gateway::OnLink4,
        };
        Some((endpoint.attached.as_ref()?, gateway))
    };
    [of(false), of(true)].into_iter().flatten().collect()
}

fn not_there(record: &Record) -> Error {
    Error::conflict(format!("container {} is not running", record.id))
}

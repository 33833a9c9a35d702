//! What a new daemon finds: containers that run on with their networks, and leftovers of those that ended.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use wharf_network::helper::{PortChoice, PortRequest};
use wharf_shim::Descriptors;
use wharf_shim::protocol::Carried;
use wharf_sys::namespace;

use super::live::route_ports;
use super::sandbox::Sandbox;
use super::{Joined, Networks, names};
use crate::container::record::Record;
use crate::error::Result;
use crate::pools::Class;

/// A running container that was found with a network of its own.
#[derive(Debug)]
pub(super) struct Found {
    record: Arc<Record>,
    joined: Joined,
}

impl Networks {
    /// The network namespace of a container that outlived daemon and supervisor, found through its process.
    pub(crate) fn find_namespace(&self, record: &Record, pid: i32, kept: &mut Descriptors) {
        if Sandbox::load(&self.config.bundle(&record.id)).is_none() {
            return;
        }
        if let Ok(namespace) = namespace::open(format!("/proc/{pid}/ns/net").as_ref()) {
            kept.kept.push((Carried::Netns, namespace));
        }
    }

    /// Knows again what a running container has, and takes its addresses. The kernel is not asked yet.
    pub(crate) fn restore(&self, record: &Arc<Record>, kept: &Descriptors) {
        let Some(mut sandbox) = Sandbox::load(&self.config.bundle(&record.id)) else {
            // Those without interfaces of their own are as they would be at a start.
            if self.of(record).is_ok_and(|all| all.iter().all(|(network, _)| !network.has_links())) {
                let _nothing_can_be_taken = self.plan(record);
            }
            return;
        };
        let mut state = self.state();
        // What a daemon connected that died before it said so in the record is not connected.
        if let Ok(wanted) = state.of(record) {
            let is_wanted = |id: &str| wanted.iter().any(|(network, _)| network.id() == id);
            sandbox.endpoints.retain(|endpoint| is_wanted(&endpoint.network));
        }
        for endpoint in &sandbox.endpoints {
            for net in &endpoint.addresses {
                let v6 = net.addr().is_ipv6();
                if let Err(error) = state.ipam.take(&endpoint.network, v6, Some(net.addr())) {
                    tracing::warn!("container {}: address {net}: {error}", record.id);
                }
            }
        }
        state.sandboxes.insert(record.id.clone(), Arc::new(sandbox));
        state.found.extend(Joined::of(kept).map(|joined| Found { record: record.clone(), joined }));
    }

    /// Brings kernel and net helper to what was found, where there is anything to bring.
    pub(crate) async fn recovered(self: &Arc<Self>) -> Result<()> {
        let networks = self.clone();
        self.pools.run(Class::Network, move || networks.settle()).await
    }

    fn settle(&self) -> Result<()> {
        let found = std::mem::take(&mut self.state().found);
        let helper_dir = self.config.exec_root.join("net").join("socket");
        let needed = {
            let state = self.state();
            let made = |known: &Arc<super::Known>| known.has_links() && known.is_user_defined();
            state.sandboxes.values().any(|sandbox| sandbox.has_links()) || state.known.values().any(made)
        };
        if !needed && !helper_dir.exists() {
            return Ok(());
        }
        let kernel = self.kernel()?;
        for Found { record, joined } in &found {
            // One that ended meanwhile has given everything back.
            let Some(sandbox) = self.sandbox(&record.id) else { continue };
            if let Err(error) = self.give_back(&kernel, record, &sandbox, joined) {
                tracing::warn!("container {}: {error}", record.id);
            }
        }
        // In this order: whoever comes later is known before he owns anything.
        let owners = kernel.helper.owners()?;
        let known: BTreeSet<String> = self.state().sandboxes.keys().cloned().collect();
        for owner in owners {
            if !known.contains(&owner) {
                kernel.helper.release(&owner)?;
            }
        }
        Ok(())
    }

    /// Gives the helper what it may have lost of a container: a helper that lives has all of it.
    fn give_back(
        &self,
        kernel: &super::kernel::Kernel,
        record: &Record,
        sandbox: &Sandbox,
        joined: &Joined,
    ) -> Result<()> {
        kernel.helper.adopt(&record.id, joined.namespace().as_fd(), joined.resolver())?;
        let held = sandbox.published.iter().flat_map(|published| &published.held);
        let requests: Vec<PortRequest> = held
            .map(|held| PortRequest {
                protocol: held.protocol,
                addresses: vec![held.address],
                port: PortChoice::fixed(held.port),
            })
            .collect();
        kernel.helper.reserve(&record.id, &requests)?;
        if sandbox.resolver {
            kernel.helper.set_names(&record.id, &names::table(&self.config, record, sandbox))?;
        }
        route_ports(kernel, &record.id, &mut sandbox.clone())
    }
}

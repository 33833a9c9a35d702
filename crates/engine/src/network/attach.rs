//! Bringing a planned sandbox to the kernel at a start, and taking it away at the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use wharf_network::helper::Resolver;
use wharf_network::plane::Target;
use wharf_network::types::{self, Mapping};
use wharf_shim::Descriptors;
use wharf_shim::protocol::Carried;

use super::kernel::Kernel;
use super::plan::FAILED;
use super::sandbox::{Endpoint, Sandbox};
use super::{IpNet, Networks, names, ports};
use crate::container::record::Record;
use crate::container::spec::etc;
use crate::error::{Error, Result};

/// The names under which a supervisor keeps the resolver's sockets.
const UDP: Carried = Carried::Kept(0);
const TCP: Carried = Carried::Kept(1);

/// What a supervisor is given of a container's network, to be kept as long as it runs.
#[derive(Debug)]
pub(crate) struct Joined {
    namespace: OwnedFd,
    resolver: Option<Resolver>,
}

impl Joined {
    /// The descriptors by the names under which they are kept.
    pub(crate) fn given(&self) -> Vec<(Carried, BorrowedFd<'_>)> {
        let mut given = vec![(Carried::Netns, self.namespace.as_fd())];
        if let Some(resolver) = &self.resolver {
            given.extend([(UDP, resolver.udp.as_fd()), (TCP, resolver.tcp.as_fd())]);
        }
        given
    }

    /// Copies of what a supervisor keeps; `None`: it keeps no network.
    pub(crate) fn of(kept: &Descriptors) -> Option<Self> {
        let find = |name: Carried| {
            let (_, fd) = kept.kept.iter().find(|(kind, _)| *kind == name)?;
            fd.try_clone().ok()
        };
        let resolver = find(UDP).zip(find(TCP)).map(|(udp, tcp)| Resolver { udp, tcp });
        Some(Self { namespace: find(Carried::Netns)?, resolver })
    }

    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    pub(super) fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// The sockets of a resolver that was added while the container ran.
    pub(super) fn sockets(resolver: Resolver) -> Vec<(Carried, OwnedFd)> {
        vec![(UDP, resolver.udp), (TCP, resolver.tcp)]
    }
}

impl Networks {
    /// Makes what [`Networks::plan`] has decided: ports are held first, then a namespace is connected. Sleeps.
    /// `None`: nothing of it is in the kernel. Does not look at the container's files, so that they may be written
    /// meanwhile; [`Networks::joined`] is to follow.
    ///
    /// # Errors
    /// Docker's for ports that are taken; what the kernel refused. The plan stands until [`Networks::leave`].
    pub(crate) fn attach(&self, record: &Record, planned: &Sandbox) -> Result<Option<Joined>> {
        if !planned.has_links() {
            return Ok(None);
        }
        self.connect_all(record, planned).map(Some).map_err(|error| error.context(FAILED))
    }

    fn connect_all(&self, record: &Record, planned: &Sandbox) -> Result<Joined> {
        let kernel = self.kernel()?;
        let mut sandbox = planned.clone();
        let result = self.make(&kernel, record, &mut sandbox);
        if result.is_err() {
            self.unmake(&kernel, &record.id, &sandbox);
        }
        let joined = result?;
        self.state().sandboxes.insert(record.id.clone(), Arc::new(sandbox));
        Ok(joined)
    }

    /// Writes down what a container has joined, for the next daemon; its files are written.
    ///
    /// # Errors
    /// What the file system refused.
    pub(crate) fn joined(&self, record: &Record) -> Result<()> {
        // One that is not there was never anyone's to edit.
        let files = std::fs::read(self.config.bundle(&record.id).join("resolv.conf")).unwrap_or_default();
        self.note(record, |sandbox| sandbox.resolv_conf = etc::digest(&files))
    }

    fn make(&self, kernel: &Kernel, record: &Record, sandbox: &mut Sandbox) -> Result<Joined> {
        let owner = record.id.as_str();
        let mut mappings = Vec::new();
        if let Some(outward) = sandbox.gateway(false).or_else(|| sandbox.gateway(true)) {
            let wishes = ports::wishes(record, outward.host_binding)?;
            let held = ports::reserve(&kernel.helper, owner, &wishes);
            sandbox.published = held.map_err(|error| not_published(record, outward, error))?;
            let (translated, relays) = ports::routes(sandbox, &sandbox.published);
            kernel.helper.relay(owner, &relays)?;
            mappings = translated;
        }
        let users = crate::userns::of(&self.config, &record.host_config);
        let made = kernel.helper.namespace(owner, sandbox.resolver, users)?;
        if sandbox.resolver {
            kernel.helper.set_names(owner, &names::table(&self.config, record, sandbox))?;
        }
        let target = Target { namespace: made.namespace.as_fd(), route: made.route.as_fd() };
        for at in 0..sandbox.endpoints.len() {
            if sandbox.endpoints[at].linked {
                let asked = request(sandbox, &sandbox.endpoints[at], &mappings);
                sandbox.endpoints[at].attached = Some(kernel.plane.attach(&asked, target)?);
            }
        }
        Ok(Joined { namespace: made.namespace, resolver: made.resolver })
    }

    /// Takes away what the kernel has of a sandbox, without waiting for the interfaces.
    fn unmake(&self, kernel: &Kernel, owner: &str, sandbox: &Sandbox) {
        for attached in sandbox.endpoints.iter().filter_map(|endpoint| endpoint.attached.as_ref()) {
            if let Err(error) = kernel.plane.forget(attached) {
                tracing::warn!("container {owner}: {error}");
            }
        }
        if let Err(error) = kernel.helper.release(owner) {
            tracing::warn!("container {owner}: {error}");
        }
    }

    /// Gives everything back that a container has of networks; nothing is no error. Sleeps, but not for the
    /// interfaces, which go with the namespace.
    pub(crate) fn leave(&self, container: &str) {
        let Some(sandbox) = self.sandbox(container) else { return };
        if sandbox.has_links() {
            // Without a kernel's side nothing was made.
            if let Some(kernel) = self.opened() {
                self.unmake(&kernel, container, &sandbox);
            }
            Sandbox::erase(&self.config.bundle(container));
        }
        let mut state = self.state();
        state.sandboxes.remove(container);
        state.give_back(&sandbox.endpoints);
        let had = |endpoint: &Endpoint| {
            let network = endpoint.network.clone();
            endpoint.addresses.iter().map(move |net| (network.clone(), net.addr())).collect::<Vec<_>>()
        };
        if sandbox.has_links() {
            state.last.insert(container.to_owned(), sandbox.endpoints.iter().flat_map(had).collect());
        }
    }

    /// Forgets which addresses a removed container had.
    pub(crate) fn forget(&self, container: &str) {
        self.state().last.remove(container);
    }
}

/// An endpoint as the kernel plane is asked for it.
pub(super) fn request(sandbox: &Sandbox, endpoint: &Endpoint, mappings: &[Mapping]) -> types::Endpoint {
    let leads = |v6: bool| sandbox.gateway(v6).is_some_and(|one| one.id == endpoint.id);
    let gateways = endpoint.gateways.iter().copied().filter(|gateway| leads(gateway.is_ipv6()));
    let own = |mapping: &&Mapping| endpoint.addresses.iter().any(|net| net.addr() == mapping.container);
    types::Endpoint {
        id: endpoint.id.clone(),
        network: endpoint.network.clone(),
        interface: endpoint.interface.clone(),
        mac: endpoint.mac,
        addresses: endpoint.addresses.iter().chain(&endpoint.link_local).copied().collect::<Vec<IpNet>>(),
        gateways: gateways.collect(),
        on_link: endpoint.on_link && (leads(false) || leads(true)),
        sysctls: endpoint.sysctls.clone(),
        bandwidth: endpoint.bandwidth,
        ports: mappings.iter().filter(own).cloned().collect(),
    }
}

/// Docker's words for a port that cannot be had.
pub(super) fn not_published(record: &Record, endpoint: &Endpoint, error: Error) -> Error {
    let (name, id) = (&record.name, &endpoint.id);
    error.context(format_args!("driver failed programming external connectivity on endpoint {name} ({id})"))
}

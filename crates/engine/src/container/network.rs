//! A container's networks: joined at its start, left at its end, changed while it runs.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use wharf_api::EndpointSettings;

use super::driver::{Driver, Verb};
use super::record::Record;
use super::spec::peers::joined;
use super::spec::{Net, etc};
use super::{Container, Containers, links, whole};
use crate::error::{Error, Result};
use crate::network::{Changed, EGRESS, INGRESS, Joined, Known, Sandbox, check, split_link};
use crate::pools::Class;

impl Containers {
    /// Connects a container to a network.
    ///
    /// # Errors
    /// Docker's; what the kernel refused.
    pub async fn connect(
        self: &Arc<Self>,
        network: &str,
        asked: &str,
        settings: Option<EndpointSettings>,
    ) -> Result<()> {
        let known = self.networks.find(network)?;
        if asked.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        let settings = Box::new(settings.unwrap_or_default());
        self.order(asked, Verb::Connect { network: known.id().to_owned(), settings }).await
    }

    /// Takes a container out of a network. `force`: also one that is not there any more.
    ///
    /// # Errors
    /// Docker's; what the kernel refused.
    pub async fn disconnect(self: &Arc<Self>, network: &str, asked: &str, force: bool) -> Result<()> {
        let known = self.networks.find(network)?;
        if force && self.find(asked).is_err() {
            return Err(Error::not_found(format!("endpoint {asked} not found")));
        }
        self.order(asked, Verb::Disconnect { network: known.id().to_owned() }).await
    }

    /// Gives a container's endpoint in a network other limits.
    ///
    /// # Errors
    /// Docker's, where it is not there; invalid rates; what the kernel refused.
    pub async fn limit(
        self: &Arc<Self>,
        network: &str,
        asked: &str,
        options: BTreeMap<String, String>,
    ) -> Result<()> {
        let known = self.networks.find(network)?;
        self.order(asked, Verb::Limit { network: known.id().to_owned(), options }).await
    }

    /// What a container's files say of its networks.
    pub(super) fn net(&self, record: &Record, sandbox: Option<&Sandbox>) -> Result<Net> {
        let mut net = Net { host_gateways: self.networks.host_gateways(), ..Net::default() };
        let Some(sandbox) = sandbox else { return Ok(net) };
        net.own = sandbox.addresses().collect();
        net.resolver = sandbox.resolver;
        if record.host_config.network_mode == "bridge" {
            for link in record.host_config.links.iter().flatten() {
                self.link(record, link, &mut net)?;
            }
        }
        Ok(net)
    }

    /// The variables that tell a container of those that it is linked to and that run.
    pub(crate) fn linked_env(&self, record: &Record) -> Vec<String> {
        let mut net = Net::default();
        if record.host_config.network_mode == "bridge" {
            for link in record.host_config.links.iter().flatten() {
                // One that does not run has no address to tell of.
                let _ = self.link(record, link, &mut net);
            }
        }
        net.env
    }

    /// The container whose network another one has: itself, mostly. What is asked to be joined may be named before it is
    /// there, so that containers can ask for each other's, or their own.
    pub(super) fn with_own_network(&self, mut container: Arc<Container>) -> Result<Arc<Container>> {
        let mut passed = Vec::new();
        while let Some(owner) = joined(&container.view().record.host_config.network_mode) {
            let owner = self.find(owner)?;
            passed.push(std::mem::replace(&mut container, owner));
            if passed.iter().any(|one| one.id() == container.id()) {
                return Err(Error::internal("cannot join own network namespace"));
            }
        }
        Ok(container)
    }

    /// What `--link` tells of another container on the default network.
    fn link(&self, record: &Record, link: &str, net: &mut Net) -> Result<()> {
        let (target, alias) = split_link(link);
        let child = self.with_own_network(self.find(target)?)?;
        let view = child.view();
        let address = self.networks.sandbox(child.id()).filter(|_| view.state().process().is_some());
        let address = address.and_then(|sandbox| sandbox.addresses().next());
        let Some(address) = address else {
            let (child, name) = (&view.record.name, &record.name);
            let why = format!("Cannot link to a non running container: /{child} AS /{name}/{alias}");
            return Err(Error::internal(why));
        };
        let other = &view.record;
        net.links.push((address, links::names(alias, other)));
        net.env.extend(link_variables(alias, record, other, address));
        Ok(())
    }
}

/// The variables that tell of a linked container.
fn link_variables(alias: &str, record: &Record, other: &Record, address: IpAddr) -> Vec<String> {
    let prefix = alias.replace('-', "_").to_uppercase();
    let exposed = other.config.exposed_ports.iter().flatten();
    let mut ports: Vec<(u16, String)> = exposed
        .filter_map(|(port, _)| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol.to_owned()))
        })
        .collect();
    ports.sort();
    let mut env = Vec::new();
    if let Some((number, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    for (number, protocol) in &ports {
        let one = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        env.push(format!("{one}={protocol}://{address}:{number}"));
        env.push(format!("{one}_ADDR={address}"));
        env.push(format!("{one}_PORT={number}"));
        env.push(format!("{one}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
    let own = other.config.env.iter().flatten().filter_map(|variable| variable.split_once('='));
    let own = own.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
    env.extend(own.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
    env
}

impl Driver {
    /// Tells that the container joined its networks or left them.
    pub(super) fn networks(&self, action: &str) {
        self.containers.networks.announce(action, self.container.id());
    }

    /// Gives back what the container has of networks. Begins at once; the future is its end.
    pub(super) fn leave_networks(&self) -> impl Future<Output = ()> + use<> {
        let (networks, id) = (self.containers.networks.clone(), self.container.id().to_owned());
        let pools = self.containers.pools.clone();
        let links = networks.sandbox(&id).is_some_and(|sandbox| sandbox.has_links());
        let left = if links {
            let leave = move || {
                networks.leave(&id);
                Ok(())
            };
            Some(tokio::spawn(async move { pools.run(Class::Network, leave).await }))
        } else {
            networks.leave(&id);
            None
        };
        async move {
            if let Some(left) = left
                && let Ok(Err(error)) = left.await
            {
                tracing::warn!("{error}");
            }
        }
    }

    /// Lets other containers find this one by its new name.
    pub(super) async fn renamed_in_networks(&self) {
        let (networks, record) = (self.containers.networks.clone(), self.record());
        let renamed = self.containers.pools.run(Class::Network, move || networks.renamed(&record)).await;
        if let Err(error) = renamed {
            tracing::warn!("container {}: {error}", self.container.id());
        }
    }

    pub(super) async fn connect(&mut self, network: &str, mut settings: EndpointSettings) -> Result<()> {
        let known = self.containers.networks.find(network)?;
        let mut record = (*self.record()).clone();
        settings.ipam_config = settings.ipam_config.filter(|ipam| *ipam != Default::default());
        check::settings(&settings, !known.is_user_defined(), Some(&known))?;
        check::mac(&settings.mac_address)?;
        allowed(&record, &known)?;
        record.endpoints.insert(known.name().to_owned(), Box::new(settings.clone()));
        if self.life().state.is_active() {
            let (networks, next) = (self.containers.networks.clone(), record.clone());
            let (network, joined) = (known.clone(), self.joined()?);
            let work = move || networks.connect(&next, &network, &settings, &joined);
            let changed = self.containers.pools.run(Class::Network, work).await?;
            self.follow(&record, changed).await?;
            self.announce("connect", &known);
        }
        self.containers.log.synced(&whole(&record, &self.life())).await?;
        self.set_record(record);
        Ok(())
    }

    pub(super) async fn disconnect(&mut self, network: &str) -> Result<()> {
        let known = self.containers.networks.find(network)?;
        let mut record = (*self.record()).clone();
        if known.name() == "host" && record.endpoints.contains_key("host") {
            let why =
                "cannot disconnect container from host network - container was created in host network mode";
            return Err(Error::invalid(why));
        }
        if !record.endpoints.contains_key(known.name()) {
            let (id, name) = (&record.id, known.name());
            return Err(Error::internal(format!("container {id} is not connected to network {name}")));
        }
        // A daemon that died on the way may have taken it out already, and not said so in the record.
        let sandbox = self.containers.networks.sandbox(&record.id);
        let is_in = sandbox.is_some_and(|sandbox| sandbox.endpoint(known.id()).is_some());
        if self.life().state.is_active() && known.has_links() && is_in {
            let (networks, old) = (self.containers.networks.clone(), self.record());
            let (network, joined) = (known.clone(), self.joined()?);
            let work = move || networks.disconnect(&old, &network, &joined);
            let changed = self.containers.pools.run(Class::Network, work).await?;
            self.follow(&record, changed).await?;
        } else if self.life().state.is_active() {
            let id = known.id().to_owned();
            let gone = move |sandbox: &mut Sandbox| sandbox.endpoints.retain(|one| one.network != id);
            self.containers.networks.note(&record, gone)?;
        }
        self.announce("disconnect", &known);
        record.endpoints.remove(known.name());
        self.containers.log.synced(&whole(&record, &self.life())).await?;
        self.set_record(record);
        Ok(())
    }

    pub(super) async fn limit(&mut self, network: &str, new: BTreeMap<String, String>) -> Result<()> {
        let known = self.containers.networks.find(network)?;
        let mut record = (*self.record()).clone();
        let Some(settings) = record.endpoints.get_mut(known.name()) else {
            let (id, name) = (&record.id, known.name());
            return Err(Error::internal(format!("container {id} is not connected to network {name}")));
        };
        if let Some(other) = new.keys().find(|key| !matches!(key.as_str(), EGRESS | INGRESS)) {
            return Err(Error::invalid(format!(
                "{other} cannot be changed while the container is connected"
            )));
        }
        let mut options = settings.driver_opts.take().unwrap_or_default();
        options.extend(new);
        options.retain(|_, value| !value.is_empty());
        settings.driver_opts = Some(options.clone());
        if self.life().state.is_active() {
            let (networks, joined, now) =
                (self.containers.networks.clone(), self.joined()?, Arc::new(record.clone()));
            let work = move || networks.limit(&now, &known, &options, &joined);
            self.containers.pools.run(Class::Network, work).await?;
        }
        self.containers.log.synced(&whole(&record, &self.life())).await?;
        self.set_record(record);
        Ok(())
    }

    /// Tells that a running container joined a network or left it; one that waits for its policy has left them all.
    fn announce(&self, action: &str, network: &Known) {
        if self.life().state.process().is_some() {
            self.containers.networks.announce_one(action, self.container.id(), network);
        }
    }

    /// What the supervisor keeps of the container's network, also while the policy waits.
    fn joined(&self) -> Result<Joined> {
        Joined::of(&self.kept).ok_or_else(|| {
            let why = "has no network that can be changed while it runs: start it again first";
            Error::conflict(format!("container {} {why}", self.container.id()))
        })
    }

    /// Brings supervisor and files to what a container's networks are now.
    async fn follow(&mut self, record: &Record, changed: Changed) -> Result<()> {
        let Changed { before, after, keep } = changed;
        if let (false, Some(handle)) = (keep.is_empty(), self.container.handle()) {
            let kept = handle.keep(keep).await;
            kept.map_err(|error| Error::internal(error.to_string()))?;
            self.keep().await;
        }
        let (containers, record) = (self.containers.clone(), record.clone());
        let write = move || containers.rewrite(&record, &before, &after);
        self.containers.pools.run(Class::Lifecycle, write).await
    }
}

impl Containers {
    /// Brings `hosts` and `resolv.conf` up to date, in place: they are mounted in the container.
    fn rewrite(&self, record: &Record, before: &Sandbox, after: &Sandbox) -> Result<()> {
        let bundle = self.config.bundle(&record.id);
        let hosts = bundle.join("hosts");
        let text = std::fs::read_to_string(&hosts).map_err(|error| Error::io("read hosts", &error))?;
        let (old, new): (Vec<IpAddr>, Vec<IpAddr>) =
            (before.addresses().collect(), after.addresses().collect());
        let names = (record.config.hostname.as_str(), record.config.domainname.as_str());
        overwrite(&hosts, &etc::hosts_changed(&text, names, &old, &new))?;
        let resolv = bundle.join("resolv.conf");
        let present = std::fs::read(&resolv).map_err(|error| Error::io("read resolv.conf", &error))?;
        let text = |resolver| etc::resolv_conf(&self.config, &record.host_config, resolver);
        // What someone edited stays as it is.
        if !after.resolv_conf.is_empty() && etc::digest(&present) != after.resolv_conf {
            return Ok(());
        }
        let new = text(after.resolver && after.endpoints.iter().any(|endpoint| endpoint.named))?;
        if new.as_bytes() == present {
            return Ok(());
        }
        overwrite(&resolv, &new)?;
        let digest = etc::digest(new.as_bytes());
        self.networks.note(record, |sandbox| sandbox.resolv_conf = digest)
    }
}

fn overwrite(path: &Path, text: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
}

/// Whether a container may be in a network beside those it is in.
fn allowed(record: &Record, network: &Known) -> Result<()> {
    let mode = record.host_config.network_mode.as_str();
    if network.name() == "host" {
        let why = "cannot connect container to host network - container must be created in host network mode";
        return Err(Error::invalid(why));
    }
    if mode == "host" || joined(mode).is_some() {
        let why = "container sharing network namespace with another container or host cannot be connected to any other network";
        return Err(Error::invalid(why));
    }
    if network.name() == "none" || record.endpoints.contains_key("none") {
        let why = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        return Err(Error::invalid(why));
    }
    if network.document().config_only {
        return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
    }
    if record.endpoints.contains_key(network.name()) {
        let (name, network) = (&record.name, network.name());
        return Err(Error::forbidden(format!(
            "endpoint with name {name} already exists in network {network}"
        )));
    }
    Ok(())
}

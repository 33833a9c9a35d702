//! The instance's nftables table and its place among the tables of others.
//!
//! Nothing here runs a program; all of it is `NETLINK_NETFILTER`. Networks and ports are elements of the
//! table's sets (`layout`, `elements`), changed in single transactions. What others have is only looked at
//! (`ruleset`, `host`), but for one rule (`admission`), and looked at again whenever it changes (`watch`).

mod admission;
mod elements;
mod expression;
mod host;
mod layout;
mod rule;
mod ruleset;
mod table;
mod transaction;
mod watch;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_sys::netlink::Family;

use self::host::HostPolicy;
use self::layout::{Gate, Shape};
use self::table::Table;
use self::transaction::Element;
use crate::error::Result;
use crate::netlink::Channel;
use crate::types::{Attached, Mapping, Network, Opening, PublishPolicy, Reach, Settings};

pub(crate) use self::watch::Watch;

/// The instance's table.
#[derive(Debug)]
pub(crate) struct Firewall {
    own: Mutex<Own>,
    /// For looking at others; apart, so that a long look delays no port.
    foreign: Mutex<Channel>,
    comment: String,
    table_name: String,
    policy: PublishPolicy,
    allow: Vec<Opening>,
    host_root: PathBuf,
}

#[derive(Debug)]
struct Own {
    table: Table,
    shape: Shape,
    networks: HashMap<String, Vec<Element>>,
    /// By endpoint.
    ports: HashMap<String, Vec<Element>>,
    host: HostPolicy,
    /// Chains of others that drop what containers send and can't be changed.
    obstacles: Vec<String>,
    /// Before the first [`Firewall::install`] the table is not ours to change.
    installed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is a table that the next install writes anew.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of an instance's table.
pub(crate) fn table_name(instance: &str) -> String {
    if instance == "wharf" { instance.to_owned() } else { format!("wharf-{instance}") }
}

/// Tables of this and other instances.
fn is_ours(table: &str) -> bool {
    table == "wharf" || table.starts_with("wharf-")
}

impl Firewall {
    /// Opens the table through the socket that owns it or shall own it, and changes nothing.
    ///
    /// # Errors
    /// [`crate::Error::TableOwned`]; what the kernel refused.
    pub(crate) fn open(settings: &Settings, socket: OwnedFd) -> Result<Self> {
        let table_name = table_name(&settings.instance);
        let own = Own {
            table: Table::open(table_name.clone(), socket)?,
            shape: Shape {
                v4: settings.firewall4,
                v6: settings.firewall6,
                group: crate::plane::group(&settings.instance),
                ..Shape::default()
            },
            networks: HashMap::new(),
            ports: HashMap::new(),
            host: HostPolicy::default(),
            obstacles: vec![],
            installed: false,
        };
        Ok(Self {
            own: Mutex::new(own),
            foreign: Mutex::new(Channel::open(Family::Netfilter)?),
            comment: admission::comment(&settings.instance),
            table_name,
            policy: settings.publish_policy,
            allow: settings.publish_allow.clone(),
            host_root: settings.host_root.clone(),
        })
    }

    /// Whether the table outlives every process that holds its socket.
    pub(crate) fn persistent(&self) -> bool {
        lock(&self.own).table.persistent()
    }

    /// Writes the table anew with all of these, in one transaction, and looks at the tables of others.
    ///
    /// # Errors
    /// What the kernel refused; the table is as it was.
    pub(crate) fn install(&self, networks: &HashMap<String, Network>, endpoints: &[Attached]) -> Result<()> {
        let mut own = lock(&self.own);
        own.networks =
            networks.iter().map(|(id, network)| (id.clone(), elements::of_network(network))).collect();
        own.ports.clear();
        for endpoint in endpoints {
            let Some(network) = networks.get(&endpoint.network) else { continue };
            let ports: Vec<_> =
                endpoint.ports.iter().filter_map(|port| elements::of_port(network, port)).collect();
            if !ports.is_empty() {
                own.ports.insert(endpoint.endpoint.clone(), ports);
            }
        }
        own.installed = true;
        drop(own);
        self.look()?;
        lock(&self.own).write()
    }

    /// Families whose forwarding was turned on here.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn set_guard(&self, v4: bool, v6: bool) -> Result<()> {
        let mut own = lock(&self.own);
        if (own.shape.guard4, own.shape.guard6) == (v4, v6) {
            return Ok(());
        }
        (own.shape.guard4, own.shape.guard6) = (v4, v6);
        if own.installed { own.write() } else { Ok(()) }
    }

    /// Adds a network, or changes what it says.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn set_network(&self, network: &Network) -> Result<()> {
        let mut own = lock(&self.own);
        let new = elements::of_network(network);
        let old = own.networks.get(&network.id).cloned().unwrap_or_default();
        let remove: Vec<_> = old.iter().filter(|element| !new.contains(element)).cloned().collect();
        let add: Vec<_> = new.iter().filter(|element| !old.contains(element)).cloned().collect();
        own.change(&remove, &add)?;
        own.networks.insert(network.id.clone(), new);
        Ok(())
    }

    /// Removes a network; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn remove_network(&self, id: &str) -> Result<()> {
        let mut own = lock(&self.own);
        let Some(old) = own.networks.remove(id) else { return Ok(()) };
        own.change(&old, &[])
    }

    /// Adds ports of an endpoint, all or none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn publish(&self, endpoint: &str, network: &Network, ports: &[Mapping]) -> Result<()> {
        let new: Vec<_> = ports.iter().filter_map(|port| elements::of_port(network, port)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut own = lock(&self.own);
        let held = own.ports.get(endpoint).map(Vec::as_slice).unwrap_or_default();
        let add: Vec<_> = new.into_iter().filter(|element| !held.contains(element)).collect();
        own.change(&[], &add)?;
        own.ports.entry(endpoint.to_owned()).or_default().extend(add);
        Ok(())
    }

    /// Takes ports of an endpoint back; those that are not published are skipped.
    ///
    /// # Errors
    /// What the kernel refused; the ports are forgotten all the same.
    pub(crate) fn unpublish(&self, endpoint: &str, network: &Network, ports: &[Mapping]) -> Result<()> {
        let wanted: Vec<_> = ports.iter().filter_map(|port| elements::of_port(network, port)).collect();
        let mut own = lock(&self.own);
        let Some(held) = own.ports.get_mut(endpoint) else { return Ok(()) };
        let (gone, kept): (Vec<_>, Vec<_>) = held.drain(..).partition(|element| wanted.contains(element));
        if kept.is_empty() {
            own.ports.remove(endpoint);
        } else {
            *held = kept;
        }
        own.change(&gone, &[])
    }

    /// Takes all ports of an endpoint back.
    ///
    /// # Errors
    /// What the kernel refused; the ports are forgotten all the same.
    pub(crate) fn forget(&self, endpoint: &str) -> Result<()> {
        let mut own = lock(&self.own);
        let Some(held) = own.ports.remove(endpoint) else { return Ok(()) };
        own.change(&held, &[])
    }

    /// Chains of others that drop what containers send and can't be changed, as sentences.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        lock(&self.own).obstacles.clone()
    }

    /// From where a port is reached.
    pub(crate) fn reach(&self, port: &Mapping) -> Reach {
        if !port.host.is_unspecified() {
            return Reach::Address(port.host);
        }
        let own = lock(&self.own);
        let closed = if port.host.is_ipv6() { &own.host.closed6 } else { &own.host.closed4 };
        let Some(closed_by) = closed.clone().filter(|_| self.policy == PublishPolicy::HostFirewall) else {
            return Reach::Anywhere;
        };
        let fits = |opening: &&Opening| {
            opening.protocol.is_none_or(|protocol| protocol == port.protocol)
                && opening.ports.is_none_or(|(first, last)| (first..=last).contains(&port.host_port))
                && opening.source.is_none_or(|source| source.addr().is_ipv6() == port.host.is_ipv6())
        };
        let open: Vec<_> = own.shape.gate.openings.iter().filter(fits).cloned().collect();
        if open.iter().any(|opening| opening.source.is_none() && opening.interface.is_none()) {
            Reach::Anywhere
        } else if open.is_empty() {
            Reach::HostOnly { closed_by }
        } else {
            Reach::Some(open)
        }
    }

    /// Looks at the tables of others again and does what follows: the rule at their heads, the gate, and our
    /// own table where it was lost.
    ///
    /// # Errors
    /// What the kernel refused; everything else was done.
    pub(crate) fn refresh(&self) -> Result<()> {
        let looked = self.look();
        let mut own = lock(&self.own);
        let there = own.table.is_there()?;
        if own.installed && !there {
            own.write()?;
        }
        looked
    }

    /// What others have, and the rule at their heads. Updates the gate where the table is installed.
    fn look(&self) -> Result<()> {
        let mut channel = lock(&self.foreign);
        let (v4, v6) = {
            let own = lock(&self.own);
            (own.shape.v4, own.shape.v6)
        };
        let mut chains = ruleset::chains(&mut channel)?;
        chains.retain(|chain| !is_ours(&chain.table));
        let obstacles = admission::ensure(&mut channel, &chains, &self.comment, (v4, v6));
        let host = host::look(&mut channel, &chains, &self.host_root)?;
        drop(channel);
        let mut own = lock(&self.own);
        let gate = self.gate(&host);
        own.host = host;
        if obstacles != own.obstacles {
            obstacles.iter().for_each(|obstacle| tracing::warn!("{obstacle}"));
            own.obstacles = obstacles;
        }
        if gate != own.shape.gate {
            own.shape.gate = gate;
            own.write_gate()?;
        }
        Ok(())
    }

    fn gate(&self, host: &HostPolicy) -> Gate {
        if self.policy == PublishPolicy::Open {
            return Gate::default();
        }
        let openings = self.allow.iter().chain(&host.openings).cloned().collect();
        Gate { closed4: host.closed4.is_some(), closed6: host.closed6.is_some(), openings }
    }

    /// Removes the table and the rule in the chains of others.
    ///
    /// # Errors
    /// What the kernel refused; everything else is gone.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut channel = lock(&self.foreign);
        let withdrawn = ruleset::chains(&mut channel)
            .and_then(|chains| admission::withdraw(&mut channel, &chains, &self.comment));
        drop(channel);
        let mut own = lock(&self.own);
        own.installed = false;
        own.table.remove().and(withdrawn)
    }

    /// Starts looking whenever others change something.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<Watch> {
        Watch::start(Arc::downgrade(self), &self.table_name)
    }
}

impl Own {
    /// Families that are neither filtered nor translated need no table.
    fn needed(&self) -> bool {
        self.shape.v4 || self.shape.v6
    }

    fn write(&mut self) -> Result<()> {
        if !self.needed() {
            return self.table.remove();
        }
        let all: Vec<_> = self.networks.values().chain(self.ports.values()).flatten().cloned().collect();
        self.table.replace(&self.shape, &sorted(all))
    }

    fn write_gate(&mut self) -> Result<()> {
        if self.needed() && self.installed && self.table.is_there()? {
            return self.table.set_gate(&self.shape.gate);
        }
        Ok(())
    }

    fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<()> {
        if self.needed() && self.installed { self.table.change(remove, add) } else { Ok(()) }
    }
}

/// Elements of one set next to each other, so that few messages carry them; each once.
fn sorted(mut elements: Vec<Element>) -> Vec<Element> {
    elements.sort_by(|one, other| (one.set, &one.key).cmp(&(other.set, &other.key)));
    elements.dedup_by(|one, other| one.set == other.set && one.key == other.key);
    elements
}

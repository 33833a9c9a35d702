//! After a start: what should be there, and what is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::names::alias;
use super::network::has_family;
use super::{Plane, lock};
use crate::error::Result;
use crate::link::{self, Link};
use crate::types::{Attached, Network, Reconciled};

impl Plane {
    /// Makes the kernel agree with what should be there: bridges are made or corrected, the table is written
    /// anew in one transaction, what nobody owns is removed. Connections through published ports go on. Starts
    /// watching the tables of others. A network that can't be made again is told and left out.
    ///
    /// # Errors
    /// What the kernel refused; the table stays as it was.
    pub fn reconcile(&self, networks: &[Network], endpoints: &[Attached]) -> Result<Reconciled> {
        let mut done = Reconciled::default();
        for network in networks {
            let made = if has_family(network, true) && network.bridge().is_some() && !network.internal {
                self.forward(true).and_then(|()| self.make_interface(network))
            } else {
                self.make_interface(network)
            };
            match made {
                Ok(known) => {
                    self.isolation(&known)?;
                    self.change_networks(|known_ones| known_ones.insert(network.id.clone(), Arc::new(known)));
                }
                Err(error) => done.failed.push((network.id.clone(), error.to_string())),
            }
        }
        let links: HashMap<u32, Link> =
            link::list(&mut lock(&self.route))?.into_iter().map(|link| (link.index, link)).collect();
        let mut living = vec![];
        for endpoint in endpoints {
            let Ok(known) = self.known(&endpoint.network) else { continue };
            if is_there(endpoint, known.index, &links) {
                // More than a bridge carries can't be on it.
                known.enter(&endpoint.endpoint)?;
                living.push(endpoint.clone());
            } else {
                done.lost.push(endpoint.endpoint.clone());
            }
        }
        done.swept = self.sweep(&links, &living)?;
        let by_id = |networks: &HashMap<String, Arc<super::Known>>| {
            networks.iter().map(|(id, known)| (id.clone(), known.network.clone())).collect()
        };
        self.firewall.install(&self.read_networks(by_id), &living)?;
        let mut watch = lock(&self.watch);
        if watch.is_none() {
            *watch = Some(self.firewall.watch()?);
        }
        Ok(done)
    }

    /// Removes interfaces of this instance that belong to nothing: ends of pairs on its bridges, and bridges.
    fn sweep(&self, links: &HashMap<u32, Link>, living: &[Attached]) -> Result<Vec<String>> {
        let ends: HashSet<_> = living.iter().map(|endpoint| endpoint.host_index).collect();
        let bases: HashSet<_> =
            self.read_networks(|networks| networks.values().map(|known| (known.index, known.made)).collect());
        let ours = alias(&self.settings.instance);
        let orphan = |link: &&Link| {
            let end = link.kind == "veth" && !ends.contains(&link.index);
            let on_ours = link.master.is_some_and(|master| {
                bases.contains(&(master, true))
                    || links.get(&master).is_some_and(|master| master.alias == ours)
            });
            let base = link.alias == ours && !bases.iter().any(|(index, _)| *index == link.index);
            end && on_ours || base
        };
        let mut swept = vec![];
        let mut channel = lock(&self.route);
        for link in links.values().filter(orphan) {
            link::remove(&mut channel, link.index, &link.name)?;
            swept.push(link.name.clone());
        }
        Ok(swept)
    }
}

fn is_there(endpoint: &Attached, base: u32, links: &HashMap<u32, Link>) -> bool {
    let Some(name) = &endpoint.host_interface else { return true };
    links.get(&endpoint.host_index).is_some_and(|link| link.name == *name && link.master == Some(base))
}

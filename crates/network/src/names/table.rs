//! Who is called what, in memory: the records of all containers, indexed by network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::record::Names;

/// The name table of an instance.
#[derive(Debug, Default)]
pub(crate) struct Table {
    containers: HashMap<Rc<str>, Names>,
    networks: HashMap<Box<str>, Network>,
}

/// The names of one network, in lower case.
#[derive(Debug, Default)]
struct Network {
    names: HashMap<Box<str>, Vec<Entry>>,
    /// By address: whose it is, and what he is called.
    reverse: HashMap<IpAddr, (Rc<str>, Box<str>)>,
}

/// A name is one of a container; without address it is known and has none.
#[derive(Debug)]
struct Entry {
    owner: Rc<str>,
    address: Option<IpAddr>,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has these addresses of the family asked for: none is an answer, too.
    Addresses(Vec<IpAddr>),
    /// It is none of ours.
    Unknown,
}

impl Table {
    /// How many containers have a record.
    pub(crate) fn len(&self) -> usize {
        self.containers.len()
    }

    /// What a container may ask for.
    pub(crate) fn names(&self, owner: &str) -> Option<&Names> {
        self.containers.get(owner)
    }

    /// Puts a container's record in place of the one it had.
    pub(crate) fn set(&mut self, owner: &str, names: Names) {
        self.remove(owner);
        let owner: Rc<str> = owner.into();
        for endpoint in &names.endpoints {
            let network = self.networks.entry(endpoint.network.as_str().into()).or_default();
            for name in &endpoint.names {
                let entries = network.names.entry(name.to_ascii_lowercase().into()).or_default();
                let entry = |address| Entry { owner: Rc::clone(&owner), address };
                entries.extend(endpoint.addresses.iter().map(|address| entry(Some(*address))));
                if endpoint.addresses.is_empty() {
                    entries.push(entry(None));
                }
            }
            if let Some(first) = endpoint.names.first() {
                for address in &endpoint.addresses {
                    network.reverse.insert(*address, (Rc::clone(&owner), first.as_str().into()));
                }
            }
        }
        self.containers.insert(owner, names);
    }

    /// Takes a container's record away.
    pub(crate) fn remove(&mut self, owner: &str) {
        let Some(old) = self.containers.remove(owner) else { return };
        for endpoint in &old.endpoints {
            let Some(network) = self.networks.get_mut(endpoint.network.as_str()) else { continue };
            for name in &endpoint.names {
                let name = name.to_ascii_lowercase();
                if let Some(entries) = network.names.get_mut(name.as_str()) {
                    entries.retain(|entry| &*entry.owner != owner);
                    if entries.is_empty() {
                        network.names.remove(name.as_str());
                    }
                }
            }
            for address in &endpoint.addresses {
                // A container that got the address since has its own entry by now.
                if network.reverse.get(address).is_some_and(|(of, _)| &**of == owner) {
                    network.reverse.remove(address);
                }
            }
            if network.names.is_empty() && network.reverse.is_empty() {
                self.networks.remove(endpoint.network.as_str());
            }
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What `owner` means by `name` (lower case, no dot at the end): in any of its networks, or for `a.b.c`
    /// also `a.b` in network `c`, `a` in network `b.c`; links first. Addresses come from the first network
    /// that knows the name.
    pub(crate) fn resolve(&self, owner: &str, name: &str, v6: bool) -> Found {
        let Some(asker) = self.containers.get(owner) else { return Found::Unknown };
        let mut known = false;
        let splits = name.rmatch_indices('.').map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
        for (name, network_name) in std::iter::once((name, None)).chain(splits) {
            for entries in self.meanings(asker, name, network_name) {
                known = true;
                let family = |address: &IpAddr| address.is_ipv6() == v6;
                let mut addresses: Vec<IpAddr> =
                    entries.iter().filter_map(|entry| entry.address).filter(family).collect();
                addresses.sort_unstable();
                addresses.dedup();
                if !addresses.is_empty() {
                    return Found::Addresses(addresses);
                }
            }
        }
        // A name that is known here is not asked for elsewhere, not even in a family that it does not have.
        if known { Found::Addresses(Vec::new()) } else { Found::Unknown }
    }

    /// The entries that a name may stand for, the best first.
    fn meanings<'a>(
        &'a self,
        asker: &'a Names,
        name: &'a str,
        network_name: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Vec<Entry>> {
        let endpoints = move || {
            asker.endpoints.iter().filter(move |endpoint| {
                network_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(&endpoint.network_name))
            })
        };
        let linked = move |endpoint: &super::record::Endpoint| {
            let mut links = asker.links.iter();
            let found =
                links.find(|link| link.network == endpoint.network && link.alias.eq_ignore_ascii_case(name));
            found.map(|link| link.target.to_ascii_lowercase())
        };
        let by_link = endpoints().filter_map(move |endpoint| {
            let target = linked(endpoint)?;
            self.networks.get(endpoint.network.as_str())?.names.get(target.as_str())
        });
        let by_name = endpoints().filter_map(move |endpoint| {
            // Here the name is another's.
            if linked(endpoint).is_some() {
                return None;
            }
            self.networks.get(endpoint.network.as_str())?.names.get(name)
        });
        by_link.chain(by_name)
    }

    /// What `owner` calls an address: `NAME.NETWORK`.
    pub(crate) fn reverse(&self, owner: &str, address: IpAddr) -> Option<String> {
        self.containers.get(owner)?.endpoints.iter().find_map(|endpoint| {
            let network = self.networks.get(endpoint.network.as_str())?;
            let (_, name) = network.reverse.get(&address)?;
            Some(format!("{name}.{}", endpoint.network_name))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::{Endpoint, Link};
    use super::*;

    fn endpoint(network: &str, addresses: &[&str], names: &[&str]) -> Endpoint {
        Endpoint {
            network: format!("id-{network}"),
            network_name: network.to_owned(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Endpoint::default()
        }
    }

    fn names(endpoints: &[Endpoint]) -> Names {
        Names { endpoints: endpoints.to_vec(), ..Names::default() }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.set("a", names(&[endpoint("net", &["10.0.0.2"], &["web", "Svc"])]));
        table.set(
            "b",
            names(&[
                endpoint("net", &["10.0.0.3", "fd00::3"], &["db", "svc"]),
                endpoint("back", &["10.1.0.3"], &["db"]),
            ]),
        );
        table.set("c", names(&[endpoint("back", &["10.1.0.4"], &["cache", "web"])]));
        table
    }

    fn found(addresses: &[&str]) -> Found {
        Found::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn names_are_those_of_the_askers_networks() {
        let table = table();
        assert_eq!(table.resolve("a", "web", false), found(&["10.0.0.2"]));
        assert_eq!(table.resolve("a", "svc", false), found(&["10.0.0.2", "10.0.0.3"]));
        assert_eq!(table.resolve("a", "cache", false), Found::Unknown);
        // In two networks: the first that knows the name.
        assert_eq!(table.resolve("b", "web", false), found(&["10.0.0.2"]));
        assert_eq!(table.resolve("b", "web.back", false), found(&["10.1.0.4"]));
        assert_eq!(table.resolve("b", "cache", false), found(&["10.1.0.4"]));
        assert_eq!(table.resolve("c", "db", false), found(&["10.1.0.3"]));
        assert_eq!(table.resolve("c", "db.net", false), Found::Unknown);
        assert_eq!(table.resolve("nobody", "web", false), Found::Unknown);
    }

    #[test]
    fn a_known_name_has_an_answer_in_every_family() {
        let table = table();
        assert_eq!(table.resolve("a", "db", true), found(&["fd00::3"]));
        assert_eq!(table.resolve("a", "web", true), found(&[]));
        assert_eq!(table.resolve("a", "web.net", true), found(&[]));
        assert_eq!(table.resolve("a", "other", true), Found::Unknown);
    }

    #[test]
    fn links_go_before_names() {
        let mut table = table();
        let link = Link { alias: "Web".into(), target: "db".into(), network: "id-net".into() };
        let other = Link { alias: "gone".into(), target: "nobody".into(), network: "id-net".into() };
        let mut asker = names(&[endpoint("net", &["10.0.0.9"], &["asker"])]);
        asker.links = vec![link, other];
        table.set("d", asker);
        assert_eq!(table.resolve("d", "web", false), found(&["10.0.0.3"]));
        assert_eq!(table.resolve("d", "web.net", false), found(&["10.0.0.3"]));
        assert_eq!(table.resolve("d", "gone", false), Found::Unknown);
        assert_eq!(table.resolve("a", "web", false), found(&["10.0.0.2"]));
    }

    #[test]
    fn addresses_have_names() {
        let mut table = table();
        let ask = |table: &Table, owner, address: &str| table.reverse(owner, address.parse().unwrap());
        assert_eq!(ask(&table, "a", "10.0.0.3").as_deref(), Some("db.net"));
        assert_eq!(ask(&table, "a", "fd00::3").as_deref(), Some("db.net"));
        assert_eq!(ask(&table, "b", "10.1.0.4").as_deref(), Some("cache.back"));
        assert_eq!(ask(&table, "a", "10.1.0.4"), None);
        // An address moved on: the new owner's name stays when the old one goes.
        table.set("e", names(&[endpoint("net", &["10.0.0.3"], &["new"])]));
        table.remove("b");
        assert_eq!(ask(&table, "a", "10.0.0.3").as_deref(), Some("new.net"));
    }

    #[test]
    fn dots_in_names_and_networks() {
        let mut table = Table::default();
        table.set("a", names(&[endpoint("n.x", &["10.0.0.2"], &["a.b", "a"])]));
        for name in ["a.b", "a", "a.b.n.x", "a.n.x"] {
            assert_eq!(table.resolve("a", name, false), found(&["10.0.0.2"]), "{name}");
        }
        assert_eq!(table.resolve("a", "b.n.x", false), Found::Unknown);
        assert_eq!(table.resolve("a", "", false), Found::Unknown);
        assert_eq!(table.resolve("a", ".", false), Found::Unknown);
    }

    proptest! {
        #[test]
        fn what_is_set_and_removed_leaves_nothing(steps in proptest::collection::vec((0_u8..6, 0_u8..4, 0_u8..4, any::<bool>()), 0..60)) {
            let mut table = Table::default();
            for (owner, network, address, set) in steps {
                let owner = owner.to_string();
                if set {
                    let address = format!("10.0.{network}.{address}");
                    let one = endpoint(&network.to_string(), &[&address], &[&format!("c{owner}"), "all"]);
                    table.set(&owner, names(&[one]));
                    prop_assert_eq!(table.resolve(&owner, &format!("c{owner}"), false), found(&[&address]));
                } else {
                    table.remove(&owner);
                    prop_assert_eq!(table.resolve(&owner, "all", false), Found::Unknown);
                }
            }
            for owner in 0..6 {
                table.remove(&owner.to_string());
            }
            prop_assert!(table.containers.is_empty() && table.networks.is_empty());
        }
    }
}

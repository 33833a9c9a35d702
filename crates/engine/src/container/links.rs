//! What becomes of `--link` on the default network after a container was started: addresses that change, links that
//! are taken away. In networks that answer names, the names do all that.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use wharf_api::HostConfig;

use super::driver::{Driver, Verb};
use super::record::Record;
use super::{Container, Containers, whole};
use crate::error::{Error, Result};
use crate::network::split_link;
use crate::pools::Class;

impl Containers {
    /// Finds the targets of the links that are asked for. On the default network they stay linked whatever they are
    /// called later.
    pub(super) fn settle_links(&self, host: &mut HostConfig) -> Result<()> {
        let links = host.links.iter_mut().flatten().filter(|_| host.network_mode == "bridge");
        for link in links {
            let (target, alias) = split_link(link);
            let found = self.find(target).map_err(|error| {
                Error::invalid(format!("could not get container for {target}: {}", error.message()))
            })?;
            let found = self.with_own_network(found).map_err(|error| Error::invalid(error.message()))?;
            if found.view().record.host_config.network_mode == "host" {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
            *link = format!("{}:{alias}", found.id());
        }
        Ok(())
    }

    /// A container's links on the default network as documents show them: `/TARGET:/OWN/ALIAS`.
    pub(super) fn shown_links(&self, record: &Record) -> Option<Vec<String>> {
        if record.host_config.network_mode != "bridge" {
            return None;
        }
        let shown = record.host_config.links.iter().flatten().filter_map(|link| {
            let (target, alias) = split_link(link);
            let target = self.find(target).ok()?;
            Some(format!("/{}:/{}/{alias}", target.view().record.name, record.name))
        });
        Some(shown.collect()).filter(|shown: &Vec<String>| !shown.is_empty())
    }

    /// The container that `PARENT/ALIAS` means, where such a link is.
    pub(super) fn linked(&self, asked: &str) -> Option<Arc<Container>> {
        let (parent, alias) = asked.trim_start_matches('/').rsplit_once('/')?;
        let parent = self.index.find(parent).ok()?.view();
        let host = &parent.record.host_config;
        let links = host.links.iter().flatten().filter(|_| host.network_mode == "bridge");
        let mut links = links.map(|link| split_link(link));
        let (target, _) = links.find(|(_, own)| *own == alias)?;
        self.index.find(target).ok()
    }

    /// By which links containers are known, by their ids: `/PARENT/ALIAS`.
    pub(super) fn known_by(&self) -> HashMap<String, Vec<String>> {
        let mut known: HashMap<String, Vec<String>> = HashMap::new();
        for parent in self.all() {
            let parent = parent.view();
            let host = &parent.record.host_config;
            for link in host.links.iter().flatten().filter(|_| host.network_mode == "bridge") {
                let (target, alias) = split_link(link);
                if let Ok(target) = self.find(target) {
                    let names = known.entry(target.id().to_owned()).or_default();
                    names.push(format!("/{}/{alias}", parent.record.name));
                }
            }
        }
        known
    }

    /// Takes away a link, told as `PARENT/ALIAS`. The containers stay.
    pub(super) async fn unlink(self: &Arc<Self>, asked: &str) -> Result<()> {
        let none = || Error::not_found(format!("No such container: {asked}"));
        let Some((parent, alias)) = asked.trim_start_matches('/').rsplit_once('/') else {
            self.find(asked)?;
            return Err(Error::internal("Conflict, cannot remove the default link name of the container"));
        };
        let parent = self.find(parent).map_err(|_| none())?;
        let has = |link: &String| split_link(link).1 == alias;
        if !parent.view().record.host_config.links.iter().flatten().any(has) {
            return Err(none());
        }
        self.order(parent.id(), Verb::Unlink(alias.to_owned())).await
    }

    /// Whether any container links to another.
    pub(super) fn any_links(&self) -> bool {
        self.all()
            .iter()
            .any(|one| one.view().record.host_config.links.as_ref().is_some_and(|links| !links.is_empty()))
    }

    /// Container `record` has addresses now: who links to it and runs learns them. Sleeps.
    pub(super) fn tell_linked(&self, record: &Record) {
        let Some(address) = self.networks.sandbox(&record.id).and_then(|one| one.addresses().next()) else {
            return;
        };
        for other in self.all() {
            let view = other.view();
            let host = &view.record.host_config;
            if view.state().process().is_none() || host.network_mode != "bridge" {
                continue;
            }
            for link in host.links.iter().flatten() {
                let (target, alias) = split_link(link);
                if self.find(target).is_ok_and(|found| found.id() == record.id) {
                    let names = names(alias, record);
                    let file = self.config.bundle(&view.record.id).join("hosts");
                    if let Err(error) = change(&file, &names, Some(address)) {
                        tracing::warn!("container {}: {error}", view.record.id);
                    }
                }
            }
        }
    }
}

impl Driver {
    pub(super) async fn unlink(&mut self, alias: &str) -> Result<()> {
        let mut record = (*self.record()).clone();
        let links = record.host_config.links.take().unwrap_or_default();
        let (gone, kept): (Vec<String>, Vec<String>) =
            links.into_iter().partition(|link| split_link(link).1 == alias);
        record.host_config.links = Some(kept).filter(|kept| !kept.is_empty());
        self.containers.log.synced(&whole(&record, &self.life())).await?;
        let file = self.containers.config.bundle(&record.id).join("hosts");
        self.set_record(record);
        let targets: Vec<String> = gone
            .iter()
            .filter_map(|link| self.containers.find(split_link(link).0).ok())
            .map(|target| names(alias, &target.view().record))
            .collect();
        if self.life().state.process().is_some() {
            let forget = move || targets.iter().try_for_each(|names| change(&file, names, None));
            self.containers.pools.run(Class::Lifecycle, forget).await?;
        }
        Ok(())
    }
}

/// What a linked container is called: by the alias, its host name and its own.
pub(super) fn names(alias: &str, other: &Record) -> String {
    let mut names = vec![alias];
    for name in [other.config.hostname.as_str(), other.name.as_str()] {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" ")
}

/// Gives the line of `names` another address, or takes it away. The file is mounted in the container, so it is written
/// in place.
fn change(file: &Path, names: &str, address: Option<IpAddr>) -> Result<()> {
    let text = fs::read_to_string(file).map_err(|error| Error::io("read hosts", &error))?;
    let mut changed = String::with_capacity(text.len());
    for line in text.lines() {
        match (line.split_once('\t').filter(|(_, rest)| *rest == names), address) {
            (None, _) => changed += line,
            (Some(_), Some(address)) => changed += &format!("{address}\t{names}"),
            (Some(_), None) => continue,
        }
        changed.push('\n');
    }
    if changed == text {
        return Ok(());
    }
    fs::write(file, changed).map_err(|error| Error::io("write hosts", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_links_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        fs::write(&file, "127.0.0.1\tlocalhost\n172.17.0.2\tdb x1 one\n# mine\n").unwrap();
        change(&file, "db x1 one", Some("172.17.0.9".parse().unwrap())).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("172.17.0.9\tdb x1 one\n# mine\n"));
        change(&file, "db x1 one", None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1\tlocalhost\n# mine\n");
    }
}

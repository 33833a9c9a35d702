//! Removing the volumes that no container uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wharf_api::{Filters, VolumesPruned};

use super::{ANONYMOUS, Volumes, disk, lock};
use crate::error::{Error, ErrorKind, Result};

impl Volumes {
    /// Removes what no container uses: the volumes nobody named, or with the filter `all` every one.
    ///
    /// # Errors
    /// Invalid, for filters other than `all`, `label` and `label!`; what could not be removed otherwise.
    pub fn prune(&self, filters: &Filters) -> Result<VolumesPruned> {
        filters.check(&["all", "label", "label!"]).map_err(|error| Error::invalid(error.to_string()))?;
        let all = all(filters)?;
        let none = BTreeMap::new();
        let candidates: Vec<String> = {
            let state = lock(&self.state);
            let unused = |name: &str| state.users.get(name).is_none_or(BTreeSet::is_empty);
            let passes = |labels: &BTreeMap<String, String>| {
                (all || labels.contains_key(ANONYMOUS)) && filters.labels_and_not(labels)
            };
            let found = state
                .volumes
                .iter()
                // Plugins' volumes may be others' too.
                .filter(|(name, stored)| stored.plugin.is_none() && unused(name))
                .filter(|(_, stored)| passes(stored.labels.as_ref().unwrap_or(&none)));
            found.map(|(name, _)| name.clone()).collect()
        };
        let mut pruned = VolumesPruned::default();
        for name in candidates {
            let volume = super::directory(&self.data_root, &name);
            let size = disk::size(Path::new(&volume).join("_data").as_path());
            match self.remove(&name, true) {
                Ok(()) => {
                    pruned.space_reclaimed += size;
                    pruned.volumes_deleted.push(name);
                }
                // Taken by a container in the meantime.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        self.tell("prune", "", ("reclaimed", pruned.space_reclaimed.to_string()));
        Ok(pruned)
    }
}

fn all(filters: &Filters) -> Result<bool> {
    let wrong = |value: &str| {
        Error::invalid(format!("invalid filter 'all': strconv.ParseBool: parsing {value:?}: invalid syntax"))
    };
    let mut values = filters.get("all");
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) => crate::container::spec::security::boolean(value).ok_or_else(|| wrong(value)),
        (Some(_), Some(_)) => Err(Error::invalid("invalid filter 'all': only one value is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::VolumeCreateRequest;

    #[test]
    fn named_volumes_go_only_when_all_are_meant() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let named =
            |name: &str| VolumeCreateRequest { name: name.to_owned(), ..VolumeCreateRequest::default() };
        volumes.make(&named("kept")).unwrap();
        volumes.make(&named("used")).unwrap();
        volumes.reference("used", "c1").unwrap();
        let unnamed = volumes.make(&named("")).unwrap();
        std::fs::write(Path::new(&unnamed.mountpoint).join("f"), "12345").unwrap();
        let pruned = volumes.prune(&Filters::default()).unwrap();
        assert_eq!((pruned.volumes_deleted, pruned.space_reclaimed), (vec![unnamed.name], 5));
        let everything = Filters::parse(r#"{"all":["true"]}"#).unwrap();
        assert_eq!(volumes.prune(&everything).unwrap().volumes_deleted, ["kept"]);
        let wrong = Filters::parse(r#"{"all":["x"]}"#).unwrap();
        let text = "invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax";
        assert_eq!(volumes.prune(&wrong).unwrap_err().message(), text);
    }
}

//! Looking at volumes: one, all, what they take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wharf_api::{Filters, Volume, VolumeList, VolumeUsage};

use super::disk::{self, Stored};
use super::plugin::Told;
use super::{Volumes, lock};
use crate::error::{Error, Result};

/// A pattern as it was given, and as an expression where it is one.
type Pattern<'a> = (&'a str, Option<regex::Regex>);

impl Volumes {
    /// One volume, if no plugin has to be asked for that.
    pub fn known(&self, name: &str) -> Option<Volume> {
        let state = lock(&self.state);
        let stored = state.volumes.get(name).filter(|stored| stored.plugin.is_none())?;
        Some(self.describe(name, stored))
    }

    /// One volume. Sleeps where a plugin has it.
    ///
    /// # Errors
    /// `get NAME: no such volume`, and what the plugin says.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        let found = self.stored(name);
        let plugin = match &found {
            Ok(stored) => stored.plugin.clone(),
            Err(_) => self.plugins.holder(name),
        };
        let Some(plugin) = plugin else { return found.map(|stored| self.describe(name, &stored)) };
        let doing = format!("get {name}");
        let driver = self.plugins.driver(&plugin).map_err(|error| error.context(&doing))?;
        let told = driver.get(name).map_err(|fault| {
            let checking = format!("error while checking if volume {name:?} exists in driver {plugin:?}");
            Error::internal(format!("{checking}: {fault}")).context(&doing)
        })?;
        let told = told.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
        lock(&self.plugin_paths).insert(name.to_owned(), told.mountpoint.clone());
        let stored = found.unwrap_or_else(|_| self.fresh(Some(plugin)));
        let volume = with(self.describe(name, &stored), told);
        Ok(Volume { scope: driver.scope(), ..volume })
    }

    /// The names of all volumes.
    pub fn names(&self) -> Vec<String> {
        lock(&self.state).volumes.keys().cloned().collect()
    }

    /// The volumes that pass the filters `dangling`, `driver`, `label` and `name`. Asks the plugins, but waits for none
    /// of them long: of one that does not answer, a warning is all there is, and what is written here of its volumes.
    ///
    /// # Errors
    /// Invalid, for other filters and values that are none.
    pub fn list(&self, filters: &Filters) -> Result<VolumeList> {
        let invalid = |error: wharf_api::filters::FilterError| Error::invalid(error.to_string());
        filters.check(&["dangling", "driver", "label", "name"]).map_err(invalid)?;
        let dangling = filters.boolean("dangling").map_err(invalid)?;
        // A name filter is a pattern; one that is no valid pattern can still be found as it is written.
        let patterns: Vec<Pattern<'_>> =
            filters.get("name").map(|name| (name, regex::Regex::new(name).ok())).collect();
        let (all, warnings) = self.all();
        let state = lock(&self.state);
        let none = BTreeMap::new();
        let passes = |volume: &Volume| {
            let in_use = state.users.get(&volume.name).is_some_and(|users| !users.is_empty());
            dangling.is_none_or(|dangling| dangling != in_use)
                && filters.exact("driver", &volume.driver)
                && filters.labels("label", volume.labels.as_ref().unwrap_or(&none))
                && named(&patterns, &volume.name)
        };
        let volumes = all.into_values().filter(passes).collect();
        Ok(VolumeList { volumes, warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) })
    }

    /// All volumes by name, and what could not be learnt.
    fn all(&self) -> (BTreeMap<String, Volume>, Vec<String>) {
        let told = self.plugins.volumes();
        let mut warnings = Vec::new();
        let mut all: BTreeMap<String, Volume> = {
            let state = lock(&self.state);
            state.volumes.iter().map(|(name, stored)| (name.clone(), self.describe(name, stored))).collect()
        };
        for (plugin, volumes) in told {
            match volumes {
                Err(error) => warnings.push(format!("list {plugin}: {}", error.message())),
                Ok(volumes) => {
                    for told in volumes {
                        let name = told.name.clone();
                        let fresh = || Volume {
                            created_at: String::new(),
                            ..self.describe(&name, &self.fresh(Some(plugin.clone())))
                        };
                        let known = all.remove(&name).unwrap_or_else(fresh);
                        // Names are one space: who came first has it.
                        let volume = if known.driver == plugin { with(known, told) } else { known };
                        all.insert(name, volume);
                    }
                }
            }
        }
        (all, warnings)
    }

    /// All volumes of the local driver with their sizes and numbers of users, for `system df`. Reads every directory.
    pub fn usage(&self) -> Vec<Volume> {
        let all: Vec<(Volume, usize)> = {
            let state = lock(&self.state);
            let users = |name: &String| state.users.get(name).map_or(0, BTreeSet::len);
            let local = state.volumes.iter().filter(|(_, stored)| stored.plugin.is_none());
            local.map(|(name, stored)| (self.describe(name, stored), users(name))).collect()
        };
        let with_usage = |(mut volume, users): (Volume, usize)| {
            let size = i64::try_from(disk::size(Path::new(&volume.mountpoint))).unwrap_or(i64::MAX);
            let ref_count = i64::try_from(users).unwrap_or(i64::MAX);
            volume.usage_data = Some(VolumeUsage { ref_count, size });
            volume
        };
        all.into_iter().map(with_usage).collect()
    }

    pub(super) fn describe(&self, name: &str, stored: &Stored) -> Volume {
        let created = jiff::Timestamp::from_second(stored.created).unwrap_or_default();
        let mountpoint = match &stored.plugin {
            None => disk::place(&self.data_root, name).join("_data").to_string_lossy().into_owned(),
            Some(_) => lock(&self.plugin_paths).get(name).cloned().unwrap_or_default(),
        };
        Volume {
            created_at: created.to_string(),
            driver: stored.driver().to_owned(),
            labels: stored.labels.clone(),
            mountpoint,
            name: name.to_owned(),
            options: stored.options.clone(),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

/// What a plugin says of a volume goes before what is written of it here.
fn with(volume: Volume, told: Told) -> Volume {
    Volume {
        mountpoint: if told.mountpoint.is_empty() { volume.mountpoint } else { told.mountpoint },
        created_at: if told.created.is_empty() { volume.created_at } else { told.created },
        status: told.status,
        ..volume
    }
}

fn named(patterns: &[Pattern<'_>], name: &str) -> bool {
    let matches = |(wanted, pattern): &Pattern<'_>| {
        *wanted == name || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
    };
    patterns.is_empty() || patterns.iter().any(matches)
}

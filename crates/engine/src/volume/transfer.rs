//! Volumes as archives and copies, and other names for them: what Docker's engine has no call for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_api::Volume;
use wharf_layer::{PackOptions, UnpackOptions, Whiteouts};
use wharf_sys::root::Root;

use super::disk::{self, Draft, Stored};
use super::replica::Replica;
use super::{ANONYMOUS, Volumes, lock, name as names};
use crate::error::{Error, Result};

/// The body of `POST /volumes/NAME/clone`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CloneRequest {
    /// The new volume's name; empty invents one.
    pub name: String,
    /// Its labels, instead of those of the original.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The answer to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cloned {
    /// The new volume.
    pub volume: Volume,
    /// What to know of the copy: the original was in use, files changed.
    pub warnings: Vec<String>,
    /// Files whose content takes no further room.
    pub shared_files: u64,
}

/// A volume made usable for a moment, and given back at the end.
struct Borrowed<'a> {
    volumes: &'a Volumes,
    name: String,
    id: String,
    path: PathBuf,
}

impl<'a> Borrowed<'a> {
    fn new(volumes: &'a Volumes, name: &str) -> Result<Self> {
        let id = super::random_name();
        // Nobody takes it away meanwhile.
        volumes.reference(name, &id)?;
        let mut borrowed = Self { volumes, name: name.to_owned(), id, path: PathBuf::new() };
        borrowed.path = volumes.enter_one(&borrowed.id, name)?;
        Ok(borrowed)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(users) = lock(&self.volumes.state).users.get_mut(&self.name) {
            users.remove(&self.id);
        }
        let mut running = lock(&self.volumes.running);
        if let Some(users) = running.get_mut(&self.name) {
            users.remove(&self.id);
            if users.is_empty() {
                running.remove(&self.name);
            }
        }
        drop(running);
        self.volumes.give_back(std::slice::from_ref(&self.name));
    }
}

impl Volumes {
    /// Writes all that is in a volume to `output`, as an archive. Sleeps.
    ///
    /// # Errors
    /// `get NAME: no such volume`, what could not be read, and what `output` says.
    pub fn export(&self, name: &str, output: impl Write) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::internal(format!("export {name}: {error}"));
        let borrowed = Borrowed::new(self, name)?;
        let root = Root::open(&borrowed.path).map_err(|error| failed(&error))?;
        let top = root.top().map_err(|error| failed(&error))?;
        let options = PackOptions { name: b".", ..PackOptions::default() };
        wharf_layer::pack_dir(&top, options, output).map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Makes a volume of the archive in `input`, compressed or not. One of that name may be there if it is empty and
    /// nobody uses it. The volume appears whole or not at all. Sleeps.
    ///
    /// # Errors
    /// Conflict, where the volume has content; what is wrong with the archive.
    pub fn import(
        &self,
        name: &str,
        labels: Option<BTreeMap<String, String>>,
        input: impl Read + Send,
    ) -> Result<Volume> {
        let doing = format!("import {name}");
        names::check(name).map_err(|error| error.context(&doing))?;
        let draft = Draft::new(&self.data_root)?;
        let refused = |error: &dyn std::fmt::Display| Error::invalid(format!("import {name}: {error}"));
        let root = Root::open(draft.data()).map_err(|error| refused(&error))?;
        let (_, plain) = wharf_layer::decompressor(input).map_err(|error| refused(&error))?;
        let options = UnpackOptions { top: true, ..UnpackOptions::new(Whiteouts::Plain) };
        wharf_layer::unpack(plain, &root, &options).map_err(|error| refused(&error))?;
        draft.sync()?;
        let turn = self.turn(name);
        let _turn = lock(&turn);
        let mut stored = Stored { labels, ..self.fresh(None) };
        if let Ok(old) = self.stored(name) {
            self.check_replaceable(name, &old)?;
            stored = Stored { labels: stored.labels.or(old.labels), created: old.created, ..stored };
            disk::remove(&self.data_root, name)?;
        }
        draft.keep(name, &stored)?;
        Ok(self.announce_made(name, stored))
    }

    /// Whether an import may take a volume's place.
    fn check_replaceable(&self, name: &str, old: &Stored) -> Result<()> {
        let conflict = |why: &str| Err(Error::conflict(format!("import {name}: {why}")));
        self.check_unused(name, "import")?;
        if !old.is_plain() {
            return conflict("only volumes of the local driver without options are made from archives");
        }
        let data = super::directory(&self.data_root, name).join("_data");
        let mut entries =
            std::fs::read_dir(&data).map_err(|error| Error::io(format_args!("import {name}"), &error))?;
        if entries.next().is_some() { conflict("the volume has content already") } else { Ok(()) }
    }

    /// Copies a volume into a new one, sharing the contents where the file system can. Sleeps.
    ///
    /// # Errors
    /// `get NAME: no such volume`; conflict, where the new name is taken.
    pub fn duplicate(&self, name: &str, ask: &CloneRequest) -> Result<Cloned> {
        let new = if ask.name.is_empty() { super::random_name() } else { ask.name.clone() };
        let doing = format!("clone {name}");
        names::check(&new).map_err(|error| error.context(&doing))?;
        self.check_free(&new).map_err(|error| error.context(&doing))?;
        let failed = |error: &dyn std::fmt::Display| Error::internal(format!("{doing}: {error}"));
        let users = self.users(name);
        let borrowed = Borrowed::new(self, name)?;
        let draft = Draft::new(&self.data_root)?;
        let copied = (|| {
            let from = Root::open(&borrowed.path)?.top()?;
            let holder = draft.data();
            let holder = Root::open(holder.parent().unwrap_or(&self.data_root))?.top()?;
            let into = holder.dir("_data".as_ref())?;
            let mut replica = Replica::new(&into, None)?;
            replica.copy(&from, &into)?;
            super::replica::finish(&holder, "_data".as_ref(), &from.stat_self()?, None)?;
            Ok::<_, wharf_sys::root::RootError>(replica)
        })();
        let replica = copied.map_err(|error| failed(&error))?;
        draft.sync()?;
        let turn = self.turn(&new);
        let _turn = lock(&turn);
        self.check_free(&new).map_err(|error| error.context(&doing))?;
        let labels = ask.labels.clone().or_else(|| {
            let mut labels = self.stored(name).ok()?.labels?;
            labels.remove(ANONYMOUS);
            Some(labels)
        });
        let stored = Stored { labels, ..self.fresh(None) };
        draft.keep(&new, &stored)?;
        let warnings = warnings(name, &users, &replica);
        Ok(Cloned { volume: self.announce_made(&new, stored), warnings, shared_files: replica.shared })
    }

    /// Gives a volume that no container uses another name.
    ///
    /// # Errors
    /// `get NAME: no such volume`; conflict, where it is in use or the new name is taken.
    pub fn rename(&self, name: &str, new: &str) -> Result<Volume> {
        let doing = format!("rename {name}");
        names::check(new).map_err(|error| error.context(&doing))?;
        // Always in the same order, so that two who swap names do not wait for each other.
        let mut order = [name, new];
        order.sort_unstable();
        let turns = order.map(|name| self.turn(name));
        let _first = lock(&turns[0]);
        if name == new {
            return Err(Error::conflict(format!("{doing}: it has that name already")));
        }
        let _second = lock(&turns[1]);
        let mut stored = self.stored(name)?;
        if let Some(plugin) = &stored.plugin {
            let why = format!("its driver {plugin} knows it by its name");
            return Err(Error::conflict(format!("{doing}: {why}")));
        }
        self.check_unused(name, "rename")?;
        self.check_free(new).map_err(|error| error.context(&doing))?;
        self.give_back_one(name)?;
        // Somebody gave it a name: it is not swept up with those that have none.
        let anonymous = stored.labels.as_mut().is_some_and(|labels| labels.remove(ANONYMOUS).is_some());
        if anonymous || stored.owner.take().is_some() {
            disk::write(&super::directory(&self.data_root, name), &stored)?;
        }
        disk::rename(&self.data_root, name, new)?;
        let mut state = lock(&self.state);
        state.volumes.remove(name);
        state.users.remove(name);
        state.volumes.insert(new.to_owned(), stored.clone());
        drop(state);
        self.tell("rename", new, ("oldName", name.to_owned()));
        Ok(self.describe(new, &stored))
    }
}

fn warnings(name: &str, users: &[String], replica: &Replica) -> Vec<String> {
    let mut warnings = Vec::new();
    if !users.is_empty() {
        warnings.push(format!(
            "volume {name} was in use while it was copied [{}]: each file is of one moment, all together are not",
            users.join(", ")
        ));
    }
    if replica.torn > 0 {
        warnings.push(format!("{} files went on changing while they were copied", replica.torn));
    }
    warnings
}

//! Directories that outlive containers.
//!
//! A volume is a directory with a document beside it (`disk.rs`); which containers use it is kept in memory only and
//! told again by the containers' records when the engine opens. One that a plugin has (`plugin`) is only the document.
//! The methods sleep in the kernel, and some for as long as a file server or a plugin likes: call them on a pool. Who
//! changes a volume has its turn, which is of that volume alone.

mod copy_up;
mod disk;
mod host;
mod list;
mod mounted;
mod name;
mod options;
mod plugin;
mod prune;
mod replica;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wharf_api::{Volume, VolumeCreateRequest};

pub use copy_up::copy_up;
pub use mounted::{Lent, Sources};
pub use name::random_name;
pub use transfer::{CloneRequest, Cloned};

use crate::container::spec::points::{Kind, Point};
use crate::error::{Error, Result};
use crate::events::{self, Events};
use disk::Stored;

/// The label of volumes that nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The engine's volumes.
#[derive(Debug)]
pub struct Volumes {
    data_root: PathBuf,
    state: Mutex<State>,
    /// By volume: held by whoever makes, mounts or removes it, so that all see a settled disk; the others are locked for
    /// moments only.
    turns: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// Those of running containers.
    running: Mutex<mounted::Running>,
    plugins: plugin::Plugins,
    /// Where plugins say their volumes will be.
    plugin_paths: Mutex<BTreeMap<String, String>>,
    /// Who new volumes belong to, where it is not root.
    owner: OnceLock<(u32, u32)>,
    events: OnceLock<Arc<Events>>,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<String, Stored>,
    /// Containers by volume.
    users: BTreeMap<String, BTreeSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is consistent between statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directory of volume `name`, its document included.
pub fn directory(data_root: &Path, name: &str) -> PathBuf {
    disk::place(data_root, name)
}

impl Volumes {
    /// Opens the volumes below `data_root` and sweeps what a crash left half done.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(data_root: &Path) -> Result<Self> {
        let state = State { volumes: disk::scan(data_root)?, users: BTreeMap::new() };
        Ok(Self {
            data_root: data_root.to_owned(),
            state: Mutex::new(state),
            turns: Mutex::default(),
            events: OnceLock::new(),
            owner: OnceLock::new(),
            running: Mutex::default(),
            plugins: plugin::Plugins::default(),
            plugin_paths: Mutex::default(),
        })
    }

    /// From now on, new volumes belong to this user and group: the root of containers with ids of their own.
    pub fn belong_to(&self, owner: (u32, u32)) {
        // Whoever came first stays.
        let _ = self.owner.set(owner);
    }

    /// From now on, what happens to volumes is told; the methods then need the async runtime around them.
    pub fn announce(&self, events: Arc<Events>) {
        // Whoever came first stays.
        let _ = self.events.set(events);
    }

    /// From now on, plugins are looked for where Docker does, and in the directory `own` of this engine.
    pub fn look_for_plugins(&self, own: &Path) {
        self.plugins.look_in(own);
    }

    /// The names of the drivers in use.
    pub fn drivers(&self) -> Vec<String> {
        std::iter::once("local".to_owned()).chain(self.plugins.names()).collect()
    }

    /// Whoever holds it is alone with a volume.
    fn turn(&self, name: &str) -> Arc<Mutex<()>> {
        let mut turns = lock(&self.turns);
        // Those that nobody waits for are of no use any more.
        turns.retain(|known, turn| known == name || Arc::strong_count(turn) > 1);
        turns.entry(name.to_owned()).or_default().clone()
    }

    fn stored(&self, name: &str) -> Result<Stored> {
        let state = lock(&self.state);
        let found = state.volumes.get(name).cloned();
        found.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    fn users(&self, name: &str) -> Vec<String> {
        lock(&self.state).users.get(name).into_iter().flatten().cloned().collect()
    }

    fn check_unused(&self, name: &str, verb: &str) -> Result<()> {
        match self.users(name).as_slice() {
            [] => Ok(()),
            users => {
                Err(Error::conflict(format!("{verb} {name}: volume is in use - [{}]", users.join(", "))))
            }
        }
    }

    fn check_free(&self, name: &str) -> Result<()> {
        match lock(&self.state).volumes.contains_key(name) {
            true => Err(Error::conflict(format!("a volume {name} exists already"))),
            false => Ok(()),
        }
    }

    /// What is written of a volume that is made now.
    fn fresh(&self, plugin: Option<String>) -> Stored {
        Stored {
            created: jiff::Timestamp::now().as_second(),
            labels: None,
            options: None,
            owner: None,
            plugin,
            mounted: BTreeMap::new(),
        }
    }

    fn announce_made(&self, name: &str, stored: Stored) -> Volume {
        let volume = self.describe(name, &stored);
        let driver = stored.driver().to_owned();
        // Whoever hears of it may use it.
        lock(&self.state).volumes.insert(name.to_owned(), stored);
        self.tell("create", name, ("driver", driver));
        volume
    }

    fn tell(&self, action: &str, name: &str, attribute: (&str, String)) {
        if let Some(events) = self.events.get() {
            let attributes = BTreeMap::from([(attribute.0.to_owned(), attribute.1)]);
            events.emit(events::Kind::Volume, action, name, attributes);
        }
    }

    /// Makes a volume; one of that name that is there already is the answer as it is.
    ///
    /// # Errors
    /// Docker's, for names, options and drivers that cannot be.
    pub fn make(&self, ask: &VolumeCreateRequest) -> Result<Volume> {
        self.make_or_find(ask).map(|(volume, _)| volume)
    }

    /// As [`Self::make`], used by container `user` from the first moment on, so that nobody removes it in between.
    /// `alone`: should a crash part the two, the volume goes too.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn make_for(&self, ask: &VolumeCreateRequest, user: &str, alone: bool) -> Result<Volume> {
        self.make_used(ask, Some((user, alone))).map(|(volume, _)| volume)
    }

    /// The volumes at `points` stay when their container goes.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn disown(&self, points: &[Point]) -> Result<()> {
        for point in points.iter().filter(|point| point.kind == Kind::Volume) {
            let turn = self.turn(&point.name);
            let _turn = lock(&turn);
            if let Ok(stored) = self.stored(&point.name)
                && stored.owner.is_some()
            {
                let stored = Stored { owner: None, ..stored };
                disk::write(&directory(&self.data_root, &point.name), &stored)?;
                lock(&self.state).volumes.insert(point.name.clone(), stored);
            }
        }
        Ok(())
    }

    /// Removes volumes whose containers a crash kept from being made, or from taking them along; `known` are those
    /// that are there, and have told what they use.
    pub fn sweep(&self, known: impl Fn(&str) -> bool) {
        let orphan = |stored: &Stored| stored.owner.as_deref().is_some_and(|owner| !known(owner));
        let state = lock(&self.state);
        let orphans = state.volumes.iter().filter(|(_, stored)| orphan(stored)).map(|(name, _)| name.clone());
        let orphans: Vec<String> = orphans.collect();
        drop(state);
        for name in orphans {
            match self.remove(&name, true) {
                Ok(()) => tracing::info!("volume {name} belonged to a container that is gone: swept"),
                // Another container took it over with --volumes-from.
                Err(error) if error.kind() == crate::ErrorKind::Conflict => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// As [`Self::make`], saying also whether it was made now.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn make_or_find(&self, ask: &VolumeCreateRequest) -> Result<(Volume, bool)> {
        self.make_used(ask, None)
    }

    fn make_used(&self, ask: &VolumeCreateRequest, user: Option<(&str, bool)>) -> Result<(Volume, bool)> {
        if ask.cluster_volume_spec.is_some() {
            let why = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                       this node to swarm and try again.";
            return Err(Error::unavailable(why));
        }
        let mut labels = ask.labels.clone();
        let name = if ask.name.is_empty() {
            labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
            random_name()
        } else {
            ask.name.clone()
        };
        let doing = format!("create {name}");
        let turn = self.turn(&name);
        let _turn = lock(&turn);
        let use_it = || user.map_or(Ok(()), |(user, _)| self.reference(&name, user));
        if let Ok(stored) = self.stored(&name) {
            let volume = self.found(&name, &stored, &ask.driver)?;
            return use_it().map(|()| (volume, false));
        }
        let plugin = match ask.driver.as_str() {
            "local" => None,
            "" => self.plugins.holder(&name),
            other => Some(other.to_owned()),
        };
        let options = ask.driver_opts.clone();
        let owner = user.filter(|(_, alone)| *alone).map(|(user, _)| user.to_owned());
        let stored = Stored { labels, options, owner, ..self.fresh(plugin.clone()) };
        match plugin {
            Some(plugin) => self.make_by_plugin(&plugin, &name, &stored)?,
            None => {
                name::check(&name).map_err(|error| error.context(&doing))?;
                options::check(stored.options.as_ref().unwrap_or(&BTreeMap::new()))
                    .map_err(|error| error.context(&doing))?;
                disk::make(&self.data_root, &name, &stored, self.owner.get().copied())?;
            }
        }
        let volume = self.announce_made(&name, stored);
        use_it().map(|()| (volume, true))
    }

    /// A volume that is there already is the answer to who wants to make it, unless another driver is wanted.
    fn found(&self, name: &str, stored: &Stored, driver: &str) -> Result<Volume> {
        if driver.is_empty() || driver == stored.driver() {
            return Ok(self.describe(name, stored));
        }
        let doing = format!("create {name}");
        if driver != "local" {
            self.plugins.driver(driver).map_err(|error| error.context(&doing))?;
        }
        let why =
            format!("driver '{}' already has volume '{name}': volume name must be unique", stored.driver());
        Err(Error::conflict(why).context(doing))
    }

    fn make_by_plugin(&self, plugin: &str, name: &str, stored: &Stored) -> Result<()> {
        let doing = format!("create {name}");
        let driver = self.plugins.driver(plugin).map_err(|error| error.context(&doing))?;
        let failed = |fault: plugin::Fault| Error::internal(fault.to_string()).context(&doing);
        if !matches!(driver.get(name), Ok(Some(_))) {
            driver.create(name, stored.options.as_ref()).map_err(failed)?;
        }
        let path = driver.path(name).unwrap_or_default();
        lock(&self.plugin_paths).insert(name.to_owned(), path);
        disk::make(&self.data_root, name, stored, None)
    }

    /// Removes a volume that no container uses. With `force` a missing one is fine; one in use is not, as with Docker.
    ///
    /// # Errors
    /// `get NAME: no such volume` and `remove NAME: volume is in use - [IDS]`.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let turn = self.turn(name);
        let _turn = lock(&turn);
        let stored = match self.stored(name) {
            Err(_) if force => return Ok(()),
            found => found?,
        };
        self.check_unused(name, "remove")?;
        // What its last container left may be mounted still.
        let given_back = self.give_back_one(name);
        match &stored.plugin {
            Some(plugin) => {
                // One that a daemon gave back without living to write it down is not mounted any more; whether it may
                // go is the plugin's to say.
                if let Err(error) = given_back {
                    tracing::warn!("{error}");
                }
                let removed = self.plugins.driver(plugin).and_then(|driver| {
                    driver.remove(name).map_err(|fault| Error::internal(fault.to_string()))
                });
                if let Err(error) = removed {
                    let error = error.context(format_args!("remove {name}"));
                    // Where the plugin itself is gone, nothing but what is written here can be removed.
                    if !force || error.kind() != crate::ErrorKind::NotFound {
                        return Err(error);
                    }
                    tracing::warn!("{error}");
                }
            }
            None => given_back?,
        }
        {
            let mut state = lock(&self.state);
            // A container came to use it meanwhile.
            if state.users.get(name).is_some_and(|users| !users.is_empty()) && stored.plugin.is_none() {
                drop(state);
                return self.check_unused(name, "remove");
            }
            state.volumes.remove(name);
            state.users.remove(name);
        }
        lock(&self.plugin_paths).remove(name);
        disk::remove(&self.data_root, name)?;
        self.tell("destroy", name, ("driver", stored.driver().to_owned()));
        Ok(())
    }

    /// Notes that container `id` uses volume `name`.
    ///
    /// # Errors
    /// `get NAME: no such volume`.
    pub fn reference(&self, name: &str, id: &str) -> Result<()> {
        let mut state = lock(&self.state);
        if !state.volumes.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        state.users.entry(name.to_owned()).or_default().insert(id.to_owned());
        Ok(())
    }

    /// Tells, when the engine opens, what a container of an earlier life uses; a volume that is gone is left out.
    pub fn adopt(&self, id: &str, points: &[Point]) {
        for point in points.iter().filter(|point| point.kind == Kind::Volume) {
            // Nothing to be done about a missing one: the container's start says so.
            let _ = self.reference(&point.name, id);
        }
    }

    /// Container `id` is gone, or was never made: it uses no volume any more. Answers the anonymous ones among its
    /// `points` that were removed with it, if `remove_anonymous`.
    ///
    /// # Errors
    /// The first that could not be removed; the others are.
    pub fn release(&self, id: &str, points: &[Point], remove_anonymous: bool) -> Result<Vec<String>> {
        for users in lock(&self.state).users.values_mut() {
            users.remove(id);
        }
        let mut removed = Vec::new();
        let mut failure = None;
        let own = points.iter().filter(|point| point.kind == Kind::Volume && point.anonymous);
        for point in own.filter(|_| remove_anonymous) {
            match self.remove(&point.name, true) {
                Ok(()) => removed.push(point.name.clone()),
                // Another container took it over with --volumes-from.
                Err(error) if error.kind() == crate::ErrorKind::Conflict => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::Filters;

    fn named(name: &str) -> VolumeCreateRequest {
        VolumeCreateRequest { name: name.to_owned(), ..VolumeCreateRequest::default() }
    }

    fn filtered(volumes: &Volumes, filters: &str) -> Vec<String> {
        let list = volumes.list(&Filters::parse(filters).unwrap()).unwrap();
        list.volumes.into_iter().map(|volume| volume.name).collect()
    }

    #[test]
    fn volumes_outlive_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let labels = Some([("a".to_owned(), "b".to_owned())].into());
        let made = volumes.make(&VolumeCreateRequest { labels, ..named("v1") }).unwrap();
        assert!(Path::new(&made.mountpoint).is_dir() && made.created_at.ends_with('Z'));
        std::fs::create_dir_all(dir.path().join("volumes/half/_data")).unwrap();
        std::fs::create_dir_all(dir.path().join("volumes/.removed-x/_data")).unwrap();
        let again = Volumes::open(dir.path()).unwrap();
        assert_eq!(again.inspect("v1").unwrap(), made);
        assert_eq!(std::fs::read_dir(dir.path().join("volumes")).unwrap().count(), 1);
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let text = |ask: &VolumeCreateRequest| volumes.make(ask).unwrap_err().message().to_owned();
        let foreign = VolumeCreateRequest { driver: "foo".to_owned(), ..named("F3v") };
        assert_eq!(
            text(&foreign),
            "create F3v: error looking up volume plugin foo: plugin \"foo\" not found"
        );
        assert_eq!(
            text(&named("x")),
            "create x: volume name is too short, names should be at least two alphanumeric characters"
        );
        assert!(
            text(&named("b d"))
                .starts_with("create b d: \"b d\" includes invalid characters for a local volume name")
        );
        assert_eq!(volumes.inspect("nosuch").unwrap_err().message(), "get nosuch: no such volume");
        assert_eq!(volumes.remove("nosuch", false).unwrap_err().message(), "get nosuch: no such volume");
        assert!(volumes.remove("nosuch", true).is_ok());
    }

    #[test]
    fn a_volume_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        volumes.make(&named("v1")).unwrap();
        volumes.reference("v1", "c1").unwrap();
        let error = volumes.remove("v1", true).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (crate::ErrorKind::Conflict, "remove v1: volume is in use - [c1]")
        );
        assert_eq!(filtered(&volumes, r#"{"dangling":["true"]}"#), Vec::<String>::new());
        volumes.release("c1", &[], true).unwrap();
        volumes.remove("v1", false).unwrap();
        assert!(!directory(dir.path(), "v1").exists());
    }

    #[test]
    fn anonymous_volumes_go_with_their_last_user() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let made = volumes.make(&named("")).unwrap();
        assert!(made.labels.unwrap().contains_key(ANONYMOUS));
        let point = Point { name: made.name.clone(), anonymous: true, ..Point::new(Kind::Volume, "/x") };
        volumes.adopt("c1", std::slice::from_ref(&point));
        volumes.adopt("c2", std::slice::from_ref(&point));
        assert_eq!(volumes.release("c1", std::slice::from_ref(&point), true).unwrap(), Vec::<String>::new());
        assert_eq!(volumes.release("c2", std::slice::from_ref(&point), true).unwrap(), [made.name]);
    }

    #[test]
    fn lists_are_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        for name in ["aa1", "bb1", "bb2"] {
            let labels = Some([("n".to_owned(), name.to_owned())].into());
            volumes.make(&VolumeCreateRequest { labels, ..named(name) }).unwrap();
        }
        assert_eq!(filtered(&volumes, r#"{"name":["^bb"]}"#), ["bb1", "bb2"]);
        assert_eq!(filtered(&volumes, r#"{"label":["n=aa1"],"driver":["local"]}"#), ["aa1"]);
        assert_eq!(filtered(&volumes, r#"{"name":["("]}"#), Vec::<String>::new());
        let error = volumes.list(&Filters::parse(r#"{"foo":["x"]}"#).unwrap()).unwrap_err();
        assert_eq!(error.message(), "invalid filter 'foo'");
    }
}

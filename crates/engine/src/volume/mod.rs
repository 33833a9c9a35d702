//! Directories that outlive containers.
//!
//! A volume is a directory with a document beside it (`disk.rs`); which containers use it is kept in memory only and
//! told again by the containers' records when the engine opens. The methods sleep in the kernel: call them on a pool.

mod copy_up;
mod disk;
mod name;
mod options;
mod prune;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wharf_api::{Filters, Volume, VolumeCreateRequest, VolumeList, VolumeUsage};

pub use copy_up::copy_up;
pub use name::random_name;
pub use options::DeviceMount;

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
    /// Held by whoever makes or removes one, so that both see a settled disk; `state` is locked for moments only.
    changing: Mutex<()>,
    /// Those of running containers.
    running: Mutex<shared::Running>,
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

/// What is mounted in place of the volume in `directory`, by its options.
///
/// # Errors
/// When its document cannot be read.
pub fn device_mount(directory: &Path) -> Result<Option<DeviceMount>> {
    Ok(disk::read(directory)?.and_then(|stored| stored.options).and_then(|options| options::mount(&options)))
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
            changing: Mutex::new(()),
            events: OnceLock::new(),
            owner: OnceLock::new(),
            running: Mutex::default(),
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

    /// As [`Self::make`], for container `owner` alone: should a crash part the two, the volume goes too.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn make_for(&self, ask: &VolumeCreateRequest, owner: &str) -> Result<Volume> {
        self.make_owned(ask, Some(owner)).map(|(volume, _)| volume)
    }

    /// The volumes at `points` stay when their container goes.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn disown(&self, points: &[Point]) -> Result<()> {
        let _changing = lock(&self.changing);
        for point in points.iter().filter(|point| point.kind == Kind::Volume) {
            let stored = lock(&self.state).volumes.get(&point.name).cloned();
            if let Some(stored) = stored.filter(|stored| stored.owner.is_some()) {
                let stored = Stored { owner: None, ..stored };
                disk::make(&self.data_root, &point.name, &stored)?;
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
        self.make_owned(ask, None)
    }

    fn make_owned(&self, ask: &VolumeCreateRequest, owner: Option<&str>) -> Result<(Volume, bool)> {
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
        if !matches!(ask.driver.as_str(), "" | "local") {
            let driver = &ask.driver;
            let why = format!("error looking up volume plugin {driver}: plugin {driver:?} not found");
            return Err(Error::not_found(why).context(doing));
        }
        let _changing = lock(&self.changing);
        if let Some(volume) = self.document(&name) {
            return Ok((volume, false));
        }
        name::check(&name).map_err(|error| error.context(&doing))?;
        let options = ask.driver_opts.clone().filter(|options| !options.is_empty());
        options::check(options.as_ref().unwrap_or(&BTreeMap::new()))
            .map_err(|error| error.context(&doing))?;
        let created = jiff::Timestamp::now().as_second();
        let stored = Stored { created, labels, options, owner: owner.map(str::to_owned) };
        disk::make(&self.data_root, &name, &stored)?;
        if let Some((user, group)) = self.owner.get() {
            let data = directory(&self.data_root, &name).join("_data");
            std::os::unix::fs::chown(&data, Some(*user), Some(*group))
                .map_err(|error| Error::io(format_args!("chown {}", data.display()), &error))?;
        }
        lock(&self.state).volumes.insert(name.clone(), stored.clone());
        self.tell("create", &name, ("driver", "local".to_owned()));
        Ok((self.describe(&name, &stored), true))
    }

    /// One volume.
    ///
    /// # Errors
    /// `get NAME: no such volume`.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        self.document(name).ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// The names of all volumes.
    pub fn names(&self) -> Vec<String> {
        lock(&self.state).volumes.keys().cloned().collect()
    }

    /// The volumes that pass the filters `dangling`, `driver`, `label` and `name`.
    ///
    /// # Errors
    /// Invalid, for other filters and values that are none.
    pub fn list(&self, filters: &Filters) -> Result<VolumeList> {
        let invalid = |error: wharf_api::filters::FilterError| Error::invalid(error.to_string());
        filters.check(&["dangling", "driver", "label", "name"]).map_err(invalid)?;
        let dangling = filters.boolean("dangling").map_err(invalid)?;
        // A name filter is a pattern; one that is no valid pattern can still be found as it is written.
        let patterns: Vec<_> = filters.get("name").map(|name| (name, regex::Regex::new(name).ok())).collect();
        let named = |name: &str| {
            let matches = |(wanted, pattern): &(&str, Option<regex::Regex>)| {
                *wanted == name || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
            };
            patterns.is_empty() || patterns.iter().any(matches)
        };
        let state = lock(&self.state);
        let none = BTreeMap::new();
        let passes = |name: &str, stored: &Stored| {
            let in_use = state.users.get(name).is_some_and(|users| !users.is_empty());
            dangling.is_none_or(|dangling| dangling != in_use)
                && filters.exact("driver", "local")
                && filters.labels("label", stored.labels.as_ref().unwrap_or(&none))
                && named(name)
        };
        let volumes = state.volumes.iter().filter(|(name, stored)| passes(name, stored));
        Ok(VolumeList {
            volumes: volumes.map(|(name, stored)| self.describe(name, stored)).collect(),
            warnings: None,
        })
    }

    /// Removes a volume that no container uses. With `force` a missing one is fine; one in use is not, as with Docker.
    ///
    /// # Errors
    /// `get NAME: no such volume` and `remove NAME: volume is in use - [IDS]`.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let _changing = lock(&self.changing);
        {
            let mut state = lock(&self.state);
            if !state.volumes.contains_key(name) {
                return if force {
                    Ok(())
                } else {
                    Err(Error::not_found(format!("get {name}: no such volume")))
                };
            }
            if let Some(users) = state.users.get(name).filter(|users| !users.is_empty()) {
                let users: Vec<_> = users.iter().map(String::as_str).collect();
                return Err(Error::conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            state.volumes.remove(name);
            state.users.remove(name);
        }
        disk::remove(&self.data_root, name)?;
        self.tell("destroy", name, ("driver", "local".to_owned()));
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

    /// All volumes with their sizes and numbers of users, for `system df`. Reads every directory.
    pub fn usage(&self) -> Vec<Volume> {
        let all: Vec<(Volume, usize)> = {
            let state = lock(&self.state);
            let users = |name: &String| state.users.get(name).map_or(0, BTreeSet::len);
            state.volumes.iter().map(|(name, stored)| (self.describe(name, stored), users(name))).collect()
        };
        let with_usage = |(mut volume, users): (Volume, usize)| {
            let size = i64::try_from(disk::size(Path::new(&volume.mountpoint))).unwrap_or(i64::MAX);
            let ref_count = i64::try_from(users).unwrap_or(i64::MAX);
            volume.usage_data = Some(VolumeUsage { ref_count, size });
            volume
        };
        all.into_iter().map(with_usage).collect()
    }

    fn document(&self, name: &str) -> Option<Volume> {
        lock(&self.state).volumes.get(name).map(|stored| self.describe(name, stored))
    }

    fn describe(&self, name: &str, stored: &Stored) -> Volume {
        let created = jiff::Timestamp::from_second(stored.created).unwrap_or_default();
        Volume {
            created_at: created.to_string(),
            driver: "local".to_owned(),
            labels: stored.labels.clone(),
            mountpoint: disk::place(&self.data_root, name).join("_data").to_string_lossy().into_owned(),
            name: name.to_owned(),
            options: stored.options.clone(),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

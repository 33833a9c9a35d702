//! The engine as a whole: its managers, connected, over one data root.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::CWD;
use rustix::mount::MountAttrFlags;
use wharf_store::{Driver, Store};
use wharf_sys::cgroup::{Cgroup, leave_login_session};
use wharf_sys::mount::{Attributes, DetachedMount};

use crate::build::Builds;
use crate::config::EngineConfig;
use crate::container::launch::make_directory;
use crate::container::spec::points::Kind;
use crate::container::{Containers, Parts, logs};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::exec::Execs;
use crate::health;
use crate::image::{Images, User};
use crate::network::Networks;
use crate::pools::{Class, Pools};
use crate::recover;
use crate::registry::Registries;
use crate::reserve::Reserve;
use crate::state_log::StateLog;
use crate::system::System;
use crate::volume::Volumes;

/// One engine. Managers know those they need, never the whole.
#[derive(Debug)]
pub struct Engine {
    pub config: Arc<EngineConfig>,
    pub pools: Pools,
    pub builds: Arc<Builds>,
    pub containers: Arc<Containers>,
    pub images: Arc<Images>,
    pub registries: Arc<Registries>,
    pub volumes: Arc<Volumes>,
    pub networks: Arc<Networks>,
    pub execs: Arc<Execs>,
    pub events: Arc<Events>,
    pub system: Arc<System>,
}

impl Engine {
    /// Opens the engine over its data root and brings it to where the world is: running containers are
    /// adopted, ended ones recorded, leftovers swept, and what restart policies want is started.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let (config, pools) = (Arc::new(config), Pools::default());
        let settings = config.clone();
        // Containers whose supervisor is killed become this process's children, which can say how they ended.
        wharf_sys::pidfd::become_subreaper().map_err(|error| Error::io("become subreaper", &error))?;
        let opened = pools.run(Class::Lifecycle, move || Disk::open(&settings)).await?;
        let Disk { store, events, volumes, log, replay, executable } = opened;
        let registries = Arc::new(Registries::new(&config)?);
        let images = Arc::new(Images::new(store.clone(), events.clone(), pools.clone(), registries.clone()));
        let networks =
            Networks::open(config.clone(), pools.clone(), store.clone(), events.clone(), &executable)?;
        let networks = Arc::new(networks);
        let containers = Containers::new(Parts {
            config: config.clone(),
            pools: pools.clone(),
            store: store.clone(),
            images: images.clone(),
            volumes: volumes.clone(),
            networks: networks.clone(),
            events: events.clone(),
            log,
            executable,
        });
        let standing = Arc::downgrade(&containers);
        images.set_users(move || standing.upgrade().map(|containers| users(&containers)).unwrap_or_default());
        let execs = Execs::new(containers.clone());
        health::watch(&containers, execs.clone());
        logs::forward::watch(&containers);
        logs::compress::watch(&containers);
        recover::recover(&containers, replay).await?;
        let (left, own_pools) = (volumes.clone(), pools.clone());
        tokio::spawn(async move {
            let give_back = move || {
                left.unmount_unused();
                Ok(())
            };
            own_pools.run(Class::Volumes, give_back).await
        });
        let builds = Builds::open(
            config.clone(),
            store.clone(),
            images.clone(),
            registries.clone(),
            containers.clone(),
        );
        let builds = Arc::new(builds?);
        let system =
            Arc::new(System::new(config.clone(), store, containers.clone(), images.clone(), builds.clone()));
        Ok(Arc::new(Self {
            config,
            pools,
            builds,
            containers,
            images,
            registries,
            volumes,
            networks,
            execs,
            events,
            system,
        }))
    }

    /// Writes what was not written yet. Containers run on; an engine that is not closed loses no more than the
    /// disk does.
    pub async fn close(&self) {
        let (events, containers) = (self.events.clone(), self.containers.clone());
        let (config, supervisors) = (self.config.clone(), self.containers.clone());
        let networks = self.networks.clone();
        let flush = move || {
            events.flush();
            networks.close();
            supervisors.nursery.close();
            // The instance's own group goes with its last container; one that was given may be someone else's.
            if config.owns_cgroup_parent()
                && let Ok(parent) = Cgroup::open(&config.cgroup_parent)
            {
                parent.remove_unused();
            }
            if let Some((parent, _)) = config.supervisors_cgroup().rsplit_once('/')
                && let Ok(parent) = Cgroup::open(parent)
            {
                parent.remove_unused();
            }
            Ok(())
        };
        let flushed = tokio::join!(self.pools.run(Class::Lifecycle, flush), containers.log.settled());
        if let (Err(error), _) | (_, Err(error)) = flushed {
            tracing::warn!("close: {error}");
        }
    }
}

/// What is read from the disk before anything else.
struct Disk {
    store: Arc<Store>,
    events: Arc<Events>,
    volumes: Arc<Volumes>,
    log: StateLog,
    replay: crate::state_log::Replay,
    executable: OwnedFd,
}

impl Disk {
    fn open(config: &EngineConfig) -> Result<Self> {
        match leave_login_session() {
            Ok(false) => {}
            Ok(true) => tracing::info!("left the cgroup of the login session"),
            Err(error) => tracing::warn!("the end of the login session may end the daemon: {error}"),
        }
        for directory in [config.data_root.clone(), config.containers(), config.exec_root.join("c")] {
            make_directory(&directory)?;
        }
        wharf_sys::spread::children(&config.containers());
        let driver = storage_driver(config)?;
        let open = || Store::open(&config.data_root, driver);
        let store = open().or_else(|error| {
            // After a crash the database is written to before it can be read.
            if Reserve::of(&config.data_root).give_up() { open() } else { Err(error) }
        })?;
        let events = Arc::new(Events::open(&config.data_root)?);
        let volumes = Arc::new(Volumes::open(&config.data_root)?);
        volumes.announce(events.clone());
        volumes.look_for_plugins(&config.exec_root.join("plugins"));
        if let Some(ids) = &config.remap {
            volumes.belong_to(ids.root());
        }
        let (log, replay) = StateLog::open(&config.data_root)?;
        events.write_with(log.errands());
        let executable = executable(config)?;
        Ok(Self { store, events, volumes, log, replay, executable })
    }
}

fn storage_driver(config: &EngineConfig) -> Result<Option<Driver>> {
    match config.storage_driver.as_deref() {
        None | Some("") => Ok(None),
        Some("overlay2" | "overlay" | "overlayfs") => Ok(Some(Driver::Overlay)),
        Some("vfs") => Ok(Some(Driver::Vfs)),
        Some(other) => {
            Err(Error::invalid(format!("error initializing graphdriver: driver not supported: {other}")))
        }
    }
}

/// The program that supervisors are started from, behind a read-only mount: a container that looks it up under
/// `/proc` cannot write to it (CVE-2019-5736).
fn executable(config: &EngineConfig) -> Result<OwnedFd> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::internal(format!("open {}: {error}", config.executable.display()))
    };
    let mount = DetachedMount::clone_tree(CWD, &config.executable, false).map_err(|error| failed(&error))?;
    let change = Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    mount.set_attr(&change, false).map_err(|error| failed(&error))?;
    Ok(mount.into_fd())
}

fn users(containers: &Containers) -> Vec<User> {
    let mut users = Vec::new();
    for one in containers.all() {
        let view = one.view();
        let user = |image: &str, mounted| User {
            container: view.record.id.clone(),
            image: image.to_owned(),
            running: view.state().is_active(),
            mounted,
        };
        users.push(user(&view.record.image_id, false));
        let mounts = view.record.mounts.iter().filter(|point| point.kind == Kind::Image);
        users.extend(mounts.map(|point| user(&point.source, true)));
    }
    users
}

//! Containers: one state enum and one driver task each, one file per verb.
//!
//! A [`Container`] publishes a [`View`] that readers clone without waiting for anyone. Whoever wants it to
//! change sends an order to its [`driver`], which asks [`state::decide`] and then acts.

pub mod archive;
pub mod attach;
mod attached;
pub mod bootstrap;
pub mod changes;
pub mod commit;
pub mod create;
mod driver;
mod end;
pub mod export;
mod fs_job;
mod index;
pub mod inspect;
mod kill;
pub(crate) mod launch;
mod links;
pub mod list;
mod log_config;
pub mod logs;
mod network;
mod pause;
pub mod prune;
pub(crate) mod quota;
pub mod record;
mod remove;
mod rename;
mod restart;
mod restore;
mod roots;
pub mod spec;
mod start;
pub mod state;
pub mod stats;
mod status;
mod stop;
pub mod top;
mod update;
pub mod validate;
pub mod wait;
pub mod warnings;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::mpsc;
use wharf_api::Health;
use wharf_shim::Handle;
use wharf_shim::nursery::Nursery;
use wharf_shim::protocol::{Attach, Exit};
use wharf_store::Store;

pub use attach::{AttachOptions, AttachTicket};
pub use list::ListOptions;
pub use record::{Life, Record, View};
pub use state::{Decision, Request, State};
pub use wait::{WaitCondition, WaitTicket};

use crate::config::EngineConfig;
use crate::error::Result;
use crate::events::{Events, Kind};
use crate::image::Images;
use crate::network::Networks;
use crate::pools::Pools;
use crate::state_log::{Entry, StateLog};
use crate::volume::Volumes;
use index::Index;
use wait::Waiters;

/// All containers of one engine.
#[derive(Debug)]
pub struct Containers {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) pools: Pools,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Arc<Images>,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) networks: Arc<Networks>,
    pub(crate) events: Arc<Events>,
    pub(crate) log: StateLog,
    pub(crate) index: Index,
    /// This program's file, open for reading: what supervisors are started from.
    pub(crate) executable: OwnedFd,
    /// Makes supervisors.
    pub(crate) nursery: Nursery,
    roots: roots::Roots,
    /// Settings of the images that containers were made from last.
    settings: create::Settings,
    listeners: Mutex<Vec<mpsc::UnboundedSender<News>>>,
}

/// What other managers need to know of a container as it happens.
#[derive(Debug, Clone)]
pub struct News {
    pub container: Arc<Container>,
    pub what: Happening,
}

/// See [`News`].
#[derive(Debug, Clone)]
pub enum Happening {
    /// Its process was executed (again), or was found running by a new daemon.
    Started,
    /// Its process ended.
    Ended,
    /// Its log was turned over.
    LogRotated,
    /// An exec's process ended.
    ExecExited { id: String, exit: Exit },
    /// A client left an exec's streams by its detach keys.
    ExecDetached { id: String },
    /// The execs that run in a container found by a new daemon: (id, pid).
    ExecsFound(Vec<(String, i32)>),
    /// It is gone.
    Removed,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    id: String,
    view: RwLock<Arc<View>>,
    link: Mutex<Link>,
    waiters: Waiters,
    driver: Mutex<Option<driver::Orders>>,
    health: RwLock<Option<Arc<Health>>>,
    /// Its entry of the last list.
    row: Mutex<Option<list::Row>>,
    /// Execs that were made and not forgotten yet, for `inspect`; kept by the exec manager.
    pub(crate) execs: Mutex<Vec<String>>,
}

/// Where a container's streams and processes can be reached.
#[derive(Debug)]
pub(crate) enum Link {
    /// No supervisor; clients that attached before the start wait here.
    Down(Vec<(Attach, OwnedFd)>),
    Up(Handle),
}

impl Container {
    fn new(record: Arc<Record>, life: Life) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            view: RwLock::new(Arc::new(View { record, life })),
            link: Mutex::new(Link::Down(Vec::new())),
            waiters: Waiters::default(),
            driver: Mutex::new(None),
            health: RwLock::new(None),
            row: Mutex::new(None),
            execs: Mutex::new(Vec::new()),
        })
    }

    /// The full id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// This instant's view.
    pub fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn row(&self) -> MutexGuard<'_, Option<list::Row>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The supervisor, while one is there.
    pub fn handle(&self) -> Option<Handle> {
        match &*self.link() {
            Link::Up(handle) => Some(handle.clone()),
            Link::Down(_) => None,
        }
    }

    /// The result of the health probes, where there are any.
    pub fn health(&self) -> Option<Arc<Health>> {
        self.health.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a result of the health probes; `None`: there are none (any more).
    pub fn set_health(&self, health: Option<Health>) {
        *self.health.write().unwrap_or_else(PoisonError::into_inner) = health.map(Arc::new);
    }

    /// Denies `request` as its driver would; for what needs no driver. `asked`: as the client named it.
    pub fn check(&self, request: Request, asked: &str) -> Result<Arc<View>> {
        let view = self.view();
        match state::decide(view.state(), request) {
            Decision::Deny(denial) => Err(denial.error(request, &self.id, asked)),
            Decision::Accept | Decision::Ignore => Ok(view),
        }
    }

    // Nothing panics while one of the locks is held.
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

/// What [`Containers::new`] connects.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) pools: Pools,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Arc<Images>,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) networks: Arc<Networks>,
    pub(crate) events: Arc<Events>,
    pub(crate) log: StateLog,
    pub(crate) executable: OwnedFd,
}

impl Containers {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, pools, store, images, volumes, networks, events, log, executable } = parts;
        let (index, listeners) = (Index::default(), Mutex::new(Vec::new()));
        let group = config.supervisors_cgroup();
        Arc::new(Self {
            config,
            pools,
            store,
            images,
            volumes,
            networks,
            events,
            log,
            index,
            executable,
            nursery: Nursery::in_group(group),
            roots: roots::Roots::default(),
            settings: create::Settings::default(),
            listeners,
        })
    }

    /// The container that a client means by `asked`: a full id, a name, or the beginning of one id.
    pub fn find(&self, asked: &str) -> Result<Arc<Container>> {
        self.index.find(asked).or_else(|error| self.linked(asked).ok_or(error))
    }

    /// All containers, in no particular order.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.index.all()
    }

    /// Hears what happens to containers from now on. Meant for the few managers that follow all of it.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Records an event about a container, with `more` beside what every such event says.
    pub fn emit(&self, record: &Record, action: &str, more: &[(&str, &str)]) {
        let mut attributes: BTreeMap<String, String> = record.attributes();
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.events.emit(Kind::Container, action, &record.id, attributes);
    }

    pub(crate) fn tell(&self, container: &Arc<Container>, what: Happening) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|one| one.send(News { container: container.clone(), what: what.clone() }).is_ok());
    }
}

/// An entry of the state log about a container.
pub(crate) type Note<'a> = Entry<'a, Record, Life>;

/// A log entry that says all of a container.
fn whole<'a>(record: &'a Record, life: &'a Life) -> Note<'a> {
    Entry::Record { id: &record.id, record, life }
}

//! The one task that changes a container.
//!
//! Orders arrive over a channel and are taken one after the other; between them the driver hears what the
//! supervisor says. A stop does not hold the driver up: it leaves a deadline and those who wait for the end
//! behind, so that a kill, a pause or another stop gets through meanwhile. A driver is started by the first
//! order a container gets, and ends with its container.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wharf_api::{EndpointSettings, UpdateRequest};
use wharf_shim::protocol::Event;
use wharf_shim::{Descriptors, Events, Handle};

use super::record::{Life, Record, View};
use super::state::{Decision, Request, State, decide};
use super::wait::Milestone;
use super::{Container, Containers, Happening, Note};
use crate::error::{Error, Result};

/// The way to a driver.
pub(super) type Orders = mpsc::UnboundedSender<Order>;
/// Whoever waits for an order to be done.
pub(super) type Reply = oneshot::Sender<Result<()>>;

/// One wish for a container to change.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) verb: Verb,
    /// The container as the client named it, for messages.
    pub(super) asked: String,
    pub(super) reply: Reply,
}

/// What is wished for.
#[derive(Debug)]
pub(super) enum Verb {
    Start,
    Stop(Grace),
    Restart(Grace),
    Kill(i32),
    Pause,
    Unpause,
    Rename(String),
    /// Takes the link of this alias away.
    Unlink(String),
    Update(Box<UpdateRequest>),
    Remove {
        force: bool,
        volumes: bool,
    },
    Connect {
        network: String,
        settings: Box<EndpointSettings>,
    },
    Disconnect {
        network: String,
    },
    Limit {
        network: String,
        options: BTreeMap<String, String>,
    },
}

/// How a container is asked to end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grace {
    /// `None`: the container's own.
    pub(super) signal: Option<i32>,
    /// Seconds until it is killed, negative: never; `None`: the container's own.
    pub(super) timeout: Option<i64>,
}

impl Verb {
    fn request(&self) -> Request {
        match self {
            Self::Start => Request::Start,
            Self::Stop(_) => Request::Stop,
            Self::Restart(_) => Request::Restart,
            Self::Kill(_) => Request::Kill,
            Self::Pause => Request::Pause,
            Self::Unpause => Request::Unpause,
            Self::Rename(_) => Request::Rename,
            Self::Unlink(_) => Request::Update,
            Self::Update(_) => Request::Update,
            Self::Connect { .. } | Self::Disconnect { .. } | Self::Limit { .. } => Request::Network,
            Self::Remove { force, .. } => Request::Remove { force: *force },
        }
    }
}

/// A container on its way to its end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// When patience runs out; `None`: never.
    pub(super) deadline: Option<Instant>,
    /// It was killed; the deadline is now that of the kernel.
    pub(super) killed: bool,
    pub(super) after: Vec<After>,
}

/// What is done once the process has ended.
#[derive(Debug)]
pub(super) enum After {
    /// Answer a stop.
    Stopped(Reply),
    /// Answer a kill.
    Killed(Reply),
    /// Start it again.
    Restart(Reply),
    Remove {
        volumes: bool,
        reply: Reply,
    },
}

/// How long a killed container may take to die before whoever waits is told that it does not.
pub(super) const KERNEL_PATIENCE: Duration = Duration::from_secs(10);

/// The state of the task.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) containers: Arc<Containers>,
    pub(super) container: Arc<Container>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// What the supervisor says; `None`: there is none.
    pub(super) heard: Option<Events>,
    /// Copies of what the supervisor holds, for the case that it is killed.
    pub(super) kept: Descriptors,
    pub(super) ending: Ending,
    /// Changes of ports that the log has behind the record.
    pub(super) port_changes: u32,
}

impl Containers {
    /// Sends an order to a container's driver and waits until it is done.
    pub(super) async fn order(self: &Arc<Self>, asked: &str, verb: Verb) -> Result<()> {
        let container = self.find(asked)?;
        let (reply, done) = oneshot::channel();
        self.drive(&container, Order { verb, asked: asked.to_owned(), reply });
        done.await.map_err(|_| Error::not_found(format!("No such container: {asked}")))?
    }

    /// Hands an order to a container's driver, starting that where there is none.
    pub(super) fn drive(self: &Arc<Self>, container: &Arc<Container>, order: Order) {
        let mut driver = container.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = driver.get_or_insert_with(|| Driver::spawn(self.clone(), container.clone(), None));
        // A driver that ended drops the order, and with it the sender that its giver waits on.
        let _ = orders.send(order);
    }

    /// Starts the driver of a container whose supervisor was found alive.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        container: &Arc<Container>,
        handle: Handle,
        heard: Events,
        kept: Descriptors,
    ) {
        container.connect(handle);
        self.volumes.found_running(container.id(), &container.view().record.mounts);
        let mut driver = container.driver.lock().unwrap_or_else(PoisonError::into_inner);
        *driver = Some(Driver::spawn(self.clone(), container.clone(), Some((heard, kept))));
    }
}

impl Driver {
    fn spawn(
        containers: Arc<Containers>,
        container: Arc<Container>,
        supervised: Option<(Events, Descriptors)>,
    ) -> Orders {
        let (sender, orders) = mpsc::unbounded_channel();
        let (heard, kept) = supervised.unzip();
        let (kept, ending) = (kept.unwrap_or_default(), Ending::default());
        let driver = Self { containers, container, orders, heard, kept, ending, port_changes: 0 };
        tokio::spawn(driver.run());
        sender
    }

    async fn run(mut self) {
        loop {
            let deadline = self.ending.deadline;
            tokio::select! {
                biased;
                event = hear(&mut self.heard) => Box::pin(self.heard(event)).await,
                order = self.orders.recv() => match order {
                    Some(order) => Box::pin(self.obey(order)).await,
                    None => return,
                },
                () = until(deadline) => self.out_of_patience().await,
            }
            if self.is_gone() {
                return;
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        let Order { verb, asked, reply } = order;
        let request = verb.request();
        match decide(&self.life().state, request) {
            Decision::Accept => {}
            Decision::Ignore => return answer(reply, Err(Error::not_modified(""))),
            Decision::Deny(denial) => {
                return answer(reply, Err(denial.error(request, self.container.id(), &asked)));
            }
        }
        match verb {
            Verb::Start => answer(reply, self.start().await),
            Verb::Stop(grace) => self.stop(grace, After::Stopped(reply)).await,
            Verb::Restart(grace) => self.restart(grace, reply).await,
            Verb::Kill(signal) => self.kill(signal, &asked, reply).await,
            Verb::Pause => answer(reply, self.pause().await),
            Verb::Unpause => answer(reply, self.unpause().await),
            Verb::Rename(name) => answer(reply, self.rename(name).await),
            Verb::Unlink(alias) => answer(reply, self.unlink(&alias).await),
            Verb::Update(request) => answer(reply, self.update(*request).await),
            Verb::Connect { network, settings } => answer(reply, self.connect(&network, *settings).await),
            Verb::Disconnect { network } => answer(reply, self.disconnect(&network).await),
            Verb::Limit { network, options } => answer(reply, self.limit(&network, options).await),
            Verb::Remove { volumes, .. } => self.remove(volumes, reply).await,
        }
    }

    async fn heard(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Started { pid, started_at, restart_count }) => {
                if self.restarted(pid, started_at, restart_count) {
                    self.keep().await;
                }
            }
            Some(Event::Exited { exit, restart_in_ms, restart_count }) => {
                self.ended(exit, restart_in_ms.is_some(), restart_count, String::new()).await;
            }
            Some(Event::RestartFailed { failure, restart_in_ms, restart_count }) => {
                self.restart_failed(failure, restart_in_ms.is_some(), restart_count).await;
            }
            Some(Event::Oom { .. }) => self.oom(),
            Some(Event::ExecExited { id, exit }) => self.tell(Happening::ExecExited { id, exit }),
            Some(Event::Detached { exec: Some(id) }) => self.tell(Happening::ExecDetached { id }),
            Some(Event::Detached { exec: None }) => self.emit("detach", &[]),
            Some(Event::LogRotated) => self.tell(Happening::LogRotated),
            Some(Event::LogDropped { lines }) => {
                tracing::warn!("container {}: {lines} log lines were dropped", self.container.id());
            }
            None => self.lost_supervisor().await,
        }
    }

    /// The present state.
    pub(super) fn life(&self) -> Life {
        self.container.view().life.clone()
    }

    pub(super) fn record(&self) -> Arc<Record> {
        self.container.view().record.clone()
    }

    /// Publishes a new state and lets the log have it within a second.
    pub(super) fn set(&self, life: Life) {
        let record = self.record();
        self.containers.log.append(&Note::Life { id: &record.id, life: &life });
        self.container.publish(View { record, life });
    }

    /// Publishes a changed record; the caller has it in the log already.
    pub(super) fn set_record(&self, record: impl Into<Arc<Record>>) {
        let life = self.life();
        self.container.publish(View { record: record.into(), life });
    }

    pub(super) fn emit(&self, action: &str, more: &[(&str, &str)]) {
        self.containers.emit(&self.record(), action, more);
    }

    pub(super) fn tell(&self, what: Happening) {
        self.containers.tell(&self.container, what);
    }

    pub(super) fn reached(&self, milestone: Milestone) {
        self.container.reached(milestone);
    }

    fn is_gone(&self) -> bool {
        matches!(self.container.view().state(), State::Removing(_)) && self.orders.is_closed()
    }

    /// Takes no further orders: the container is gone.
    pub(super) fn retire(&mut self) {
        self.orders.close();
    }
}

/// Answers whoever waits, if they still do.
pub(super) fn answer(reply: Reply, result: Result<()>) {
    drop(reply.send(result));
}

/// The next thing the supervisor says; `None`: it is gone. Pending while there is none.
async fn hear(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

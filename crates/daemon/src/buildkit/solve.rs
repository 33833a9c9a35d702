//! Builds under way: what each was asked, what it made, whom it tells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tonic::Status;
use wharf_build::graph::{Edge, Graph};
use wharf_build::solve::{Cancel, Tree};
use wharf_engine::build::{Build, Entitlements, Solved};
use wharf_engine::names::new_id;

use super::BuildKit;
use super::attachment::Account;
use super::container::Containers;
use super::export::Response;
use super::progress::Progress;
use super::session::Asked;

/// How long a call waits for the build that it names: the client begins all its calls at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long who comes late may still ask what happened in a build.
const REMEMBERED: Duration = Duration::from_secs(10);

/// All builds under way.
#[derive(Debug, Default)]
pub(super) struct Solves {
    open: Mutex<HashMap<String, Arc<Solving>>>,
    /// What happened in builds that ended just now. The builds themselves are gone, and what they held is free.
    past: Mutex<HashMap<String, Arc<Progress>>>,
    changed: Notify,
    /// What builds made, by the names that clients know it by.
    results: Mutex<HashMap<String, Weak<Outcome>>>,
}

/// One build.
#[derive(Debug)]
pub(super) struct Solving {
    pub(super) request: SolveRequest,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: Arc<Cancel>,
    pub(super) asked: Arc<Asked>,
    pub(super) build: Arc<Build>,
    pub(super) began: Timestamp,
    /// What was made and what it stands on, kept until the build is over.
    kept: Mutex<Vec<Arc<Outcome>>>,
    /// What a client that leads its build itself returned.
    returned: watch::Sender<Option<frontend::ReturnRequest>>,
    /// How its results came about, told with its record.
    accounts: Mutex<Vec<Account>>,
    /// What its client and its frontends run by themselves.
    pub(super) containers: Containers,
    /// Attributes of the frontend, as it was called last.
    attributes: Mutex<HashMap<String, String>>,
}

/// Something a build made.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The name that clients know it by.
    pub(super) id: String,
    pub(super) made: Made,
    /// Keeps the files.
    pub(super) build: Arc<Build>,
    asked: Arc<Asked>,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Made {
    /// The image of a Dockerfile.
    Image(Box<Solved>),
    /// Files of a definition.
    Files { graph: Graph, result: Option<Edge>, tree: Option<Tree> },
}

impl Outcome {
    /// The session that has a directory of its client's.
    pub(super) fn session_of(&self, name: &str) -> Option<String> {
        self.asked.session_of(name)
    }

    /// Its files; `None`: none at all.
    pub(super) fn tree(&self) -> Option<&Tree> {
        match &self.made {
            Made::Image(solved) => solved.tree.as_ref(),
            Made::Files { tree, .. } => tree.as_ref(),
        }
    }
}

/// A build for as long as somebody waits for it; ends it, and tells that it is over.
#[derive(Debug)]
pub(super) struct Wanted {
    state: Arc<BuildKit>,
    pub(super) solving: Arc<Solving>,
    recorded: bool,
}

impl Wanted {
    /// What became of it.
    pub(super) fn ended(mut self, done: &Result<Response, Status>) {
        self.recorded = true;
        self.state.history.ended(&self.solving, done);
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.solving.cancel.cancel();
        if !self.recorded {
            let gone = Err(Status::cancelled("context canceled"));
            self.state.history.ended(&self.solving, &gone);
        }
        Solves::end(&self.state, &self.solving);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps and lists of handles are whole whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Solves {
    /// Begins a build under the client's name for it.
    pub(super) async fn begin(&self, state: &Arc<BuildKit>, request: SolveRequest) -> Result<Wanted, Status> {
        let session = match request.session.as_str() {
            "" => None,
            id => {
                let found = state.sessions.find(id).await;
                Some(found.ok_or_else(|| {
                    Status::unknown(format!("no active session for {id}: context deadline exceeded"))
                })?)
            }
        };
        let (progress, cancel) = (Arc::new(Progress::default()), Arc::new(Cancel::default()));
        let asked = Arc::new(Asked::new(state.clone(), session, cancel.clone()));
        let build = state.engine.builds.begin(asked.clone(), progress.tell(), cancel.clone());
        let solving = Arc::new(Solving {
            progress,
            cancel,
            asked,
            build,
            began: Timestamp::now(),
            kept: Mutex::default(),
            returned: watch::channel(None).0,
            accounts: Mutex::default(),
            containers: Containers::default(),
            attributes: Mutex::new(request.frontend_attrs.clone()),
            request,
        });
        let mut open = lock(&self.open);
        let name = solving.request.r#ref.clone();
        if name.is_empty() || open.contains_key(&name) {
            return Err(Status::already_exists(format!("job ID {name} exists")));
        }
        open.insert(name, solving.clone());
        drop(open);
        state.history.began(&solving);
        self.changed.notify_waiters();
        Ok(Wanted { state: state.clone(), solving, recorded: false })
    }

    /// A build is over: all it kept is let go, its end is told, and soon it is forgotten.
    fn end(state: &Arc<BuildKit>, solving: &Arc<Solving>) {
        solving.progress.end();
        solving.containers.clear();
        lock(&solving.kept).clear();
        let mut results = lock(&state.solves.results);
        results.retain(|_, outcome| outcome.strong_count() > 0);
        drop(results);
        let (state, name) = (state.clone(), solving.request.r#ref.clone());
        lock(&state.solves.past).insert(name.clone(), solving.progress.clone());
        lock(&state.solves.open).remove(&name);
        state.solves.changed.notify_waiters();
        // Without a runtime the process ends, and forgets by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(REMEMBERED).await;
            lock(&state.solves.past).remove(&name);
        });
    }

    /// Whether a build of a name is under way, or was just now.
    pub(super) fn is_known(&self, name: &str) -> bool {
        lock(&self.open).contains_key(name) || lock(&self.past).contains_key(name)
    }

    /// What happens in the build of a name, or happened just now; waits for one that is just being begun.
    pub(super) async fn progress(&self, name: &str) -> Result<Arc<Progress>, Status> {
        let open = || lock(&self.open).get(name).map(|solving| solving.progress.clone());
        // It may come and go between two looks.
        self.wait(name, || open().or_else(|| lock(&self.past).get(name).cloned())).await
    }

    /// The build of a name; waits for one that is just being begun.
    pub(super) async fn find(&self, name: &str) -> Result<Arc<Solving>, Status> {
        self.wait(name, || lock(&self.open).get(name).cloned()).await
    }

    async fn wait<T>(&self, name: &str, look: impl Fn() -> Option<T>) -> Result<T, Status> {
        let looked = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = look() {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looked).await;
        found.map_err(|_| Status::not_found(format!("no such job {name}")))
    }

    /// Keeps what a build made, under a new name.
    pub(super) fn keep(&self, solving: &Arc<Solving>, made: Made) -> Arc<Outcome> {
        let outcome = Arc::new(Outcome {
            id: new_id()[..25].to_owned(),
            made,
            build: solving.build.clone(),
            asked: solving.asked.clone(),
        });
        lock(&self.results).insert(outcome.id.clone(), Arc::downgrade(&outcome));
        solving.use_of(outcome.clone());
        outcome
    }

    /// What was made under a name.
    pub(super) fn result(&self, name: &str) -> Result<Arc<Outcome>, Status> {
        let found = lock(&self.results).get(name).and_then(Weak::upgrade);
        found.ok_or_else(|| Status::unknown(format!("no such ref: {name}")))
    }
}

impl Solving {
    /// Keeps a result of this or another build until this one is over.
    pub(super) fn use_of(&self, outcome: Arc<Outcome>) {
        lock(&self.kept).push(outcome);
    }

    /// What the client allows.
    pub(super) fn entitlements(&self) -> Entitlements {
        let allows = |name: &str| self.request.entitlements.iter().any(|given| given == name);
        Entitlements { network_host: allows("network.host"), insecure: allows("security.insecure") }
    }

    /// The client's result.
    pub(super) fn give_back(&self, given: frontend::ReturnRequest) {
        self.returned.send_replace(Some(given));
    }

    /// Waits for the client's result.
    pub(super) async fn given_back(&self) -> frontend::ReturnRequest {
        let mut returned = self.returned.subscribe();
        match returned.wait_for(Option::is_some).await {
            Ok(given) => given.clone().unwrap_or_default(),
            // The sender is this build's own.
            Err(_) => frontend::ReturnRequest::default(),
        }
    }

    /// Takes note of how results came about.
    pub(super) fn accounted(&self, accounts: Vec<Account>) {
        *lock(&self.accounts) = accounts;
    }

    /// How the results came about, once.
    pub(super) fn accounts(&self) -> Vec<Account> {
        std::mem::take(&mut lock(&self.accounts))
    }

    /// Attributes of the frontend, as it was called last.
    pub(super) fn attributes(&self) -> HashMap<String, String> {
        lock(&self.attributes).clone()
    }

    /// The frontend is called with these.
    pub(super) fn called_with(&self, attributes: &HashMap<String, String>) {
        lock(&self.attributes).extend(attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

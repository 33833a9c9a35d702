//! Starting a container.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use wharf_shim::protocol::{Attach, Failure, FailureKind};
use wharf_shim::{Handle, HandleError};
use wharf_sys::failpoint;

use super::driver::{Driver, Verb};
use super::record::Life;
use super::state::{Running, StartFailure, State};
use super::{Container, Containers, Happening, Link, launch};
use crate::error::{Error, ErrorKind, Result};
use crate::pools::Class;

/// What dockerd, containerd and runc say before their own words; clients match on the whole.
const PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                      runc create failed: unable to start container process: ";

/// How a supervisor begins what a foreign runtime said.
const FOREIGN: &str = "OCI runtime ";
const FOREIGN_START: &str = "OCI runtime start failed";
/// What dockerd and containerd say before that, while they make a container.
const CREATING: &str = "failed to create task for container: failed to create shim task: ";

impl Containers {
    /// Starts a container that does not run.
    pub async fn start(self: &Arc<Self>, asked: &str) -> Result<()> {
        self.order(asked, Verb::Start).await
    }
}

impl Driver {
    /// Starts the process by a person's wish.
    pub(super) async fn start(&mut self) -> Result<()> {
        match self.launch().await {
            Ok(running) => {
                let state = State::Running(running);
                self.set(Life { state, restart_count: 0, stopped_by_hand: false, oom: false });
                failpoint::pass("start.logged");
                self.emit("start", &[]);
                self.tell(Happening::Started);
                self.tell_linked();
                Ok(())
            }
            Err(failed) => Err(self.not_started(failed).await),
        }
    }

    /// Who links to a container on the default network learns its address, which may be another now.
    fn tell_linked(&self) {
        let (containers, record) = (self.containers.clone(), self.record());
        if record.endpoints.contains_key("bridge") && containers.any_links() {
            let pools = self.containers.pools.clone();
            let tell = move || {
                containers.tell_linked(&record);
                Ok(())
            };
            tokio::spawn(async move { pools.run(Class::Lifecycle, tell).await });
        }
    }

    async fn launch(&mut self) -> Result<Running, NotStarted> {
        let (containers, record) = (self.containers.clone(), self.record());
        // Whoever attached before hears all from the first byte on, and so has to be connected first.
        let at_once = !self.container.is_attached_to();
        let prepare = move || launch::prepare(&containers, &record, at_once);
        let (handle, heard, launching) = self.containers.pools.run(Class::Lifecycle, prepare).await?;
        failpoint::pass("start.supervised");
        self.mounted();
        self.networks("connect");
        let waiting = self.container.connect(handle.clone());
        // One binary, one version: it needs no greeting.
        for (attach, connection) in waiting {
            if let Err(error) = handle.attach(attach, connection).await {
                tracing::warn!("container {}: attach: {error}", self.container.id());
            }
        }
        let launched = match launching {
            Some(launching) => handle.launched(launching).await,
            None => handle.launch().await,
        };
        failpoint::pass("start.launched");
        let launched = launched.map_err(|error| self.explain(error))?;
        for warning in &launched.warnings {
            tracing::warn!("container {}: {warning}", self.container.id());
        }
        self.heard = Some(heard);
        self.kept = launched.descriptors;
        Ok(Running { pid: launched.pid, started_at: launched.started_at })
    }

    /// What a foreign runtime says is passed on in its own words.
    fn explain(&self, error: HandleError) -> NotStarted {
        match error {
            HandleError::Failed(failure) if failure.message.starts_with(FOREIGN) => {
                let (code, kind) = meaning(failure.kind);
                let during = if failure.message.starts_with(FOREIGN_START) { "" } else { CREATING };
                NotStarted { code, error: Error::new(kind, format!("{during}{}", failure.message)) }
            }
            other => other.into(),
        }
    }

    /// Writes down why a start failed and tells whoever asked.
    async fn not_started(&mut self, failed: NotStarted) -> Error {
        self.container.disconnect();
        self.networks("disconnect");
        self.leave_networks().await;
        self.unmounted();
        let NotStarted { code, error } = failed;
        let mut life = self.life();
        let message = error.message().to_owned();
        life.state = match life.state {
            State::Created { .. } => State::Created { failed: Some(StartFailure { code, message }) },
            state => {
                let mut run = state.last_run();
                (run.code, run.error) = (code, message);
                State::Exited(run)
            }
        };
        self.set(life);
        if self.record().host_config.auto_remove {
            self.remove_by_itself().await;
        }
        error
    }
}

impl Container {
    /// Makes a supervisor reachable and gives those who attached before it was.
    pub(super) fn connect(&self, handle: Handle) -> Vec<(Attach, OwnedFd)> {
        match std::mem::replace(&mut *self.link(), Link::Up(handle)) {
            Link::Down(waiting) => waiting,
            Link::Up(_) => Vec::new(),
        }
    }

    /// Whether clients wait for a supervisor.
    fn is_attached_to(&self) -> bool {
        matches!(&*self.link(), Link::Down(waiting) if !waiting.is_empty())
    }

    /// The supervisor is gone, or as good as.
    pub(super) fn disconnect(&self) {
        let mut link = self.link();
        if matches!(*link, Link::Up(_)) {
            *link = Link::Down(Vec::new());
        }
    }
}

/// A start that failed, with the exit code that stands for it.
#[derive(Debug)]
pub(super) struct NotStarted {
    pub(super) code: i32,
    pub(super) error: Error,
}

impl From<Error> for NotStarted {
    fn from(error: Error) -> Self {
        Self { code: 128, error }
    }
}

impl From<HandleError> for NotStarted {
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Failed(failure) => failure.into(),
            other => Error::internal(other.to_string()).into(),
        }
    }
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        let (code, kind) = meaning(failure.kind);
        // What goes wrong in the container's own process is said to be so by runc.
        let during =
            if failure.message.starts_with("error during") { "" } else { "error during container init: " };
        Self { code, error: Error::new(kind, format!("{PREFIX}{during}{}", failure.message)) }
    }
}

/// The exit code and class that a failure stands for.
fn meaning(kind: FailureKind) -> (i32, ErrorKind) {
    match kind {
        FailureKind::NotFound => (127, ErrorKind::Invalid),
        FailureKind::NotExecutable => (126, ErrorKind::Invalid),
        FailureKind::Conflict => (128, ErrorKind::Conflict),
        FailureKind::Other => (128, ErrorKind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_reads_as_from_docker() {
        let message = "exec: \"nosuch\": executable file not found in $PATH".to_owned();
        let failed = NotStarted::from(Failure { kind: FailureKind::NotFound, message });
        assert_eq!((failed.code, failed.error.kind()), (127, ErrorKind::Invalid));
        assert_eq!(
            failed.error.message(),
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc \
             create failed: unable to start container process: error during container init: exec: \"nosuch\": \
             executable file not found in $PATH"
        );
    }
}

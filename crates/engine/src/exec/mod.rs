//! Execs: further processes in running containers.
//!
//! An exec lives from its creation until its container is gone, or [`KEPT`] after its process ended; one
//! that never started goes when its container stops. The supervisor owns the process and its streams; this
//! module keeps what clients may ask of it.

mod create;
mod inspect;
mod probe;
mod start;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use wharf_api::ExecCreateRequest;
use wharf_oci::runtime::Process;
use wharf_shim::protocol::Exit;
use wharf_sys::time::Instant;

pub(crate) use probe::Probe;
pub use start::ExecTicket;

use crate::container::{Container, Containers, Happening, News};
use crate::error::{Error, Result};

/// How long an ended exec can be inspected.
const KEPT: Duration = Duration::from_secs(300);
/// What an exec is said to have ended with where nobody could see its end: its container's did it.
const KILLED: i32 = 137;

/// All execs of one engine.
#[derive(Debug)]
pub struct Execs {
    containers: Arc<Containers>,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
}

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    id: String,
    container: Arc<Container>,
    asked: ExecCreateRequest,
    /// As `inspect` shows them; empty: the default ones.
    detach_keys: Vec<u8>,
    process: Process,
    phase: watch::Sender<Phase>,
}

/// Where an exec is in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    Created,
    /// The supervisor was asked.
    Starting,
    Running {
        pid: i32,
    },
    /// It ran, or could not be started (pid 0).
    Ended {
        pid: i32,
        code: i32,
        at: Instant,
    },
}

impl Execs {
    /// The execs of `containers`, whose news it follows from now on. Within the async runtime.
    pub fn new(containers: Arc<Containers>) -> Arc<Self> {
        let mut news = containers.listen();
        let execs = Arc::new(Self { containers, execs: Mutex::default() });
        let weak = Arc::downgrade(&execs);
        tokio::spawn(async move {
            while let Some(news) = news.recv().await {
                let Some(execs) = Weak::upgrade(&weak) else { return };
                execs.heard(&news);
            }
        });
        execs
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock().get(id).cloned().ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    // Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, exec: Arc<Exec>) {
        exec.container.execs.lock().unwrap_or_else(PoisonError::into_inner).push(exec.id.clone());
        let mut execs = self.lock();
        let now = Instant::now();
        execs.retain(
            |_, exec| !matches!(*exec.phase.borrow(), Phase::Ended { at, .. } if now.since(at) > KEPT),
        );
        execs.insert(exec.id.clone(), exec);
    }

    fn heard(&self, news: &News) {
        match &news.what {
            Happening::ExecExited { id, exit } => self.exited(id, exit),
            Happening::ExecDetached { id } => {
                if let Ok(exec) = self.find(id) {
                    self.emit(&exec, "exec_detach", &[]);
                }
            }
            Happening::ExecsFound(running) => self.found(&news.container, running),
            Happening::Ended => self.container_ended(&news.container),
            Happening::Removed => {
                self.lock().retain(|_, exec| !Arc::ptr_eq(&exec.container, &news.container));
            }
            Happening::Started | Happening::LogRotated => {}
        }
    }

    fn exited(&self, id: &str, exit: &Exit) {
        if let Ok(exec) = self.find(id) {
            self.ended(&exec, exit.code.unwrap_or(KILLED));
        }
    }

    /// Records the end of an exec that ran, once.
    fn ended(&self, exec: &Exec, code: i32) {
        let ended = exec.phase.send_if_modified(|phase| match *phase {
            Phase::Ended { .. } => false,
            Phase::Created | Phase::Starting => {
                *phase = Phase::Ended { pid: 0, code, at: Instant::now() };
                true
            }
            Phase::Running { pid } => {
                *phase = Phase::Ended { pid, code, at: Instant::now() };
                true
            }
        });
        if ended {
            exec.forget_in_container();
            self.emit(exec, "exec_die", &[("exitCode", &code.to_string())]);
        }
    }

    /// A container's end ends its execs. What ran stays to be inspected: the client that ran it asks for the
    /// exit code right after its streams end.
    fn container_ended(&self, container: &Arc<Container>) {
        let mut running = Vec::new();
        self.lock().retain(|_, exec| {
            if !Arc::ptr_eq(&exec.container, container) {
                return true;
            }
            let phase = *exec.phase.borrow();
            if matches!(phase, Phase::Running { .. }) {
                running.push(exec.clone());
            }
            phase != Phase::Created
        });
        container.execs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for exec in running {
            self.ended(&exec, KILLED);
        }
    }

    /// A new daemon found execs running. Of what they were asked to do, only that they run is known.
    fn found(&self, container: &Arc<Container>, running: &[(String, i32)]) {
        for (id, pid) in running {
            self.add(Arc::new(Exec {
                id: id.clone(),
                container: container.clone(),
                asked: ExecCreateRequest::default(),
                detach_keys: Vec::new(),
                process: Process::default(),
                phase: watch::channel(Phase::Running { pid: *pid }).0,
            }));
        }
    }

    fn emit(&self, exec: &Exec, action: &str, more: &[(&str, &str)]) {
        let mut attributes = vec![("execID", exec.id.as_str())];
        attributes.extend_from_slice(more);
        self.containers.emit(&exec.container.view().record, action, &attributes);
    }
}

impl Exec {
    /// `exec_create: PROGRAM ARGUMENTS` and the like.
    fn action(&self, verb: &str) -> String {
        let (program, arguments) = self.command();
        format!("{verb}: {program} {}", arguments.join(" "))
    }

    fn command(&self) -> (&str, &[String]) {
        match self.asked.cmd.as_deref() {
            Some([program, arguments @ ..]) => (program, arguments),
            Some([]) | None => ("", &[]),
        }
    }

    fn forget_in_container(&self) {
        let mut execs = self.container.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.retain(|id| *id != self.id);
    }
}

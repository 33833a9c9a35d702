//! Putting a container back as a recovering engine finds it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use wharf_shim::handle::CONFIG_FILE;
use wharf_shim::protocol::{Event, SupervisorConfig};
use wharf_shim::{Descriptors, Events, Handle};
use wharf_sys::pidfd::PidFd;

use super::driver::{Order, Verb};
use super::record::{Life, Record, View};
use super::{Container, Containers, Note};
use crate::error::{Error, Result};
use crate::events::Kind;
use crate::pools::Class;
use crate::recover::Todo;

impl Containers {
    /// Makes a container known from what the log says of it.
    pub(crate) fn restore(&self, record: Record, life: Life) -> Result<()> {
        self.index.reserve(&record.name, &record.id)?;
        self.volumes.adopt(&record.id, &record.mounts);
        self.index.insert(Container::new(Arc::new(record), life));
        Ok(())
    }

    /// Publishes and keeps what was found out about a container that has no driver yet.
    pub(crate) fn settle(&self, container: &Container, life: Life) {
        let record = container.view().record.clone();
        self.log.append(&Note::Life { id: &record.id, life: &life });
        container.publish(View { record, life });
    }

    /// Tells, at their true times, of starts and ends that no daemon saw.
    pub(crate) fn tell_missed(&self, container: &Container, before: &Life, missed: &[Event]) {
        let record = container.view().record.clone();
        let known = before.state.last_run();
        let mut started = known.started_at;
        for event in missed {
            let (action, at, more) = match event {
                Event::Started { started_at, .. } if Some(*started_at) > started => {
                    started = Some(*started_at);
                    ("start", started_at.0, Vec::new())
                }
                Event::Exited { exit, .. } if Some(exit.finished_at) > known.finished_at => {
                    let seconds =
                        started.map_or(0, |start| (exit.finished_at.0 - start.0).max(0) / 1_000_000_000);
                    let code = exit.code.unwrap_or(255).to_string();
                    (
                        "die",
                        exit.finished_at.0,
                        vec![("exitCode", code), ("execDuration", seconds.to_string())],
                    )
                }
                _ => continue,
            };
            let mut attributes = record.attributes();
            attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
            self.events.emit_at(Kind::Container, action, &record.id, attributes, at);
        }
    }

    /// Starts another supervisor for a container whose own was killed, with copies of what that one held.
    pub(crate) async fn supervise_again(
        self: &Arc<Self>,
        container: &Container,
        kept: Descriptors,
    ) -> Result<(Handle, Events, Descriptors)> {
        let path = self.config.bundle(container.id()).join(CONFIG_FILE);
        let containers = self.clone();
        let adopt = move || {
            let failed = |error: &dyn std::fmt::Display| Error::internal(format!("adopt container: {error}"));
            let text = std::fs::read(&path).map_err(|error| Error::io("read supervisor.json", &error))?;
            let config: SupervisorConfig = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
            let started = Handle::adopt(containers.executable.as_fd(), &config, &kept);
            let (handle, heard) = started.map_err(|error| failed(&error))?;
            Ok((handle, heard, kept))
        };
        let (handle, heard, kept) = self.pools.run(Class::Lifecycle, adopt).await?;
        let said = handle.hello().await;
        said.map_err(|error| Error::internal(format!("adopt container: {error}")))?;
        if let Some(Ok(orphan)) = kept.pidfd.as_ref().map(OwnedFd::try_clone) {
            tokio::spawn(reap(PidFd::from(orphan), handle.clone()));
        }
        Ok((handle, heard, kept))
    }

    /// Does, in the background, what is left to do after a recovery.
    pub(crate) fn finish(self: &Arc<Self>, todo: Todo) {
        let (id, verb) = match todo {
            Todo::Start(id) => (id, Verb::Start),
            Todo::Remove(id) => (id, Verb::Remove { force: false, volumes: true }),
        };
        let Ok(container) = self.find(&id) else { return };
        let (reply, done) = oneshot::channel();
        self.drive(&container, Order { verb, asked: id.clone(), reply });
        tokio::spawn(async move {
            if let Ok(Err(error)) = done.await {
                tracing::warn!("container {id}: {error}");
            }
        });
    }
}

/// Waits for the end of a process whose supervisor was killed, and tells the new one of it. Where the process was
/// found by a later daemon, it is another's child and there is nothing to tell.
async fn reap(orphan: PidFd, handle: Handle) {
    let Ok(mut ends) = signal(SignalKind::child()) else { return };
    let ended = loop {
        match orphan.try_wait() {
            Ok(Some(ended)) => break ended,
            Ok(None) => drop(ends.recv().await),
            Err(_) => return,
        }
    };
    if let Err(error) = handle.reaped(ended.shell_code()).await {
        // From Linux 6.15 on it can see for itself, and has perhaps done so.
        tracing::debug!("{error}");
    }
}

//! Removing a container.

use std::sync::Arc;

use wharf_sys::failpoint;

use super::driver::{After, Driver, Reply, Verb, answer};
use super::record::Life;
use super::spec::points::Kind;
use super::state::State;
use super::wait::Milestone;
use super::{Containers, Happening, Note};
use crate::error::{Error, Result};
use crate::pools::Class;

impl Containers {
    /// Removes a container. `force` kills it first; `volumes` removes its anonymous volumes too. `link`: not the
    /// container, but the link that is told as `PARENT/ALIAS`.
    pub async fn remove(self: &Arc<Self>, asked: &str, force: bool, volumes: bool, link: bool) -> Result<()> {
        if link {
            return self.unlink(asked).await;
        }
        self.order(asked, Verb::Remove { force, volumes }).await
    }

    /// Takes away everything of a container but its record. All of it can be repeated.
    pub(crate) fn discard(&self, id: &str) -> Result<()> {
        let failed =
            |error: &dyn std::fmt::Display| Error::internal(format!("remove container {id}: {error}"));
        self.store.remove(id).map_err(|error| failed(&error))?;
        failpoint::pass("remove.snapshot");
        let bundle = self.config.bundle(id);
        match std::fs::remove_dir_all(&bundle) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format_args!("remove {}", bundle.display()), &error))
            }
            _ => Ok(()),
        }
    }
}

impl Driver {
    pub(super) async fn remove(&mut self, volumes: bool, reply: Reply) {
        if self.life().state.is_active() {
            return self.destroy(After::Remove { volumes, reply }).await;
        }
        let removed = self.remove_now(volumes).await;
        answer(reply, removed);
    }

    /// What `--rm` asked for; nobody waits for an answer.
    pub(super) async fn remove_by_itself(&mut self) {
        if let Err(error) = self.remove_now(true).await {
            tracing::error!("{error}");
        }
    }

    /// Removes a container that does not run.
    pub(super) async fn remove_now(&mut self, volumes: bool) -> Result<()> {
        let record = self.record();
        let life = self.life();
        let run = life.state.last_run();
        self.container.publish(super::View {
            record: record.clone(),
            life: Life { state: State::Removing(run.clone()), ..life.clone() },
        });
        if !volumes && record.mounts.iter().any(|point| point.anonymous) {
            let (containers, kept) = (self.containers.clone(), record.clone());
            let disown = move || containers.volumes.disown(&kept.mounts);
            if let Err(error) = self.containers.pools.run(Class::Lifecycle, disown).await {
                self.container.publish(super::View { record, life });
                return Err(error);
            }
        }
        // The log first: what a crash leaves behind without a record is swept. It is not waited for the disk:
        // a power cut within the second brings a removed container back, stopped, which loses nothing.
        let gone = self.containers.log.written(&Note::Removed { id: &record.id }).await;
        failpoint::pass("remove.logged");
        let (containers, id) = (self.containers.clone(), record.id.clone());
        let discarded = match gone {
            Ok(()) => self.containers.pools.run(Class::Lifecycle, move || containers.discard(&id)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = discarded {
            let life = Life { state: State::Dead(run), ..life };
            let entry = super::whole(&record, &life);
            self.containers.log.append(&entry);
            self.container.publish(super::View { record, life });
            return Err(error);
        }
        failpoint::pass("remove.discarded");
        let (containers, gone) = (self.containers.clone(), record.clone());
        let release = move || containers.volumes.release(&gone.id, &gone.mounts, volumes).map(drop);
        if record.mounts.iter().any(|point| point.kind == Kind::Volume)
            && let Err(error) = self.containers.pools.run(Class::Lifecycle, release).await
        {
            tracing::warn!("container {}: {error}", record.id);
        }
        self.containers.index.remove(&record.id, &record.name);
        self.containers.networks.forget(&record.id);
        self.emit("destroy", &[]);
        self.tell(Happening::Removed);
        self.retire();
        self.reached(Milestone::Removed);
        Ok(())
    }
}

//! A container's file system as a tar stream.

use std::sync::Arc;

use wharf_layer::job::{Job, Task};

use super::archive::hand_on;
use super::fs_job::Running;
use super::{Containers, State, View};
use crate::body::ByteStream;
use crate::error::{Error, Result};
use crate::pools::Class;

impl Containers {
    /// An archive of a container's root file system, without its volumes.
    pub async fn export(self: &Arc<Self>, asked: &str) -> Result<ByteStream> {
        let view = self.find(asked)?.view();
        check_there(&view, "export")?;
        let (sender, stream) = ByteStream::channel();
        let (containers, asked) = (self.clone(), asked.to_owned());
        let work = move || {
            let mut job = containers.tree_job(&view, Task::Export)?;
            if let Job::Tree { tree, .. } = &mut job {
                tree.volumes.clear();
            }
            let running = Running::start(&containers, &job, &asked, "/")?;
            containers.emit(&view.record, "export", &[]);
            Ok(running)
        };
        let running = self.pools.run(Class::Files, work).await?;
        let pools = self.pools.clone();
        tokio::spawn(async move {
            let work = move || {
                hand_on(running, sender);
                Ok(())
            };
            pools.run(Class::Files, work).await
        });
        Ok(stream)
    }
}

/// Refuses what makes no sense with a container that is going away.
pub(super) fn check_there(view: &View, verb: &str) -> Result<()> {
    let why = match view.state() {
        State::Dead(_) => "Dead",
        State::Removing(_) => "being removed",
        _ => return Ok(()),
    };
    Err(Error::conflict(format!("You cannot {verb} container {} which is {why}", view.record.id)))
}

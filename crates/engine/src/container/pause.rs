//! Freezing and thawing a container's processes.

use std::sync::Arc;

use wharf_sys::cgroup::Cgroup;

use super::Containers;
use super::driver::{Driver, Verb};
use super::state::State;
use crate::error::{Error, Result};
use crate::pools::Class;

impl Containers {
    /// Freezes a running container.
    pub async fn pause(self: &Arc<Self>, asked: &str) -> Result<()> {
        self.order(asked, Verb::Pause).await
    }

    /// Thaws a paused container.
    pub async fn unpause(self: &Arc<Self>, asked: &str) -> Result<()> {
        self.order(asked, Verb::Unpause).await
    }
}

impl Driver {
    pub(super) async fn pause(&mut self) -> Result<()> {
        let mut life = self.life();
        let State::Running(running) = life.state else { return Ok(()) };
        self.freezer(true).await?;
        life.state = State::Paused(running);
        self.set(life);
        self.emit("pause", &[]);
        Ok(())
    }

    pub(super) async fn unpause(&mut self) -> Result<()> {
        let mut life = self.life();
        let State::Paused(running) = life.state else { return Ok(()) };
        self.freezer(false).await?;
        life.state = State::Running(running);
        self.set(life);
        self.emit("unpause", &[]);
        Ok(())
    }

    async fn freezer(&self, freeze: bool) -> Result<()> {
        let record = self.record();
        let path = self.containers.config.cgroup(&record.id, &record.host_config.cgroup_parent);
        let change = move || {
            let group = Cgroup::open(&path).map_err(|error| Error::internal(error.to_string()))?;
            let done = if freeze { group.freeze() } else { group.thaw() };
            done.map_err(|error| Error::internal(error.to_string()))
        };
        self.containers.pools.run(Class::Host, change).await
    }
}

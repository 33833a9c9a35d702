//! Volumes. The engine reads and writes the disk for them, so that it runs where threads may sleep.

use hyper::StatusCode;
use wharf_api::VolumeCreateRequest;
use wharf_engine::pools::Class;
use wharf_engine::{Error, Result};

use crate::http::answer::{self, Answer};
use crate::http::call::Call;

pub(crate) async fn list(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    answer::json(&call.engine().volumes.list(&filters)?)
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    answer::json(&call.engine().volumes.inspect(call.id())?)
}

pub(crate) async fn create(mut call: Call) -> Result<Answer> {
    let request: VolumeCreateRequest = call.json().await?;
    let engine = call.engine();
    let volumes = engine.volumes.clone();
    let made = engine.pools.run(Class::Files, move || volumes.make(&request)).await?;
    answer::json_with(StatusCode::CREATED, &made)
}

pub(crate) async fn remove(call: Call) -> Result<Answer> {
    let engine = call.engine();
    let (volumes, name, force) = (engine.volumes.clone(), call.id().to_owned(), call.query.flag("force"));
    engine.pools.run(Class::Files, move || volumes.remove(&name, force)).await?;
    answer::no_content()
}

pub(crate) async fn prune(call: Call) -> Result<Answer> {
    let mut filters = call.query.filters()?;
    if !call.version.at_least(42) {
        // Named volumes went as well then.
        filters.add("all", "true");
    }
    let engine = call.engine();
    let volumes = engine.volumes.clone();
    answer::json(&engine.pools.run(Class::Files, move || volumes.prune(&filters)).await?)
}

/// Only cluster volumes can be updated, and there are none.
pub(crate) async fn update(call: Call) -> Result<Answer> {
    call.engine().volumes.inspect(call.id())?;
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    ))
}

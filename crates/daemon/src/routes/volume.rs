//! Volumes. The engine reads and writes the disk for them, so that it runs where threads may sleep.

use std::io::{BufWriter, Write};

use hyper::StatusCode;
use wharf_api::{Volume, VolumeCreateRequest};
use wharf_engine::pools::Class;
use wharf_engine::volume::CloneRequest;
use wharf_engine::{ByteStream, Error, Result};

use crate::http::answer::{self, Answer, TAR};
use crate::http::call::Call;

pub(crate) async fn list(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    let engine = call.engine();
    let volumes = engine.volumes.clone();
    answer::json(&engine.pools.run(Class::Volumes, move || volumes.list(&filters)).await?)
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    answer::json(&found(&call).await?)
}

async fn found(call: &Call) -> Result<Volume> {
    let engine = call.engine();
    if let Some(volume) = engine.volumes.known(call.id()) {
        return Ok(volume);
    }
    let (volumes, name) = (engine.volumes.clone(), call.id().to_owned());
    engine.pools.run(Class::Volumes, move || volumes.inspect(&name)).await
}

pub(crate) async fn create(mut call: Call) -> Result<Answer> {
    let request: VolumeCreateRequest = call.json().await?;
    let engine = call.engine();
    let volumes = engine.volumes.clone();
    let made = engine.pools.run(Class::Volumes, move || volumes.make(&request)).await?;
    answer::json_with(StatusCode::CREATED, &made)
}

pub(crate) async fn remove(call: Call) -> Result<Answer> {
    let engine = call.engine();
    let (volumes, name, force) = (engine.volumes.clone(), call.id().to_owned(), call.query.flag("force"));
    engine.pools.run(Class::Volumes, move || volumes.remove(&name, force)).await?;
    answer::no_content()
}

/// An archive of all that is in a volume.
pub(crate) async fn export(call: Call) -> Result<Answer> {
    let engine = call.engine();
    let (volumes, name) = (engine.volumes.clone(), call.id().to_owned());
    let (sender, stream) = ByteStream::channel();
    let pools = engine.pools.clone();
    tokio::spawn(async move {
        let (told, mut output) = (sender.clone(), BufWriter::new(sender.into_writer()));
        let work = move || {
            volumes.export(&name, &mut output).and_then(|()| {
                output.flush().map_err(|error| Error::io(format_args!("export {name}"), &error))
            })
        };
        if let Err(error) = pools.run(Class::Files, work).await {
            told.fail(error).await;
        }
    });
    answer::checked_stream(TAR, stream).await
}

/// A volume made of an archive.
pub(crate) async fn import(call: Call) -> Result<Answer> {
    let app = call.app.clone();
    let engine = &app.engine;
    let (volumes, name) = (engine.volumes.clone(), call.id().to_owned());
    let labels = match call.query.get("labels") {
        "" => None,
        labels => {
            Some(serde_json::from_str(labels).map_err(|error| Error::invalid(format!("labels: {error}")))?)
        }
    };
    let input = call.into_stream().into_reader();
    let made = engine.pools.run(Class::Files, move || volumes.import(&name, labels, input)).await?;
    answer::json_with(StatusCode::CREATED, &made)
}

/// A copy under another name.
pub(crate) async fn duplicate(mut call: Call) -> Result<Answer> {
    let request: CloneRequest = call.json().await?;
    let engine = call.engine();
    let (volumes, name) = (engine.volumes.clone(), call.id().to_owned());
    let cloned = engine.pools.run(Class::Files, move || volumes.duplicate(&name, &request)).await?;
    answer::json_with(StatusCode::CREATED, &cloned)
}

/// Another name.
pub(crate) async fn rename(call: Call) -> Result<Answer> {
    let engine = call.engine();
    let (volumes, name) = (engine.volumes.clone(), call.id().to_owned());
    let new = call.query.get("name").to_owned();
    if new.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    answer::json(&engine.pools.run(Class::Volumes, move || volumes.rename(&name, &new)).await?)
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
    found(&call).await?;
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    ))
}

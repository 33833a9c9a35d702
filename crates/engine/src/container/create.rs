//! Making a container. It exists for clients once its record is on the disk, which is the one sync of a
//! container's whole life that anybody waits for; its directories are made meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_api::{ContainerConfig, CreateRequest, CreateResponse, HostConfig};
use wharf_shim::protocol::Timestamp;
use wharf_store::Image;
use wharf_sys::time::wall_nanos;

use super::record::{Life, Record};
use super::spec::{Point, Register, register};
use super::{Container, Containers, Note, launch, validate, whole};
use crate::error::{Error, Result};
use crate::names;
use crate::pools::Class;

impl Containers {
    /// Makes a container. `name`: none invents one; `platform` must be that of the image.
    pub async fn create(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let name = name.filter(|name| !name.is_empty()).map(|name| names::check(name).map(str::to_owned)).transpose()?;
        let image = self.image_of(&request.config, platform)?;
        let containers = self.clone();
        let id = names::new_id();
        let name = Reserved::new(self, name, &id)?;
        let record = Draft { id: id.clone(), name: name.name.clone(), image, request };
        let (record, warnings) =
            self.pools.run(Class::Lifecycle, move || containers.settle_record(record)).await?;
        let (record, life) = (Arc::new(record), Life::default());
        let (containers, made) = (self.clone(), record.clone());
        let entry = whole(&record, &life);
        let (kept, files) = tokio::join!(
            self.log.synced(&entry),
            self.pools.run(Class::Lifecycle, move || containers.make_files(&made)),
        );
        if let Err(error) = kept.and(files) {
            self.undo_create(&record).await;
            return Err(error);
        }
        self.index.insert(Container::new(record.clone(), life));
        name.keep();
        self.emit(&record, "create", &[]);
        Ok(CreateResponse { id, warnings })
    }

    fn image_of(&self, config: &ContainerConfig, platform: Option<&str>) -> Result<Arc<Image>> {
        let image = self.images.resolve(&config.image)?;
        validate::platform(&image.platform, platform, &config.image)?;
        Ok(image)
    }

    /// Decides everything that create decides. May sleep: volumes are made here.
    fn settle_record(&self, draft: Draft) -> Result<(Record, Vec<String>)> {
        let Draft { id, name, image, request } = draft;
        let image_config = self.images.config(&image.id)?;
        let settled = validate::create(&self.config, &id, request, &image_config)?;
        let validate::Settled { config, host, endpoints, mut warnings } = settled;
        let (mounts, more) = self.register_mounts(&id, &config, &host)?;
        warnings.extend(more);
        let mut command = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned();
        let path = command.next().unwrap_or_default();
        let record = Record {
            id,
            name,
            created: Timestamp(wall_nanos()),
            image_id: image.id.to_string(),
            path,
            args: command.collect(),
            config,
            host_config: host,
            endpoints,
            mounts,
            driver: self.store.driver().name().to_owned(),
            platform: "linux".to_owned(),
        };
        Ok((record, warnings))
    }

    fn register_mounts(
        &self,
        id: &str,
        config: &ContainerConfig,
        host: &HostConfig,
    ) -> Result<(Vec<Point>, Vec<String>)> {
        let points_of = |asked: &str| self.find(asked).ok().map(|one| one.view().record.mounts.clone());
        let image_id = |name: &str| self.images.resolve(name).map(|image| image.id.to_string());
        let ask = Register {
            id,
            data_root: &self.config.data_root,
            volumes: &self.volumes,
            points_of: &points_of,
            image_id: &image_id,
        };
        register(&ask, config, host).inspect_err(|_| self.release_volumes(id, &[]))
    }

    fn make_files(&self, record: &Record) -> Result<()> {
        launch::make_bundle(self, &record.id)?;
        Ok(self.store.create_active(&record.id, launch::image(record)?.as_ref())?)
    }

    /// Takes back what a create that failed had made.
    async fn undo_create(self: &Arc<Self>, record: &Arc<Record>) {
        self.log.append(&Note::Removed { id: &record.id });
        let (containers, record) = (self.clone(), record.clone());
        let undo = move || {
            containers.release_volumes(&record.id, &record.mounts);
            containers.discard(&record.id)
        };
        if let Err(error) = self.pools.run(Class::Lifecycle, undo).await {
            tracing::warn!("{error}");
        }
    }

    fn release_volumes(&self, id: &str, points: &[Point]) {
        if let Err(error) = self.volumes.release(id, points, true) {
            tracing::warn!("release volumes of container {id}: {error}");
        }
    }
}

/// What is known when a create begins.
struct Draft {
    id: String,
    name: String,
    image: Arc<Image>,
    request: CreateRequest,
}

/// A name that goes back if the create does not come to its end.
struct Reserved<'a> {
    containers: &'a Containers,
    name: String,
    id: String,
    kept: bool,
}

impl<'a> Reserved<'a> {
    fn new(containers: &'a Containers, name: Option<String>, id: &str) -> Result<Self> {
        let reserved = |name: String| Self { containers, name, id: id.to_owned(), kept: false };
        if let Some(name) = name {
            containers.index.reserve(&name, id)?;
            return Ok(reserved(name));
        }
        for attempt in 0.. {
            let name = names::invent(attempt);
            match containers.index.reserve(&name, id) {
                Ok(()) => return Ok(reserved(name)),
                Err(error) if attempt > 1_000 => return Err(error),
                Err(_) => {}
            }
        }
        Err(Error::internal("invent name: all are taken"))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.containers.index.release(&self.name, &self.id);
        }
    }
}

/// Networks by name, as a record keeps them.
pub(super) type Endpoints = BTreeMap<String, wharf_api::EndpointSettings>;

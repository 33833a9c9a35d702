//! Making a container. It exists for clients once its record is on the disk, which is the one sync of a
//! container's whole life that anybody waits for; its directories are made meanwhile.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;
use wharf_api::{ContainerConfig, CreateRequest, CreateResponse, HostConfig};
use wharf_oci::platform::Platform;
use wharf_oci::{Config, Digest};
use wharf_shim::protocol::Timestamp;
use wharf_store::Image;
use wharf_sys::failpoint;
use wharf_sys::root::Root;
use wharf_sys::time::wall_nanos;

use super::record::{Life, Record};
use super::spec::{Point, Register, register, subpath};
use super::{Container, Containers, Note, launch, validate, whole};
use crate::error::{Error, Result};
use crate::names;
use crate::pools::Class;

/// How many images' settings are kept.
const KEPT_SETTINGS: usize = 8;

/// Settings of images, the last read first.
#[derive(Debug, Default)]
pub(crate) struct Settings(Mutex<Vec<(Digest, Arc<Config>)>>);

impl Containers {
    /// Makes a container. `name`: none invents one; `platform` must be that of the image.
    pub async fn create(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        if request.config == ContainerConfig::default() {
            return Err(Error::invalid("config cannot be empty in order to create a container"));
        }
        let name = name
            .filter(|name| !name.is_empty())
            .map(|name| names::check(name).map(str::to_owned))
            .transpose()?;
        let platform = platform.filter(|platform| !platform.is_empty()).map(parse_platform).transpose()?;
        let id = names::new_id();
        let (mut request, warnings) = self.checked(&id, request)?;
        let image = self.image_of(&request.config.image, platform.as_ref())?;
        let settings = self.settings_of(image.as_deref())?;
        validate::merge_image(&mut request.config, &settings)?;
        if let Some(host) = &mut request.host_config {
            self.settle_links(host)?;
        }
        let name = Reserved::new(self, name, &id)?;
        let draft = self.draft(&id, &name.name, image.as_deref(), request);
        let (record, warnings) = if wants_mounts(&draft) {
            let containers = self.clone();
            let settle = move || containers.with_mounts(draft, warnings);
            self.pools.run(Class::Lifecycle, settle).await?
        } else {
            (draft, warnings)
        };
        failpoint::pass("create.mounts");
        let (record, life) = (Arc::new(record), Life::default());
        let (containers, made) = (self.clone(), record.clone());
        let entry = whole(&record, &life);
        let (kept, files) = tokio::join!(
            self.log.synced(&entry),
            self.pools.run(Class::Lifecycle, move || {
                containers.make_files(&made)?;
                containers.make_working_directory(&made)
            }),
        );
        if let Err(error) = kept.and(files) {
            self.undo_create(&record).await;
            return Err(error);
        }
        failpoint::pass("create.logged");
        self.index.insert(Container::new(record.clone(), life));
        name.keep();
        self.emit(&record, "create", &[]);
        Ok(CreateResponse { id, warnings })
    }

    /// Checks the request and fills in what it leaves open.
    pub(crate) fn checked(&self, id: &str, request: CreateRequest) -> Result<(CreateRequest, Vec<String>)> {
        let container_id = |asked: &str| self.find(asked).ok().map(|one| one.id().to_owned());
        let network = |asked: &str| self.networks.find(asked).ok();
        let ask = validate::Ask { engine: &self.config, id, container_id: &container_id, network: &network };
        let CreateRequest { mut config, host_config, networking_config } = request;
        let (mut host, mut networking) =
            (host_config.unwrap_or_default(), networking_config.unwrap_or_default());
        let warnings = validate::create(&ask, &mut config, &mut host, &mut networking)?;
        let (host_config, networking_config) = (Some(host), Some(networking));
        Ok((CreateRequest { config, host_config, networking_config }, warnings))
    }

    /// The image that was asked for; none starts from an empty file system.
    fn image_of(&self, asked: &str, wanted: Option<&Platform>) -> Result<Option<Arc<Image>>> {
        if asked.is_empty() {
            return Ok(None);
        }
        let image = self.images.resolve(asked)?;
        match wanted {
            Some(wanted) if !image.platform.satisfies(wanted) => Err(Error::not_found(format!(
                "image with reference {asked} was found but its platform ({}) does not match the specified platform \
                 ({wanted})",
                image.platform
            ))),
            _ => Ok(Some(image)),
        }
    }

    /// What an image says of its containers. A digest never means anything else, so the last ones are kept.
    fn settings_of(&self, image: Option<&Image>) -> Result<Arc<Config>> {
        let Some(image) = image else { return Ok(Arc::default()) };
        // Nothing panics while it is held.
        let known = || self.settings.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, settings)) = known().iter().find(|(id, _)| *id == image.id) {
            return Ok(settings.clone());
        }
        let settings = Arc::new(self.images.config(&image.id)?.config);
        let mut known = known();
        known.truncate(KEPT_SETTINGS - 1);
        known.insert(0, (image.id, settings.clone()));
        Ok(settings)
    }

    pub(crate) fn draft(
        &self,
        id: &str,
        name: &str,
        image: Option<&Image>,
        request: CreateRequest,
    ) -> Record {
        let CreateRequest { config, host_config, networking_config } = request;
        let endpoints = networking_config.unwrap_or_default().endpoints_config.unwrap_or_default();
        let mut command = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned();
        Record {
            id: id.to_owned(),
            name: name.to_owned(),
            created: Timestamp(wall_nanos()),
            image_id: image.map(|image| image.id.to_string()).unwrap_or_default(),
            path: command.next().unwrap_or_default(),
            args: command.collect(),
            config,
            host_config: host_config.unwrap_or_default(),
            endpoints: endpoints
                .into_iter()
                .map(|(name, one)| (name, Box::new(one.unwrap_or_default())))
                .collect(),
            mounts: Vec::new(),
            driver: self.store.driver().name().to_owned(),
            platform: "linux".to_owned(),
        }
    }

    /// Decides what is mounted where. May sleep: volumes are made here.
    fn with_mounts(&self, mut record: Record, mut warnings: Vec<String>) -> Result<(Record, Vec<String>)> {
        let (mounts, more) = self.register_mounts(&record.id, &record.config, &record.host_config)?;
        record.mounts = mounts;
        warnings.extend(more);
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

    /// Makes a container's directory and its snapshot.
    pub(crate) fn make_files(&self, record: &Record) -> Result<()> {
        launch::make_bundle(self, &record.id)?;
        failpoint::pass("create.bundle");
        self.store.create_active(&record.id, launch::image(record)?.as_ref())?;
        self.limit_size(record)
    }

    /// Makes the working directory where the image has none: files may be copied into it before the first start. With
    /// mapped users the start makes it.
    fn make_working_directory(self: &Arc<Self>, record: &Record) -> Result<()> {
        let path = record.config.working_dir.trim_matches('/');
        let mapped = crate::userns::of(&self.config, &record.host_config).is_some();
        if path.is_empty() || mapped || self.image_has_directory(&record.image_id, Path::new(path)) {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| Error::internal(format!("mkdir /{path}: {error}"));
        let mount = self.store.recipe(&record.id)?.mount().map_err(|error| failed(&error))?;
        let root = Root::from_fd(mount.as_fd().try_clone_to_owned().map_err(|error| failed(&error))?);
        let made = match root.stat_follow(path) {
            Ok(found) if FileType::from_raw_mode(found.st_mode).is_dir() => Ok(()),
            Ok(_) => {
                let asked = &record.config.working_dir;
                Err(Error::internal(format!("Cannot mkdir: {asked} is not a directory")))
            }
            Err(_) => root.create_dir_all(path, 0o755).map(drop).map_err(|error| failed(&error)),
        };
        // The end of the mount waits for the disk; this create need not.
        drop(root);
        self.release_root(&record.id, mount.into_fd());
        made
    }

    /// Whether a path without links is a directory of an image; false where that is not seen at once.
    fn image_has_directory(&self, image: &str, path: &Path) -> bool {
        !image.is_empty() && self.layers_of(image).is_ok_and(|layers| subpath::is_directory(&layers, path))
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

/// Whether deciding what is mounted where may have to make something, and so sleep.
fn wants_mounts(draft: &Record) -> bool {
    let (config, host) = (&draft.config, &draft.host_config);
    let lists =
        [host.volumes_from.is_some(), host.binds.is_some(), host.mounts.is_some(), config.volumes.is_some()];
    lists.contains(&true)
}

fn parse_platform(text: &str) -> Result<Platform> {
    text.parse().map_err(|error: wharf_oci::platform::PlatformError| Error::invalid(error.to_string()))
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

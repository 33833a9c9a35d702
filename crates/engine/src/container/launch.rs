//! From a record to a supervisor that is ready to launch: the part of a start that sleeps in the kernel.
//!
//! The root file system is a detached mount that belongs to this function until the supervisor has it, so
//! that a failure on the way leaves nothing behind.

use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_oci::Digest;
use wharf_shim::protocol::{Carried, ForeignRuntime, LogConfig, RestartPolicy, SupervisorConfig};
use wharf_shim::{Events, Handle, Launching};
use wharf_sys::mount::{DetachedMount, Recipe};
use wharf_sys::root::Root;

use super::record::Record;
use super::spec::peers::joined;
use super::spec::{self, Build, Peer};
use super::{Containers, State, log_config};
use crate::config::OWN_RUNTIMES;
use crate::error::{Error, Result};
use crate::network::{Joined, Sandbox};
use crate::userns;

/// A supervisor that was started, and the launch if that was asked for with it.
pub(super) type Supervised = (Handle, Events, Option<Launching>);

/// Prepares everything and starts the supervisor. `launch`: asks it for the launch too, where it can be so early.
pub(super) fn prepare(containers: &Arc<Containers>, record: &Record, launch: bool) -> Result<Supervised> {
    make_bundle(containers, &record.id)?;
    drop(containers.roots.of(&record.id));
    let (joined, (config, mount)) = joining(containers, record, |planned| {
        let recipe = containers.mapped(record, containers.store.recipe(&record.id)?);
        let mount = recipe.mount().map_err(|error| not_mounted(&error))?;
        Ok((write_files(containers, record, planned, recipe, &mount)?, mount))
    })?;
    spawn(containers, &config, joined.as_ref(), &mount, launch)
}

/// Starts the supervisor of a process on a tree that is mounted already: that of a build.
pub(crate) fn supervise(
    containers: &Arc<Containers>,
    record: &Record,
    recipe: Recipe,
    mount: &DetachedMount,
) -> Result<(Handle, Events)> {
    make_bundle(containers, &record.id)?;
    let (joined, config) =
        joining(containers, record, |planned| write_files(containers, record, planned, recipe, mount))?;
    let (handle, events, _) = spawn(containers, &config, joined.as_ref(), mount, false)?;
    Ok((handle, events))
}

/// Does `work` while the container's networks are joined: both wait for the kernel, for different locks of it.
/// Where either fails, what was joined is left by whoever asked for the start.
fn joining<T>(
    containers: &Containers,
    record: &Record,
    work: impl FnOnce(Option<&Sandbox>) -> Result<T>,
) -> Result<(Option<Joined>, T)> {
    let planned = containers.networks.plan(record)?;
    let Some(planned) = planned.as_deref().filter(|planned| planned.has_links()) else {
        return Ok((None, work(planned.as_deref())?));
    };
    let attach = || containers.networks.attach(record, planned);
    let (joined, done) = std::thread::scope(|scope| {
        let attaching = std::thread::Builder::new().name("join".to_owned()).spawn_scoped(scope, attach);
        let done = work(Some(planned));
        let joined = match attaching {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(Error::internal("join networks: panic"))),
            // Threads ran out: one after the other, then.
            Err(_) => attach(),
        };
        (joined, done)
    });
    let (done, joined) = (done?, joined?);
    containers.networks.joined(record)?;
    Ok((joined, done))
}

/// Writes what the supervisor and the runtime read.
fn write_files(
    containers: &Arc<Containers>,
    record: &Record,
    planned: Option<&Sandbox>,
    recipe: Recipe,
    mount: &DetachedMount,
) -> Result<SupervisorConfig> {
    let bundle = containers.config.bundle(&record.id);
    let mut spec = spec(containers, record, planned, mount)?;
    let runtime = runtime(containers, record)?;
    if runtime.is_some() {
        // The oldest that says all there is to say: runtimes refuse what is newer than they are.
        "1.0.2".clone_into(&mut spec.oci_version);
    }
    let text =
        serde_json::to_vec(&spec).map_err(|error| Error::internal(format!("write config.json: {error}")))?;
    std::fs::write(bundle.join("config.json"), text)
        .map_err(|error| Error::io("write config.json", &error))?;
    let log = log_config::of(&containers.config, record);
    if let LogConfig::JsonFile { path, .. } | LogConfig::Local { path, .. } = &log
        && let Some(directory) = path.parent()
    {
        make_directory(directory)?;
    }
    Ok(SupervisorConfig {
        id: record.id.clone(),
        socket: containers.config.socket(&record.id),
        rootfs: recipe,
        log,
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        restart: restart_policy(record),
        runtime,
        bundle,
    })
}

fn spawn(
    containers: &Containers,
    config: &SupervisorConfig,
    joined: Option<&Joined>,
    mount: &DetachedMount,
    launch: bool,
) -> Result<Supervised> {
    let mut given = vec![(Carried::Root, mount.as_fd())];
    given.extend(joined.iter().flat_map(|joined| joined.given()));
    let started = containers.nursery.spawn(containers.executable.as_fd(), config, &given, launch);
    started.map_err(|error| Error::internal(error.to_string()))
}

/// A root file system that the kernel does not mount.
fn not_mounted(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("mount root file system: {error}"))
}

/// Who makes the container's processes. The one it was created with may have gone from the settings since.
fn runtime(containers: &Containers, record: &Record) -> Result<Option<ForeignRuntime>> {
    let name = record.host_config.runtime.as_str();
    if OWN_RUNTIMES.contains(&name) {
        return Ok(None);
    }
    let found = containers.config.foreign_runtime(name);
    let runtime = found.ok_or_else(|| Error::invalid(format!("unknown or invalid runtime name: {name}")))?;
    make_directory(&runtime.root)?;
    Ok(Some(runtime))
}

/// Makes a container's directory, which a power cut may have taken too.
pub(super) fn make_bundle(containers: &Containers, id: &str) -> Result<PathBuf> {
    let bundle = containers.config.bundle(id);
    make_directory(&bundle)?;
    Ok(bundle)
}

/// Makes a directory that only root may look into.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::io(format_args!("mkdir {}", path.display()), &error))
}

/// The image a container stands on.
pub(super) fn image(record: &Record) -> Result<Option<Digest>> {
    if record.image_id.is_empty() {
        return Ok(None);
    }
    let digest = record.image_id.parse();
    digest.map(Some).map_err(|_| Error::internal(format!("image id {} is not a digest", record.image_id)))
}

fn spec(
    containers: &Containers,
    record: &Record,
    sandbox: Option<&Sandbox>,
    mount: &DetachedMount,
) -> Result<wharf_oci::runtime::Spec> {
    // The mount itself: the end of a copy would wait for the kernel's grace period.
    let root = mount.as_fd().try_clone_to_owned().map_err(|error| Error::io("copy descriptor", &error))?;
    let root = Root::from_fd(root);
    let net = containers.net(record, sandbox)?;
    let own = |asked: &str| containers.find(asked).is_ok_and(|found| found.id() == record.id);
    if joined(&record.host_config.network_mode).is_some_and(own) {
        return Err(Error::internal("cannot join own network namespace"));
    }
    let peers = spec::peers(&record.host_config, &|asked| containers.peer(asked))?;
    let sources = containers.volumes.enter(&record.id, &record.mounts)?;
    crate::volume::copy_up(&root, &record.mounts, &sources)?;
    let image_layers = |id: &str| containers.layers_of(id);
    spec::build(&Build {
        engine: &containers.config,
        id: &record.id,
        name: &record.name,
        config: &record.config,
        host: &record.host_config,
        points: &record.mounts,
        volumes: &sources,
        peers: &peers,
        net: &net,
        root: &root,
        image_layers: &image_layers,
    })
}

impl Containers {
    /// How a container's tree is mounted with its owners as its user namespace maps them.
    pub(crate) fn mapped(&self, record: &Record, recipe: Recipe) -> Recipe {
        match userns::of(&self.config, &record.host_config) {
            Some(ids) => Recipe::Mapped { ids: ids.clone(), recipe: Box::new(recipe) },
            None => recipe,
        }
    }

    /// A container whose namespaces another wants to join.
    pub(super) fn peer(&self, asked: &str) -> Option<Peer> {
        let container = self.find(asked).ok()?;
        let view = container.view();
        Some(Peer {
            id: view.record.id.clone(),
            name: view.record.name.clone(),
            pid: view.state().process().map(|running| running.pid),
            status: view.state().name().to_owned(),
            restarting: matches!(view.state(), State::Restarting(_)),
            ipc_mode: view.record.host_config.ipc_mode.clone(),
            bundle: self.config.bundle(&view.record.id),
        })
    }

    /// The directories that make up an image's tree, the topmost first.
    pub(super) fn layers_of(&self, id: &str) -> Result<Vec<PathBuf>> {
        let id: Digest = id.parse().map_err(|_| Error::internal(format!("image id {id} is not a digest")))?;
        match self.store.image_recipe(Some(&id))?.unmapped() {
            Recipe::Overlay { lower, .. } | Recipe::View { lower } => Ok(lower),
            Recipe::Bind { source } => Ok(vec![source]),
            Recipe::Mapped { .. } => Ok(Vec::new()),
        }
    }
}

/// The restart policy as the supervisor applies it.
pub(super) fn restart_policy(record: &Record) -> RestartPolicy {
    let asked = &record.host_config.restart_policy;
    match asked.name.as_str() {
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let maximum_retry_count = u32::try_from(asked.maximum_retry_count).unwrap_or(0);
            RestartPolicy::OnFailure { maximum_retry_count }
        }
        _ => RestartPolicy::No,
    }
}

//! The OCI runtime spec of a container, built from its record.
//!
//! Entry points: [`peers`] and [`build`] at every start, [`process::exec`] for an exec, [`register`] at create.

pub mod capability;
pub(crate) mod cdi;
pub mod devices;
pub(crate) mod etc;
pub(super) mod idmap;
pub mod limits;
pub mod log;
mod mounts;
mod namespaces;
pub mod peers;
pub mod points;
pub mod process;
pub mod register;
mod resources;
pub mod seccomp;
pub mod security;
pub(crate) mod subpath;
pub mod tmpfs;
pub mod user;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use wharf_api::{ContainerConfig, HostConfig};
use wharf_oci::runtime::{OCI_VERSION, Spec};
use wharf_sys::root::Root;

pub use etc::Net;
pub use peers::{Peer, Peers, peers};
pub use points::Point;
pub use register::{Register, register};
pub use resources::resources;

use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::volume::Sources;

/// Docker's words before an error of the runtime while it makes a container.
pub const CREATE_FAILED: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";
/// Its further words when the container's own process met the error.
pub const INIT_FAILED: &str = "unable to start container process: error during container init: ";

/// An error told as if the runtime had met it, which is where Docker meets it.
pub(crate) fn runtime_error(why: impl fmt::Display) -> Error {
    Error::internal(format!("{CREATE_FAILED}{why}"))
}

/// All that a start needs to know of a container.
#[derive(Clone, Copy)]
pub struct Build<'a> {
    /// The engine's settings.
    pub engine: &'a EngineConfig,
    /// The container's id.
    pub id: &'a str,
    /// Its name, without the slash.
    pub name: &'a str,
    /// The merged configuration.
    pub config: &'a ContainerConfig,
    /// Host configuration, defaults filled in.
    pub host: &'a HostConfig,
    /// What is mounted where.
    pub points: &'a [Point],
    /// Where its volumes are.
    pub volumes: &'a Sources,
    /// The containers whose namespaces it joins.
    pub peers: &'a Peers,
    /// What its files say of its networks.
    pub net: &'a Net,
    /// Its root file system, mounted (nowhere, or anywhere).
    pub root: &'a Root,
    /// Finds the layers of an image mounted with `--mount type=image`, top first, by the id kept in the point.
    pub image_layers: &'a dyn Fn(&str) -> Result<Vec<PathBuf>>,
}

impl fmt::Debug for Build<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Build").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes the container's `hostname`, `hosts` and `resolv.conf` into its bundle, makes missing sources of binds, and
/// builds its runtime spec. Sleeps in the kernel: call it on a pool.
///
/// # Errors
/// What Docker refuses at start, in its words and classes.
pub fn build(ask: &Build<'_>) -> Result<Spec> {
    log::check(&ask.host.log_config)?;
    let files = etc::write(ask)?;
    let process = process::first(ask)?;
    let (uid_mappings, gid_mappings) = namespaces::ids(ask);
    let mut linux = wharf_oci::runtime::Linux {
        uid_mappings,
        gid_mappings,
        namespaces: namespaces::namespaces(ask),
        sysctl: namespaces::sysctls(ask)?,
        cgroups_path: ask.engine.cgroup(ask.id, &ask.host.cgroup_parent),
        resources: Some(resources(ask.host)?),
        seccomp: security::seccomp(ask)?,
        ..Default::default()
    };
    security::paths(ask, &mut linux);
    resources::devices(ask.host, &mut linux)?;
    let mounts = mounts::mounts(ask, &files, &process.user, &mut linux)?;
    let own_uts = !matches!(ask.host.uts_mode.as_str(), "host");
    let mut spec = Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process),
        root: Some(wharf_oci::runtime::Root {
            path: "rootfs".to_owned(),
            readonly: ask.host.readonly_rootfs,
        }),
        hostname: if own_uts { ask.config.hostname.clone() } else { String::new() },
        domainname: if own_uts { ask.config.domainname.clone() } else { String::new() },
        mounts,
        hooks: None,
        annotations: ask.host.annotations.clone().unwrap_or_default(),
        linux: Some(linux),
    };
    cdi::inject(ask.engine, ask.host, &mut spec)?;
    Ok(spec)
}

//! What one container may ask for and is found by: a small file of its own in the instance's table.
//!
//! The table is a directory with one file per container. The daemon writes a file beside and renames it
//! into place, so the helper never sees half of one, a start or an end costs one small file whatever the
//! number of containers, and all of it is there for the next helper.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest file that is read, in bytes.
pub const MAX_RECORD: u64 = 256 * 1024;

/// The names of one container, and how it sees those of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// The networks it is in, in the order in which they are asked.
    pub endpoints: Vec<Endpoint>,
    /// Other names for names, for this container alone (`--link`): they go before all others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Name servers asked for what is not known here (`--dns`), from the container's namespace; empty: the
    /// host's, as they are at the time of the question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Whether `ndots` was set by the user (`--dns-option ndots:N` with N over 0): names without a dot are
    /// then not passed on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ndots: bool,
}

/// One container in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// The network's name: `NAME.NETWORK` is understood, and is what reverse lookups answer.
    pub network_name: String,
    /// Whether the network is cut off from the outside. A container that is in no other is told nothing of
    /// the outside's names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// What others there call it, its own name first (that is the answer of reverse lookups), then aliases,
    /// the short id, service names. A name that several containers have stands for all their addresses.
    pub names: Vec<String>,
}

/// `--link TARGET:ALIAS`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// What the container says.
    pub alias: String,
    /// What is meant, in the network named.
    pub target: String,
    /// The network's id.
    pub network: String,
}

/// The directory of the table below an instance's exec root.
#[must_use]
pub fn directory(exec_root: &Path) -> PathBuf {
    exec_root.join("net").join("names")
}

/// Puts a container's record into place; whoever asks from then on sees it.
///
/// # Errors
/// `EINVAL` for an owner that is no file name; what the file system refuses.
pub fn write(exec_root: &Path, owner: &str, names: &Names) -> io::Result<()> {
    let directory = directory(exec_root);
    let path = directory.join(file_name(owner)?);
    let beside = directory.join(format!(".{owner}"));
    let text = serde_json::to_vec(names)?;
    match std::fs::write(&beside, &text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&directory)?;
            std::fs::write(&beside, &text)?;
        }
        other => other?,
    }
    std::fs::rename(beside, path)
}

/// Takes a container's record away; none there is no error.
///
/// # Errors
/// As [`write`].
pub fn remove(exec_root: &Path, owner: &str) -> io::Result<()> {
    match std::fs::remove_file(directory(exec_root).join(file_name(owner)?)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The containers that have a record.
///
/// # Errors
/// What the file system refuses; a table that was never written is empty.
pub fn owners(exec_root: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory(exec_root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut owners = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if file_name(&name).is_ok() {
            owners.push(name);
        }
    }
    Ok(owners)
}

/// An owner as a file's name: names with a dot in front are files being written.
pub(super) fn file_name(owner: &str) -> io::Result<&str> {
    let fits =
        !owner.is_empty() && owner.len() < 200 && !owner.starts_with('.') && !owner.contains(['/', '\0']);
    if fits { Ok(owner) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
}

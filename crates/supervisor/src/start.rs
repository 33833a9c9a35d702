//! From arguments and inherited descriptors to a supervisor that serves.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use wharf_shim::handle::CONFIG_FILE;
use wharf_shim::nursery::ROLE;
use wharf_shim::protocol::{Carried, Event, SupervisorConfig, Timestamp};
use wharf_sys::inherit;
use wharf_sys::pidfd::PidFd;
use wharf_sys::time::Instant;

use crate::error::Error;
use crate::session::Running;
use crate::supervise::Supervisor;

/// The daemon's connection.
const CONTROL: i32 = 3;
/// The first of the descriptors that the arguments name.
const FIRST: i32 = 4;

/// Serves a container until its end.
pub(crate) fn start(arguments: Vec<OsString>) -> Result<(), Error> {
    match &arguments[..] {
        [bundle] => {
            let config = read_config(Path::new(bundle))?;
            Supervisor::new(config, descriptor(CONTROL)?, Vec::new(), false)?.run()
        }
        [flag, kinds, bundle] if flag == "--with" => {
            let control = descriptor(CONTROL)?;
            let given = inherited(kinds)?;
            Supervisor::new(read_config(Path::new(bundle))?, control, given, false)?.run()
        }
        [flag, _room] if flag == ROLE => crate::nursery::run(descriptor(CONTROL)?),
        [flag, kinds, bundle] if flag == "--adopt" => adopt(kinds, Path::new(bundle)),
        _ => Err(Error::Usage),
    }
}

fn adopt(kinds: &OsString, bundle: &Path) -> Result<(), Error> {
    let control = descriptor(CONTROL)?;
    let (mut pidfd, mut lasting, mut streams) = (None, Vec::new(), Vec::new());
    for (kind, fd) in inherited(kinds)? {
        match kind {
            Carried::Pidfd => pidfd = Some(PidFd::from(fd)),
            kind if kind.lasts() => lasting.push((kind, fd)),
            stream => streams.push((stream, fd)),
        }
    }
    let pidfd = pidfd.ok_or(Error::Usage)?;
    let config = read_config(bundle)?;
    let (pid, started_at, restart_count) = last_start(bundle);
    let mut supervisor = Supervisor::new(config, control, lasting, true)?;
    supervisor.restarts.set_count(restart_count);
    supervisor.adopt(Running { pid, pidfd, started_at, since: Instant::now() }, streams)?;
    supervisor.run()
}

/// The descriptors that a JSON list names, in its order.
fn inherited(kinds: &OsString) -> Result<Vec<(Carried, OwnedFd)>, Error> {
    let kinds: Vec<Carried> =
        kinds.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or(Error::Usage)?;
    (FIRST..).zip(kinds).map(|(number, kind)| Ok((kind, descriptor(number)?))).collect()
}

fn descriptor(number: i32) -> Result<OwnedFd, Error> {
    inherit::take(number).map_err(Error::doing("take over inherited descriptor"))
}

fn read_config(bundle: &Path) -> Result<SupervisorConfig, Error> {
    let path: PathBuf = bundle.join(CONFIG_FILE);
    fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?)).map_err(|error| Error::Path {
        doing: "read",
        path,
        error,
    })
}

/// The last start that the journal tells of: pid, time, restarts before it.
fn last_start(bundle: &Path) -> (i32, Timestamp, u32) {
    let journal = fs::read_to_string(bundle.join("journal")).unwrap_or_default();
    let start = journal.lines().rev().find_map(|line| match serde_json::from_str(line) {
        Ok(Event::Started { pid, started_at, restart_count }) => Some((pid, started_at, restart_count)),
        _ => None,
    });
    start.unwrap_or((0, Timestamp(0), 0))
}

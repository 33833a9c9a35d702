//! `RUN`: a process of a build, run as a container's is: by a supervisor, in a cgroup, on a network.
//!
//! It has no record: whatever of it a crash leaves is no container's, and swept with what else is half made.

mod emulator;
mod mounts;
mod record;
mod service;
mod stubs;

use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::io::AsyncReadExt;
use wharf_build::solve::{Cancel, Process};
use wharf_shim::protocol::{Attach, Event, Exit, Framing};
use wharf_shim::{Events, Handle, HandleError};

use super::host::Hosted;
use super::{Step, canceled};
use crate::build::Builds;
use crate::container::launch;
use crate::container::record::Record;
use crate::error::Result;
use crate::names::new_id;

pub use service::{
    BuildContainer, ContainerRequest, ProcessControl, ProcessOutput, ProcessRequest, RunningProcess,
};

/// How much of a process's output is read at once, bytes.
const READ: usize = 32 * 1024;
/// How much of a process's output is told, bytes; BuildKit's own limit, and its words for it.
const LONGEST: usize = 2 << 20;
const CLIPPED: &str = "[output clipped, log limit 2MiB reached]\n";
/// The exit code of a process that was killed.
const KILLED: i32 = 137;

/// Runs a process to its end and returns its exit code.
pub(super) fn execute(
    host: &Hosted<'_>,
    process: &Process<'_>,
    cancel: &Cancel,
    step: &Step,
) -> Result<i32, String> {
    within(host, process, Streams::default(), async |handle, events, _| {
        follow(handle, events, cancel, step).await
    })
}

/// The streams of a container's first process, beside its output.
#[derive(Debug, Clone, Copy, Default)]
struct Streams {
    stdin: bool,
    terminal: bool,
}

/// Makes a container for a process, does `work` with its supervisor, which must end with it, and takes it away again.
fn within<T>(
    host: &Hosted<'_>,
    process: &Process<'_>,
    streams: Streams,
    work: impl AsyncFnOnce(Handle, Events, &Record) -> Result<T, String>,
) -> Result<T, String> {
    emulator::check(process.platform)?;
    let builds = &host.build.builds;
    let id = new_id();
    let mut mounts = mounts::Mounts::new(host.build, builds.places().join(&id));
    let points = mounts.prepare(&process.mounts)?;
    let record = record::of(host, &id, process, points, streams)?;
    let recipe = builds.containers.mapped(&record, process.root.clone());
    let mount = recipe.mount().map_err(|error| format!("mount root file system: {error}"))?;
    let stubs = stubs::Stubs::before(&mount, &process.root, &record.mounts)?;
    let done = {
        let _inside = host.build.runtime.enter();
        let started = launch::supervise(&builds.containers, &record, recipe, &mount);
        // The supervisor has its own by now; what follows needs none.
        drop(mount);
        started
            .map_err(|error| error.to_string())
            .and_then(|(handle, events)| host.build.runtime.block_on(work(handle, events, &record)))
    };
    finish(builds, &id);
    drop(mounts);
    stubs.clean();
    done
}

/// Takes away what a process had.
fn finish(builds: &Builds, id: &str) {
    builds.containers.networks.leave(id);
    builds.containers.networks.forget(id);
    let bundle = builds.config.bundle(id);
    if let Err(error) = std::fs::remove_dir_all(&bundle) {
        tracing::warn!("remove {}: {error}", bundle.display());
    }
}

/// Starts the process, passes on what it says, and waits until nothing is left of it.
async fn follow(handle: Handle, mut events: Events, cancel: &Cancel, step: &Step) -> Result<i32, String> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| format!("make a stream: {error}"))?;
    let attach = Attach {
        stdin: false,
        stdout: true,
        stderr: true,
        replay: false,
        stream: true,
        framing: Framing::Multiplexed,
        detach_keys: Vec::new(),
        read_ahead: Vec::new(),
    };
    handle.attach(attach, theirs.into()).await.map_err(|error| error.to_string())?;
    ours.set_nonblocking(true).map_err(|error| error.to_string())?;
    let ours = tokio::net::UnixStream::from_std(ours).map_err(|error| error.to_string())?;
    let heard = tokio::spawn(listen(ours, step.clone()));
    let launched = handle.launch().await;
    let code = match launched {
        Ok(_) => ended(&handle, &mut events, cancel).await,
        Err(HandleError::Failed(failure)) => {
            let text = format!("runc run failed: unable to start container process: {}\n", failure.message);
            step.log(2, text.into());
            Ok(1)
        }
        Err(error) => Err(error.to_string()),
    };
    // Whoever it left behind may hold its output open: nothing of it outlives the supervisor, which goes last.
    while events.recv().await.is_some() {}
    drop(heard.await);
    code
}

/// Waits for the end of the process; kills it when the build ends before.
async fn ended(handle: &Handle, events: &mut Events, cancel: &Cancel) -> Result<i32, String> {
    let mut killed = false;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = canceled(cancel), if !killed => {
                killed = true;
                kill(handle).await;
                continue;
            }
        };
        match event {
            Some(Event::Exited { exit: Exit { code, .. }, .. }) => return Ok(code.unwrap_or(KILLED)),
            Some(_) => {}
            None => return Err("the process's supervisor was killed".to_owned()),
        }
    }
}

/// Ends what runs, and whatever it left behind.
async fn kill(handle: &Handle) {
    for done in [handle.stop_intended().await, handle.kill_all().await] {
        if let Err(error) = done {
            tracing::warn!("end a build's process: {error}");
        }
    }
}

/// Passes on what comes in frames of eight bytes' head: the stream, and how much follows. Of one that never ends only the
/// beginning: whoever watches may read more slowly than it is written.
async fn listen(mut stream: tokio::net::UnixStream, step: Step) {
    let mut head = [0; 8];
    let mut told = 0;
    while stream.read_exact(&mut head).await.is_ok() {
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        while left > 0 {
            let mut data = vec![0; left.min(READ)];
            match stream.read(&mut data).await {
                Ok(count) if count > 0 => {
                    data.truncate(count);
                    left -= count;
                    if told < LONGEST && told + count >= LONGEST {
                        step.log(head[0], CLIPPED.into());
                    }
                    told += count;
                    if told < LONGEST {
                        step.log(head[0], data.into());
                    }
                }
                _ => return,
            }
        }
    }
}

/// Takes away what builds of a daemon that was killed had mounted, and their files.
pub(super) fn sweep(places: &Path) {
    if let Err(error) = mounts::sweep(places) {
        tracing::warn!("unmount what is below {}: {error}", places.display());
        return;
    }
    match std::fs::remove_dir_all(places) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("remove {}: {error}", places.display());
        }
        _ => {}
    }
}

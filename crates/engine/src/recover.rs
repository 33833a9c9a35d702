//! What an opening engine makes of what it finds: adopts what lives, records what ended, sweeps what is
//! half made or half removed, starts what a restart policy wants.
//!
//! Nobody was told of a container that has no record, and everybody of one that has: so files without a
//! record go, and a record without files is a container like any other.

pub(crate) mod journal;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;
use wharf_shim::protocol::{Exit, Phase, Status};
use wharf_shim::{Events, Handle};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::failpoint;
use wharf_sys::time::wall_nanos;

use crate::container::state::{LastRun, Running, State};
use crate::container::{Container, Containers, Happening, Life, Record};
use crate::error::{Error, Result};
use crate::network::change_ports;
use crate::pools::Class;
use crate::state_log::{PortsChanged, Replay};
use journal::Told;

/// Brings `containers` to where the world is.
pub(crate) async fn recover(containers: &Arc<Containers>, replay: Replay) -> Result<()> {
    for (id, loaded) in replay.containers {
        let (mut record, life): (Record, Life) =
            loaded.read().map_err(|error| error.context(format_args!("container {id}")))?;
        for PortsChanged { add, remove } in &loaded.ports()? {
            change_ports(&mut record, add, remove)?;
        }
        containers.restore(record, life)?;
    }
    let swept = containers.clone();
    containers.pools.run(Class::Lifecycle, move || sweep(&swept)).await?;
    failpoint::pass("recover.swept");
    let mut all = JoinSet::new();
    for container in containers.all() {
        all.spawn(reconcile(containers.clone(), container));
    }
    let mut unfinished = Vec::new();
    while let Some(one) = all.join_next().await {
        match one {
            Ok(Some(todo)) => unfinished.push(todo),
            Ok(None) => {}
            Err(error) => tracing::error!("recover: {error}"),
        }
    }
    failpoint::pass("recover.known");
    let networks = containers.networks.clone();
    // Nobody waits for it: whoever needs networks before brings the kernel up to date himself.
    tokio::spawn(async move {
        if let Err(error) = networks.recovered().await {
            tracing::error!("recover networks: {error}");
        }
    });
    for todo in unfinished {
        containers.finish(todo);
    }
    Ok(())
}

/// What is left to do for a container once all are known.
#[derive(Debug)]
pub(crate) enum Todo {
    /// Its policy wants it to run.
    Start(String),
    /// It was to go with its end.
    Remove(String),
}

/// Removes what belongs to no record.
fn sweep(containers: &Containers) -> Result<()> {
    let known: HashSet<String> = containers.all().iter().map(|one| one.id().to_owned()).collect();
    let stray = |path: &Path| -> Vec<String> {
        let names = std::fs::read_dir(path).into_iter().flatten().flatten();
        names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !known.contains(name))
            .collect()
    };
    let sockets = containers.config.exec_root.join("c");
    for id in stray(&sockets) {
        end_stray(&sockets.join(&id));
    }
    for id in stray(&containers.config.containers()) {
        tracing::info!("container {id} was half made or half removed: swept");
        if let Err(error) = containers.discard(&id) {
            tracing::warn!("{error}");
        }
    }
    containers.store.retain_actives(|id| known.contains(id))?;
    restore_snapshots(containers);
    containers.volumes.sweep(|id| known.contains(id));
    Ok(())
}

/// Makes the snapshots again that a power cut took: empty, as they must have been for the records to be all that lasted.
fn restore_snapshots(containers: &Containers) {
    let present: HashSet<String> = containers.store.actives().into_iter().collect();
    for container in containers.all().iter().filter(|one| !present.contains(one.id())) {
        match containers.make_files(&container.view().record) {
            Ok(()) => {
                tracing::warn!("container {}: its snapshot was lost, and was made again", container.id())
            }
            Err(error) => tracing::error!("container {}: its snapshot was lost: {error}", container.id()),
        }
    }
}

/// Ends a supervisor whose container has no record.
fn end_stray(socket: &Path) {
    let Ok((handle, _events)) = Handle::connect(socket) else {
        // The name of one that is gone.
        if let Err(error) = std::fs::remove_file(socket) {
            tracing::warn!("remove {}: {error}", socket.display());
        }
        return;
    };
    tokio::spawn(async move {
        for done in [handle.stop_intended().await, handle.kill_all().await] {
            if let Err(error) = done {
                tracing::warn!("end stray supervisor: {error}");
            }
        }
    });
}

/// Finds out what became of one container.
async fn reconcile(containers: Arc<Containers>, container: Arc<Container>) -> Option<Todo> {
    let socket = containers.config.socket(container.id());
    let found = match Handle::connect(&socket) {
        Ok((handle, events)) => ask(&handle).await.map(|(status, kept)| (handle, events, status, kept)),
        Err(_) => None,
    };
    match found {
        Some((handle, events, status, kept)) if !matches!(status.phase, Phase::Ended | Phase::Created) => {
            adopt(&containers, &container, handle, events, status, kept).await;
            None
        }
        Some((handle, _, status, _)) => {
            if status.phase == Phase::Created {
                // The daemon died before it asked for the launch; nobody was told that it started.
                drop(handle.kill_all().await);
            }
            bury(&containers, &container).await
        }
        None => bury(&containers, &container).await,
    }
}

async fn ask(handle: &Handle) -> Option<(Status, wharf_shim::Descriptors)> {
    // Both at once, so that a supervisor wakes up once; there may be a thousand.
    let (greeted, status) = tokio::join!(handle.hello(), handle.status());
    greeted.ok()?;
    status.ok()
}

/// Takes over from the daemon that was.
async fn adopt(
    containers: &Arc<Containers>,
    container: &Arc<Container>,
    handle: Handle,
    events: Events,
    status: Status,
    kept: wharf_shim::Descriptors,
) {
    let before = container.view().life.clone();
    let told = journal::read(&containers.config.bundle(container.id()));
    containers.tell_missed(container, &before, &told.events);
    let state = match status.phase {
        Phase::Running { pid, started_at } => {
            let running = Running { pid, started_at };
            if is_frozen(containers, container).await {
                State::Paused(running)
            } else {
                State::Running(running)
            }
        }
        _ => State::Restarting(last_run(&before, &told, status.last_exit)),
    };
    containers.networks.restore(&container.view().record, &kept);
    let oom = before.oom && before.state.process() == state.process();
    containers.settle(container, Life { state, restart_count: status.restart_count, oom, ..before });
    containers.adopt(container, handle, events, kept);
    containers.tell(container, Happening::Started);
    if !status.execs.is_empty() {
        containers.tell(container, Happening::ExecsFound(status.execs));
    }
}

/// Records what the journal says of a container that has no supervisor any more.
async fn bury(containers: &Arc<Containers>, container: &Arc<Container>) -> Option<Todo> {
    let before = container.view().life.clone();
    let told = journal::read(&containers.config.bundle(container.id()));
    let mut interrupted = false;
    if before.state.is_active() || told.is_news(&before.state) {
        containers.tell_missed(container, &before, &told.events);
        if told.running.is_some() && replace(containers, container, &told, &before).await {
            return None;
        }
        interrupted = told.running.is_some() || told.restarts;
        let mut run = last_run(&before, &told, told.exit);
        if told.running.is_some() {
            run = LastRun {
                started_at: told.running.map(|running| running.started_at).or(run.started_at),
                finished_at: Some(wharf_shim::protocol::Timestamp(wall_nanos())),
                code: 255,
                oom_killed: false,
                error: "the exit code is not known: neither daemon nor supervisor saw the end".to_owned(),
            };
        }
        let restart_count = told.restart_count.unwrap_or(before.restart_count);
        containers.settle(container, Life { state: State::Exited(run), restart_count, ..before });
    }
    todo(container, interrupted)
}

/// Gives a container that outlived daemon and supervisor a new supervisor. False: it did not.
async fn replace(
    containers: &Arc<Containers>,
    container: &Arc<Container>,
    told: &Told,
    before: &Life,
) -> bool {
    let Some(running) = told.running else { return false };
    let record = container.view().record.clone();
    let path = containers.config.cgroup(&record.id, &record.host_config.cgroup_parent);
    let lives = move || {
        let group = Cgroup::open(&path).map_err(|error| Error::internal(error.to_string()))?;
        group.pids().map_err(|error| Error::internal(error.to_string()))
    };
    // Its own group is proof: a pid alone may belong to another process by now.
    let pids = containers.pools.run(Class::Host, lives).await.unwrap_or_default();
    let Some(pidfd) = wharf_sys::pidfd::PidFd::open(running.pid).ok().filter(|_| pids.contains(&running.pid))
    else {
        return false;
    };
    let mut kept = wharf_shim::Descriptors { pidfd: Some(pidfd.into()), ..Default::default() };
    containers.networks.find_namespace(&record, running.pid, &mut kept);
    containers.networks.restore(&record, &kept);
    let taken = containers.supervise_again(container, kept).await;
    match taken {
        Ok((handle, events, kept)) => {
            tracing::warn!("container {}: runs on, but what it wrote meanwhile is lost", container.id());
            let restart_count = told.restart_count.unwrap_or(before.restart_count);
            let life = Life { state: State::Running(running), restart_count, ..before.clone() };
            containers.settle(container, life);
            containers.adopt(container, handle, events, kept);
            containers.tell(container, Happening::Started);
            true
        }
        Err(error) => {
            tracing::warn!("container {}: {error}", container.id());
            false
        }
    }
}

fn last_run(before: &Life, told: &Told, exit: Option<Exit>) -> LastRun {
    let mut known = before.state.last_run();
    let Some(exit) = exit else {
        // It may have started after the last that was written down, and be ending now.
        known.started_at = told.started_at.max(known.started_at);
        return known;
    };
    LastRun {
        started_at: told.started_at.or(known.started_at),
        finished_at: Some(exit.finished_at),
        code: exit.code.unwrap_or(255),
        oom_killed: exit.oom_killed,
        error: told.error.clone(),
    }
}

async fn is_frozen(containers: &Arc<Containers>, container: &Arc<Container>) -> bool {
    if !matches!(container.view().state(), State::Paused(_)) {
        return false;
    }
    let record = container.view().record.clone();
    let path = containers.config.cgroup(&record.id, &record.host_config.cgroup_parent);
    let ask = move || {
        let group = Cgroup::open(&path).map_err(|error| Error::internal(error.to_string()))?;
        group.is_frozen().map_err(|error| Error::internal(error.to_string()))
    };
    containers.pools.run(Class::Host, ask).await.unwrap_or(false)
}

/// What its policy, or `--rm`, wants of a container that does not run. `interrupted`: the end was not the
/// policy's own doing.
fn todo(container: &Container, interrupted: bool) -> Option<Todo> {
    let view = container.view();
    let host = &view.record.host_config;
    let id = container.id().to_owned();
    match view.state() {
        State::Exited(run) => {
            let wanted = match host.restart_policy.name.as_str() {
                "always" => true,
                "unless-stopped" => !view.life.stopped_by_hand,
                "on-failure" => interrupted && run.code != 0 && !view.life.stopped_by_hand,
                _ => false,
            };
            if wanted {
                return Some(Todo::Start(id));
            }
            host.auto_remove.then_some(Todo::Remove(id))
        }
        State::Created { failed: Some(_) } => host.auto_remove.then_some(Todo::Remove(id)),
        _ => None,
    }
}

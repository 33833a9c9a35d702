//! Containers that a frontend or a client asks for while it leads a build: the first process starts one, others join it,
//! and with the first it ends.

use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use wharf_api::{ContainerConfig, ExecCreateRequest};
use wharf_build::dockerfile::{NetworkMode, Security};
use wharf_build::graph::{Execute, Mount, MountType};
use wharf_build::solve::{Cancel, MountSource, MountedCache, Process, ReadyMount, Tree};
use wharf_layer::{CopyOptions, copy};
use wharf_oci::Platform;
use wharf_shim::protocol::{Attach, Event, Exit, Framing};
use wharf_shim::{Events, Handle};
use wharf_store::Step as Scratch;
use wharf_sys::root::Root;

use super::{KILLED, READ, Streams, kill, record, within};
use crate::build::host::Hosted;
use crate::build::solve::RunOptions;
use crate::build::vertex::Steps;
use crate::build::{Build, BuildFailure, Entitlements, canceled};
use crate::container::record::Record;
use crate::container::spec::process;
use crate::error::ErrorKind;
use crate::names::new_id;

/// A container that is wanted.
#[derive(Debug, Clone)]
pub struct ContainerRequest {
    /// Its mounts, the root first, each with the tree that it shows (the mount's own `input` and `output` mean nothing).
    pub mounts: Vec<(Mount, Option<Tree>)>,
    /// What its processes may reach.
    pub network: NetworkMode,
    /// For what machine its programs are.
    pub platform: Platform,
    /// Host name; empty: the engine's choice.
    pub hostname: String,
    /// More lines of `/etc/hosts`: name and address.
    pub hosts: Vec<(String, String)>,
    /// What the client allows beyond the usual.
    pub entitlements: Entitlements,
}

/// A process that is wanted in it.
#[derive(Debug, Clone, Default)]
pub struct ProcessRequest {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Variables filled from secrets: variable, secret's id, whether it must be there.
    pub secret_environment: Vec<(String, String, bool)>,
    /// Working directory.
    pub directory: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// Whether it may do everything: only where the client allows it.
    pub privileged: bool,
    /// Whether something may be written to it.
    pub stdin: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// A container; what runs in it is killed when this is dropped.
#[derive(Debug)]
pub struct BuildContainer {
    build: Arc<Build>,
    request: ContainerRequest,
    cancel: Arc<Cancel>,
    state: tokio::sync::Mutex<State>,
    /// Turns true when nothing is left of it.
    gone: watch::Sender<bool>,
}

#[derive(Debug)]
enum State {
    Idle,
    Begun(Arc<Inside>),
    Released,
}

/// What is known of a container that runs.
#[derive(Debug)]
struct Inside {
    handle: Handle,
    record: Record,
    pid: i32,
    /// Who waits for the ends of processes that joined; `None`: the container ended.
    waiting: Mutex<Option<HashMap<String, oneshot::Sender<i32>>>>,
}

/// A process that runs.
#[derive(Debug)]
pub struct RunningProcess {
    /// What goes to its standard input; shutting it down ends that.
    pub input: OwnedWriteHalf,
    /// What it says.
    pub output: ProcessOutput,
    /// Its exit code, once nothing of it is left; an error where nobody knows it.
    pub exit: oneshot::Receiver<i32>,
    /// To change something about it.
    pub control: ProcessControl,
}

/// What a process says, piece by piece.
#[derive(Debug)]
pub struct ProcessOutput {
    stream: OwnedReadHalf,
    terminal: bool,
    stream_of: u8,
    left: usize,
}

/// Changes something about a process.
#[derive(Debug, Clone)]
pub struct ProcessControl {
    handle: Handle,
    exec: Option<String>,
}

impl Build {
    /// A container, in which nothing runs yet. On a thread of the runtime.
    #[must_use]
    pub fn container(self: &Arc<Self>, request: ContainerRequest) -> BuildContainer {
        BuildContainer {
            build: self.clone(),
            request,
            cancel: Arc::new(Cancel::below(self.cancel())),
            state: tokio::sync::Mutex::new(State::Idle),
            gone: watch::channel(false).0,
        }
    }
}

impl Drop for BuildContainer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl BuildContainer {
    /// Starts a process: the first with the container, the others in it.
    ///
    /// # Errors
    /// When it cannot be started, or the container has ended.
    pub async fn start(&self, wanted: ProcessRequest) -> Result<RunningProcess, BuildFailure> {
        let failed = |why: String| BuildFailure::new(ErrorKind::Internal, why);
        if wanted.arguments.is_empty() {
            return Err(failed("a process has no arguments".to_owned()));
        }
        let mut state = self.state.lock().await;
        match &*state {
            State::Released => Err(failed("the container was released".to_owned())),
            State::Begun(inside) => inside.join(&self.build, wanted).await.map_err(failed),
            State::Idle => {
                let (inside, process) = self.begin(wanted).await.map_err(failed)?;
                *state = State::Begun(inside);
                Ok(process)
            }
        }
    }

    /// What one of its mounts shows, to be read: as it is there while something runs, before that as it will begin.
    ///
    /// # Errors
    /// When there is no such mount, it shows nothing, or the container has ended.
    pub async fn files(&self, destination: &str) -> Result<Root, BuildFailure> {
        let failed = |why: String| BuildFailure::new(ErrorKind::Internal, why);
        match &*self.state.lock().await {
            State::Released => Err(failed("the container was released".to_owned())),
            State::Begun(inside) => inside.files(destination).map_err(failed),
            State::Idle => {
                let mut mounts = self.request.mounts.iter();
                let found = mounts.find(|(mount, _)| mount.destination == destination);
                let Some((mount, Some(tree))) = found else {
                    return Err(failed(format!("nothing is mounted at {destination} yet")));
                };
                let root = self.build.open(tree)?;
                let below = root.dir(&mount.selector).map_err(|error| failed(error.to_string()))?;
                Ok(below.into_root())
            }
        }
    }

    /// Kills what runs in it, and waits until nothing is left.
    pub async fn release(&self) {
        let mut gone = self.gone.subscribe();
        self.cancel.cancel();
        let before = std::mem::replace(&mut *self.state.lock().await, State::Released);
        if matches!(before, State::Begun(_)) {
            // The sender is this container's own.
            drop(gone.wait_for(|gone| *gone).await);
        }
    }

    async fn begin(&self, wanted: ProcessRequest) -> Result<(Arc<Inside>, RunningProcess), String> {
        let (tell, told) = oneshot::channel();
        let (build, request, cancel) = (self.build.clone(), self.request.clone(), self.cancel.clone());
        let gone = self.gone.clone();
        // A thread of its own for as long as the container lives: what it has mounted goes with it.
        tokio::task::spawn_blocking(move || {
            let mut tell = Some(tell);
            if let Err(why) = live(&build, &request, wanted, &cancel, &mut tell)
                && let Some(tell) = tell
            {
                // Whoever waited may be gone.
                drop(tell.send(Err(why)));
            }
            gone.send_replace(true);
        });
        told.await.map_err(|_| "the container ended before its process began".to_owned())?
    }
}

/// Who is told of the start.
type Told = oneshot::Sender<Result<(Arc<Inside>, RunningProcess), String>>;

/// A container's life, from its mounts to its end.
fn live(
    build: &Arc<Build>,
    request: &ContainerRequest,
    wanted: ProcessRequest,
    cancel: &Cancel,
    tell: &mut Option<Told>,
) -> Result<(), String> {
    let streams = Streams { stdin: wanted.stdin, terminal: wanted.terminal };
    let execute = execute(request, wanted);
    // Gone with this function: trees to be written to, directories of caches.
    let (mut scratch, mut held, mut mounts) = (Vec::new(), Vec::new(), Vec::new());
    for (mount, tree) in &request.mounts {
        mounts.push(ready(build, mount, tree.as_ref(), cancel, &mut scratch, &mut held)?);
    }
    if mounts.first().is_none_or(|root| root.destination != "/") {
        return Err("a container needs a root".to_owned());
    }
    let MountSource::Layers(root) = mounts.remove(0).source else {
        return Err("a container's root must be a tree of layers".to_owned());
    };
    let options = RunOptions { entitlements: request.entitlements, ..RunOptions::default() };
    let steps = Steps::none(build);
    let host = Hosted { build, options: &options, steps: &steps };
    let process = Process { execute: &execute, root, mounts, platform: &request.platform };
    within(&host, &process, streams, async |handle, events, record| {
        run(handle, events, record, streams, cancel, tell).await
    })
}

/// A process as the solver has one.
fn execute(request: &ContainerRequest, wanted: ProcessRequest) -> Execute {
    Execute {
        arguments: wanted.arguments,
        environment: wanted.environment,
        proxies: Vec::new(),
        directory: if wanted.directory.is_empty() { "/".to_owned() } else { wanted.directory },
        user: wanted.user,
        mounts: Vec::new(),
        network: request.network,
        security: if wanted.privileged { Security::Insecure } else { Security::Sandbox },
        hostname: request.hostname.clone(),
        hosts: request.hosts.clone(),
        secret_environment: wanted.secret_environment,
        ..Execute::default()
    }
}

/// Makes the source of a mount ready: what may be written to is a copy that goes with the container.
fn ready<'a>(
    build: &'a Build,
    mount: &Mount,
    tree: Option<&Tree>,
    cancel: &Cancel,
    scratch: &mut Vec<Scratch>,
    held: &mut Vec<MountedCache<'a>>,
) -> Result<ReadyMount, String> {
    let mut selector = mount.selector.clone();
    let source = match &mount.kind {
        MountType::Tmpfs(size) => MountSource::Tmpfs(*size),
        MountType::Secret(access) => MountSource::Secret(access.clone()),
        MountType::Ssh(access) => MountSource::Ssh(access.clone()),
        MountType::Cache { id, sharing } => {
            let root = tree.map(|tree| build.open(tree)).transpose().map_err(|failure| failure.message)?;
            let from = std::mem::take(&mut selector);
            let cache = build.builds.cache.directory(id, *sharing, root.as_ref(), &from, cancel)?;
            let path = cache.path().to_owned();
            held.push(cache);
            MountSource::Directory(path)
        }
        MountType::Bind => bound(build, mount, tree, scratch)?,
    };
    let (destination, read_only) = (mount.destination.clone(), mount.read_only);
    Ok(ReadyMount { source, selector, destination, read_only })
}

fn bound(
    build: &Build,
    mount: &Mount,
    tree: Option<&Tree>,
    scratch: &mut Vec<Scratch>,
) -> Result<MountSource, String> {
    let store = &build.builds.store;
    let chain = match tree {
        Some(Tree::Directory(path)) if mount.read_only => return Ok(MountSource::Directory(path.clone())),
        Some(Tree::Chain(chain)) => chain.as_slice(),
        Some(Tree::Directory(_)) | None => &[],
    };
    if mount.read_only {
        return store.chain_view(chain).map(MountSource::Layers).map_err(|error| error.to_string());
    }
    let step = store.begin_step(chain).map_err(|error| error.to_string())?;
    if let Some(Tree::Directory(path)) = tree {
        let (from, to) = (Root::open(path), Root::open(step.upper()));
        let (from, to) = (from.map_err(|error| error.to_string())?, to.map_err(|error| error.to_string())?);
        copy(&from, "/", &to, "/", &CopyOptions::default()).map_err(|error| error.to_string())?;
    }
    let recipe = step.recipe();
    scratch.push(step);
    Ok(MountSource::Layers(recipe))
}

/// Starts the first process and waits for the end of everything.
async fn run(
    handle: Handle,
    mut events: Events,
    record: &Record,
    streams: Streams,
    cancel: &Cancel,
    tell: &mut Option<Told>,
) -> Result<(), String> {
    let (ours, attach, theirs) = attachment(streams)?;
    handle.attach(attach, theirs.into()).await.map_err(|error| error.to_string())?;
    let (ended, exit) = oneshot::channel();
    let mut ended = Some(ended);
    let begun = match handle.launch().await {
        Ok(launched) => {
            let inside = Arc::new(Inside {
                handle: handle.clone(),
                record: record.clone(),
                pid: launched.pid,
                waiting: Mutex::new(Some(HashMap::new())),
            });
            let process = RunningProcess::new(ours, streams.terminal, exit, handle.clone(), None);
            Ok((inside, process))
        }
        Err(error) => Err(format!("unable to start container process: {error}")),
    };
    let inside = begun.as_ref().ok().map(|(inside, _)| inside.clone());
    if let Some(tell) = tell.take() {
        // Who is not there any more has let go of the container, which ends it.
        drop(tell.send(begun));
    }
    let mut killed = false;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = canceled(cancel), if !killed => {
                killed = true;
                kill(&handle).await;
                continue;
            }
        };
        match event {
            Some(Event::Exited { exit: Exit { code, .. }, .. }) => {
                if let Some(ended) = ended.take() {
                    // Nobody has to wait.
                    let _ = ended.send(code.unwrap_or(KILLED));
                }
            }
            Some(Event::ExecExited { id, exit: Exit { code, .. } }) => {
                if let Some(inside) = &inside {
                    inside.ended(&id, code.unwrap_or(KILLED));
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    if let Some(inside) = &inside {
        inside.over();
    }
    Ok(())
}

/// A process's streams: this side's end, and what the supervisor is told of its own.
fn attachment(streams: Streams) -> Result<(UnixStream, Attach, StdUnixStream), String> {
    let failed = |error: std::io::Error| format!("make a stream: {error}");
    let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let attach = Attach {
        stdin: streams.stdin,
        stdout: true,
        stderr: !streams.terminal,
        replay: false,
        stream: true,
        framing: if streams.terminal { Framing::Raw } else { Framing::Multiplexed },
        detach_keys: Vec::new(),
        read_ahead: Vec::new(),
    };
    Ok((ours, attach, theirs))
}

impl Inside {
    /// What is mounted at a place of the container.
    fn files(&self, destination: &str) -> Result<Root, String> {
        let failed = |error: &dyn std::fmt::Display| format!("open {destination} of a container: {error}");
        let process = std::path::PathBuf::from(format!("/proc/{}", self.pid));
        let root = Root::open(process.join("root")).map_err(|error| failed(&error))?;
        // Looked up after that: the number may have been given to another process, which is in another group.
        let groups = std::fs::read_to_string(process.join("cgroup")).map_err(|error| failed(&error))?;
        if !groups.contains(&self.record.id) {
            return Err(failed(&"it has ended"));
        }
        Ok(root.dir(destination).map_err(|error| failed(&error))?.into_root())
    }

    /// Starts one more process.
    async fn join(&self, build: &Arc<Build>, wanted: ProcessRequest) -> Result<RunningProcess, String> {
        let streams = Streams { stdin: wanted.stdin, terminal: wanted.terminal };
        if wanted.privileged && !self.record.host_config.privileged {
            return Err("a process cannot do more than the container that it joins".to_owned());
        }
        let (pid, record, maker) = (self.pid, self.record.clone(), build.clone());
        let process = tokio::task::spawn_blocking(move || joining(&maker, pid, record, wanted));
        let process = process.await.map_err(|error| format!("build worker: {error}"))??;
        let (ours, attach, theirs) = attachment(streams)?;
        let id = new_id();
        let (ended, exit) = oneshot::channel();
        match &mut *self.lock() {
            Some(waiting) => drop(waiting.insert(id.clone(), ended)),
            None => return Err("the container has ended".to_owned()),
        }
        let started = self.handle.exec(id.clone(), process, streams.stdin, Some((attach, theirs.into())));
        if let Err(error) = started.await {
            self.lock().as_mut().and_then(|waiting| waiting.remove(&id));
            return Err(format!("unable to start container process: {error}"));
        }
        Ok(RunningProcess::new(ours, streams.terminal, exit, self.handle.clone(), Some(id)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<String, oneshot::Sender<i32>>>> {
        // Entries are put in and taken out whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, id: &str, code: i32) {
        if let Some(ended) = self.lock().as_mut().and_then(|waiting| waiting.remove(id)) {
            // Nobody has to wait.
            let _ = ended.send(code);
        }
    }

    /// The container ended, and with it everything in it.
    fn over(&self) {
        for (_, ended) in self.lock().take().into_iter().flatten() {
            let _ = ended.send(KILLED);
        }
    }
}

/// A process that joins a container, by the users and groups that it has now.
fn joining(
    build: &Build,
    pid: i32,
    record: Record,
    wanted: ProcessRequest,
) -> Result<wharf_oci::runtime::Process, String> {
    let root = Root::open(format!("/proc/{pid}/root")).map_err(|error| error.to_string())?;
    let mut execute = Execute {
        environment: wanted.environment,
        secret_environment: wanted.secret_environment,
        ..Execute::default()
    };
    execute.arguments.clone_from(&wanted.arguments);
    let config = ContainerConfig {
        env: Some(record::environment(build, &execute)?),
        user: wanted.user.clone(),
        working_dir: wanted.directory.clone(),
        ..record.config
    };
    let ask = ExecCreateRequest {
        tty: wanted.terminal,
        attach_stdin: wanted.stdin,
        cmd: Some(wanted.arguments),
        ..ExecCreateRequest::default()
    };
    process::exec(&build.builds.config, &config, &record.host_config, &root, &[], &ask)
        .map_err(|error| error.to_string())
}

impl RunningProcess {
    fn new(
        stream: UnixStream,
        terminal: bool,
        exit: oneshot::Receiver<i32>,
        handle: Handle,
        exec: Option<String>,
    ) -> Self {
        let (output, input) = stream.into_split();
        let output = ProcessOutput { stream: output, terminal, stream_of: 1, left: 0 };
        Self { input, output, exit, control: ProcessControl { handle, exec } }
    }
}

impl ProcessOutput {
    /// The next piece, with its stream: 1 is standard output, 2 standard error; `None`: there is no more.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        if !self.terminal {
            while self.left == 0 {
                // Frames have a head of eight bytes: the stream, and how much follows.
                let mut head = [0; 8];
                self.stream.read_exact(&mut head).await.ok()?;
                self.stream_of = head[0];
                self.left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            }
        }
        let most = if self.terminal { READ } else { self.left.min(READ) };
        let mut data = vec![0; most];
        let count = self.stream.read(&mut data).await.ok().filter(|count| *count > 0)?;
        data.truncate(count);
        self.left = self.left.saturating_sub(count);
        Some((self.stream_of, data.into()))
    }
}

impl ProcessControl {
    /// Sets the size of its terminal.
    pub async fn resize(&self, height: u16, width: u16) {
        if let Err(error) = self.handle.resize(self.exec.clone(), height, width).await {
            tracing::debug!("resize a process of a build: {error}");
        }
    }

    /// Sends it a signal, by its name or number; `false`: there is none such.
    pub async fn signal(&self, name: &str) -> bool {
        let Some(number) = wharf_sys::signal::parse(name) else { return false };
        if let Err(error) = self.handle.signal(self.exec.clone(), number).await {
            tracing::debug!("signal a process of a build: {error}");
        }
        true
    }
}

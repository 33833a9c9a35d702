//! Containers of the gateway: what a client or a frontend runs by itself while it leads a build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::exec_message::Input;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, NewContainerRequest, StartedMessage,
};
use bollard_buildkit_proto::pb;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use wharf_build::dockerfile::NetworkMode;
use wharf_build::graph::Mount;
use wharf_engine::build::mirror::Root;
use wharf_engine::build::{
    BuildContainer, ContainerRequest, ProcessControl, ProcessOutput, ProcessRequest, RunningProcess,
};

use super::solve::Solving;
use super::{BuildKit, error, llb};

/// The containers of one build, at most.
const MOST: usize = 64;
/// The processes of one call, at most.
const MOST_PROCESSES: usize = 64;
/// The streams of a process.
const STDIN: u32 = 0;
const OUTPUTS: [u32; 2] = [1, 2];

/// The containers of one build, by the names that their makers gave them.
#[derive(Debug, Default)]
pub(super) struct Containers {
    open: Mutex<HashMap<String, Open>>,
}

#[derive(Debug, Clone)]
struct Open {
    container: Arc<BuildContainer>,
    /// Where its mounts are, in the order in which they were asked for.
    places: Arc<[String]>,
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        // A map of handles is whole whatever panicked.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a container.
    pub(super) fn add(
        &self,
        state: &BuildKit,
        solving: &Solving,
        asked: NewContainerRequest,
    ) -> Result<(), Status> {
        let name = asked.container_id.clone();
        let places = asked.mounts.iter().map(|mount| mount.dest.clone()).collect();
        let request = request(state, solving, asked)?;
        let mut open = self.lock();
        if open.contains_key(&name) {
            return Err(Status::already_exists(format!("container {name:?} exists")));
        }
        if open.len() >= MOST {
            return Err(Status::resource_exhausted(format!("a build has {MOST} containers at most")));
        }
        open.insert(name, Open { container: Arc::new(solving.build.container(request)), places });
        Ok(())
    }

    /// What the mount with a number shows in a container.
    pub(super) async fn files(&self, name: &str, mount: i32) -> Result<Root, Status> {
        let Open { container, places } = self.find(name)?;
        let place = usize::try_from(mount).ok().and_then(|number| places.get(number));
        let place = place.ok_or_else(|| {
            Status::invalid_argument(format!("mount index {mount} of container {name:?} is out of bounds"))
        })?;
        container.files(place).await.map_err(|failure| error::status(&failure))
    }

    fn find(&self, name: &str) -> Result<Open, Status> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| {
            Status::not_found(format!("container {name:?} previously released or not created"))
        })
    }

    /// Ends a container; one that is not there is no error.
    pub(super) async fn release(&self, name: &str) {
        let found = self.lock().remove(name);
        if let Some(open) = found {
            open.container.release().await;
        }
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

fn request(
    state: &BuildKit,
    solving: &Solving,
    asked: NewContainerRequest,
) -> Result<ContainerRequest, Status> {
    let network = match asked.network() {
        pb::NetMode::Unset => NetworkMode::Default,
        pb::NetMode::None => NetworkMode::None,
        pb::NetMode::Host => NetworkMode::Host,
    };
    let mut mounts = Vec::new();
    for mount in &asked.mounts {
        let tree = match mount.result_id.as_str() {
            "" => None,
            id => {
                let outcome = state.solves.result(id)?;
                let tree = outcome.tree().cloned();
                solving.use_of(outcome);
                tree
            }
        };
        let kind = llb::mount_kind(mount).map_err(Status::invalid_argument)?;
        let mount = Mount {
            input: None,
            selector: mount.selector.clone(),
            destination: mount.dest.clone(),
            read_only: mount.readonly && mount.dest != "/",
            output: None,
            kind,
        };
        mounts.push((mount, tree));
    }
    let root = mounts.iter().position(|(mount, _)| mount.destination == "/");
    let root = root.ok_or_else(|| Status::invalid_argument("a container has no root"))?;
    mounts[..=root].rotate_right(1);
    Ok(ContainerRequest {
        mounts,
        network,
        platform: llb::platform(asked.platform.as_ref()),
        hostname: asked.hostname,
        hosts: asked.extra_hosts.into_iter().map(|host| (host.host, host.ip)).collect(),
        entitlements: solving.entitlements(),
    })
}

/// Whom the messages of processes go to.
type Sender = mpsc::Sender<Result<ExecMessage, Status>>;

/// Serves one call: processes that it starts, what goes to them, what they say.
pub(super) async fn serve(solving: Arc<Solving>, mut asked: Streaming<ExecMessage>, told: Sender) {
    let mut processes: HashMap<String, Process> = HashMap::new();
    loop {
        let message = tokio::select! {
            message = asked.message() => message,
            () = told.closed() => return,
        };
        let Ok(Some(ExecMessage { process_id, input })) = message else { return };
        let done = match input {
            Some(Input::Init(init)) => begin(&solving, &mut processes, &process_id, init, &told).await,
            Some(input) => match processes.get_mut(&process_id) {
                Some(process) => process.take(input).await,
                None => Err(Status::not_found(format!("IO for process {process_id:?} not found"))),
            },
            None => Ok(()),
        };
        if let Err(status) = done {
            // Nobody is left to be told.
            let _ = told.send(Err(status)).await;
            return;
        }
    }
}

/// A process of a call.
struct Process {
    input: Option<OwnedWriteHalf>,
    control: ProcessControl,
}

impl Process {
    async fn take(&mut self, input: Input) -> Result<(), Status> {
        match input {
            Input::File(FdMessage { fd: STDIN, eof, data }) => {
                let Some(to) = &mut self.input else {
                    return Err(Status::out_of_range("fd 0 unavailable to write"));
                };
                // A process that reads no more is none of its writer's business: its exit is told.
                let written = to.write_all(&data).await;
                if eof || written.is_err() {
                    self.input = None;
                }
            }
            Input::File(FdMessage { fd, .. }) => {
                return Err(Status::out_of_range(format!("fd {fd} unavailable to write")));
            }
            Input::Resize(size) => {
                let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
                self.control.resize(side(size.rows), side(size.cols)).await;
            }
            Input::Signal(signal) => {
                if !self.control.signal(&signal.name).await {
                    return Err(Status::invalid_argument(format!("Unknown signal {}", signal.name)));
                }
            }
            Input::Init(_) | Input::Started(_) | Input::Exit(_) | Input::Done(_) => {}
        }
        Ok(())
    }
}

async fn begin(
    solving: &Solving,
    processes: &mut HashMap<String, Process>,
    name: &str,
    init: InitMessage,
    told: &Sender,
) -> Result<(), Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument("ProcessID required"));
    }
    if processes.contains_key(name) {
        return Err(Status::already_exists(format!("Process {name} already exists")));
    }
    if processes.len() >= MOST_PROCESSES {
        return Err(Status::resource_exhausted(format!("a call has {MOST_PROCESSES} processes at most")));
    }
    let container = solving.containers.find(&init.container_id)?.container;
    let fds = init.fds.clone();
    let wanted = wanted(init);
    let started = container.start(wanted).await.map_err(|failure| error::status(&failure))?;
    let RunningProcess { input, output, exit, control } = started;
    let input = fds.contains(&STDIN).then_some(input);
    processes.insert(name.to_owned(), Process { input, control });
    say(told, name, Input::Started(StartedMessage {})).await;
    let (told, name) = (told.clone(), name.to_owned());
    tokio::spawn(async move {
        pass_on(output, &fds, &told, &name).await;
        // The sender goes only with what it tells of.
        let code = exit.await.unwrap_or(-1);
        say(&told, &name, Input::Exit(ended(code))).await;
        say(&told, &name, Input::Done(DoneMessage {})).await;
    });
    Ok(())
}

fn wanted(init: InitMessage) -> ProcessRequest {
    let privileged = init.security() == pb::SecurityMode::Insecure;
    let meta = init.meta.unwrap_or_default();
    let secret = |secret: pb::SecretEnv| (secret.name, secret.id, !secret.optional);
    ProcessRequest {
        arguments: meta.args,
        environment: meta.env,
        secret_environment: init.secretenv.into_iter().map(secret).collect(),
        directory: meta.cwd,
        user: meta.user,
        privileged,
        stdin: init.fds.contains(&STDIN),
        terminal: init.tty,
    }
}

/// Passes on what a process says, to its end, as far as somebody wants it.
async fn pass_on(mut output: ProcessOutput, fds: &[u32], told: &Sender, name: &str) {
    while let Some((stream, data)) = output.next().await {
        let fd = u32::from(stream);
        if fds.contains(&fd) {
            say(told, name, Input::File(FdMessage { fd, eof: false, data: data.to_vec() })).await;
        }
    }
    for fd in OUTPUTS.into_iter().filter(|fd| fds.contains(fd)) {
        say(told, name, Input::File(FdMessage { fd, eof: true, data: Vec::new() })).await;
    }
}

fn ended(code: i32) -> ExitMessage {
    let failed = || rpc::Status {
        code: Code::Unknown.into(),
        message: format!("exit code: {code}"),
        details: Vec::new(),
    };
    ExitMessage { code: u32::try_from(code).unwrap_or(255), error: (code != 0).then(failed) }
}

async fn say(told: &Sender, name: &str, input: Input) {
    // Who hung up is told nothing more.
    let _ = told.send(Ok(ExecMessage { process_id: name.to_owned(), input: Some(input) })).await;
}

//! The daemon's end of a supervisor: asks, waits for answers, passes events on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use wharf_oci::runtime::Process;
use wharf_sys::pidfd::PidFd;
use wharf_sys::process::Child;
use wharf_sys::socket::{self, Kind};

use crate::protocol::{
    Answer, Attach, Carried, Event, Failure, MAX_FRAME, PROTOCOL_VERSION, Request, RequestFrame,
    RestartPolicy, Status, SupervisorConfig, SupervisorFrame, Timestamp,
};
use crate::wire::{self, WireError};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long starting a process may take: hooks and slow disks are in it.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Numbers below this one may be a supervisor's descriptors.
const ABOVE: i32 = 64;
/// The name under which a bundle keeps its supervisor's configuration.
pub const CONFIG_FILE: &str = "supervisor.json";

/// What a supervisor says unasked, in order. The channel closes when the supervisor is gone.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// Why a supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// No process could be made.
    #[error("start supervisor: {0}")]
    Spawn(io::Error),
    /// The bundle's `supervisor.json` could not be written.
    #[error("write {path}: {source}")]
    Config { path: PathBuf, source: io::Error },
    /// Nobody answers at the socket.
    #[error("connect to supervisor at {path}: {source}")]
    Connect { path: PathBuf, source: io::Error },
    /// The connection broke while asking.
    #[error("talk to supervisor: {0}")]
    Wire(#[from] WireError),
    /// The supervisor ended before it answered.
    #[error("supervisor ended before it answered {request}")]
    Gone { request: &'static str },
    /// It did not answer in time.
    #[error("supervisor did not answer {request} within {seconds} s", seconds = .after.as_secs())]
    Timeout { request: &'static str, after: Duration },
    /// It answered something that is no answer to this request.
    #[error("supervisor answered {request} with {answer}")]
    Unexpected { request: &'static str, answer: String },
    /// It tried and failed; the text is for the user.
    #[error("{}", .0.message)]
    Failed(Failure),
}

/// The descriptors that came with an answer.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// The container's first process.
    pub pidfd: Option<OwnedFd>,
    /// The mount of its root file system.
    pub root: Option<OwnedFd>,
    /// The supervisor's ends of its streams, as the adoption by a new supervisor takes them.
    pub stdio: Vec<(Carried, OwnedFd)>,
    /// The network namespace, and what else the daemon gave to be kept.
    pub kept: Vec<(Carried, OwnedFd)>,
}

impl Descriptors {
    fn sort(kinds: &[Carried], descriptors: Vec<OwnedFd>) -> Self {
        let mut sorted = Self::default();
        for (kind, fd) in kinds.iter().zip(descriptors) {
            match kind {
                Carried::Pidfd => sorted.pidfd = Some(fd),
                Carried::Root => sorted.root = Some(fd),
                Carried::Netns | Carried::Kept(_) => sorted.kept.push((*kind, fd)),
                other => sorted.stdio.push((*other, fd)),
            }
        }
        sorted
    }
}

/// A process that was started.
#[derive(Debug)]
pub struct Launched {
    /// Its pid in the host's namespace.
    pub pid: i32,
    /// When it was executed.
    pub started_at: Timestamp,
    /// Empty for an exec.
    pub descriptors: Descriptors,
    /// What was asked for but could not be had.
    pub warnings: Vec<String>,
}

/// A connection to one supervisor. Clones share it. The supervisor does not mind when they go.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Owner>);

/// Ends the reading task with the last handle, unless it has a child to reap.
#[derive(Debug)]
struct Owner {
    connection: Arc<Connection>,
    reader: Option<tokio::task::AbortHandle>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

type Reply = (Answer, Vec<OwnedFd>);

/// A launch that was asked for together with the supervisor.
#[derive(Debug)]
pub struct Launching(oneshot::Receiver<Reply>);

#[derive(Debug)]
struct Connection {
    /// A message socket; the stream type is only what makes it wait.
    socket: UnixStream,
    next: AtomicU64,
    /// Who waits for which answer; `None` once the supervisor is gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
}

impl Handle {
    /// Writes the bundle's `supervisor.json` and starts a supervisor for it from `executable` (this
    /// program's file, [`wharf_sys::process::SelfExecutable::as_file`]). `given`: what lasts over restarts
    /// ([`Carried::lasts`]): the detached mount of the root file system, the network namespace. Blocks for some hundred microseconds, so belongs on a blocking thread of a tokio runtime.
    ///
    /// # Errors
    /// [`HandleError::Config`] and [`HandleError::Spawn`].
    pub fn spawn(
        executable: BorrowedFd<'_>,
        config: &SupervisorConfig,
        given: &[(Carried, BorrowedFd<'_>)],
    ) -> Result<(Self, Events), HandleError> {
        Self::start_with(executable, config, "--with", given)
    }

    /// Starts a supervisor that takes over a running container whose supervisor was killed, with the
    /// descriptors that [`Handle::launch`] or [`Handle::status`] had given.
    ///
    /// # Errors
    /// [`HandleError::Config`] and [`HandleError::Spawn`].
    pub fn adopt(
        executable: BorrowedFd<'_>,
        config: &SupervisorConfig,
        descriptors: &Descriptors,
    ) -> Result<(Self, Events), HandleError> {
        let single = [(Carried::Pidfd, &descriptors.pidfd), (Carried::Root, &descriptors.root)];
        let single = single.into_iter().filter_map(|(kind, fd)| fd.as_ref().map(|fd| (kind, fd.as_fd())));
        let lists = descriptors.stdio.iter().chain(&descriptors.kept);
        let given: Vec<_> = single.chain(lists.map(|(kind, fd)| (*kind, fd.as_fd()))).collect();
        Self::start_with(executable, config, "--adopt", &given)
    }

    fn start_with(
        executable: BorrowedFd<'_>,
        config: &SupervisorConfig,
        mode: &str,
        given: &[(Carried, BorrowedFd<'_>)],
    ) -> Result<(Self, Events), HandleError> {
        write_config(config)?;
        let (ours, theirs) = socket::pair(Kind::Messages).map_err(HandleError::Spawn)?;
        let kinds: Vec<Carried> = given.iter().map(|(kind, _)| *kind).collect();
        let mut passed = vec![theirs.as_fd()];
        passed.extend(given.iter().map(|(_, fd)| *fd));
        let kinds = serde_json::to_string(&kinds).map_err(WireError::Malformed)?;
        let arguments = [
            "wharf".into(),
            "supervisor".into(),
            mode.into(),
            OsString::from(kinds),
            config.bundle.clone().into_os_string(),
        ];
        Self::start(executable, &arguments, &passed, ours)
    }

    fn start(
        executable: BorrowedFd<'_>,
        arguments: &[OsString],
        descriptors: &[BorrowedFd<'_>],
        ours: OwnedFd,
    ) -> Result<(Self, Events), HandleError> {
        let child = start_program(executable, arguments, descriptors).map_err(HandleError::Spawn)?;
        Self::over(ours, Some(child.pidfd.into())).map_err(HandleError::Spawn)
    }

    /// Connects to the supervisor that listens at `path` (`exec-root/c/ID`); ask it with
    /// [`Handle::hello`] before anything else.
    ///
    /// # Errors
    /// [`HandleError::Connect`]: it is gone, its end is in the container's journal.
    pub fn connect(path: &Path) -> Result<(Self, Events), HandleError> {
        let failed = |source| HandleError::Connect { path: path.to_owned(), source };
        Self::over(socket::connect(path, Kind::Messages).map_err(failed)?, None).map_err(failed)
    }

    pub(crate) fn over(socket: OwnedFd, child: Option<PidFd>) -> io::Result<(Self, Events)> {
        Self::over_asked(socket, child, HashMap::new())
    }

    /// As [`Self::over`], with the launch as the first thing that the supervisor finds.
    pub(crate) fn launching(socket: OwnedFd, child: PidFd) -> Result<(Self, Events, Launching), HandleError> {
        let request = wire::encode(&RequestFrame { number: 0, request: Request::Launch })?;
        let (sender, reply) = oneshot::channel();
        let (handle, events) = Self::over_asked(socket, Some(child), HashMap::from([(0, sender)]))
            .map_err(HandleError::Spawn)?;
        // One that has ended meanwhile answers by that.
        let _ended = socket::send_message(&handle.0.connection.socket, &request, &[]);
        Ok((handle, events, Launching(reply)))
    }

    fn over_asked(
        socket: OwnedFd,
        child: Option<PidFd>,
        asked: HashMap<u64, oneshot::Sender<Reply>>,
    ) -> io::Result<(Self, Events)> {
        socket::allow_messages_of(&socket, MAX_FRAME);
        wharf_sys::pipe::set_nonblocking(&socket)?;
        let connection = Arc::new(Connection {
            socket: UnixStream::from_std(socket.into())?,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(asked)),
        });
        let (events, receiver) = mpsc::unbounded_channel();
        let has_child = child.is_some();
        let reader = tokio::spawn(Arc::clone(&connection).read(events, child)).abort_handle();
        let reader = (!has_child).then_some(reader);
        Ok((Self(Arc::new(Owner { connection, reader })), receiver))
    }

    /// Asks which version of the protocol the supervisor speaks.
    ///
    /// # Errors
    /// All of [`HandleError`] but the first three, as every request.
    pub async fn hello(&self) -> Result<u32, HandleError> {
        match self.ask("hello", Request::Hello { version: PROTOCOL_VERSION }, None, PATIENCE).await? {
            (Answer::Hello { version }, _) => Ok(version),
            (other, _) => Err(unexpected("hello", &other)),
        }
    }

    /// Starts the container's process. After [`HandleError::Failed`] the supervisor has undone everything
    /// and ends.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn launch(&self) -> Result<Launched, HandleError> {
        launched("launch", self.ask("launch", Request::Launch, None, START_PATIENCE).await?)
    }

    /// As [`Handle::launch`], where that was asked for already.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn launched(&self, launching: Launching) -> Result<Launched, HandleError> {
        let request = "launch";
        match tokio::time::timeout(START_PATIENCE, launching.0).await {
            Ok(Ok((Answer::Failed(failure), _))) => Err(HandleError::Failed(failure)),
            Ok(Ok(reply)) => launched(request, reply),
            Ok(Err(_closed)) => Err(HandleError::Gone { request }),
            Err(_late) => Err(HandleError::Timeout { request, after: START_PATIENCE }),
        }
    }

    /// Connects a client to the container's streams; its connection belongs to the supervisor from then on.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn attach(&self, attach: Attach, connection: OwnedFd) -> Result<(), HandleError> {
        self.done("attach", Request::Attach(attach), Some(connection)).await
    }

    /// Runs one more process in the container. Its end comes as [`Event::ExecExited`].
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn exec(
        &self,
        id: String,
        process: Process,
        open_stdin: bool,
        attach: Option<(Attach, OwnedFd)>,
    ) -> Result<Launched, HandleError> {
        let (attach, connection) = attach.unzip();
        let request = Request::Exec { id, process: Box::new(process), open_stdin, attach };
        launched("exec", self.ask("exec", request, connection, START_PATIENCE).await?)
    }

    /// Sets the size of the container's terminal, or of the exec's named.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn resize(&self, exec: Option<String>, height: u16, width: u16) -> Result<(), HandleError> {
        self.done("resize", Request::Resize { exec, height, width }, None).await
    }

    /// Sends a signal to the container's first process, or to the exec named.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn signal(&self, exec: Option<String>, signal: i32) -> Result<(), HandleError> {
        self.done("signal", Request::Signal { exec, signal }, None).await
    }

    /// Kills every process of the container.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn kill_all(&self) -> Result<(), HandleError> {
        self.done("kill-all", Request::KillAll, None).await
    }

    /// Says that a person asked for the stop, so the restart policy rests. A container that waits for its
    /// restart ends at once.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn stop_intended(&self) -> Result<(), HandleError> {
        self.done("stop-intended", Request::StopIntended, None).await
    }

    /// Tells a supervisor that adopted its container how the first process ended, which this process reaped.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn reaped(&self, code: i32) -> Result<(), HandleError> {
        self.done("reaped", Request::Reaped { code }, None).await
    }

    /// Replaces the restart policy.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn update_restart(&self, restart: RestartPolicy) -> Result<(), HandleError> {
        self.done("update-restart", Request::UpdateRestart { restart }, None).await
    }

    /// Gives the supervisor descriptors to hold, which last as long as it does.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn keep(&self, given: Vec<(Carried, OwnedFd)>) -> Result<(), HandleError> {
        let (descriptors, fds): (Vec<Carried>, Vec<OwnedFd>) = given.into_iter().unzip();
        match self.ask("keep", Request::Keep { descriptors }, fds, PATIENCE).await? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(unexpected("keep", &other)),
        }
    }

    /// Has the compressed form of a rotated log file put in its place.
    ///
    /// # Errors
    /// As [`Handle::hello`]; the file is then still where it was.
    pub async fn log_compressed(&self, inode: u64, file: PathBuf) -> Result<(), HandleError> {
        self.done("log-compressed", Request::LogCompressed { inode, file }, None).await
    }

    /// What the supervisor knows of its container, with the descriptors it holds.
    ///
    /// # Errors
    /// As [`Handle::hello`].
    pub async fn status(&self) -> Result<(Status, Descriptors), HandleError> {
        match self.ask("status", Request::Status, None, PATIENCE).await? {
            (Answer::Status(status), fds) => {
                let descriptors = Descriptors::sort(&status.descriptors, fds);
                Ok((*status, descriptors))
            }
            (other, _) => Err(unexpected("status", &other)),
        }
    }

    async fn done(
        &self,
        name: &'static str,
        request: Request,
        fd: Option<OwnedFd>,
    ) -> Result<(), HandleError> {
        match self.ask(name, request, fd, PATIENCE).await? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(unexpected(name, &other)),
        }
    }

    async fn ask(
        &self,
        name: &'static str,
        request: Request,
        descriptors: impl IntoIterator<Item = OwnedFd>,
        patience: Duration,
    ) -> Result<Reply, HandleError> {
        let connection = &self.0.connection;
        let number = connection.next.fetch_add(1, Ordering::Relaxed);
        let reply = connection.expect(number).ok_or(HandleError::Gone { request: name })?;
        let descriptors: Vec<OwnedFd> = descriptors.into_iter().collect();
        let exchange = async {
            connection.send(RequestFrame { number, request }, descriptors).await?;
            reply.await.map_err(|_closed| HandleError::Gone { request: name })
        };
        let result = tokio::time::timeout(patience, exchange)
            .await
            .unwrap_or(Err(HandleError::Timeout { request: name, after: patience }));
        match result {
            Ok((Answer::Failed(failure), _)) => Err(HandleError::Failed(failure)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                connection.forget(number);
                Err(error)
            }
        }
    }
}

impl Connection {
    /// Registers interest in an answer; `None`: the supervisor is gone.
    fn expect(&self, number: u64) -> Option<oneshot::Receiver<Reply>> {
        let (sender, receiver) = oneshot::channel();
        self.lock().as_mut()?.insert(number, sender);
        Some(receiver)
    }

    fn forget(&self, number: u64) {
        if let Some(waiting) = self.lock().as_mut() {
            waiting.remove(&number);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        // Nothing panics while it is held, and a map is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: RequestFrame, descriptors: Vec<OwnedFd>) -> Result<(), HandleError> {
        let bytes = wire::encode(&frame)?;
        let beside: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        self.socket
            .async_io(Interest::WRITABLE, || socket::send_message(&self.socket, &bytes, &beside))
            .await
            .map_err(|error| HandleError::Wire(error.into()))
    }

    /// Passes frames on until the supervisor is gone.
    async fn read(self: Arc<Self>, events: mpsc::UnboundedSender<Event>, child: Option<PidFd>) {
        let mut reset = false;
        loop {
            let received = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await;
            let (frame, descriptors) = match received {
                Ok((frame, descriptors)) if !frame.is_empty() => (frame, descriptors),
                // It ended with a request unread. The kernel says so once, ahead of its last words.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !reset => {
                    reset = true;
                    continue;
                }
                Ok(_) | Err(_) => break,
            };
            // Frames of a newer supervisor that this daemon does not know are passed over.
            match serde_json::from_slice(&frame) {
                Ok(SupervisorFrame::Answer { number, answer }) => {
                    let waiter = self.lock().as_mut().and_then(|waiting| waiting.remove(&number));
                    if let Some(waiter) = waiter {
                        let _asker_gave_up = waiter.send((answer, descriptors));
                    }
                }
                Ok(SupervisorFrame::Event(event)) => {
                    let _nobody_listens = events.send(event);
                }
                Err(_) => {}
            }
        }
        *self.lock() = None;
        drop(events);
        if let Some(child) = child {
            // It closes its socket in its last moments. Someone else may have reaped it.
            reap(child).await;
        }
    }
}

/// Waits for the end of a child that is about to end, without a thread; nobody waits for this.
async fn reap(child: PidFd) {
    let mut pause = Duration::from_millis(1);
    while let Ok(None) = child.try_wait() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Receives a message through a buffer that all connections of a thread share: each of thousands would
/// else hold one of the largest frame's size.
fn receive(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_FRAME]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let (length, descriptors) = socket::receive_message(socket, buffer)?;
        Ok((buffer[..length].to_vec(), descriptors))
    })
}

/// Starts this program with `arguments`; `descriptors` become 3 and so on.
pub(crate) fn start_program(
    executable: BorrowedFd<'_>,
    arguments: &[OsString],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Child> {
    let null = wharf_sys::pipe::null()?;
    // Above the numbers that the program's own descriptors get.
    let executable = fcntl_dupfd_cloexec(executable, ABOVE)?;
    let path = OsString::from(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    let mut all = vec![null.as_fd(), null.as_fd(), rustix::stdio::stderr()];
    all.extend(descriptors);
    Ok(wharf_sys::process::spawn(&path, arguments, &all)?)
}

fn launched(name: &'static str, reply: Reply) -> Result<Launched, HandleError> {
    match reply {
        (Answer::Started { pid, started_at, descriptors, warnings }, fds) => {
            Ok(Launched { pid, started_at, descriptors: Descriptors::sort(&descriptors, fds), warnings })
        }
        (other, _) => Err(unexpected(name, &other)),
    }
}

fn unexpected(request: &'static str, answer: &Answer) -> HandleError {
    HandleError::Unexpected { request, answer: format!("{answer:?}") }
}

pub(crate) fn write_config(config: &SupervisorConfig) -> Result<(), HandleError> {
    let path = config.bundle.join(CONFIG_FILE);
    let text = serde_json::to_vec(config).map_err(WireError::Malformed)?;
    std::fs::write(&path, text).map_err(|source| HandleError::Config { path, source })
}

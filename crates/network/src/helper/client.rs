//! The daemon's handle on the net helper: blocking calls from any thread, and a watcher that starts the
//! helper again when it dies.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use wharf_sys::namespace::IdMap;
use wharf_sys::pidfd::PidFd;
use wharf_sys::pipe::Pipe;
use wharf_sys::socket::{self, Kind};
use wharf_sys::time::Instant;

use super::error::HelperError;
use super::holder::holder_of;
use super::kept::{Kept, Space};
use super::protocol::{
    AT_ONCE, Answer, Holder, MAX_FRAME, PROTOCOL_VERSION, PortRequest, Relay, Request, Reservation, Stats,
};
use crate::names::record::{self, Names};

/// How long an answer may take: the helper itself never waits for anything but the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a new helper may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors for a new process are kept above the numbers that it gets them at.
const ABOVE: i32 = 64;
/// The watcher's calls are few and shallow.
const WATCHER_STACK: usize = 256 * 1024;
/// A helper that ended before this has a fault that the next one may have, too: not at once then.
const SOON: Duration = Duration::from_secs(1);
/// How long is waited between attempts to start one, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

type Result<T> = std::result::Result<T, HelperError>;

/// A network namespace made by the helper, loopback up.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace (an nsfs file).
    pub namespace: OwnedFd,
    /// A `NETLINK_ROUTE` socket opened inside.
    pub route: OwnedFd,
    /// The resolver's sockets, if names are answered there.
    pub resolver: Option<Resolver>,
}

/// Duplicates of the sockets that answer names in a namespace, for whoever outlives the helper.
#[derive(Debug)]
pub struct Resolver {
    /// Bound to 127.0.0.11 inside.
    pub udp: OwnedFd,
    /// Listens on 127.0.0.11 inside, on the same port as `udp`.
    pub tcp: OwnedFd,
}

/// The net helper of an instance. Calls block for some ten microseconds; the first one starts the process.
/// Clones share one connection.
#[derive(Debug, Clone)]
pub struct Helper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instance: String,
    exec_root: PathBuf,
    /// This program's file.
    executable: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// Counts connections, so that a watcher knows whether its own is still the one.
    generation: u64,
    kept: Kept,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    buffer: Vec<u8>,
    pid: i32,
    /// The helper's process, if it could be had.
    process: Option<PidFd>,
}

impl State {
    /// Gives the connection up, and waits until a helper that is ending has closed all its descriptors: its
    /// sockets would still be in the way of the next one's.
    fn lose(&mut self) {
        let Some(process) = self.connection.take().and_then(|mut connection| connection.process.take())
        else {
            return;
        };
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ended_or_stuck = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Wakes the watcher, which has a duplicate.
        let _gone_already = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

impl Helper {
    /// A handle; no process is started or looked for yet. `executable` is this program's file
    /// ([`wharf_sys::process::SelfExecutable::as_file`]).
    ///
    /// # Errors
    /// [`HelperError::Start`] when descriptors run out.
    pub fn new(instance: &str, exec_root: &Path, executable: BorrowedFd<'_>) -> Result<Self> {
        let executable =
            fcntl_dupfd_cloexec(executable, ABOVE).map_err(|errno| HelperError::Start(errno.into()))?;
        Ok(Self(Arc::new(Inner {
            instance: instance.to_owned(),
            exec_root: exec_root.to_owned(),
            executable,
            state: Mutex::default(),
        })))
    }

    /// A handle on a helper that runs: an earlier daemon's, or a new one.
    ///
    /// # Errors
    /// As [`Helper::start`].
    pub fn ensure(instance: &str, exec_root: &Path, executable: BorrowedFd<'_>) -> Result<Self> {
        let helper = Self::new(instance, exec_root, executable)?;
        helper.start()?;
        Ok(helper)
    }

    /// Connects to the instance's helper, starting it if there is none. Every call does so by itself.
    ///
    /// # Errors
    /// [`HelperError::Start`], [`HelperError::Silent`].
    pub fn start(&self) -> Result<()> {
        self.connected(&mut self.lock()).map(|_connection| ())
    }

    /// Whether the instance's helper runs, without starting one.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().connection.is_some() || socket::connect(&self.socket_path(), Kind::Messages).is_ok()
    }

    /// The helper's process, once connected.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.lock().connection.as_ref().map(|connection| connection.pid)
    }

    /// A network namespace for `owner`, loopback up, with names answered at 127.0.0.11 if `resolver`. The
    /// owner must have none yet. It lives until [`Helper::release`], whoever else holds it. With `ids` it belongs to
    /// the users of a user namespace of its own ([`wharf_sys::namespace::owner`]).
    ///
    /// # Errors
    /// [`HelperError::Failed`] with what the kernel refused.
    pub fn namespace(&self, owner: &str, resolver: bool, ids: Option<&IdMap>) -> Result<Namespace> {
        let request = Request::Namespace { owner: owner.to_owned(), resolver, ids: ids.cloned() };
        self.make_namespace(owner, &request)
    }

    /// Answers names in a namespace that was made without; one that has a resolver is returned as it is.
    ///
    /// # Errors
    /// [`HelperError::Failed`]: the owner has no namespace here, or what the kernel refused.
    pub fn resolver(&self, owner: &str) -> Result<Namespace> {
        self.make_namespace(owner, &Request::Resolver { owner: owner.to_owned() })
    }

    fn make_namespace(&self, owner: &str, request: &Request) -> Result<Namespace> {
        let mut state = self.lock();
        match self.ask(&mut state, request, &[])? {
            (Answer::Namespace { .. }, fds) => {
                let mut fds = fds.into_iter();
                let (Some(namespace), Some(route)) = (fds.next(), fds.next()) else {
                    return Err(HelperError::Unexpected("a namespace without its descriptors".to_owned()));
                };
                let resolver = fds.next().zip(fds.next()).map(|(udp, tcp)| Resolver { udp, tcp });
                let kept = keep(&namespace, resolver.as_ref()).map_err(HelperError::Socket)?;
                state.kept.spaces.insert(owner.to_owned(), kept);
                Ok(Namespace { namespace, route, resolver })
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Gives the helper a namespace that an earlier one had made, with what its supervisor kept. To be done
    /// for every running container when a daemon starts; one that the helper has already is passed over.
    ///
    /// # Errors
    /// [`HelperError::Failed`] with what the kernel refused.
    pub fn adopt(&self, owner: &str, namespace: BorrowedFd<'_>, resolver: Option<&Resolver>) -> Result<()> {
        let mut state = self.lock();
        let kept = keep(namespace, resolver).map_err(HelperError::Socket)?;
        let (request, fds) = kept.adoption(owner);
        self.done(&mut state, &request, &fds)?;
        state.kept.spaces.insert(owner.to_owned(), kept);
        Ok(())
    }

    /// A fresh `NETLINK_ROUTE` socket inside the owner's namespace.
    ///
    /// # Errors
    /// [`HelperError::Failed`]: the owner has no namespace here.
    pub fn route(&self, owner: &str) -> Result<OwnedFd> {
        let mut state = self.lock();
        let (answer, fds) = self.ask(&mut state, &Request::Route { owner: owner.to_owned() }, &[])?;
        fds.into_iter().next().ok_or_else(|| unexpected(&answer))
    }

    /// Holds ports for `owner`: all of them, or none and the error names who has the first that is not to be
    /// had. Ports the owner holds already count as had, so asking again after a daemon's restart is harmless.
    /// The answer has one entry per port and address, in the order asked for.
    ///
    /// # Errors
    /// [`HelperError::Taken`].
    pub fn reserve(&self, owner: &str, ports: &[PortRequest]) -> Result<Vec<Reservation>> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.lock();
        let mut all = Vec::new();
        for some in ports.chunks(AT_ONCE) {
            match self.reserve_some(&mut state, owner, some) {
                Ok((held, new)) => all.extend(held.into_iter().map(|port| (new.contains(&port), port))),
                Err(error) => {
                    let new: Vec<_> = all.into_iter().filter_map(|(new, port)| new.then_some(port)).collect();
                    // The first error counts; what stays is let go with everything of the owner's.
                    let _ = self.unreserve_all(&mut state, owner, &new);
                    return Err(error);
                }
            }
        }
        Ok(all.into_iter().map(|(_, port)| port).collect())
    }

    /// As many as one frame tells, all or none; those that are held now, and those of them that were not before.
    fn reserve_some(
        &self,
        state: &mut State,
        owner: &str,
        ports: &[PortRequest],
    ) -> Result<(Vec<Reservation>, Vec<Reservation>)> {
        let request = Request::Reserve { owner: owner.to_owned(), ports: ports.to_vec() };
        match self.ask(state, &request, &[])? {
            (Answer::Reserved { ports }, _) => {
                let new = state.kept.reserved(owner, &ports);
                Ok((ports, new))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Lets some of the owner's ports go, with their relays.
    ///
    /// # Errors
    /// [`HelperError::Socket`] when the helper cannot be reached.
    pub fn unreserve(&self, owner: &str, ports: &[Reservation]) -> Result<()> {
        self.unreserve_all(&mut self.lock(), owner, ports)
    }

    fn unreserve_all(&self, state: &mut State, owner: &str, ports: &[Reservation]) -> Result<()> {
        state.kept.unreserved(owner, ports);
        ports.chunks(AT_ONCE).try_for_each(|some| {
            let request = Request::Unreserve { owner: owner.to_owned(), ports: some.to_vec() };
            self.done(state, &request, &[])
        })
    }

    /// Carries what arrives at the sockets of held ports to the container, see [`Relay`].
    ///
    /// # Errors
    /// [`HelperError::Failed`]: the owner does not hold the port, or it is neither TCP nor UDP.
    pub fn relay(&self, owner: &str, relays: &[Relay]) -> Result<()> {
        let mut state = self.lock();
        let new = state.kept.not_running(owner, relays);
        for some in new.chunks(AT_ONCE) {
            let request = Request::Relay { owner: owner.to_owned(), relays: some.to_vec() };
            self.done(&mut state, &request, &[])?;
            state.kept.relayed(owner, some);
        }
        Ok(())
    }

    /// The relay that an IPv6 port needs so that `[::1]` reaches `container`; `None` for other ports.
    #[must_use]
    pub fn relay_for(port: &Reservation, container: SocketAddr) -> Option<Relay> {
        let reaches_loopback = port.address.is_unspecified() || port.address.is_loopback();
        let needed = port.address.is_ipv6() && reaches_loopback && port.protocol != super::Protocol::Sctp;
        needed.then(|| Relay { from: port.clone(), to: container })
    }

    /// Lets go of all that `owner` has, its names among it. Nothing there is no error, and starts no helper.
    ///
    /// # Errors
    /// [`HelperError::Names`]; [`HelperError::Socket`] when the helper cannot be reached.
    pub fn release(&self, owner: &str) -> Result<()> {
        let names = self.remove_names(owner);
        let mut state = self.lock();
        state.kept.forget(owner);
        if state.connection.is_some() || socket::connect(&self.socket_path(), Kind::Messages).is_ok() {
            self.done(&mut state, &Request::Release { owner: owner.to_owned() }, &[])?;
        }
        names
    }

    /// All that have anything here, for sweeping what a dead daemon left: namespaces, ports or names.
    ///
    /// # Errors
    /// [`HelperError::Socket`] when the helper cannot be reached, [`HelperError::Names`].
    pub fn owners(&self) -> Result<Vec<String>> {
        let mut all = record::owners(&self.0.exec_root)
            .map_err(|source| HelperError::Names { owner: "all".to_owned(), source })?;
        if !self.is_running() {
            return Ok(all);
        }
        let mut state = self.lock();
        let mut after = String::new();
        loop {
            match self.ask(&mut state, &Request::Owners { after: after.clone() }, &[])? {
                (Answer::Owners { owners }, _) => match owners.last() {
                    Some(last) => {
                        after.clone_from(last);
                        all.extend(owners);
                    }
                    None => break,
                },
                (other, _) => return Err(unexpected(&other)),
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Says how a container is called and what it may ask for. Only a file is written: it works without a
    /// helper, and whoever asks from then on gets the new answer.
    ///
    /// # Errors
    /// [`HelperError::Names`].
    pub fn set_names(&self, owner: &str, names: &Names) -> Result<()> {
        record::write(&self.0.exec_root, owner, names)
            .map_err(|source| HelperError::Names { owner: owner.to_owned(), source })
    }

    /// Takes a container's names away.
    ///
    /// # Errors
    /// [`HelperError::Names`].
    pub fn remove_names(&self, owner: &str) -> Result<()> {
        record::remove(&self.0.exec_root, owner)
            .map_err(|source| HelperError::Names { owner: owner.to_owned(), source })
    }

    /// A duplicate of the `NETLINK_NETFILTER` socket that owns the firewall's table; the helper made it, in
    /// the host's namespace, and has it as long as either of both lives. Whoever used it before may have left
    /// answers in it: read it empty first.
    ///
    /// # Errors
    /// [`HelperError::Failed`] with what the kernel refused.
    pub fn firewall(&self) -> Result<OwnedFd> {
        let mut state = self.lock();
        let (answer, fds) = self.ask(&mut state, &Request::Firewall, &[])?;
        let socket = fds.into_iter().next().ok_or_else(|| unexpected(&answer))?;
        let kept = fcntl_dupfd_cloexec(&socket, ABOVE).map_err(|errno| HelperError::Socket(errno.into()))?;
        state.kept.firewall = Some(kept);
        Ok(socket)
    }

    /// What the helper has and did.
    ///
    /// # Errors
    /// [`HelperError::Socket`] when the helper cannot be reached.
    pub fn stats(&self) -> Result<Stats> {
        match self.ask(&mut self.lock(), &Request::Stats, &[])? {
            (Answer::Stats(stats), _) => Ok(stats),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn socket_path(&self) -> PathBuf {
        super::socket_path(&self.0.exec_root)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a call that was cut short leaves no connection behind.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, state: &mut State, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        match self.ask(state, request, fds)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// One question and its answer; once more if the helper turns out to be gone. What a dead helper did of
    /// the first try died with it.
    fn ask(
        &self,
        state: &mut State,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        let again = state.connection.is_some();
        let answer = match self.connected(state)?.ask(request, fds) {
            Err(_gone) if again => {
                state.lose();
                self.connected(state)?.ask(request, fds)
            }
            other => other,
        };
        match answer {
            Ok((Answer::Failed { message, errno }, _)) => Err(HelperError::Failed { message, errno }),
            Ok((Answer::Taken(mut taken), _)) => {
                if taken.by == Holder::Unknown {
                    // Looked for here, where it may take its time.
                    taken.by = holder_of(&taken.wanted);
                }
                Err(HelperError::Taken(Box::new(taken)))
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                state.connection = None;
                Err(HelperError::Socket(error))
            }
        }
    }

    /// The connection, made if there is none: to a helper that runs, or to a new one, which gets back all
    /// that the last one had.
    fn connected<'state>(&self, state: &'state mut State) -> Result<&'state mut Connection> {
        if state.connection.is_none() {
            let (mut connection, child) = self.reach()?;
            state.kept.give_back(&mut connection).map_err(HelperError::Socket)?;
            state.generation += 1;
            self.watch(&connection, child, state.generation)?;
            state.connection = Some(connection);
        }
        // Just made, if there was none.
        state.connection.as_mut().ok_or(HelperError::Silent)
    }

    fn reach(&self) -> Result<(Connection, Option<PidFd>)> {
        let path = self.socket_path();
        if let Some(connection) = Connection::open(&path) {
            return Ok((connection, None));
        }
        let child = self.spawn()?;
        // Another daemon of the instance may have been faster; then the new helper has ended and the other
        // one answers.
        Connection::open(&path).map(|connection| (connection, Some(child))).ok_or(HelperError::Silent)
    }

    /// Starts the process and waits until it listens or has ended.
    fn spawn(&self) -> Result<PidFd> {
        let spawned = || -> io::Result<(PidFd, OwnedFd)> {
            let ready = Pipe::new()?;
            let null = wharf_sys::pipe::null()?;
            let path = OsString::from(format!("/proc/self/fd/{}", {
                use std::os::fd::AsRawFd;
                self.0.executable.as_raw_fd()
            }));
            let arguments: [OsString; 4] = [
                "wharf".into(),
                "net".into(),
                self.0.instance.clone().into(),
                self.0.exec_root.clone().into_os_string(),
            ];
            let descriptors = [null.as_fd(), null.as_fd(), rustix::stdio::stderr(), ready.write.as_fd()];
            let child = wharf_sys::process::spawn(&path, &arguments, &descriptors)?;
            Ok((child.pidfd.into(), ready.read))
        };
        let (child, ready) = spawned().map_err(HelperError::Start)?;
        let patience = Timespec { tv_sec: START_PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let mut fds = [PollFd::new(&ready, PollFlags::IN)];
        match poll(&mut fds, Some(&patience)) {
            Ok(0) => Err(HelperError::Silent),
            _ => Ok(child),
        }
    }

    /// A thread that waits for the helper's end and starts the next one.
    fn watch(&self, connection: &Connection, child: Option<PidFd>, generation: u64) -> Result<()> {
        let failed = HelperError::Start;
        let socket = connection.socket.try_clone().map_err(failed)?;
        let inner = Arc::downgrade(&self.0);
        let watch = move || {
            let since = Instant::now();
            let mut fds = [PollFd::new(&socket, PollFlags::empty())];
            while matches!(poll(&mut fds, None), Err(Errno::INTR)) {}
            replace(&inner, generation, Instant::now().since(since) < SOON);
            if let Some(child) = child {
                // It lives on when only the connection was given up; whoever adopts it then reaps it.
                let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
                let _ended_or_not = poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&patience));
                let _reaped_or_not = child.try_wait();
            }
        };
        std::thread::Builder::new()
            .name("net-helper".to_owned())
            .stack_size(WATCHER_STACK)
            .spawn(watch)
            .map_err(failed)?;
        Ok(())
    }

    /// The connection of that generation has ended: makes the next one. True when there is nothing left to do.
    fn renew(&self, generation: u64) -> bool {
        let mut state = self.lock();
        if state.generation != generation {
            return true;
        }
        state.lose();
        match self.connected(&mut state) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!("the net helper ended and cannot be started again: {error}");
                false
            }
        }
    }
}

/// Starts the next helper, again and again if need be, as long as anybody has a handle.
fn replace(handle: &Weak<Inner>, generation: u64, ended_soon: bool) {
    let (mut pause, longest) = PAUSES;
    if ended_soon {
        std::thread::sleep(pause);
    }
    while let Some(inner) = Weak::upgrade(handle) {
        if Helper(inner).renew(generation) {
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

impl Connection {
    /// `None`: nobody listens there, or nobody who understands.
    fn open(path: &Path) -> Option<Self> {
        let socket = socket::connect(path, Kind::Messages).ok()?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).ok()?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).ok()?;
        let mut connection = Self { socket, buffer: vec![0; MAX_FRAME], pid: 0, process: None };
        match connection.ask(&Request::Hello { version: PROTOCOL_VERSION }, &[]) {
            Ok((Answer::Hello { pid, .. }, _)) => {
                connection.pid = pid;
                connection.process = PidFd::open(pid).ok();
            }
            _ => return None,
        }
        Some(connection)
    }

    pub(super) fn ask(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let frame = serde_json::to_vec(request)?;
        if frame.len() > MAX_FRAME {
            return Err(Errno::MSGSIZE.into());
        }
        socket::send_message(&self.socket, &frame, fds)?;
        let (length, fds) = socket::wait_message(&self.socket, &mut self.buffer)?;
        if length == 0 {
            return Err(Errno::CONNRESET.into());
        }
        Ok((serde_json::from_slice(&self.buffer[..length])?, fds))
    }
}

fn keep(namespace: impl AsFd, resolver: Option<&Resolver>) -> io::Result<Space> {
    let duplicate = |fd: BorrowedFd<'_>| Ok::<_, io::Error>(fcntl_dupfd_cloexec(fd, ABOVE)?);
    let resolver = resolver.map(|resolver| {
        Ok::<_, io::Error>([duplicate(resolver.udp.as_fd())?, duplicate(resolver.tcp.as_fd())?])
    });
    Ok(Space { namespace: duplicate(namespace.as_fd())?, resolver: resolver.transpose()? })
}

fn unexpected(answer: &Answer) -> HelperError {
    HelperError::Unexpected(format!("{answer:?}"))
}

//! The helper's process: one thread, one loop, nothing in it waits for anything but the next event.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use wharf_sys::epoll::{Epoll, EventFlags, Ready};
use wharf_sys::socket::{self, Kind};
use wharf_sys::time::Instant;

use super::orphans;
use super::ports::Ports;
use super::protocol::MAX_FRAME;
use super::relay::Relays;
use super::slots::{Key, Slots};
use super::source::Source;
use super::space::{Home, Pool, Spaces};
use crate::names::Ground;
use crate::names::resolver::Resolver;

/// How long it stays when nobody is there and nothing is held.
const LINGER: Duration = Duration::from_secs(1);
/// How long it must have been quiet before namespaces are made ahead: the kernel's locks that this takes are
/// the ones that the start which just took a namespace needs next.
const PAUSE: Duration = Duration::from_millis(5);
/// How long it must have been quiet before memory is given back.
const QUIET: Duration = Duration::from_millis(500);
/// The descriptor that is closed once it listens.
const READY: i32 = 3;

/// What it runs with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its sockets and tables are below.
    pub exec_root: PathBuf,
    /// The host's `resolv.conf(5)`.
    pub resolv_conf: PathBuf,
}

/// Runs the helper: `INSTANCE EXEC_ROOT`, the arguments after the role's name. Descriptor 3, if there is one,
/// is closed when it listens. The exit code: 0 when nothing is left to do or another helper has the
/// instance, 1 when it could not serve.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let ready = wharf_sys::inherit::take(READY).ok();
    let mut arguments = arguments.into_iter().skip(1);
    let Some(exec_root) = arguments.next() else { return complain("no directory given") };
    let options = Options { exec_root: exec_root.into(), resolv_conf: "/etc/resolv.conf".into() };
    match run(&options, ready) {
        Ok(()) => 0,
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(message: &str) -> i32 {
    let _nobody_reads = writeln!(io::stderr(), "wharf net: {message}");
    1
}

/// Serves until nothing is left to do; `ready` is closed when it listens.
///
/// # Errors
/// What the kernel or the file system refused at the start. Another helper of the instance is no error.
pub fn run(options: &Options, ready: Option<OwnedFd>) -> io::Result<()> {
    let folder = options.exec_root.join("net");
    std::fs::create_dir_all(&folder)?;
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    if !is_ours(&lock, &super::socket_path(&options.exec_root)) {
        return Ok(());
    }
    raise_descriptors();
    let mut helper = Helper::open(options)?;
    drop(ready);
    helper.serve()
}

/// Waits for the lock while nobody listens: a helper that ends has taken its socket's name away already.
fn is_ours(lock: &File, socket_path: &Path) -> bool {
    const TRIES: u32 = 400;
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..TRIES {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if socket::connect(socket_path, Kind::Messages).is_ok() {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// Several descriptors for each container: as many as may be had.
fn raise_descriptors() {
    const NAME: &str = "RLIMIT_NOFILE";
    if let Ok(hard) = wharf_sys::rlimit::hard(NAME) {
        let _as_many_as_before = wharf_sys::rlimit::set(NAME, hard, hard);
    }
}

/// The process's state.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) epoll: Epoll,
    pub(super) home: Home,
    pub(super) listener: OwnedFd,
    /// Where frames are received.
    pub(super) frame: Vec<u8>,
    /// Where datagrams of relays are received.
    datagram: Vec<u8>,
    pub(super) daemons: Slots<OwnedFd>,
    pub(super) spaces: Spaces,
    pub(super) pool: Pool,
    pub(super) ports: Ports,
    pub(super) relays: Relays,
    pub(super) resolver: Resolver,
    pub(super) firewall: Option<OwnedFd>,
    /// Owners of whom no process was found.
    pub(super) orphans: HashSet<Rc<str>>,
    /// When they were last looked for.
    looked: Instant,
    socket_path: PathBuf,
}

/// What the loop does when nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Memory was not given back since the last event.
    Restless,
    Resting,
}

impl Helper {
    fn open(options: &Options) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let resolver = Resolver::open(&options.exec_root, options.resolv_conf.clone())?;
        epoll.add(resolver.news(), Source::Names.token(), EventFlags::IN)?;
        let socket_path = super::socket_path(&options.exec_root);
        let listener = listen(&socket_path)?;
        epoll.add(&listener, Source::Listener.token(), EventFlags::IN)?;
        Ok(Self {
            epoll,
            home: Home::here()?,
            listener,
            frame: vec![0; MAX_FRAME],
            datagram: vec![0; usize::from(u16::MAX)],
            daemons: Slots::default(),
            spaces: Spaces::default(),
            pool: Pool::default(),
            ports: Ports::default(),
            relays: Relays::default(),
            resolver,
            firewall: None,
            orphans: HashSet::new(),
            looked: Instant::now(),
            socket_path,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut rest = Rest::Restless;
        let mut idle_since: Option<Instant> = None;
        loop {
            let now = Instant::now();
            idle_since = if self.is_needed() { None } else { idle_since.or(Some(now)) };
            if idle_since.is_some_and(|since| now.since(since) >= LINGER) {
                return self.end();
            }
            let timeout = self.timeout(now, rest, idle_since);
            self.epoll.wait(&mut ready, timeout)?;
            if ready.is_empty() {
                rest = self.rest(rest);
            } else if ready.iter().any(|one| Source::of(one.token) != Some(Source::Names)) {
                rest = Rest::Restless;
            }
            self.dispatch(&ready);
            self.tick();
        }
    }

    /// Whether anybody is there, or anything is held.
    fn is_needed(&self) -> bool {
        self.daemons.len() + self.spaces.len() + self.ports.len() > 0
    }

    /// Whether something is held and no daemon is there who would say when it is to be let go.
    fn is_deserted(&self) -> bool {
        self.daemons.len() == 0 && self.is_needed()
    }

    fn timeout(&self, now: Instant, rest: Rest, idle_since: Option<Instant>) -> Option<Duration> {
        if self.pool.is_short() {
            return Some(PAUSE);
        }
        let resting = (rest == Rest::Restless).then(|| now + QUIET);
        let ending = idle_since.map(|since| since + LINGER);
        let deserted = self.is_deserted().then(|| self.looked + orphans::EVERY);
        let due = [resting, ending, deserted, self.resolver.next(), self.relays.next()];
        due.into_iter().flatten().min().map(|at| at.since(now))
    }

    /// Nothing happens: makes namespaces ahead, then gives back what the last work took.
    fn rest(&mut self, rest: Rest) -> Rest {
        if self.pool.is_short() {
            self.pool.refill(&self.home);
        } else if rest == Rest::Restless {
            wharf_sys::memory::give_back();
            wharf_sys::memory::forget_code();
            return Rest::Resting;
        }
        rest
    }

    fn dispatch(&mut self, ready: &[Ready]) {
        // A name is known to whoever asks after the daemon wrote it.
        if ready.iter().any(|one| Source::of(one.token) == Some(Source::Names)) {
            self.resolver.follow();
        }
        for one in ready {
            if let Some(source) = Source::of(one.token) {
                self.handle(source);
            }
        }
    }

    fn handle(&mut self, source: Source) {
        let ground = Ground { epoll: &self.epoll, home: &self.home };
        match source {
            Source::Names => {}
            Source::Listener => self.meet_daemons(),
            Source::Daemon(key) => self.serve_daemon(key),
            Source::Questions(key) => self.resolver.questions(&ground, &mut self.spaces, key),
            Source::Callers(key) => self.resolver.calls(&ground, &mut self.spaces, key),
            Source::Caller(key) => self.resolver.caller(&ground, &mut self.spaces, key),
            Source::Upstream(key, server) => {
                self.resolver.upstream(&ground, &mut self.spaces, key, server);
            }
            Source::RelayListener(key) => self.relays.accept(&self.epoll, key),
            Source::Relayed(key, side) => self.relays.carry(&self.epoll, key, side),
            Source::RelaySocket(key) => self.receive_datagrams(key),
            Source::RelayPeer(key) => self.relays.reply(key, &mut self.datagram),
        }
    }

    fn receive_datagrams(&mut self, key: Key) {
        self.relays.receive(&self.epoll, key, &mut self.datagram);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let ground = Ground { epoll: &self.epoll, home: &self.home };
        self.resolver.tick(&ground, &mut self.spaces, now);
        self.relays.tick(now);
        if self.is_deserted() && now.since(self.looked) >= orphans::EVERY {
            self.looked = now;
            self.drop_orphans();
        }
    }

    /// The name goes first, so that whoever comes now starts a helper of his own instead of asking this one.
    fn end(&self) -> io::Result<()> {
        socket::remove(&self.socket_path)
    }
}

/// Listens, under the directory's descriptor where the path is too long for the kernel.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    let listener = socket::listen(path, Kind::Messages)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

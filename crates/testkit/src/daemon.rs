//! A daemon of its own instance, with roots in a temporary folder, that leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{self, Run, eventually};
use crate::http::{self, Reply};
use crate::{SmallDisk, census, image};

/// A running daemon. Dropping it removes its containers, stops it, and panics if anything is left over.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    instance: String,
    folder: TempDir,
    /// Its data root.
    data: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
    peer: Option<PathBuf>,
    /// The network namespace it runs in, if not this process's.
    space: Option<PathBuf>,
    /// The descriptors it had open when it first answered.
    descriptors: BTreeMap<String, usize>,
}

/// Starts a daemon from the `wharf` binary that cargo built for this test, with `busybox` loaded.
#[macro_export]
macro_rules! daemon {
    ($($flag:expr),*) => {
        $crate::Daemon::start(env!("CARGO_BIN_EXE_wharf"), &[$($flag),*])
    };
}

impl Daemon {
    /// Starts `binary daemon` with `flags` and loads `busybox:latest`.
    ///
    /// With `WHARF_TEST_PEER=unix:///path/of/a/dockerd.sock` the suites run against that engine instead, one
    /// test at a time: that is how their expectations were checked against Docker.
    #[track_caller]
    pub fn start(binary: impl Into<PathBuf>, flags: &[&str]) -> Self {
        let daemon = Self::start_empty(binary, flags);
        daemon.docker(&["load", "-q", "-i", &image::busybox().to_string_lossy()]).ok();
        daemon
    }

    /// Whether the tests run against another engine, where Wharf's own doings cannot be asked for.
    pub fn is_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// The same in a network namespace, which stands for a host of its own.
    #[track_caller]
    pub fn start_in(space: &Path, binary: impl Into<PathBuf>, flags: &[&str]) -> Self {
        let mut daemon = Self::prepared(binary, flags);
        daemon.space = Some(space.to_owned());
        daemon.launch();
        daemon.docker(&["load", "-q", "-i", &image::busybox().to_string_lossy()]).ok();
        daemon
    }

    /// The same with its data on a disk of its own.
    #[track_caller]
    pub fn start_on(disk: &SmallDisk, binary: impl Into<PathBuf>, flags: &[&str]) -> Self {
        let mut daemon = Self::prepared(binary, flags);
        daemon.data = disk.path("data");
        daemon.launch();
        daemon.docker(&["load", "-q", "-i", &image::busybox().to_string_lossy()]).ok();
        daemon
    }

    /// The same without any image.
    #[track_caller]
    pub fn start_empty(binary: impl Into<PathBuf>, flags: &[&str]) -> Self {
        let mut daemon = Self::prepared(binary, flags);
        if daemon.is_peer() {
            daemon.remove_containers();
        } else {
            daemon.launch();
        }
        daemon
    }

    fn prepared(binary: impl Into<PathBuf>, flags: &[&str]) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        // None is the beginning of another: the census looks for the name in others' names.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let instance = format!("wt{}n{number:04}", std::process::id());
        let folder = tempfile::Builder::new()
            .prefix(&format!("{instance}-"))
            .tempdir()
            .expect("make a temporary folder");
        Self {
            data: folder.path().join("data"),
            binary: binary.into(),
            instance,
            folder,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            child: None,
            descriptors: BTreeMap::new(),
            peer: std::env::var("WHARF_TEST_PEER").ok().map(|host| host.trim_start_matches("unix://").into()),
            space: None,
        }
    }

    /// Starts the daemon process (again) on the same roots and waits until it answers.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.try_launch(&[]), "the daemon does not answer; its log:\n{}", self.log());
    }

    /// The same with `variables` in its environment; false when it ends, or 30 s pass, before it answers.
    pub fn try_launch(&mut self, variables: &[(&str, &str)]) -> bool {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .expect("open the daemon's log");
        let mut command = match &self.space {
            // It becomes the daemon.
            Some(space) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", space.display())).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        command
            .args(["daemon", "--instance", &self.instance, "--config-file"])
            .arg(self.path("daemon.json"))
            .arg("--data-root")
            .arg(&self.data)
            .arg("--exec-root")
            .arg(self.path("run"))
            .arg("--host")
            .arg(self.host())
            .args(&self.flags)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate the log's descriptor"))
            .stderr(log);
        if !self.path("daemon.json").exists() {
            std::fs::write(self.path("daemon.json"), "{}").expect("write daemon.json");
        }
        self.child = Some(command.spawn().expect("start the daemon"));
        let answers = |daemon: &Self| daemon.get("/_ping").is_ok_and(|reply| reply.status == 200);
        let answered = eventually(Duration::from_secs(30), || {
            let answers = answers(self);
            (answers || self.has_ended()).then_some(answers)
        });
        self.descriptors = census::descriptors(self.pid());
        answered.unwrap_or(false)
    }

    /// Whether the daemon's process ended without being asked by [`Self::kill`] or [`Self::stop`].
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// A path in the daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The name all its kernel objects carry.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The daemon's `unix://` address.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.peer.clone().unwrap_or_else(|| self.path("wharf.sock"))
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// What the daemon wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Runs the stock `docker` client (28) against the daemon. With `WHARF_TEST_CLIENT=wharf` it is `wharf` that gets
    /// the same arguments, and the same is expected of it; with `docker-20` the client of Debian 12, where it has the
    /// flags.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Run {
        self.docker_with(args, b"")
    }

    /// The same with bytes on standard input.
    #[track_caller]
    pub fn docker_with(&self, args: &[&str], stdin: &[u8]) -> Run {
        let mut command = self.command("docker");
        command.args(args);
        let run = client::run(command, stdin);
        match client::lacking(&run) {
            Some(lacking) if client::is_20_10() => {
                client::expect_lack(&lacking, args);
                let mut command =
                    client::command(client::program("docker"), &self.host(), self.folder.path());
                command.args(args);
                client::run(command, stdin)
            }
            _ => run,
        }
    }

    /// Runs the 20.10 client of Debian 12.
    #[track_caller]
    pub fn docker_20(&self, args: &[&str]) -> Run {
        let mut command = self.command("docker-20");
        command.args(args);
        client::run(command, b"")
    }

    /// Runs `wharf` itself as the client.
    #[track_caller]
    pub fn wharf(&self, args: &[&str]) -> Run {
        let mut command = client::command(&self.binary, &self.host(), self.folder.path());
        command.args(args);
        client::run(command, b"")
    }

    /// A client command not yet started, for tests that hold it open. `WHARF_TEST_CLIENT` replaces `docker` here too.
    #[track_caller]
    pub fn command(&self, name: &str) -> Command {
        let program = match client::replacement().as_deref() {
            Some("wharf") if name == "docker" => self.binary.clone(),
            Some(other) if name == "docker" => client::program(other),
            _ => client::program(name),
        };
        client::command(program, &self.host(), self.folder.path())
    }

    /// One API request.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        body: Option<&serde_json::Value>,
    ) -> std::io::Result<Reply> {
        let body = body.map(serde_json::Value::to_string);
        http::request(&self.socket(), method, target, body.as_deref().map(str::as_bytes))
    }

    /// `GET target`.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn get(&self, target: &str) -> std::io::Result<Reply> {
        self.request("GET", target, None)
    }

    /// `POST target` with a JSON body (`Null`: none); panics when the daemon does not answer.
    #[track_caller]
    pub fn post(&self, target: &str, body: &serde_json::Value) -> Reply {
        self.request("POST", target, Some(body).filter(|body| !body.is_null())).expect("the daemon answers")
    }

    /// `inspect` of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> serde_json::Value {
        self.get(&format!("/containers/{container}/json")).expect("the daemon answers").json()
    }

    /// Waits until `inspect` satisfies `test`; panics with the last document otherwise.
    #[track_caller]
    pub fn until(&self, container: &str, test: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        eventually(Duration::from_secs(20), || {
            Some(self.inspect(container)).filter(|document| test(document))
        })
        .unwrap_or_else(|| panic!("still not so: {:#}\n{}", self.inspect(container)["State"], self.log()))
    }

    /// Sends a POST without a body and waits until its answer begins; panics when the daemon does not answer.
    #[track_caller]
    pub fn begin(&self, target: &str) -> http::Begun {
        http::begin(&self.socket(), "POST", target, None).expect("the daemon answers")
    }

    /// Waits until a container has written `line`; panics with what it wrote otherwise.
    #[track_caller]
    pub fn until_said(&self, container: &str, line: &str) {
        let said = || self.docker(&["logs", container]).stdout;
        let found = || said().lines().any(|one| one.trim_end() == line).then_some(());
        eventually(Duration::from_secs(20), found)
            .unwrap_or_else(|| panic!("{container} has not said {line:?}: {:?}\n{}", said(), self.log()));
    }

    /// `kill -9` of the daemon alone.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("kill the daemon");
        child.wait().expect("reap the daemon");
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    #[track_caller]
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let ended = eventually(Duration::from_secs(15), || child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon does not end on SIGTERM; its log:\n{}", self.log());
        }
    }

    fn remove_containers(&self) {
        let Ok(reply) = self.get("/containers/json?all=1") else { return };
        for container in reply.json().as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            let _ = self.request("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        }
        // Not asked for where nothing was made: the answer would open the kernel's side.
        if self.is_peer() || !census::tables(&self.instance).is_empty() {
            let filter = "%7B%22type%22%3A%5B%22custom%22%5D%7D";
            let Ok(reply) = self.get(&format!("/networks?filters={filter}")) else { return };
            for network in reply.json().as_array().into_iter().flatten() {
                let id = network["Id"].as_str().unwrap_or_default();
                let _ = self.request("DELETE", &format!("/networks/{id}"), None);
            }
        }
    }

    /// What a daemon without containers still holds: files of theirs, and descriptors it did not have at first.
    fn held(&self) -> Vec<String> {
        let look = || {
            let none = BTreeSet::new();
            let mut held = census::stray_files(&self.data, &self.path("run"), &none, &none);
            for (kind, count) in census::descriptors(self.pid()) {
                // What comes with the first container and stays: the one inotify instance of all followers of logs, the
                // connection to the process that forks supervisors and its pidfd.
                let shared = match kind.as_str() {
                    "anon_inode" => 2,
                    "socket" => 1,
                    _ => 0,
                };
                let shared = shared + self.of_networks(&kind);
                let before = self.descriptors.get(&kind).copied().unwrap_or(0) + shared;
                if count > before {
                    held.push(format!("descriptors: {kind}: {count}, at first {before}"));
                }
            }
            held
        };
        // What was removed is freed in its own time.
        eventually(Duration::from_secs(60), || Some(()).filter(|()| look().is_empty()));
        look()
    }

    /// What the kernel's side of networks holds from its first use on: netlink, the net helper, its program.
    fn of_networks(&self, kind: &str) -> usize {
        let used = !census::processes(&format!("wharf net {} ", self.instance)).is_empty();
        match kind {
            _ if !used => 0,
            "socket" => 10,
            "anon_inode" | "pipe" => 2,
            "/" => 1,
            _ => usize::from(kind == self.binary.to_string_lossy()),
        }
    }

    /// What is left of the instance's kernel objects once the daemon is stopped; waits a little, since the
    /// kernel and background removal take their time.
    fn settled_leftovers(instance: &str, folder: &Path) -> Vec<String> {
        let marker = folder.to_string_lossy().into_owned();
        let look = || {
            let mut left = census::leftovers(instance);
            left.retain(|line| !line.starts_with("process") || line.contains(&marker));
            left
        };
        eventually(Duration::from_secs(5), || Some(()).filter(|()| look().is_empty()));
        look()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_peer() {
            return self.remove_containers();
        }
        if self.child.is_none() {
            self.launch();
        }
        self.remove_containers();
        let mut left = self.held();
        self.stop();
        left.extend(Self::settled_leftovers(&self.instance, self.folder.path()));
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("daemon's log ends:\n{}\n", tail.join("\n")).as_bytes(),
            )
            .ok();
        } else {
            assert!(left.is_empty(), "left behind by {}: {left:#?}", self.instance);
        }
    }
}

//! Every figure of speed and weight in one run: `cargo xtask full --program wharf --peer docker=SOCKET --images DIR`.
//!
//! It starts a daemon of its own beside the peers, which must have the images `busybox` and `tools` already, and ends
//! with the long crash test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::opening::first_answer;
use super::weight::{remove_all, start_idle};
use super::{Arguments, Engine, milliseconds};

/// What to compare, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Full {
    /// The release build of `wharf`
    #[arg(long)]
    program: PathBuf,
    /// NAME=SOCKET of a daemon to compare with
    #[arg(long = "peer", value_name = "NAME=SOCKET")]
    peers: Vec<String>,
    /// Where busybox.docker.tar, tools.docker.tar and big.docker.tar are
    #[arg(long)]
    images: PathBuf,
    /// Rounds of each measurement
    #[arg(short = 'n', long, default_value_t = 20)]
    rounds: u32,
    /// Idle containers
    #[arg(long, default_value_t = 1000)]
    idle: u32,
    /// A bare OCI runtime, with the options before `run`
    #[arg(long, default_value = "runc")]
    runtime: String,
    /// Its bundle: `true` without a network; without one it is left out
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Where the daemon's roots are made
    #[arg(long, default_value = "/var/tmp")]
    roots: PathBuf,
    /// Rounds of the crash test at the end; 0 leaves it out
    #[arg(long, default_value_t = 200)]
    crash_rounds: u32,
}

/// Runs all; each table is printed when it is there.
pub(crate) fn run(full: &Full) -> Result<String> {
    let mut daemon = Daemon::start(full)?;
    for image in ["busybox", "tools"] {
        let file = full.images.join(format!("{image}.docker.tar"));
        let answer = daemon.engine.connect()?.send("/images/load?quiet=1", &file)?;
        ensure!(answer.status == 200, "load {}: {}", file.display(), answer.status);
    }
    let beside = ["cycle", "exec", "parallel", "logs", "images"];
    say(&super::run(&full.arguments(&daemon, &beside, true))?)?;
    let mut alone = vec!["cpu", "log-weight", "opening", "idle"];
    if full.bundle.is_some() {
        alone.insert(0, "runtime");
    }
    say(&super::run(&full.arguments(&daemon, &alone, false))?)?;
    say(&daemon.adopt(full)?)?;
    drop(daemon);
    if full.crash_rounds > 0 {
        let tests = Command::new("cargo")
            .args(["test", "-p", "wharf", "--test", "crash"])
            .env("WHARF_CRASH_ROUNDS", full.crash_rounds.to_string())
            .status()?;
        ensure!(tests.success(), "the crash test: {tests}");
    }
    Ok("all figures taken".to_owned())
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}\n")?)
}

impl Full {
    fn arguments(&self, daemon: &Daemon, benches: &[&str], with_peers: bool) -> Arguments {
        let own = format!("wharf={}", daemon.engine.socket.display());
        let peers = self.peers.iter().filter(|_| with_peers).cloned();
        Arguments {
            other: None,
            image: None,
            crowd: 0,
            to: None,
            engines: std::iter::once(own).chain(peers).collect(),
            rounds: self.rounds,
            benches: benches.iter().map(|name| (*name).to_owned()).collect(),
            big: Some(self.images.join("big.docker.tar")),
            idle: self.idle,
            runtime: self.runtime.clone(),
            bundle: self.bundle.clone(),
            program: Some(self.program.clone()),
            roots: self.roots.clone(),
            logs_image: "tools".to_owned(),
            cpu_group: daemon.group.clone(),
        }
    }
}

/// A daemon on roots of its own, which go with it.
struct Daemon {
    engine: Engine,
    root: PathBuf,
    group: Option<PathBuf>,
    child: Child,
}

impl Daemon {
    fn start(full: &Full) -> Result<Self> {
        let root = full.roots.join(format!("full-{}", std::process::id()));
        std::fs::create_dir_all(&root)?;
        std::fs::write(root.join("daemon.json"), "{}")?;
        let engine = Engine { name: "wharf".to_owned(), socket: root.join("s") };
        let child = spawn(&full.program, &root)?;
        let daemon = Self { engine, root, group: group_of(&child), child };
        first_answer(&daemon.engine.socket, Instant::now())?;
        Ok(daemon)
    }

    /// Kills it among idle containers, and measures how long the next one takes to answer and to know them all.
    fn adopt(&mut self, full: &Full) -> Result<String> {
        let containers = start_idle(&mut self.engine.connect()?, full.idle)?;
        self.child.kill()?;
        self.child.wait()?;
        let begun = Instant::now();
        self.child = spawn(&full.program, &self.root)?;
        first_answer(&self.engine.socket, begun)?;
        let answered = milliseconds(begun.elapsed());
        let mut connection = self.engine.connect()?;
        let list = connection.ask("GET", "/containers/json", "")?.body;
        let list: Vec<serde_json::Value> = serde_json::from_slice(&list)?;
        ensure!(list.len() == containers.len(), "{} of {} were adopted", list.len(), containers.len());
        let listed = milliseconds(begun.elapsed());
        remove_all(&mut connection, &containers)?;
        Ok(format!(
            "adopting {} containers: first answer {answered:.0} ms, all listed {listed:.0} ms",
            full.idle
        ))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ended = Command::new("kill").arg(pid).status();
        let _reaped = self.child.wait();
        let _left_behind = std::fs::remove_dir_all(&self.root);
        if let Some(group) = &self.group {
            let _in_use = std::fs::remove_dir(group);
        }
    }
}

fn spawn(program: &Path, root: &Path) -> Result<Child> {
    Command::new(program)
        .arg("daemon")
        .args(["--instance", &format!("full{}", std::process::id())])
        .args(["-H", &format!("unix://{}", root.join("s").display())])
        .arg("--data-root")
        .arg(root.join("data"))
        .arg("--exec-root")
        .arg(root.join("run"))
        .arg("--config-file")
        .arg(root.join("daemon.json"))
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

/// Puts a daemon into a cgroup that accounts its time, if this machine has the version 1 controller for it.
fn group_of(child: &Child) -> Option<PathBuf> {
    let group = Path::new("/sys/fs/cgroup/cpuacct").join(format!("full-{}", child.id()));
    std::fs::create_dir(&group).ok()?;
    std::fs::write(group.join("cgroup.procs"), child.id().to_string()).ok()?;
    Some(group)
}

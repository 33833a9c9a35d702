//! The benchmark: the same work on several daemons in one run, interleaved; medians, minima and ratios to the first.
//!
//! `cargo xtask bench --engine wharf=/run/wharf/wharf.sock --engine docker=/var/run/docker.sock`. Each daemon must have
//! `busybox:latest`; the image benches want `--big FILE` (a docker-archive). Podman takes part with `podman system
//! service --time 0 unix://SOCKET`.

mod build;
mod connection;
pub(crate) mod full;
mod images;
mod life;
mod logs;
mod network;
mod opening;
mod registry;
mod runtime;
mod transfers;
mod weight;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use connection::Connection;

/// What to measure, and where.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// NAME=SOCKET of a daemon; the first is what the others are compared with
    #[arg(long = "engine", value_name = "NAME=SOCKET", required = true)]
    engines: Vec<String>,
    /// Rounds of each measurement
    #[arg(short = 'n', long, default_value_t = 20)]
    rounds: u32,
    /// Names of benches to run: cycle exec parallel list logs cpu idle log-weight runtime opening images pull push crowd (default: the first five)
    #[arg(short, long, value_delimiter = ',')]
    benches: Vec<String>,
    /// A docker-archive for the image benches
    #[arg(long)]
    big: Option<PathBuf>,
    /// What the pull and push benches pull: NAME:TAG in a local registry
    #[arg(long)]
    image: Option<String>,
    /// How many other images the crowd bench has the store keep
    #[arg(long, default_value_t = 1000)]
    crowd: u32,
    /// The host of an empty registry, for the push bench
    #[arg(long)]
    to: Option<String>,
    /// Containers of the idle bench
    #[arg(long, default_value_t = 100)]
    idle: u32,
    /// A bare OCI runtime for the runtime bench, with the options before `run`
    #[arg(long, default_value = "runc")]
    runtime: String,
    /// Its bundle: `true` without a network
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The program whose daemon the opening bench starts
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where that daemon's roots are made
    #[arg(long, default_value = "/var/tmp")]
    roots: PathBuf,
    /// An image with `logspam BYTES`, which writes lines as fast as it can, for the benches of logs
    #[arg(long, default_value = "tools")]
    logs_image: String,
    /// A directory of the cgroup that the (only) daemon and its supervisors live in, for the CPU bench
    #[arg(long)]
    cpu_group: Option<PathBuf>,
}

/// Benches of what is no daemon.
#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Builds: cold, cached, one file changed, and what a RUN step costs
    Build(build::Arguments),
    /// Registries: clients that push and pull blobs
    Registry(registry::Arguments),
    /// Networks: cycles, published ports, throughput, requests, lookups, beside a path made by hand
    Network(network::Arguments),
}

/// A daemon under measurement.
#[derive(Debug)]
pub(crate) struct Engine {
    name: String,
    socket: PathBuf,
}

impl Engine {
    /// `NAME=SOCKET`.
    fn parse(text: &str) -> Result<Self> {
        let (name, socket) =
            text.split_once('=').with_context(|| format!("--engine {text}: NAME=SOCKET is wanted"))?;
        Ok(Self { name: name.into(), socket: socket.trim_start_matches("unix://").into() })
    }

    fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket)
            .with_context(|| format!("connect to {} at {}", self.name, self.socket.display()))
    }

    /// The daemon's process: whoever listens on the socket.
    fn pid(&self) -> Result<i32> {
        let table = std::fs::read_dir("/proc")?;
        let is_daemon = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split('\0');
            let name = words.next().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
            let word = words.next();
            let is_podman = name == "podman" && word == Some("system");
            let plays_one = name == "dockerd" || is_podman || word == Some("daemon");
            plays_one && line.contains(&*self.socket.to_string_lossy())
        };
        let pids = table.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_daemon)
            .min()
            .with_context(|| format!("no process has {} in its arguments", self.socket.display()))
    }
}

/// One row of the result: what was measured, in which unit, and each engine's samples.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<Vec<f64>>,
    wanted: Option<Wanted>,
    /// So many of the first columns are engines to be compared; others are for the eye.
    judged: usize,
}

/// What the first of the engines should reach.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// No more than this.
    AtMost(f64),
    /// The best of the others takes so many times as much.
    Less(f64),
    /// So many times what the best of the others has.
    More(f64),
}

impl Wanted {
    /// What is wanted, what it is, and whether that will do; by the medians, the first one's first.
    fn judge(self, medians: &[f64]) -> String {
        let Some((own, others)) = medians.split_first() else { return String::new() };
        let (asked, reached, factor) = match self {
            Self::AtMost(most) => (format!("at most {most}"), *own <= most, String::new()),
            Self::Less(times) => {
                let best = others.iter().copied().fold(f64::INFINITY, f64::min) / own;
                (format!("{times}x less"), best >= times, format!(" ({best:.2}x)"))
            }
            Self::More(times) => {
                let best = own / others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (format!("{times}x more"), best >= times, format!(" ({best:.2}x)"))
            }
        };
        format!("  wanted {asked}: {}{factor}", if reached { "yes" } else { "MISSED" })
    }
}

impl Row {
    fn new(what: impl Into<String>, unit: &'static str, engines: usize) -> Self {
        Self { what: what.into(), unit, samples: vec![Vec::new(); engines], wanted: None, judged: engines }
    }

    /// The same with columns behind those of the first `judged` engines that no target is about.
    fn among(self, judged: usize) -> Self {
        Self { judged, ..self }
    }

    /// The same with a target.
    fn wants(self, wanted: Wanted) -> Self {
        Self { wanted: Some(wanted), ..self }
    }
}

/// Runs the benches asked for and gives the table.
pub(crate) fn run(arguments: &Arguments) -> Result<String> {
    match &arguments.other {
        Some(Other::Build(arguments)) => return build::run(arguments),
        Some(Other::Registry(arguments)) => return registry::run(arguments),
        Some(Other::Network(arguments)) => return network::run(arguments),
        None => {}
    }
    let engines: Vec<Engine> =
        arguments.engines.iter().map(|text| Engine::parse(text)).collect::<Result<_>>()?;
    let defaults = ["cycle", "exec", "parallel", "list", "logs"];
    let names: Vec<&str> = if arguments.benches.is_empty() {
        defaults.to_vec()
    } else {
        arguments.benches.iter().map(String::as_str).collect()
    };
    let mut rows = Vec::new();
    for name in names {
        rows.extend(match name {
            "cycle" => life::cycle(&engines, arguments.rounds)?,
            "exec" => life::exec(&engines, arguments.rounds)?,
            "parallel" => life::parallel(&engines)?,
            "list" => life::list(&engines, arguments.rounds)?,
            "logs" => logs::logs(&engines, &arguments.logs_image, arguments.rounds.min(5))?,
            "cpu" => weight::cpu(&engines, arguments.cpu_group.as_deref())?,
            "idle" => weight::idle(&engines, arguments.idle, arguments.rounds)?,
            "log-weight" => weight::log_weight(&engines, &arguments.logs_image)?,
            "runtime" => {
                let bundle = arguments.bundle.as_deref().context("the runtime bench wants --bundle DIR")?;
                runtime::runtime(&engines, &arguments.runtime, bundle, arguments.rounds)?
            }
            "opening" => {
                let program =
                    arguments.program.as_deref().context("the opening bench wants --program FILE")?;
                opening::opening(program, &arguments.roots, arguments.rounds)?
            }
            "images" => images::images(
                &engines,
                arguments.big.as_deref().context("the image benches want --big FILE")?,
            )?,
            "pull" => transfers::pull(&engines, image(arguments)?, arguments.rounds)?,
            "crowd" => transfers::crowd(&engines, image(arguments)?, arguments.crowd, arguments.rounds)?,
            "push" => {
                let to = arguments.to.as_deref().context("the push bench wants --to HOST:PORT")?;
                transfers::push(&engines, image(arguments)?, to)?
            }
            other => bail!("there is no bench named {other}"),
        });
    }
    let names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    Ok(table_of(&names, &rows))
}

fn image(arguments: &Arguments) -> Result<&str> {
    arguments.image.as_deref().context("the pull and push benches want --image NAME:TAG")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians with minima in brackets, and each engine's ratio to the first.
fn table_of(names: &[&str], rows: &[Row]) -> String {
    let mut text = format!("{:34}", "");
    for name in names {
        text += &format!("{name:>26}");
    }
    for row in rows {
        text += &format!("\n{:34}", format!("{} [{}]", row.what, row.unit));
        let first = row.samples.first().map_or(f64::NAN, |samples| median(samples));
        for (index, samples) in row.samples.iter().enumerate() {
            if samples.is_empty() {
                text += &format!("{:>26}", "-");
                continue;
            }
            let middle = median(samples);
            let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
            let ratio = if index > 0 { format!(" x{:.2}", middle / first) } else { String::new() };
            text += &format!("{:>26}", format!("{middle:.2} ({least:.2}){ratio}"));
        }
        if let Some(wanted) = row.wanted {
            let medians: Vec<f64> =
                row.samples.iter().take(row.judged).map(|samples| median(samples)).collect();
            text += &wanted.judge(&medians);
        }
    }
    text
}

//! The benchmark: the same work on several daemons in one run, interleaved; medians, minima and ratios to the first.
//!
//! `cargo xtask bench --engine wharf=/run/wharf/wharf.sock --engine docker=/var/run/docker.sock`. Each daemon must have
//! `busybox:latest`; the image benches want `--big FILE` (a docker-archive).

mod connection;
pub(crate) mod full;
mod images;
mod life;
mod logs;
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
    /// Names of benches to run: cycle exec parallel list logs cpu idle log-weight runtime opening images pull push (default: the first five)
    #[arg(short, long, value_delimiter = ',')]
    benches: Vec<String>,
    /// A docker-archive for the image benches
    #[arg(long)]
    big: Option<PathBuf>,
    /// What the pull and push benches pull: NAME:TAG in a local registry
    #[arg(long)]
    image: Option<String>,
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
    /// Registries: clients that push and pull blobs
    Registry(registry::Arguments),
}

/// A daemon under measurement.
#[derive(Debug)]
pub(crate) struct Engine {
    name: String,
    socket: PathBuf,
}

impl Engine {
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
            let plays_one = name == "dockerd" || words.next() == Some("daemon");
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
}

impl Row {
    fn new(what: impl Into<String>, unit: &'static str, engines: usize) -> Self {
        Self { what: what.into(), unit, samples: vec![Vec::new(); engines] }
    }
}

/// Runs the benches asked for and gives the table.
pub(crate) fn run(arguments: &Arguments) -> Result<String> {
    if let Some(Other::Registry(arguments)) = &arguments.other {
        return registry::run(arguments);
    }
    let engines: Vec<Engine> = arguments
        .engines
        .iter()
        .map(|text| {
            let (name, socket) =
                text.split_once('=').with_context(|| format!("--engine {text}: NAME=SOCKET is wanted"))?;
            Ok(Engine { name: name.into(), socket: socket.trim_start_matches("unix://").into() })
        })
        .collect::<Result<_>>()?;
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
            let middle = median(samples);
            let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
            let ratio = if index > 0 { format!(" x{:.2}", middle / first) } else { String::new() };
            text += &format!("{:>26}", format!("{middle:.2} ({least:.2}){ratio}"));
        }
    }
    text
}

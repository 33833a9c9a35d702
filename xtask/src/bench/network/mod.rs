//! Networks: what a bridge and a published port cost a container's life, and what passes through them, beside a path
//! that was made by hand: a bridge, two veth pairs and the nft rules that do the same.
//!
//! `cargo xtask bench network --engine wharf=/run/wharf/wharf.sock --engine docker=/var/run/docker.sock`. Wants `ip`,
//! `nft`, `nsenter`, `taskset` and, for throughput, `iperf3`. Each engine is measured in the network namespace that it lives in.

mod cycles;
mod hand;
mod path;
mod traffic;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Engine, table_of};

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    role: Option<traffic::Role>,
    /// NAME=SOCKET of a daemon that has `busybox:latest`; the first is what the others are compared with
    #[arg(long = "engine", value_name = "NAME=SOCKET")]
    engines: Vec<String>,
    /// Rounds of each measurement
    #[arg(short = 'n', long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each flow
    #[arg(short, long, default_value_t = 1)]
    seconds: u64,
    /// Ports that are published when one more is
    #[arg(long, default_value_t = 2000)]
    ports: u16,
    /// Names of benches to run: cycle parallel publish throughput requests lookups (default: all)
    #[arg(short, long, value_delimiter = ',')]
    benches: Vec<String>,
}

/// All benches.
const ALL: [&str; 6] = ["cycle", "parallel", "publish", "throughput", "requests", "lookups"];

/// Runs the benches asked for. Each table is printed when it is there, so that a bench that fails takes no other
/// one's with it.
pub(super) fn run(arguments: &Arguments) -> Result<String> {
    if let Some(role) = &arguments.role {
        return traffic::play(role);
    }
    let engines: Vec<Engine> =
        arguments.engines.iter().map(|text| Engine::parse(text)).collect::<Result<_>>()?;
    if engines.is_empty() {
        bail!("--engine NAME=SOCKET is wanted");
    }
    let wanted: Vec<&str> = match arguments.benches.as_slice() {
        [] => ALL.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    if let Some(other) = wanted.iter().find(|name| !ALL.contains(name)) {
        bail!("there is no bench named {other}");
    }
    let mut failed = Vec::new();
    for name in wanted {
        match bench(name, &engines, arguments) {
            Ok(table) => println!("{table}\n"),
            Err(error) => {
                eprintln!("{name}: {error:#}\n");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(String::new())
}

/// The table of one bench.
fn bench(name: &str, engines: &[Engine], arguments: &Arguments) -> Result<String> {
    let rows = match name {
        "cycle" => cycles::cycle(engines, arguments.rounds)?,
        "parallel" => cycles::parallel(engines)?,
        "publish" => cycles::publish(engines, arguments.rounds, arguments.ports)?,
        kind => return flows(kind, engines, arguments),
    };
    let names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    Ok(table_of(&names, &rows))
}

/// Flows over every path of every engine, and of the one made by hand where that has any, in turns.
fn flows(kind: &str, engines: &[Engine], arguments: &Arguments) -> Result<String> {
    let (seconds, rounds) = (arguments.seconds, arguments.rounds);
    let mut names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    let pairs = engines.iter().map(path::Pair::new).collect::<Result<Vec<_>>>()?;
    let mut sides: Vec<path::Side> = pairs.iter().map(path::Pair::side).collect();
    let rows = if kind == "lookups" {
        traffic::lookups(&sides, seconds, rounds)?
    } else {
        let hand = hand::Hand::new()?;
        sides.insert(0, hand.side());
        names.insert(0, "by hand");
        traffic::flows(kind, &sides, seconds, rounds)?
    };
    Ok(table_of(&names, &rows))
}

/// A field of an engine's answer.
fn field(document: &Value, pointer: &str) -> Result<String> {
    let value = document.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    value.map(str::to_owned).with_context(|| format!("the answer has no {pointer}"))
}

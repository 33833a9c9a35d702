//! Networks: what a bridge and a published port cost a container's life, and what passes through them, beside a path
//! that was made by hand: a bridge, two veth pairs and the nft rules that do the same.
//!
//! `cargo xtask bench network --engine wharf=/run/wharf/wharf.sock --engine docker=/var/run/docker.sock`. Wants `ip`,
//! `nft`, `nsenter` and, for throughput, `iperf3`. Each engine is measured in the network namespace that it lives in.

mod cycles;
mod hand;
mod path;
mod traffic;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Engine, Row, table_of};

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    role: Option<traffic::Role>,
    /// NAME=SOCKET of a daemon that has `busybox:latest`; the first is what the others are compared with
    #[arg(long = "engine", value_name = "NAME=SOCKET")]
    engines: Vec<String>,
    /// Rounds of each measurement
    #[arg(short = 'n', long, default_value_t = 20)]
    rounds: u32,
    /// Seconds of each flow
    #[arg(short, long, default_value_t = 3)]
    seconds: u64,
    /// Ports that are published when one more is
    #[arg(long, default_value_t = 2000)]
    ports: u16,
    /// Names of benches to run: cycle parallel publish throughput requests lookups (default: all)
    #[arg(short, long, value_delimiter = ',')]
    benches: Vec<String>,
}

/// Runs the benches asked for and gives the tables.
pub(super) fn run(arguments: &Arguments) -> Result<String> {
    if let Some(role) = &arguments.role {
        return traffic::play(role);
    }
    let engines: Vec<Engine> =
        arguments.engines.iter().map(|text| Engine::parse(text)).collect::<Result<_>>()?;
    if engines.is_empty() {
        bail!("--engine NAME=SOCKET is wanted");
    }
    let all = ["cycle", "parallel", "publish", "throughput", "requests", "lookups"];
    let wanted: Vec<&str> = match arguments.benches.as_slice() {
        [] => all.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let (mut life, mut flows) = (Vec::new(), Vec::new());
    for name in &wanted {
        match *name {
            "cycle" => life.extend(cycles::cycle(&engines, arguments.rounds)?),
            "parallel" => life.extend(cycles::parallel(&engines)?),
            "publish" => life.extend(cycles::publish(&engines, arguments.rounds, arguments.ports)?),
            "throughput" | "requests" | "lookups" => flows.push(*name),
            other => bail!("there is no bench named {other}"),
        }
    }
    let names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    let mut text = if life.is_empty() { String::new() } else { table_of(&names, &life) + "\n" };
    if !flows.is_empty() {
        let rows = traffic_rows(&engines, &flows, arguments)?;
        let names: Vec<&str> = std::iter::once("by hand").chain(names).collect();
        text += &table_of(&names, &rows);
    }
    Ok(text)
}

/// Flows over every path of every engine, and of the one made by hand, in turns.
fn traffic_rows(engines: &[Engine], wanted: &[&str], arguments: &Arguments) -> Result<Vec<Row>> {
    let hand = hand::Hand::new()?;
    let mut sides = vec![hand.side()];
    let mut made = Vec::new();
    for engine in engines {
        let pair = path::Pair::new(engine)?;
        sides.push(pair.side());
        made.push(pair);
    }
    let mut rows = Vec::new();
    for name in wanted {
        rows.extend(match *name {
            "lookups" => traffic::lookups(&sides, arguments.seconds, arguments.rounds.min(3))?,
            kind => traffic::flows(kind, &sides, arguments.seconds, arguments.rounds.min(3))?,
        });
    }
    made.into_iter().try_for_each(path::Pair::remove)?;
    Ok(rows)
}

/// A field of an engine's answer.
fn field(document: &Value, pointer: &str) -> Result<String> {
    let value = document.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    value.map(str::to_owned).with_context(|| format!("the answer has no {pointer}"))
}

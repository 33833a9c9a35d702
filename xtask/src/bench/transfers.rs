//! Pulls into an empty store and pushes, with the daemon's CPU time and its peak memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::weight::ticks;
use super::{Engine, Row, milliseconds};

/// Clock ticks a second in `/proc`, on every machine that this runs on.
const TICKS: f64 = 100.0;
/// Until an engine has freed what was removed, and written what it had not.
const SETTLE: Duration = Duration::from_secs(3);

/// Pulls `reference`, pulls it again, removes it; engines take turns.
pub(super) fn pull(engines: &[Engine], reference: &str, rounds: u32) -> Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(what, unit, engines.len());
    let mut rows = [
        row("pull into an empty store", "s"),
        row("CPU of the pull", "s"),
        row("peak memory of the daemon", "MB"),
        row("pull of what is there", "ms"),
        row("rmi of what was pulled", "ms"),
    ];
    let target = format!("/images/create?fromImage={}", tagged(reference)?);
    for _ in 0..rounds {
        for (index, engine) in engines.iter().enumerate() {
            let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
            // One that is not there is fine.
            let _ = connection.ask("DELETE", &format!("/images/{reference}?force=1"), "");
            settle();
            forget_peak(daemon);
            let (before, begun) = (ticks(daemon)?, Instant::now());
            finished(&connection.ask("POST", &target, "")?.body)?;
            rows[0].samples[index].push(begun.elapsed().as_secs_f64());
            rows[1].samples[index].push((ticks(daemon)? - before) / TICKS);
            rows[2].samples[index].push(peak(daemon)?);
            let begun = Instant::now();
            finished(&connection.ask("POST", &target, "")?.body)?;
            rows[3].samples[index].push(milliseconds(begun.elapsed()));
            settle();
            let begun = Instant::now();
            connection.ask("DELETE", &format!("/images/{reference}?force=1"), "")?;
            rows[4].samples[index].push(milliseconds(begun.elapsed()));
        }
    }
    Ok(rows.into())
}

/// Pulls `reference` and pushes it to `to`, an empty registry's host: each engine to a repository of its own.
pub(super) fn push(engines: &[Engine], reference: &str, to: &str) -> Result<Vec<Row>> {
    let mut rows = [
        Row::new("push of what was pulled", "s", engines.len()),
        Row::new("CPU of the push", "s", engines.len()),
    ];
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        let pull = format!("/images/create?fromImage={}", tagged(reference)?);
        finished(&connection.ask("POST", &pull, "")?.body)?;
        let name = format!("{to}/bench-{}-{}", engine.name, std::process::id());
        connection.ask("POST", &format!("/images/{reference}/tag?repo={name}&tag=latest"), "")?;
        settle();
        let (before, begun) = (ticks(daemon)?, Instant::now());
        finished(&connection.ask("POST", &format!("/images/{name}/push?tag=latest"), "")?.body)?;
        rows[0].samples[index].push(begun.elapsed().as_secs_f64());
        rows[1].samples[index].push((ticks(daemon)? - before) / TICKS);
        connection.ask("DELETE", &format!("/images/{name}:latest"), "")?;
    }
    Ok(rows.into())
}

/// `NAME:TAG` as the two parameters of a pull.
fn tagged(reference: &str) -> Result<String> {
    let (name, tag) = reference.rsplit_once(':').context("--image: NAME:TAG is wanted")?;
    Ok(format!("{name}&tag={tag}"))
}

/// A stream of messages that ends without an error.
fn finished(body: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(body);
    match text.lines().find(|line| line.contains("\"error\"")) {
        Some(line) => bail!("{line}"),
        None => Ok(()),
    }
}

fn settle() {
    // What it cannot write, the measurement will show.
    let _ = std::process::Command::new("sync").status();
    std::thread::sleep(SETTLE);
}

/// Starts the count of the peak anew (proc_pid_clear_refs(5)).
fn forget_peak(pid: i32) {
    // Without it the peak since the start is shown, which is no less.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The most memory that a process had, MB.
fn peak(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}

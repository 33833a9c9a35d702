//! Pulls into an empty store and pushes, with the daemon's CPU time and its peak memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::weight::ticks;
use super::{Engine, Row, Wanted, milliseconds};

/// Clock ticks a second in `/proc`, on every machine that this runs on.
const TICKS: f64 = 100.0;
/// Until an engine has freed what was removed, and written what it had not.
const SETTLE: Duration = Duration::from_secs(3);

/// Pulls `reference`, pulls it again, removes it; engines take turns.
pub(super) fn pull(engines: &[Engine], reference: &str, rounds: u32) -> Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(what, unit, engines.len());
    let mut rows = [
        row("pull into an empty store", "s").wants(Wanted::Less(3.0)),
        row("CPU of the pull", "s").wants(Wanted::Less(1.0)),
        row("peak memory of the daemon", "MB").wants(Wanted::AtMost(64.0)),
        row("pull of what is there", "ms").wants(Wanted::AtMost(10.0)),
        row("rmi of what was pulled", "ms").wants(Wanted::AtMost(100.0)),
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
            let body = connection.ask("POST", &target, "")?.body;
            finished(&body)?;
            if String::from_utf8_lossy(&body).contains("Already exists") {
                bail!(
                    "{}: layers of {reference} are there under another name: remove that image",
                    engine.name
                );
            }
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
        Row::new("push of what was pulled", "s", engines.len()).wants(Wanted::Less(5.0)),
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

/// The first engine's pull, re-pull and removal alone in the store, and among `crowd` other images: the ratio of the two
/// is what counts.
pub(super) fn crowd(engines: &[Engine], reference: &str, crowd: u32, rounds: u32) -> Result<Vec<Row>> {
    let engine = engines.first().context("no engine")?;
    let engine = std::slice::from_ref(engine);
    let alone = pull(engine, reference, rounds)?;
    let mut connection = engine[0].connect()?;
    for number in 0..crowd {
        let path = format!("/images/create?fromSrc=-&repo=bench-crowd&tag={number}");
        finished(&connection.ask("POST", &path, &small_tar(number))?.body)?;
    }
    let among = pull(engine, reference, rounds);
    for number in 0..crowd {
        connection.ask("DELETE", &format!("/images/bench-crowd:{number}"), "")?;
    }
    let rows = alone.into_iter().zip(among?).map(|(alone, among)| {
        let what = format!("{} among {crowd}, times alone", among.what);
        let once = super::median(&alone.samples[0]);
        let mut row = Row::new(what, "x", engines.len()).wants(Wanted::AtMost(1.2));
        row.samples[0] = among.samples[0].iter().map(|sample| sample / once).collect();
        row
    });
    Ok(rows.collect())
}

/// An archive of one file that no other number has.
fn small_tar(number: u32) -> String {
    const BLOCK: usize = 512;
    let content = number.to_string();
    let mut head = format!(
        "{:\0<100}{:07o}\0{:07o}\0{:07o}\0{:011o}\0{:011o}\0        0",
        "number",
        0o644,
        0,
        0,
        content.len(),
        0
    );
    let sum: u32 = head.bytes().map(u32::from).sum();
    head.replace_range(148..156, &format!("{sum:06o}\0 "));
    format!("{head:\0<BLOCK$}{content:\0<BLOCK$}{:\0<width$}", "", width = 2 * BLOCK)
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

//! What an engine weighs: CPU time a cycle, memory of the daemon and of each idle container, and whether a
//! thousand containers slow it down. For engines whose supervisors are children of their daemon.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::connection::Connection;
use super::life::{create, phases, sleeper};
use super::{Engine, Row, median, milliseconds};

/// Cycles over which CPU time is taken.
const CYCLES: u32 = 100;
/// Clock ticks a second in `/proc`, on every machine that this runs on.
const TICKS: f64 = 100.0;

/// CPU time a cycle. With `group`, the directory of a cgroup that daemon and supervisors live in, exactly theirs;
/// else that of the daemon and of all that it waited for, the containers' own included.
pub(super) fn cpu(engines: &[Engine], group: Option<&Path>) -> Result<Vec<Row>> {
    let what = if group.is_some() { "CPU a cycle" } else { "CPU a cycle, containers included" };
    let mut row = Row::new(what, "ms", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        let used = || group.map_or_else(|| Ok(ticks(daemon)? * 1000.0 / TICKS), group_usage);
        phases(&mut connection)?;
        let before = used()?;
        for _ in 0..CYCLES {
            phases(&mut connection)?;
        }
        row.samples[index].push((used()? - before) / f64::from(CYCLES));
    }
    Ok(vec![row])
}

/// Milliseconds that a cgroup has used, of either version.
fn group_usage(directory: &Path) -> Result<f64> {
    if let Ok(text) = fs::read_to_string(directory.join("cpuacct.usage")) {
        return Ok(text.trim().parse::<f64>()? / 1e6);
    }
    let text = fs::read_to_string(directory.join("cpu.stat"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(usage.context("cpu.stat has no usage_usec")?.parse::<f64>()? / 1e3)
}

/// `count` idle containers: the weight of each, and the daemon's, and the hot paths beside them.
pub(super) fn idle(engines: &[Engine], count: u32, rounds: u32) -> Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(what, unit, engines.len());
    let mut rows = vec![
        row("daemon's PSS, before", "MB"),
        row("cycle on an engine without them", "ms"),
        row("start of idle containers", "/s"),
        row("private memory of a supervisor", "KB"),
        row("daemon's PSS a container", "KB"),
        row("ps with the idle ones", "ms"),
        row("ps while others start", "ms"),
        row("cycle beside the idle ones", "ms"),
        row("  ratio to that without them", "x"),
        row("removal of idle containers", "/s"),
    ];
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        for _ in 0..rounds {
            rows[1].samples[index].push(phases(&mut connection)?.iter().sum());
        }
        let before = settled_pss(daemon)?;
        rows[0].samples[index].push(before / 1024.0);
        let begun = Instant::now();
        let containers = start_idle(&mut connection, count)?;
        rows[2].samples[index].push(f64::from(count) / begun.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_secs(2));
        for supervisor in children(daemon)? {
            // One that has just ended has no memory.
            rows[3].samples[index].extend(kilobytes(supervisor, &["Private_Clean:", "Private_Dirty:"]));
        }
        rows[4].samples[index].push((settled_pss(daemon)? - before) / f64::from(count));
        for _ in 0..rounds {
            rows[5].samples[index].push(list_once(&mut connection)?);
            rows[7].samples[index].push(phases(&mut connection)?.iter().sum());
        }
        rows[6].samples[index] = list_while_starting(engine, &mut connection)?;
        let ratio = median(&rows[7].samples[index]) / median(&rows[1].samples[index]);
        rows[8].samples[index].push(ratio);
        let begun = Instant::now();
        remove_all(&mut connection, &containers)?;
        rows[9].samples[index].push(f64::from(count) / begun.elapsed().as_secs_f64());
    }
    Ok(rows)
}

/// Makes and starts containers that do nothing.
pub(crate) fn start_idle(connection: &mut Connection, count: u32) -> Result<Vec<String>> {
    let start = |_| {
        let container = create(connection, sleeper())?;
        connection.ask("POST", &format!("/containers/{container}/start"), "")?;
        Ok(container)
    };
    (0..count).map(start).collect()
}

pub(crate) fn remove_all(connection: &mut Connection, containers: &[String]) -> Result<()> {
    let mut remove = |container| connection.ask("DELETE", &format!("/containers/{container}?force=1"), "");
    containers.iter().try_for_each(|container| remove(container).map(drop))
}

fn list_once(connection: &mut Connection) -> Result<f64> {
    let begun = Instant::now();
    connection.ask("GET", "/containers/json", "")?;
    Ok(milliseconds(begun.elapsed()))
}

/// `ps` over and over while a hundred containers are started.
fn list_while_starting(engine: &Engine, connection: &mut Connection) -> Result<Vec<f64>> {
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| start_idle(&mut engine.connect()?, 100));
        let mut times = Vec::new();
        while !starter.is_finished() {
            times.push(list_once(connection)?);
        }
        let started = starter.join().expect("starting does not panic")?;
        remove_all(connection, &started)?;
        Ok(times)
    })
}

/// A daemon's PSS once it has given back what only a busy time needs.
fn settled_pss(daemon: i32) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..16 {
        std::thread::sleep(Duration::from_secs(1));
        let now = kilobytes(daemon, &["Pss:"])?;
        if now > least * 0.98 {
            return Ok(now.min(least));
        }
        least = now;
    }
    Ok(least)
}

/// Private memory of a container's supervisor before and after it wrote a gigabyte of logs.
pub(super) fn log_weight(engines: &[Engine], image: &str) -> Result<Vec<Row>> {
    let mut row = Row::new("supervisor after 1 GB of logs", "KB", engines.len());
    let body = serde_json::json!({
        "Image": image, "Cmd": ["sh", "-c", "logspam 1000000000; sleep 100000"],
        "HostConfig": { "NetworkMode": "none" },
    });
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        let known = children(daemon)?;
        let container = create(&mut connection, &body.to_string())?;
        connection.ask("POST", &format!("/containers/{container}/start"), "")?;
        let log = format!("/containers/{container}/logs?stdout=1&tail=1");
        let (mut last, mut calm) = (0, 0);
        // It is done when its supervisor uses no more time.
        let mut newest = children(daemon)?;
        newest.retain(|pid| !known.contains(pid));
        while calm < 3 {
            std::thread::sleep(Duration::from_millis(700));
            #[expect(clippy::cast_possible_truncation, reason = "whole ticks")]
            let now = newest.iter().map(|pid| ticks(*pid)).sum::<Result<f64>>()? as i64;
            calm = if now == last { calm + 1 } else { 0 };
            last = now;
        }
        connection.drain(&log)?;
        for pid in newest {
            row.samples[index].push(kilobytes(pid, &["Private_Clean:", "Private_Dirty:"])?);
        }
        connection.ask("DELETE", &format!("/containers/{container}?force=1"), "")?;
    }
    Ok(vec![row])
}

/// User and system time of a process and of the children it waited for, in ticks.
pub(super) fn ticks(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before the last parenthesis may hold anything; utime is the 14th field of all.
    let (_, fields) = text.rsplit_once(')').context("read /proc/PID/stat")?;
    fields.split_whitespace().skip(11).take(4).map(|field| Ok(field.parse::<f64>()?)).sum()
}

fn kilobytes(pid: i32, names: &[&str]) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = |line: &str| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        names.contains(&name).then(|| rest.split_whitespace().next()?.parse::<f64>().ok()).flatten()
    };
    Ok(text.lines().filter_map(value).sum())
}

fn children(pid: i32) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(all)
}

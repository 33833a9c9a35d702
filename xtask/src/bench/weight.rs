//! What an engine weighs: CPU time a cycle, memory of the daemon and of each idle container, and whether a
//! thousand containers slow it down. For engines whose supervisors are children of their daemon.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use super::life::{create, phases, sleeper};
use super::{Engine, Row, milliseconds};

/// Cycles over which CPU time is taken.
const CYCLES: u32 = 100;
/// Clock ticks a second in `/proc`, on every machine that this runs on.
const TICKS: f64 = 100.0;

/// CPU time of the daemon and of all that it waited for, the containers' own included.
pub(super) fn cpu(engines: &[Engine]) -> Result<Vec<Row>> {
    let mut row = Row::new("CPU a cycle, containers included", "ms", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        let before = ticks(daemon)?;
        for _ in 0..CYCLES {
            phases(&mut connection)?;
        }
        row.samples[index].push((ticks(daemon)? - before) * 1000.0 / TICKS / f64::from(CYCLES));
    }
    Ok(vec![row])
}

/// `count` idle containers: the weight of each, and the daemon's, and the cycle and list beside them.
pub(super) fn idle(engines: &[Engine], count: u32, rounds: u32) -> Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(what, unit, engines.len());
    let mut rows = [
        row("daemon's PSS, before", "MB"),
        row("start of idle containers", "/s"),
        row("private memory of a supervisor", "KB"),
        row("daemon's PSS a container", "KB"),
        row("ps with the idle ones", "ms"),
        row("cycle beside the idle ones", "ms"),
        row("removal of idle containers", "/s"),
    ];
    for (index, engine) in engines.iter().enumerate() {
        let (mut connection, daemon) = (engine.connect()?, engine.pid()?);
        let before = kilobytes(daemon, &["Pss:"])?;
        let begun = Instant::now();
        let mut containers = Vec::new();
        for _ in 0..count {
            let container = create(&mut connection, sleeper())?;
            connection.ask("POST", &format!("/containers/{container}/start"), "")?;
            containers.push(container);
        }
        let started = f64::from(count) / begun.elapsed().as_secs_f64();
        std::thread::sleep(std::time::Duration::from_secs(2));
        rows[0].samples[index].push(before / 1024.0);
        rows[1].samples[index].push(started);
        for supervisor in children(daemon)? {
            rows[2].samples[index].push(kilobytes(supervisor, &["Private_Clean:", "Private_Dirty:"])?);
        }
        rows[3].samples[index].push((kilobytes(daemon, &["Pss:"])? - before) / f64::from(count));
        for _ in 0..rounds {
            let begun = Instant::now();
            connection.ask("GET", "/containers/json", "")?;
            rows[4].samples[index].push(milliseconds(begun.elapsed()));
            rows[5].samples[index].push(phases(&mut connection)?.iter().sum());
        }
        let begun = Instant::now();
        for container in &containers {
            connection.ask("DELETE", &format!("/containers/{container}?force=1"), "")?;
        }
        rows[6].samples[index].push(f64::from(count) / begun.elapsed().as_secs_f64());
    }
    Ok(rows.into())
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

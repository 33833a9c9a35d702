//! What networks cost a container's life over the API.

use std::time::Instant;

use anyhow::Result;

use super::super::connection::Connection;
use super::super::life::{create, phases_of};
use super::super::{Engine, Row, milliseconds};

/// Cycles of the parallel bench, and how many at a time.
const CYCLES: usize = 160;
const AT_A_TIME: usize = 8;
/// Where the ports begin that are published to have many.
const FIRST: u16 = 20_000;

/// `true` on the default network with a port that the kernel chooses.
const BRIDGE: &str = r#"{"Image":"busybox","Cmd":["true"],"ExposedPorts":{"80/tcp":{}},
    "HostConfig":{"NetworkMode":"bridge","PortBindings":{"80/tcp":[{"HostPort":""}]}}}"#;
const NONE: &str = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#;

fn total(connection: &mut Connection, body: &str) -> Result<f64> {
    Ok(phases_of(connection, body)?.iter().sum())
}

/// One cycle after the other, with and without a network.
pub(super) fn cycle(engines: &[Engine], rounds: u32) -> Result<Vec<Row>> {
    let row = |what: &str| Row::new(what, "ms", engines.len());
    let mut rows = vec![row("cycle, no network"), row("cycle, bridge and a port"), row("  difference")];
    let mut connections: Vec<Connection> = engines.iter().map(Engine::connect).collect::<Result<_>>()?;
    for round in 0..=rounds {
        for (index, connection) in connections.iter_mut().enumerate() {
            let (without, with) = (total(connection, NONE)?, total(connection, BRIDGE)?);
            // The first round warms up.
            if round > 0 {
                for (row, sample) in rows.iter_mut().zip([without, with, with - without]) {
                    row.samples[index].push(sample);
                }
            }
        }
    }
    Ok(rows)
}

/// Many at a time on the default network.
pub(super) fn parallel(engines: &[Engine]) -> Result<Vec<Row>> {
    let mut row = Row::new(format!("cycles on a bridge, {AT_A_TIME} at a time"), "/s", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let begun = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let work = || -> Result<()> {
                let mut connection = engine.connect()?;
                (0..CYCLES / AT_A_TIME).try_for_each(|_| total(&mut connection, BRIDGE).map(drop))
            };
            let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        row.samples[index].push(CYCLES as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(vec![row])
}

/// A start with one port, while one or many are published.
pub(super) fn publish(engines: &[Engine], rounds: u32, many: u16) -> Result<Vec<Row>> {
    let row = |count: u16| Row::new(format!("start with a port, {count} published"), "ms", engines.len());
    let mut rows = vec![row(1), row(many)];
    for (index, engine) in engines.iter().enumerate() {
        let mut connection = engine.connect()?;
        for (row, count) in rows.iter_mut().zip([1, many]) {
            let holder = create(&mut connection, &holding(count))?;
            let measured = one_more(&mut connection, &holder, rounds);
            connection.ask("DELETE", &format!("/containers/{holder}?force=1"), "")?;
            row.samples[index] = measured?;
        }
    }
    Ok(rows)
}

/// How long starts with a port take while `holder` holds its own.
fn one_more(connection: &mut Connection, holder: &str, rounds: u32) -> Result<Vec<f64>> {
    connection.ask("POST", &format!("/containers/{holder}/start"), "")?;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let one = create(connection, BRIDGE)?;
        let begun = Instant::now();
        let started = connection.ask("POST", &format!("/containers/{one}/start"), "");
        samples.push(milliseconds(begun.elapsed()));
        connection.ask("DELETE", &format!("/containers/{one}?force=1"), "")?;
        started?;
    }
    Ok(samples)
}

/// A container that publishes so many ports.
fn holding(count: u16) -> String {
    let ports: Vec<String> = (FIRST..FIRST + count).map(|port| format!("\"{port}/tcp\"")).collect();
    let exposed: Vec<String> = ports.iter().map(|port| format!("{port}:{{}}")).collect();
    let bound: Vec<String> = (FIRST..FIRST + count)
        .zip(&ports)
        .map(|(number, port)| format!("{port}:[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{number}\"}}]"))
        .collect();
    format!(
        r#"{{"Image":"busybox","Cmd":["sleep","100000"],"ExposedPorts":{{{}}},"HostConfig":{{"NetworkMode":"bridge","PortBindings":{{{}}}}}}}"#,
        exposed.join(","),
        bound.join(",")
    )
}

//! A container's life over the API: create, start, wait, remove; execs; many at once; lists.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::connection::{Answer, Connection};
use super::{Engine, Row, milliseconds};

const TRUE: &str = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#;
const SLEEP: &str = r#"{"Image":"busybox","Cmd":["sleep","100000"],"HostConfig":{"NetworkMode":"none"}}"#;
/// Cycles of the parallel bench, and how many at a time.
const CYCLES: usize = 200;
const AT_A_TIME: usize = 8;

/// What makes a container that does nothing.
pub(super) fn sleeper() -> &'static str {
    SLEEP
}

fn id(answer: &Answer) -> Result<String> {
    let document: Value = serde_json::from_slice(&answer.body)?;
    document["Id"].as_str().map(str::to_owned).context("the answer has no Id")
}

pub(super) fn create(connection: &mut Connection, body: &str) -> Result<String> {
    id(&connection.ask("POST", "/containers/create", body)?)
}

/// The phases of one cycle of `true` without a network, in milliseconds: create, start, wait, remove.
pub(super) fn phases(connection: &mut Connection) -> Result<[f64; 4]> {
    phases_of(connection, TRUE)
}

/// The same of a container that ends by itself.
pub(super) fn phases_of(connection: &mut Connection, body: &str) -> Result<[f64; 4]> {
    let mut times = [0.0; 4];
    let begun = Instant::now();
    let container = create(connection, body)?;
    times[0] = milliseconds(begun.elapsed());
    let steps = [
        ("POST", format!("/containers/{container}/start")),
        ("POST", format!("/containers/{container}/wait")),
        ("DELETE", format!("/containers/{container}")),
    ];
    for (time, (method, path)) in times[1..].iter_mut().zip(&steps) {
        let begun = Instant::now();
        connection.ask(method, path, "")?;
        *time = milliseconds(begun.elapsed());
    }
    Ok(times)
}

pub(super) fn cycle(engines: &[Engine], rounds: u32) -> Result<Vec<Row>> {
    let names = ["create", "start", "wait", "remove"];
    let mut rows = vec![Row::new("cycle of true, none", "ms", engines.len())];
    rows.extend(names.iter().map(|name| Row::new(format!("  {name}"), "ms", engines.len())));
    let mut connections: Vec<Connection> = engines.iter().map(Engine::connect).collect::<Result<_>>()?;
    for round in 0..=rounds {
        for (index, connection) in connections.iter_mut().enumerate() {
            let times = phases(connection)?;
            // The first round warms up.
            if round > 0 {
                rows[0].samples[index].push(times.iter().sum());
                times.iter().zip(&mut rows[1..]).for_each(|(time, row)| row.samples[index].push(*time));
            }
        }
    }
    Ok(rows)
}

pub(super) fn exec(engines: &[Engine], rounds: u32) -> Result<Vec<Row>> {
    let mut row = Row::new("exec of true", "ms", engines.len());
    let mut connections: Vec<Connection> = engines.iter().map(Engine::connect).collect::<Result<_>>()?;
    let start = |connection: &mut Connection| {
        let container = create(connection, SLEEP)?;
        connection.ask("POST", &format!("/containers/{container}/start"), "")?;
        Ok(container)
    };
    let containers: Vec<String> = connections.iter_mut().map(start).collect::<Result<_>>()?;
    for _ in 0..rounds {
        for (index, engine) in engines.iter().enumerate() {
            let begun = Instant::now();
            let made = connections[index].ask(
                "POST",
                &format!("/containers/{}/exec", containers[index]),
                r#"{"Cmd":["true"],"AttachStdout":true}"#,
            )?;
            let exec = id(&made)?;
            // The attached start ends with its connection, and with the process.
            attached(engine, &format!("/exec/{exec}/start"))?;
            row.samples[index].push(milliseconds(begun.elapsed()));
        }
    }
    for (connection, container) in connections.iter_mut().zip(&containers) {
        connection.ask("DELETE", &format!("/containers/{container}?force=1"), "")?;
    }
    Ok(vec![row])
}

fn attached(engine: &Engine, path: &str) -> Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(&engine.socket)?;
    let body = r#"{"Detach":false,"Tty":false}"#;
    write!(
        stream,
        "POST /v1.51{path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

pub(super) fn parallel(engines: &[Engine]) -> Result<Vec<Row>> {
    let mut row = Row::new(format!("cycles, {AT_A_TIME} at a time"), "/s", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let begun = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..AT_A_TIME)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut connection = engine.connect()?;
                        (0..CYCLES / AT_A_TIME).try_for_each(|_| phases(&mut connection).map(drop))
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        row.samples[index].push(CYCLES as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(vec![row])
}

pub(super) fn list(engines: &[Engine], rounds: u32) -> Result<Vec<Row>> {
    let mut row = Row::new("ps -a as it stands", "ms", engines.len());
    let mut ping = Row::new("ping", "ms", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let mut connection = engine.connect()?;
        for _ in 0..rounds {
            let begun = Instant::now();
            connection.ask("GET", "/containers/json?all=1", "")?;
            row.samples[index].push(milliseconds(begun.elapsed()));
            let begun = Instant::now();
            connection.ask("GET", "/_ping", "")?;
            ping.samples[index].push(milliseconds(begun.elapsed()));
        }
    }
    Ok(vec![row, ping])
}

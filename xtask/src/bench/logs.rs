//! A container's output to its log, and back.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Engine, Row};

/// Lines of 105 bytes.
const LINES: u64 = 1_000_000;
const LINE_BYTES: u64 = 105;

pub(super) fn logs(engines: &[Engine]) -> Result<Vec<Row>> {
    let mut written = Row::new("stdout to the log", "MB/s", engines.len());
    let mut read = Row::new("logs read back", "MB/s", engines.len());
    let line = "x".repeat(usize::try_from(LINE_BYTES - 1)?);
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["sh", "-c", format!("yes {line} | head -n {LINES}")],
        "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "json-file", "Config": { "max-size": "1g" } } },
    });
    for (index, engine) in engines.iter().enumerate() {
        let mut connection = engine.connect()?;
        let made = connection.ask("POST", "/containers/create", &body.to_string())?;
        let document: Value = serde_json::from_slice(&made.body)?;
        let container = document["Id"].as_str().context("the answer has no Id")?.to_owned();
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let megabytes = (LINES * LINE_BYTES) as f64 / 1e6;
        let begun = Instant::now();
        connection.ask("POST", &format!("/containers/{container}/start"), "")?;
        connection.ask("POST", &format!("/containers/{container}/wait"), "")?;
        written.samples[index].push(megabytes / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        connection.drain(&format!("/containers/{container}/logs?stdout=1"))?;
        read.samples[index].push(megabytes / begun.elapsed().as_secs_f64());
        connection.ask("DELETE", &format!("/containers/{container}"), "")?;
    }
    Ok(vec![written, read])
}

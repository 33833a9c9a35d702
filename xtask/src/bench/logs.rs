//! A container's output to its log, and back.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Engine, Row};

/// Bytes that the container says, in lines of about a hundred.
const BYTES: u64 = 300_000_000;

/// `image` has a program that writes as fast as it can: `logspam BYTES`. Rounds are interleaved.
pub(super) fn logs(engines: &[Engine], image: &str, rounds: u32) -> Result<Vec<Row>> {
    let mut written = Row::new("stdout to the log", "MB/s", engines.len());
    let mut read = Row::new("logs read back", "MB/s", engines.len());
    let body = serde_json::json!({
        "Image": image, "Cmd": ["logspam", BYTES.to_string()],
        "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "json-file", "Config": { "max-size": "2g" } } },
    });
    for _ in 0..rounds {
        for (index, engine) in engines.iter().enumerate() {
            let mut connection = engine.connect()?;
            let made = connection.ask("POST", "/containers/create", &body.to_string())?;
            let document: Value = serde_json::from_slice(&made.body)?;
            let container = document["Id"].as_str().context("the answer has no Id")?.to_owned();
            #[expect(clippy::cast_precision_loss, reason = "megabytes")]
            let megabytes = BYTES as f64 / 1e6;
            let begun = Instant::now();
            connection.ask("POST", &format!("/containers/{container}/start"), "")?;
            connection.ask("POST", &format!("/containers/{container}/wait"), "")?;
            written.samples[index].push(megabytes / begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            let length = connection.drain(&format!("/containers/{container}/logs?stdout=1"))?;
            ensure!(length >= BYTES, "{}: {length} of {BYTES} bytes came back", engine.name);
            read.samples[index].push(megabytes / begun.elapsed().as_secs_f64());
            connection.ask("DELETE", &format!("/containers/{container}"), "")?;
        }
    }
    Ok(vec![written, read])
}

//! A bare OCI runtime on a like bundle: what an engine's whole cycle is compared with.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::life::phases;
use super::{Engine, Row, milliseconds};

/// `command` (words) runs as `COMMAND run -b BUNDLE ID`, each run beside a cycle of each engine. The ratio is
/// that of an engine's cycle to the runtime's run.
pub(super) fn runtime(engines: &[Engine], command: &str, bundle: &Path, rounds: u32) -> Result<Vec<Row>> {
    let mut bare = Row::new("run of true by the bare runtime", "ms", engines.len());
    let mut cycle = Row::new("cycle of true beside it", "ms", engines.len());
    let mut ratio = Row::new("  ratio to the bare runtime", "x", engines.len());
    let mut words = command.split_whitespace();
    let program = words.next().context("--runtime names no program")?;
    let words: Vec<&str> = words.collect();
    for (index, engine) in engines.iter().enumerate() {
        let mut connection = engine.connect()?;
        for round in 0..=rounds {
            let begun = Instant::now();
            let id = format!("bench-{}-{round}", std::process::id());
            let status =
                Command::new(program).args(&words).args(["run", "-b"]).arg(bundle).arg(id).status()?;
            if !status.success() {
                bail!("{command} run: {status}");
            }
            let alone = milliseconds(begun.elapsed());
            let whole: f64 = phases(&mut connection)?.iter().sum();
            // The first round warms up.
            if round > 0 {
                bare.samples[index].push(alone);
                cycle.samples[index].push(whole);
                ratio.samples[index].push(whole / alone);
            }
        }
    }
    Ok(vec![bare, cycle, ratio])
}

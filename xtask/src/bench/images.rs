//! A large image: load, save, remove.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Engine, Row, milliseconds};

pub(super) fn images(engines: &[Engine], archive: &Path) -> Result<Vec<Row>> {
    let mut load = Row::new("load", "s", engines.len());
    let mut save = Row::new("save", "s", engines.len());
    let mut remove = Row::new("rmi", "ms", engines.len());
    for (index, engine) in engines.iter().enumerate() {
        let mut connection = engine.connect()?;
        let begun = Instant::now();
        let answer = connection.send("/images/load?quiet=1", archive)?;
        load.samples[index].push(begun.elapsed().as_secs_f64());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status != 200 || text.contains("\"error\"") {
            bail!("{}: load: {} {text}", engine.name, answer.status);
        }
        let name = text
            .split("Loaded image: ")
            .nth(1)
            .and_then(|rest| rest.split("\\n").next())
            .context("load names no image")?
            .to_owned();
        let begun = Instant::now();
        connection.drain(&format!("/images/{name}/get"))?;
        save.samples[index].push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        connection.ask("DELETE", &format!("/images/{name}?force=1"), "")?;
        remove.samples[index].push(milliseconds(begun.elapsed()));
    }
    Ok(vec![load, save, remove])
}

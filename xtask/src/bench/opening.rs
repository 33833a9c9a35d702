//! From the start of a daemon's program to its first answer, on empty roots.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Row, milliseconds};

/// Starts `program daemon` over and over on new roots below `directory`.
pub(super) fn opening(program: &Path, directory: &Path, rounds: u32) -> Result<Vec<Row>> {
    let mut row = Row::new("daemon's start to its first answer", "ms", 1);
    for round in 0..rounds {
        let root = directory.join(format!("bench-{}-{round}", std::process::id()));
        std::fs::create_dir_all(&root)?;
        std::fs::write(root.join("daemon.json"), "{}")?;
        let socket = root.join("s");
        let begun = Instant::now();
        let mut child = Command::new(program)
            .arg("daemon")
            .args([
                "--instance",
                &format!("bench{}", std::process::id()),
                "-H",
                &format!("unix://{}", socket.display()),
            ])
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("run"))
            .arg("--config-file")
            .arg(root.join("daemon.json"))
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let answered = first_answer(&socket, begun);
        let time = milliseconds(begun.elapsed());
        child.kill()?;
        child.wait()?;
        std::fs::remove_dir_all(&root)?;
        answered?;
        row.samples[0].push(time);
    }
    Ok(vec![row])
}

/// Waits until a daemon answers at `socket`.
pub(super) fn first_answer(socket: &Path, begun: Instant) -> Result<()> {
    while begun.elapsed() < Duration::from_secs(10) {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    bail!("no answer at {}", socket.display())
}

//! Builds: eleven steps over a context of 5,000 files, through the same client on each daemon.
//!
//! `cargo xtask bench build --engine wharf=/run/wharf/wharf.sock --engine docker=/var/run/docker.sock`. Each daemon must
//! have `--base` (`debian:trixie`); the client is `docker` with its buildx plugin, for the first also `--program`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Engine, Row, Wanted, milliseconds, table_of};

/// Files of the context.
const FILES: usize = 5_000;
/// Words that they are made of, compressible as sources are.
const WORDS: [&str; 10] =
    ["alpha", "def", "return", "import", "self", "value", "None", "class", "range", "len"];
/// The largest file, bytes.
const LARGEST: usize = 60_000;
const TAG: &str = "wharf-bench-build:1";

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// NAME=SOCKET of a daemon; the first is what the others are compared with
    #[arg(long = "engine", value_name = "NAME=SOCKET", required = true)]
    engines: Vec<String>,
    /// Rounds of each measurement
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: u32,
    /// The image that the build stands on, which all daemons have
    #[arg(long, default_value = "debian:trixie")]
    base: String,
    /// The client
    #[arg(long, default_value = "docker")]
    client: PathBuf,
    /// A `wharf` whose own client builds on the first engine too
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Who builds where.
struct Builder<'a> {
    name: String,
    program: &'a Path,
    engine: &'a Engine,
}

impl Builder<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.env("DOCKER_HOST", format!("unix://{}", self.engine.socket.display())).args(words);
        command
    }

    /// Builds the context, in milliseconds.
    fn build(&self, context: &Path, more: &[&str]) -> Result<f64> {
        let begun = Instant::now();
        let output = self.command(&["build", "-q", "-t", TAG]).args(more).arg(context).output()?;
        let time = milliseconds(begun.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "build with {}: {said}", self.name);
        Ok(time)
    }

    /// Takes away what was built and what it left behind.
    fn forget(&self) -> Result<()> {
        for words in [&["rmi", "-f", TAG][..], &["builder", "prune", "-af"]] {
            // An image that is not there is fine.
            self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        }
        Ok(())
    }
}

/// Runs all and gives the table.
pub(super) fn run(arguments: &Arguments) -> Result<String> {
    let engines: Vec<Engine> =
        arguments.engines.iter().map(|text| Engine::parse(text)).collect::<Result<_>>()?;
    let mut builders: Vec<Builder<'_>> = engines
        .iter()
        .map(|engine| Builder { name: engine.name.clone(), program: &arguments.client, engine })
        .collect();
    if let Some(program) = &arguments.program {
        builders.push(Builder {
            name: format!("{}, own client", engines[0].name),
            program,
            engine: &engines[0],
        });
    }
    let folder = tempfile::tempdir()?;
    fill(folder.path(), &arguments.base).context("make the context")?;
    let row = |what: &str| Row::new(what, "ms", builders.len()).among(engines.len());
    let mut rows = [
        row("cold").wants(Wanted::Less(2.0)),
        row("fully cached"),
        row("one file changed").wants(Wanted::Less(3.0)),
        row("a RUN step more"),
    ];
    for round in 0..arguments.rounds {
        for (at, builder) in builders.iter().enumerate() {
            change(folder.path(), round, at)?;
            builder.forget()?;
            rows[0].samples[at].push(builder.build(folder.path(), &[])?);
            builder.build(folder.path(), &[])?;
            rows[1].samples[at].push(builder.build(folder.path(), &[])?);
            change(folder.path(), round + arguments.rounds, at)?;
            rows[2].samples[at].push(builder.build(folder.path(), &[])?);
            rows[3].samples[at].push(step(builder, &arguments.base, round)?);
            builder.forget()?;
        }
    }
    let names: Vec<&str> = builders.iter().map(|builder| builder.name.as_str()).collect();
    Ok(table_of(&names, &rows))
}

/// What one RUN step costs: the difference between a build of eleven and a build of one, divided.
fn step(builder: &Builder<'_>, base: &str, round: u32) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let build = |steps: u32| {
        let runs: String = (0..steps).map(|step| format!("RUN : {round} {step} {steps}\n")).collect();
        fs::write(folder.path().join("Dockerfile"), format!("FROM {base}\n{runs}"))?;
        builder.build(folder.path(), &[])
    };
    let (one, eleven) = (build(1)?, build(11)?);
    Ok((eleven - one) / 10.0)
}

fn fill(top: &Path, base: &str) -> Result<()> {
    let dockerfile = format!(
        "FROM {base}\nENV A=1\nRUN echo one > /one\nCOPY files/ /srv/files/\nRUN find /srv/files | wc -l > /count\n\
         WORKDIR /app\nCOPY app/ /app/\nRUN echo two > /two && cp -r /srv/files /srv/copy\n\
         RUN sh -c 'for i in 1 2 3 4 5; do echo $i > /n$i; done'\nLABEL x=y\n\
         RUN rm -rf /srv/copy && echo three > /three\nCMD [\"cat\",\"/three\"]\n"
    );
    fs::write(top.join("Dockerfile"), dockerfile)?;
    fs::create_dir(top.join("app"))?;
    for file in 0..FILES {
        let directory = top.join(format!("files/d{:02}/e{}", file % 50, file % 7));
        fs::create_dir_all(&directory)?;
        // Many small ones and a few large, by a sequence that is the same every time.
        let size = LARGEST / (1 + (file * 7_919) % 97);
        let mut text = String::with_capacity(size + 16);
        for word in (0..).map(|at: usize| WORDS[(at * at + file) % WORDS.len()]) {
            text += word;
            text.push(' ');
            if text.len() >= size {
                break;
            }
        }
        fs::write(directory.join(format!("f{file}.py")), text)?;
    }
    Ok(())
}

fn change(top: &Path, round: u32, at: usize) -> Result<()> {
    Ok(fs::write(top.join("app/main.py"), format!("print(\"{round} {at}\")\n"))?)
}

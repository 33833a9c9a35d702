//! The project's chores: `cargo xtask NAME`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod dependencies;
mod forbidden;

#[derive(Debug, Parser)]
#[command(about = "The project's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Checks that no crate reaches one that DESIGN's arrows forbid, through any path.
    Dependencies,
    /// Measures daemons beside each other
    Bench(Box<bench::Arguments>),
    /// Takes every figure of speed and weight in one run, and runs the long crash test
    Full(bench::full::Full),
    /// Checks that a static binary contains none of the C library's name-service functions.
    Forbidden { binary: std::path::PathBuf },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Dependencies => dependencies::check(),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Full(full) => bench::full::run(&full),
        Chore::Forbidden { binary } => forbidden::check(&binary),
    };
    match result {
        Ok(said) => {
            let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{said}\n").as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{error:#}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

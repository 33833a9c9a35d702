//! The command line: Docker's commands and flags, spoken over the Engine API to any daemon.
//!
//! One file per command in `commands/`; what several share stands beside them: where the daemon is
//! ([`connect`]), how a container is described by flags ([`container_flags`]), how answers are shown
//! ([`format`], [`table`], [`units`]).
//!
//! invariant: nothing here touches the kernel's containers; everything goes through the API.

mod autostart;
mod commands;
mod connect;
mod container_flags;
mod error;
mod filters;
mod format;
mod hello;
mod streams;
mod table;
mod terminal;
mod units;

use std::ffi::OsString;

use clap::Parser;

pub use error::CliError;

/// The global flags and the command.
#[derive(Debug, Parser)]
#[command(name = "wharf", version = version(), about = "A container engine", disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    target: connect::Target,
    #[command(subcommand)]
    command: commands::Command,
}

/// As `docker --version` says it.
fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), ", API ", "1.51")
}

/// Runs the command line; the answer is the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> i32 {
    if arguments.first().is_some_and(|word| word == "hello") {
        return hello::main(&arguments[1..]);
    }
    let parsed = Arguments::try_parse_from(std::iter::once(OsString::from("wharf")).chain(arguments));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers; a wrong flag is 125 for run, as `docker run` has it, and 1 elsewhere.
            let _ = error.print();
            return if error.use_stderr() { wrong_flag_code() } else { 0 };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error::say(&format!("start: {error}"));
            return 1;
        }
    };
    let outcome = runtime.block_on(arguments.command.run(&arguments.target));
    // Reading standard input may still block a thread of the pool: it must not hold the exit back.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn wrong_flag_code() -> i32 {
    let runs = std::env::args().skip(1).any(|word| word == "run" || word == "create");
    if runs { 125 } else { 1 }
}

//! The command line: Docker's commands and flags, spoken over the Engine API to any daemon.
//!
//! One file per command in `commands/`; what several share stands beside them: where the daemon is
//! ([`connect`]), how a container is described by flags ([`container_flags`]), how answers are shown
//! ([`format`], [`table`], [`units`]).
//!
//! invariant: nothing here touches the kernel's containers; everything goes through the API.

mod arguments;
mod autostart;
mod commands;
mod connect;
mod container_flags;
mod contexts;
mod credentials;
mod detach;
mod error;
mod filters;
mod format;
mod hello;
mod platform;
mod progress;
mod streams;
mod table;
mod template;
mod terminal;
mod units;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser};

pub use error::CliError;

/// The global flags and the command.
#[derive(Debug, Parser)]
#[command(name = "wharf", about = "A container engine", disable_version_flag = true, version = version())]
struct Arguments {
    #[command(flatten)]
    target: connect::Target,
    /// Print version information and quit
    #[arg(short = 'v', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: commands::Command,
}

/// As `docker --version` says it.
fn version() -> &'static str {
    concat!("version ", env!("CARGO_PKG_VERSION"), ", API ", "1.51")
}

/// Runs the command line; the answer is the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> i32 {
    if arguments.first().is_some_and(|word| word == "hello") {
        return hello::main(&arguments[1..]);
    }
    let root = arguments::relaxed(Arguments::command());
    let arguments = arguments::separated(&root, arguments);
    let all = std::iter::once(OsString::from("wharf")).chain(arguments.iter().cloned());
    let parsed =
        root.clone().try_get_matches_from(all).and_then(|matches| Arguments::from_arg_matches(&matches));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            // Help and version are answers.
            let _ = error.print();
            return 0;
        }
        Err(error) => return arguments::refuse(&root, &arguments, &error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error::say(&format!("start: {error}"));
            return 1;
        }
    };
    let outcome = runtime.block_on(parsed.command.run(&parsed.target));
    // Reading standard input may still block a thread of the pool: it must not hold the exit back.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

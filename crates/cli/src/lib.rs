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

use clap::{Args, CommandFactory, FromArgMatches, Parser};

pub use error::CliError;

/// The global flags and the command.
#[derive(Debug, Parser)]
#[command(name = "wharf", about = "A container engine", disable_version_flag = true, version = version())]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: commands::Command,
}

/// The flags before the command.
#[derive(Debug, clap::Args)]
struct Flags {
    #[command(flatten)]
    target: connect::Target,
    /// Print version information and quit
    #[arg(short = 'v', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
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
    let parsed = match quickly(&arguments) {
        Some(parsed) => parsed,
        None => match thoroughly(arguments) {
            Ok(parsed) => parsed,
            Err(code) => return code,
        },
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error::say(&format!("start: {error}"));
            return 1;
        }
    };
    let outcome = runtime.block_on(parsed.command.run(&parsed.flags.target));
    // Reading standard input may still block a thread of the pool: it must not hold the exit back.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

/// Reads a command line by the command that it names alone: there are many, and making them all takes longer than most
/// of them do. `None`: something about it is wrong, or it asks for help.
fn quickly(arguments: &[OsString]) -> Option<Arguments> {
    let flags =
        Flags::augment_args(clap::Command::new("wharf").version(version()).disable_version_flag(true));
    let word = arguments::command_word(&flags, arguments)?;
    let root = arguments::relaxed(commands::Command::only(word, flags)?);
    parse(root, arguments.to_vec()).1.ok()
}

/// Reads a command line, and says what is wrong with it, or what it asks for; then the answer is the exit code.
fn thoroughly(arguments: Vec<OsString>) -> Result<Arguments, i32> {
    let root = arguments::relaxed(Arguments::command());
    let (arguments, parsed) = parse(root.clone(), arguments);
    match parsed {
        Ok(parsed) => Ok(parsed),
        Err(error) if !error.use_stderr() => {
            // Help and version are answers.
            let _ = error.print();
            Err(0)
        }
        Err(error) => Err(arguments::refuse(&root, &arguments, &error)),
    }
}

/// Reads a command line; the first is that as it was read.
fn parse(root: clap::Command, arguments: Vec<OsString>) -> (Vec<OsString>, clap::error::Result<Arguments>) {
    let arguments = arguments::separated(&root, arguments);
    let all = std::iter::once(OsString::from("wharf")).chain(arguments.iter().cloned());
    let parsed = root.try_get_matches_from(all).and_then(|matches| Arguments::from_arg_matches(&matches));
    (arguments, parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_read_alone_is_the_command_read_among_all() {
        let lines = [
            "run --rm -it -v /a:/b --network none busybox sh -c true",
            "-H unix:///x build -t a:1 --build-arg X=1 --no-cache=false .",
            "ps -aq --filter status=running --format {{.ID}}",
            "--host=tcp://h:1 exec -e A=1 c ls -l",
            "container run --name x busybox",
            "images --no-trunc",
            "rm -f a b",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let (quick, thorough) = (quickly(&words).unwrap(), thoroughly(words).unwrap());
            assert_eq!(format!("{quick:?}"), format!("{thorough:?}"));
        }
        // What is wrong, and what asks for help, is left to who knows all.
        for line in ["", "nonsense", "run --nonsense x", "run --help", "--version", "build", "help run"] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(quickly(&words).is_none(), "{line}");
        }
    }
}

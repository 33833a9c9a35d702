//! The daemon: HTTP in front of the engine, configuration, start-up.
//!
//! invariant: nothing here knows what a container is made of; requests are taken apart, handed to the engine, and
//! its answers and errors put into Docker's form.

mod buildkit;
mod config;
mod http;
mod listen;
mod log;
mod pidfile;
mod reload;
mod routes;
mod server;
mod start;
#[cfg(test)]
mod tests;

/// Doors for fuzzers to what reads a client's bytes.
#[doc(hidden)]
pub mod fuzz {
    pub use crate::buildkit::fuzz_definition as definition;
}

use std::ffi::OsString;

use crate::config::{Loaded, Only};

/// Runs `wharf daemon` with the words behind it; returns the exit status.
pub fn main(arguments: Vec<OsString>) -> i32 {
    let arguments: Vec<String> =
        arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match run(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("wharf daemon: {error}"));
            1
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let settings = match config::load(arguments).map_err(|error| error.to_string())? {
        Loaded::Help(text) => {
            print(&text);
            return Ok(());
        }
        Loaded::Run(settings) => *settings,
    };
    match settings.only {
        Some(Only::Version) => print(&format!("Wharf version {}\n", env!("CARGO_PKG_VERSION"))),
        Some(Only::Validate) => print("configuration OK\n"),
        None => return start::run(settings, arguments),
    }
    Ok(())
}

fn print(text: &str) {
    // Whoever closed standard output does not want the text.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

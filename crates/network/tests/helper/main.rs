//! The net helper in kernels' own words: real processes, namespaces, sockets and `dig`.
//!
//! This program is its own helper executable, so it has no harness but the few lines below: every test runs
//! in a child of its own, with its own network, mount table and `/etc/resolv.conf`. Arguments choose tests by
//! parts of their names; `measure` runs the measurements, too.

#![allow(unreachable_pub, reason = "a program of its own, not a crate")]

mod forwarding;
mod host;
mod measure;
mod names;
mod ports;
mod relays;
mod survival;
mod upstream;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use wharf_sys::process;

/// Tests by name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "net") {
        let code = wharf_network::helper::main(arguments.into_iter().skip(1));
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let measures = words.iter().any(|word| word == "measure");
    let tests = [names::TESTS, forwarding::TESTS, ports::TESTS, relays::TESTS, survival::TESTS].concat();
    let tests = if measures { measure::TESTS.to_vec() } else { tests };
    let chosen = |name: &str| measures || words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut failed = Vec::new();
    for (name, test) in tests.into_iter().filter(|(name, _)| chosen(name)) {
        let started = Instant::now();
        let passed = run(test);
        say(&format!("test {name} ... {} ({:?})", if passed { "ok" } else { "FAILED" }, started.elapsed()));
        if !passed {
            failed.push(name);
        }
    }
    say(&format!("{} failed {failed:?}", failed.len()));
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn run(test: fn()) -> bool {
    let pid = process::fork_child(|| {
        host::isolate();
        // A failed assertion aborts or unwinds; neither answers 0.
        i32::from(std::panic::catch_unwind(test).is_err())
    });
    pid.and_then(process::wait).is_ok_and(|code| code == 0)
}

#[allow(clippy::print_stdout, reason = "this is the harness")]
fn say(line: &str) {
    println!("{line}");
}

//! The per-container supervisor: parent of a container's processes, owner of their streams, log and end.
//!
//! One small process per container, one thread, no runtime: see [`supervise`]. It serves attached clients
//! and daemons, applies the restart policy, writes the journal, and needs nobody.
//!
//! invariant: knows nothing of the engine, images or HTTP.

mod client;
mod control;
mod detach;
mod error;
mod foreign;
mod journal;
mod launch;
mod log;
mod memory;
mod nursery;
mod requests;
mod restart;
mod session;
mod start;
mod stdin;
mod supervise;
mod token;

use std::ffi::OsString;

/// Runs a supervisor: `[--with DESCRIPTORS | --adopt DESCRIPTORS] BUNDLE`, the arguments after the role's name.
/// Descriptor 3 is the daemon's connection, 4 and on are what the JSON list of names says. The exit code: 0 after the container's end, 1 when it could not serve.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    match start::start(arguments.into_iter().collect()) {
        Ok(()) => 0,
        Err(error) => {
            use std::io::Write;
            let _nobody_reads = writeln!(std::io::stderr(), "wharf supervisor: {error}");
            1
        }
    }
}

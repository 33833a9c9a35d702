//! `--init`: a first process that passes signals on and collects orphans.
//!
//! Runs as pid 1 of a container, from our own executable bound read-only at `/sbin/docker-init`. It ends as
//! the program it was given ends.

use std::ffi::OsString;

use wharf_sys::reaper;

/// Runs `[--] PROGRAM ARG…` and answers its exit code (128 + the number of the signal that ended it; 127 and
/// 126 where it cannot be executed).
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|arg| arg == "--") {
        args.remove(0);
    }
    reaper::run(&args)
}

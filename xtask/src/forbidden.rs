//! A static glibc binary must not call into the name service: it would load modules of another C library.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Functions that ask the name service, which loads shared objects at run time. (`dlopen` itself is in every static Rust
/// program, an empty one too: the C library's unwinder refers to it. Its presence says nothing.)
const FORBIDDEN: &[&str] = &[
    "getaddrinfo",
    "gethostbyname",
    "getpwnam",
    "getpwnam_r",
    "getpwuid",
    "getpwuid_r",
    "getgrnam",
    "getgrnam_r",
    "getgrgid_r",
    "getgrouplist",
    "initgroups",
    "iconv_open",
];

/// Checks an unstripped binary's symbols (`nm` of binutils).
///
/// # Errors
/// Names the forbidden functions found, or why the symbols could not be read.
pub(crate) fn check(binary: &Path) -> Result<String> {
    let output = Command::new("nm").arg(binary).output().context("run nm (apt-get install binutils)")?;
    let symbols = String::from_utf8_lossy(&output.stdout);
    if symbols.lines().count() < 1000 {
        bail!("{} has no symbols to check: build it without `strip`", binary.display());
    }
    let found: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| name.trim_start_matches("__"))
        .filter(|name| FORBIDDEN.contains(name))
        .collect();
    if found.is_empty() {
        return Ok(format!("{}: none of {} forbidden functions", binary.display(), FORBIDDEN.len()));
    }
    bail!("{} contains {}", binary.display(), found.join(", "))
}

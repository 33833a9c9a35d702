//! `wharf`: one binary; the first word says which role it plays.

use std::process::ExitCode;

/// The hidden roles are started by Wharf itself; every other word is the command line's.
fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let rest = || arguments[1..].to_vec();
    let code = match arguments.first().and_then(|word| word.to_str()) {
        Some("supervisor") => wharf_supervisor::main(rest()),
        Some("fs-job") => wharf_layer::job::main(),
        Some("init") => wharf_runtime::init_reaper::main(rest()),
        Some("net") => wharf_network::helper::main(rest()),
        Some("daemon") => wharf_daemon::main(rest()),
        _ => wharf_cli::main(arguments),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

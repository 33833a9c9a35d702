//! A supervisor of its own, as `wharf supervisor …` is; the tests start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The program's name and the role come first.
    let code = wharf_supervisor::main(std::env::args_os().skip(2));
    ExitCode::from(u8::from(code != 0))
}

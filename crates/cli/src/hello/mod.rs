//! What runs inside the embedded image: says what isolates it, once or over HTTP.

mod report;
mod serve;

use std::ffi::OsString;

use crate::error::{print, say};

/// `wharf hello` prints the report; `wharf hello serve` answers HTTP with it on port 8080.
pub(crate) fn main(arguments: &[OsString]) -> i32 {
    let outcome = match arguments.first().map(|word| word.to_string_lossy()) {
        None => print(report::report().trim_end()),
        Some(word) if word == "serve" => serve::serve(),
        Some(word) => {
            Err(crate::CliError::new(format!("hello: unknown word \"{word}\"; it takes nothing, or `serve`")))
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            say(error.message());
            1
        }
    }
}

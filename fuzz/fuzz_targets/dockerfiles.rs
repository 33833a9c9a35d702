//! Reads any text as a Dockerfile, as an ignore file and as changes of a config: no panic, and what is refused is refused
//! with a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_build::dockerfile::{Dockerfile, changes_of};
use wharf_build::ignore::Ignore;

fuzz_target!(|text: &str| {
    if let Err(why) = Dockerfile::parse(text) {
        assert!(!why.message.is_empty());
    }
    if let Err(why) = changes_of(text) {
        assert!(!why.message.is_empty());
    }
    if let Ok(ignore) = Ignore::read(text) {
        let _ = ignore.excludes("some/path/of.a.file");
    }
});

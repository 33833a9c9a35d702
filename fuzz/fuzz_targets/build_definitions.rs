//! Reads any bytes as the definition of a build and turns it into a graph: no panic, and what is refused is refused with a
//! sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Err(why) = wharf_daemon::fuzz::definition(input) {
        assert!(!why.is_empty());
    }
});

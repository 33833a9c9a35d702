//! Reads any text as a `Link` header: what is found was in it, between brackets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_distribution::client::link;

fuzz_target!(|text: &str| {
    if let Some(next) = link::next(text) {
        assert!(text.contains(&format!("<{next}>")));
    }
});

//! Reads any text as an image reference: what is accepted reads back as written, and never leaves its registry's paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_oci::reference::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse(text) else { return };
    let full = reference.to_string();
    assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "{full}");
    assert!(reference.path().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
    assert!(reference.path().bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#' && b != b'%'));
    assert!(!reference.domain().contains(['/', '@', '?', '#']));
});

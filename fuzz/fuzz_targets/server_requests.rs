//! Reads any text as the path, query, range and chunk of a request to the registry: no panic, and nothing that is let
//! through can leave its folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_distribution::server::range::{Wanted, chunk, wanted};
use wharf_distribution::server::route::{Query, Route};

fuzz_target!(|text: &str| {
    if let Ok(route) = Route::parse(text)
        && let Some(name) = route.repository()
    {
        let plain = |part: &str| !part.is_empty() && !part.starts_with(['.', '_']) && !part.contains('\0');
        assert!(name.as_str().split('/').all(plain), "{name}");
    }
    let query = Query::parse(Some(text));
    let _ = (query.get("digest"), query.get("mount"));
    for size in [0, 1, 1000, u64::MAX] {
        if let Wanted::Part(from, to) = wanted(Some(text), size) {
            assert!(from < to && to <= size, "{from}-{to} of {size}");
        }
    }
    if let Some(chunk) = chunk(text) {
        assert!(chunk.length > 0 && chunk.start.checked_add(chunk.length - 1).is_some());
    }
});

//! Reads any bytes as a log, in both forms: nothing panics, the quick way through a json-file line and the slow one
//! agree, and reading a local log always gets on.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use wharf_shim::log::{Decoded, decode};

#[path = "../../crates/engine/src/container/logs"]
mod logs {
    pub(super) mod clock;
    pub(super) mod json_line;

    /// What a reader shows of a line, and what `serde_json` makes of its text.
    pub(super) fn read(line: &[u8]) {
        let Some(read) = json_line::Line::parse(line) else { return };
        let mut text = Vec::new();
        read.text.write(&mut text);
        let _ = (read.nanos(), read.attributes());
        if let (json_line::Text::Escaped(_), Ok(document)) =
            (&read.text, serde_json::from_slice::<serde_json::Value>(line))
            && let Some(expected) = document["log"].as_str()
        {
            assert_eq!(String::from_utf8_lossy(&text), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|&byte| byte == b'\n') {
        logs::read(line);
    }
    let mut rest = bytes;
    while let Decoded::Entry(entry, length) = decode(rest) {
        assert!(length > entry.text.len() && length <= rest.len());
        let mut again = Vec::new();
        entry.encode(&mut again);
        assert_eq!(again, &rest[..length]);
        rest = &rest[length..];
    }
});

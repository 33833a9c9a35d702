//! Reads any bytes as a compressed layer: no panic, and an end.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wharf_layer::{Compression, decompressor};

/// What is read of a stream, bytes: enough for what its input can hold.
const MOST: u64 = 1 << 20;

fuzz_target!(|packed: &[u8]| {
    let Ok((compression, plain)) = decompressor(packed) else { return };
    let mut content = Vec::new();
    let read = plain.take(MOST).read_to_end(&mut content);
    if compression == Compression::None {
        assert_eq!((read.ok(), content.as_slice()), (Some(packed.len()), packed));
    }
});

//! Looks into any bytes as a manifest of each kind: no panic, and bounded lists of sound digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_distribution::server::document::{OCI_INDEX, OCI_MANIFEST, read};

fuzz_target!(|bytes: &[u8]| {
    for kind in [OCI_MANIFEST, OCI_INDEX, "application/vnd.oci.artifact.manifest.v1+json; x"] {
        if let Ok(document) = read(bytes, kind) {
            assert!(document.blobs.len() + document.manifests.len() <= 16_385);
            assert!(document.blobs.iter().all(|digest| !digest.hex().contains(['/', '.'])));
        }
    }
});

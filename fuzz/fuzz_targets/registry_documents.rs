//! Reads any bytes as what a registry sends for a manifest: what is accepted is one thing only, within bounds, and the same
//! again when it is found by its own descriptor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_distribution::client::{Document, INDEX_LIMIT, LAYER_LIMIT, Manifests};
use wharf_oci::digest::Digest;
use wharf_oci::image::media_type;

const KINDS: [&str; 6] = [
    "",
    "application/json",
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_INDEX,
    media_type::DOCKER_MANIFEST,
];

fuzz_target!(|input: (u8, Vec<u8>)| {
    let kind = KINDS[usize::from(input.0) % KINDS.len()];
    let bytes = bytes::Bytes::from(input.1);
    let Ok(document) = Document::read(bytes.clone(), kind, None) else { return };
    assert_eq!(document.descriptor.digest, Digest::of(&bytes));
    assert_eq!(document.descriptor.size, bytes.len() as u64);
    match &document.manifests {
        Manifests::Image(manifest) => {
            assert!(media_type::is_manifest(&document.descriptor.media_type));
            assert!(manifest.layers.len() <= LAYER_LIMIT);
        }
        Manifests::Index(index) => {
            assert!(media_type::is_index(&document.descriptor.media_type));
            assert!(index.manifests.len() <= INDEX_LIMIT);
        }
    }
    let again = Document::read(bytes, kind, Some(&document.descriptor)).expect("found by its own descriptor");
    assert_eq!(again.manifests, document.manifests);
});

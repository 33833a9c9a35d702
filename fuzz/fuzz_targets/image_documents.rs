//! Reads any bytes as the documents of an image: what is accepted survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use wharf_oci::{ImageConfig, Index, Manifest, Platform};

fn round<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&document).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("what was written can be read"), document);
    Some(document)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(index) = round::<Index>(bytes) {
        for manifest in &index.manifests {
            let _ = manifest.is_attestation();
        }
    }
    round::<Manifest>(bytes);
    if let Some(config) = round::<ImageConfig>(bytes) {
        let _ = config.platform().to_string();
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(platform) = text.parse::<Platform>()
    {
        assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform), "{text}");
    }
});

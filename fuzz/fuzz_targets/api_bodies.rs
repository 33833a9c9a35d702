//! Reads any bytes as the body of every request: nothing panics, and what is accepted can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use wharf_api::{
    CreateRequest, ExecCreateRequest, ExecStartRequest, Filters, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, UpdateRequest, VolumeCreateRequest, from_slice,
};

fn round<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(request) = from_slice::<T>(bytes) else { return };
    let written = serde_json::to_vec(&request).expect("what was read can be written");
    let again = from_slice::<T>(&written).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&written));
    });
    assert_eq!(serde_json::to_vec(&again).expect("it was written before"), written);
}

fuzz_target!(|bytes: &[u8]| {
    round::<CreateRequest>(bytes);
    round::<UpdateRequest>(bytes);
    round::<ExecCreateRequest>(bytes);
    round::<ExecStartRequest>(bytes);
    round::<NetworkCreateRequest>(bytes);
    round::<NetworkConnectRequest>(bytes);
    round::<NetworkDisconnectRequest>(bytes);
    round::<VolumeCreateRequest>(bytes);
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = Filters::parse(text);
    }
});

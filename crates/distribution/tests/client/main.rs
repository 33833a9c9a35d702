//! The registry client against servers over loopback: real registries, and one that follows a script.

#![expect(clippy::print_stdout, reason = "a test that cannot run here says so")]

mod auth;
mod blobs;
mod hostile;
mod names;
mod proxy;
mod registries;
mod script;
mod tls;
mod words;

use std::time::Duration;

use wharf_distribution::client::{Client, Config, Credentials, Patience, Repository};
use wharf_oci::digest::Digest;
use wharf_oci::image::{Descriptor, media_type};
use wharf_oci::reference::Reference;

/// Settings that wait for nobody.
fn hasty() -> Config {
    Config {
        certificates: Vec::new(),
        attempts: 3,
        patience: Patience {
            answer: Duration::from_secs(5),
            store: Duration::from_secs(5),
            backoff: Duration::from_millis(5),
            ..Patience::default()
        },
        ..Config::default()
    }
}

fn client() -> Client {
    Client::new(hasty()).unwrap()
}

fn repository(client: &Client, text: &str) -> Repository {
    client.repository(&Reference::parse(text).unwrap(), Credentials::Anonymous)
}

fn password(username: &str, password: &str) -> Credentials {
    Credentials::Password { username: username.into(), password: password.into() }
}

/// The smallest image there is.
fn manifest() -> String {
    let config = Descriptor::new(media_type::OCI_CONFIG, Digest::of(b"{}"), 2);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&config).unwrap()
    )
}

/// A blob that cannot be guessed or compressed away, and its descriptor.
fn blob(size: usize) -> (Vec<u8>, Descriptor) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), size as u64);
    (bytes, descriptor)
}

//! The registry in the box, from outside: the cases of the spec, crashes, garbage collection, foreign clients.

mod registry {
    pub(crate) mod access;
    pub(crate) mod blobs;
    pub(crate) mod clients;
    pub(crate) mod collect;
    pub(crate) mod containerd;
    pub(crate) mod crash;
    pub(crate) mod faults;
    pub(crate) mod full;
    pub(crate) mod lists;
    pub(crate) mod manifests;
    pub(crate) mod mirror;
    pub(crate) mod reach;
    pub(crate) mod tags;
}

use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_testkit::http::Reply;
use wharf_testkit::registry::{Served, digest};

/// The program under test.
const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// A registry that allows everything, and its folder.
fn registry() -> (Served, TempDir) {
    registry_with(&["--delete"])
}

fn registry_with(flags: &[&str]) -> (Served, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Served::start(WHARF, folder.path(), flags), folder)
}

/// The code of a refusal, whose document must have the spec's form.
#[track_caller]
fn code(reply: &Reply) -> String {
    let document = reply.json();
    let error = &document["errors"][0];
    assert!(error["message"].is_string(), "{document}");
    error["code"].as_str().unwrap_or_else(|| panic!("no code in {document}")).to_owned()
}

#[track_caller]
fn put_blob(registry: &Served, repository: &str, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    let reply =
        registry.ask("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[OCTETS], bytes);
    assert_eq!(reply.status, 201, "{}", reply.text());
    digest
}

#[track_caller]
fn put_manifest(registry: &Served, repository: &str, reference: &str, document: &Value) -> (String, Reply) {
    let kind = document["mediaType"].as_str().unwrap();
    let bytes = document.to_string().into_bytes();
    let target = format!("/v2/{repository}/manifests/{reference}");
    (digest(&bytes), registry.ask("PUT", &target, &[("content-type", kind)], &bytes))
}

/// A manifest whose config and layers are in the repository.
#[track_caller]
fn image(registry: &Served, repository: &str, layers: &[&[u8]]) -> Value {
    let blob = |bytes: &[u8], kind: &str| json!({ "mediaType": kind, "digest": put_blob(registry, repository, bytes), "size": bytes.len() });
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": layers.iter().map(|layer| blob(layer, "application/vnd.oci.image.layer.v1.tar")).collect::<Vec<_>>(),
    })
}

/// Begins an upload; the path to send to.
#[track_caller]
fn begin(registry: &Served, repository: &str) -> String {
    let reply = registry.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert!(reply.header("docker-upload-uuid").is_some());
    reply.header("location").expect("a location").to_owned()
}

/// Bytes that look random and are the same each time.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut made = Vec::with_capacity(length + 8);
    while made.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(length);
    made
}

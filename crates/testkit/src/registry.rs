//! Registries for tests: a good one in this process, and one in front of it that misbehaves as told.
//!
//! ```no_run
//! use wharf_testkit::registry::{Fault, Faulty, Registry};
//! let registry = Registry::start();
//! let faulty = Faulty::before(&registry);
//! faulty.first(2, "GET", "/blobs/", Fault::CutAfter(1000)); // the first two downloads break off
//! let image = format!("{}/app:latest", faulty.host());
//! ```

mod faulty;
mod served;
mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub use faulty::{Fault, Faulty, Seen};
use serde_json::{Value, json};
pub use served::Served;
use sha2::Digest;
use tempfile::TempDir;
use wharf_distribution::server::{Config, Server};

use crate::http::Reply;

/// A registry in this process, with a folder of its own.
#[derive(Debug)]
pub struct Registry {
    server: Option<Server>,
    folder: TempDir,
}

impl Registry {
    /// One that anybody may push to, pull from and delete in.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// One whose settings `change` has changed.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the registry");
        let mut config = Config { delete: true, ..Config::new(folder.path()) };
        change(&mut config);
        let server = Server::start(config).expect("a registry");
        Self { server: Some(server), folder }
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("there until dropped")
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// Its name in references: `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address().to_string()
    }

    /// Sends one request.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        ask(self.address(), method, target, headers, body)
    }

    /// Puts a blob into a repository; its digest.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let reply = self.ask("POST", &target, &[("content-type", "application/octet-stream")], bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    /// Puts a manifest under a tag or digest; its digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, reference: &str, document: &Value) -> String {
        let media_type = document["mediaType"].as_str().expect("a media type");
        let bytes = document.to_string().into_bytes();
        let target = format!("/v2/{repository}/manifests/{reference}");
        let reply = self.ask("PUT", &target, &[("content-type", media_type)], &bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest(&bytes)
    }

    /// Puts an image of these layers (as they are to be sent) under a tag; the digest of its manifest. The layers'
    /// diffIDs are those of `tars`, in the same order.
    #[track_caller]
    pub fn put_image(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        layers: &[&[u8]],
        tars: &[&[u8]],
    ) -> String {
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let blob = |kind: &str, bytes: &[u8]| {
            let digest = self.put_blob(repository, bytes);
            json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
        };
        let layers: Vec<Value> = layers.iter().map(|layer| blob(media_type, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        self.put_manifest(repository, tag, &manifest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // At once: a client of the test may still hold a connection open.
        drop(self.server.take());
    }
}

/// The sha256 digest of bytes, with its algorithm.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// Sends one request over TCP and reads its whole answer; panics when there is none.
#[track_caller]
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_ask(address, method, target, headers, body)
        .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// As [`ask`], for a registry that may break off.
///
/// # Errors
/// When the connection fails or no whole answer comes.
pub fn try_ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(crate::client::patience(std::time::Duration::from_secs(60))))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let announced = headers.iter().any(|(name, _)| matches!(*name, "content-length" | "transfer-encoding"));
    if !announced && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
        head += &format!("content-length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // A registry may refuse without reading the body; its answer is what counts.
    let _ = stream.write_all(body);
    let mut raw = Vec::new();
    let read = stream.read_to_end(&mut raw);
    if raw.is_empty() {
        read?;
    }
    let reply = crate::http::parse(&raw).ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    let announced = reply.header("content-length").and_then(|length| length.parse::<usize>().ok());
    if method != "HEAD" && reply.status != 304 && announced.is_some_and(|length| length != reply.body.len()) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(reply)
}

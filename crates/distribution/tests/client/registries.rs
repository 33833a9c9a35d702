//! Real registries: this project's own, and Debian's `docker-registry` where `scripts/clients.sh` has fetched it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wharf_distribution::client::{
    BlobEvent, Client, Config, Credentials, Kind, Manifests, Pushed, Target, Upload,
};
use wharf_distribution::server::{self, Server};
use wharf_oci::digest::Digest;
use wharf_oci::image::media_type;
use wharf_oci::reference::Reference;

use crate::{blob, client, hasty, manifest, password, repository};

/// A registry that ends with the test.
enum Running {
    Own { server: Option<Server>, _root: TempDir },
    Debian { child: Child, address: SocketAddr, _root: TempDir },
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Own { server, .. } => {
                // It waits for its threads, which no asynchronous test may do itself.
                let server = server.take();
                let _ = std::thread::spawn(move || server.map(Server::stop)).join();
            }
            Self::Debian { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Running {
    fn own(htpasswd: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = server::Config { delete: true, ..server::Config::new(root.path().join("data")) };
        if let Some(text) = htpasswd {
            let path = root.path().join("htpasswd");
            std::fs::write(&path, text).unwrap();
            config.htpasswd = Some(path);
        }
        let server = std::thread::spawn(|| Server::start(config).unwrap()).join().unwrap();
        Self::Own { server: Some(server), _root: root }
    }

    fn debian(htpasswd: Option<&str>) -> Option<Self> {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/clients/docker-registry");
        if !program.exists() {
            println!("skipped: no {}", program.display());
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let auth = htpasswd.map_or_else(String::new, |text| {
            let path = root.path().join("htpasswd");
            std::fs::write(&path, text).unwrap();
            format!("auth: {{htpasswd: {{realm: box, path: {}}}}}\n", path.display())
        });
        let settings = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n{auth}",
            root.path().display()
        );
        let path = root.path().join("registry.yml");
        std::fs::write(&path, settings).unwrap();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ',']).next()?.parse().ok()
        });
        std::thread::spawn(move || lines.count());
        Some(Self::Debian { child, address: address.unwrap(), _root: root })
    }

    fn all(htpasswd: Option<&str>) -> Vec<Self> {
        std::iter::once(Self::own(htpasswd)).chain(Self::debian(htpasswd)).collect()
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Own { server, .. } => server.as_ref().unwrap().address(),
            Self::Debian { address, .. } => *address,
        }
    }

    fn keeps_referrers(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

async fn push(repository: &wharf_distribution::client::Repository, bytes: &[u8]) -> Pushed {
    let source = Bytes::copy_from_slice(bytes);
    let upload = Upload::new(Digest::of(bytes), bytes.len() as u64, &source);
    repository.push_blob(upload).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_up_and_comes_down() {
    for registry in Running::all(None) {
        let client = client();
        let at = |name: &str| repository(&client, &format!("{}/{name}", registry.address())).for_push();
        let (one, large) = (at("one"), blob(5 << 20));
        assert_eq!(push(&one, b"{}").await, Pushed::Sent);
        assert_eq!(push(&one, &large.0).await, Pushed::Sent);
        assert_eq!(push(&one, &large.0).await, Pushed::Existed);
        assert_eq!(push(&one, b"").await, Pushed::Sent);
        assert_eq!(one.has_blob(large.1.digest).await.unwrap(), Some(5 << 20));

        let source = Bytes::from(large.0.clone());
        let other = ["absent".to_owned(), "one".to_owned()];
        let mut upload = Upload::new(large.1.digest, large.1.size, &source);
        upload.mount_from = &other[1..];
        assert_eq!(at("two").push_blob(upload).await.unwrap(), Pushed::Mounted("one".into()));
        let mut upload = Upload::new(large.1.digest, large.1.size, &source);
        upload.mount_from = &other[..1];
        assert_eq!(at("three").push_blob(upload).await.unwrap(), Pushed::Sent);

        let text = Bytes::from(manifest());
        let target = Target::Tag("v1".into());
        let digest = one.put_manifest(&target, media_type::OCI_MANIFEST, text.clone()).await.unwrap();
        let resolved = one.resolve(&target).await.unwrap();
        assert_eq!((resolved.digest, resolved.size), (digest, text.len() as u64));
        let document = one.manifest(&Target::Digest(digest), Some(&resolved)).await.unwrap();
        assert_eq!(document.bytes, text);
        assert!(matches!(document.manifests, Manifests::Image(_)));
        assert_eq!(one.small_blob(&large.1, 5 << 20).await.unwrap(), large.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_come_from_any_offset() {
    for registry in Running::all(None) {
        let repository = repository(&client(), &format!("{}/a", registry.address())).for_push();
        let (bytes, descriptor) = blob(2_000_000);
        push(&repository, &bytes).await;
        let mut stream = repository.blob(&descriptor, 1_234_567);
        let mut got = Vec::new();
        while let Some(BlobEvent::Bytes(bytes)) = stream.next().await.unwrap() {
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, bytes[1_234_567..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_page_by_page() {
    for registry in Running::all(None) {
        let client = client();
        let repository = repository(&client, &format!("{}/a/b", registry.address())).for_push();
        push(&repository, b"{}").await;
        let mut wanted: Vec<String> = (0..30).map(|n| format!("t{n:02}")).collect();
        for tag in &wanted {
            let target = Target::Tag(tag.clone());
            repository.put_manifest(&target, media_type::OCI_MANIFEST, manifest().into()).await.unwrap();
        }
        let mut tags = repository.tags().await.unwrap();
        tags.sort();
        wanted.sort();
        assert_eq!(tags, wanted);
        let host = registry.address().to_string();
        assert_eq!(client.catalog(&host, Credentials::Anonymous).await.unwrap(), ["a/b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_in_the_registrys_words() {
    for registry in Running::all(None) {
        let client = client();
        let name = format!("{}/a:x", registry.address());
        let repository = repository(&client, &name);
        let error = repository.resolve(&Target::Tag("x".into())).await.unwrap_err();
        let error = error.of_pull(&Reference::parse(&name).unwrap());
        assert_eq!(
            error.to_string(),
            format!("manifest for {name} not found: manifest unknown: manifest unknown")
        );
        assert_eq!(repository.has_blob(Digest::of(b"nothing")).await.unwrap(), None);
        assert_eq!(repository.tags().await.unwrap_err().kind(), Kind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_found_by_the_api_or_by_the_tag() {
    for registry in Running::all(None) {
        let repository = repository(&client(), &format!("{}/a", registry.address())).for_push();
        push(&repository, b"{}").await;
        let target = Target::Tag("x".into());
        let subject =
            repository.put_manifest(&target, media_type::OCI_MANIFEST, manifest().into()).await.unwrap();
        let found = repository.referrers(subject, None).await.unwrap();
        assert!(found.is_empty());

        let size = manifest().len();
        let signature = manifest().replacen(
            "\"layers\"",
            &format!(
                r#""artifactType":"application/x.sig","subject":{{"mediaType":"{}","digest":"{subject}","size":{size}}},"layers""#,
                media_type::OCI_MANIFEST
            ),
            1,
        );
        let digest = Digest::of(signature.as_bytes());
        let stored = repository
            .put_manifest(&Target::Digest(digest), media_type::OCI_MANIFEST, signature.clone().into())
            .await;
        if !registry.keeps_referrers() {
            // Left to clients there: the tag is theirs to write.
            stored.unwrap();
            let entry = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":{},"artifactType":"application/x.sig"}}]}}"#,
                media_type::OCI_INDEX,
                media_type::OCI_MANIFEST,
                signature.len()
            );
            let tag = Target::Tag(format!("sha256-{}", subject.hex()));
            repository.put_manifest(&tag, media_type::OCI_INDEX, entry.into()).await.unwrap();
        } else {
            stored.unwrap();
        }
        let found = repository.referrers(subject, Some("application/x.sig")).await.unwrap();
        assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), [digest]);
        assert!(repository.referrers(subject, Some("application/other")).await.unwrap().is_empty());

        repository.delete_manifest(&Target::Digest(subject)).await.unwrap();
        assert_eq!(repository.resolve(&Target::Digest(subject)).await.unwrap_err().kind(), Kind::NotFound);
    }
}

fn htpasswd() -> String {
    format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for() {
    for registry in Running::all(Some(&htpasswd())) {
        let host = registry.address().to_string();
        let client = client();
        client.login(&host, &password("me", "secret")).await.unwrap();
        let error = client.login(&host, &password("me", "wrong")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("login attempt to http://{host}/v2/ failed with status: 401 Unauthorized")
        );
        let reference = Reference::parse(&format!("{host}/a")).unwrap();
        let mine = client.repository(&reference, password("me", "secret")).for_push();
        let (bytes, _) = blob(2 << 20);
        assert_eq!(push(&mine, &bytes).await, Pushed::Sent);
        let error = client.repository(&reference, Credentials::Anonymous).tags().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Get \"http://{host}/v2/a/tags/list\": no basic auth credentials")
        );
    }
}

/// Forwards connections to `to`, cutting them when `budget` bytes have gone up (or down), once.
async fn cutting(to: SocketAddr, budget: i64, up: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicI64::new(budget));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let endless = Arc::new(AtomicI64::new(i64::MAX));
            let (above, below) = if up { (left.clone(), endless) } else { (endless, left.clone()) };
            tokio::spawn(async move {
                tokio::select! {
                    () = forward(from_client, to_server, &above) => {}
                    () = forward(from_server, to_client, &below) => {}
                }
            });
        }
    });
    address
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    left: &AtomicI64,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let before = left.fetch_sub(length as i64, Ordering::SeqCst);
        if before > 0 && before <= length as i64 {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_uploads_and_downloads_are_completed() {
    for registry in Running::all(None) {
        let (bytes, descriptor) = blob(8 << 20);
        let up = cutting(registry.address(), 3 << 20, true).await;
        let there = repository(&Client::new(Config { attempts: 2, ..hasty() }).unwrap(), &format!("{up}/a"));
        assert_eq!(push(&there.for_push(), &bytes).await, Pushed::Sent);

        let down = cutting(registry.address(), 5 << 20, false).await;
        let there = repository(&client(), &format!("{down}/a"));
        let mut stream = there.blob(&descriptor, 0);
        let (mut got, mut retries) = (Vec::new(), 0);
        while let Some(event) = stream.next().await.unwrap() {
            match event {
                BlobEvent::Bytes(bytes) => got.extend_from_slice(&bytes),
                BlobEvent::Retrying { .. } => retries += 1,
            }
        }
        assert_eq!((got == bytes, retries), (true, 1));
    }
}

//! Images without a daemon: archives in, documents and archives out, in Docker's words.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wharf_engine::error::ErrorKind;
use wharf_engine::events::Events;
use wharf_engine::image::{Images, ImportOptions, ListOptions, User};
use wharf_engine::pools::Pools;
use wharf_engine::registry::Registries;
use wharf_engine::{ByteStream, EngineConfig, Progress};
use wharf_layer::tar::{Entry, Kind, Writer};
use wharf_layer::{Compression, compressor};
use wharf_oci::{DiffId, Digest, History, ImageConfig, Reference};
use wharf_store::Store;

struct World {
    images: Arc<Images>,
    store: Arc<Store>,
    users: Arc<Mutex<Vec<User>>>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let events = Arc::new(Events::open(dir.path()).unwrap());
        let images = Arc::new(Images::new(
            store.clone(),
            events,
            Pools::default(),
            Arc::new(Registries::new(&EngineConfig::default()).unwrap()),
        ));
        let users = Arc::new(Mutex::new(Vec::new()));
        let of = users.clone();
        images.set_users(move || of.lock().unwrap().clone());
        Self { images, store, users, dir }
    }

    async fn load(&self, archive: Vec<u8>) -> Vec<Value> {
        lines(self.images.load(body(archive), true, Vec::new()).await.unwrap()).await
    }

    async fn loaded(&self, archive: Vec<u8>) -> Vec<String> {
        let lines = self.load(archive).await;
        lines
            .iter()
            .map(|line| line["stream"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned())
            .collect()
    }

    /// The error that a load ends with; nothing may be left of it.
    async fn refused(&self, archive: Vec<u8>) -> String {
        let lines = self.load(archive).await;
        let error = lines.last().unwrap()["error"].as_str().unwrap().to_owned();
        assert!(self.store.images().is_empty() && self.store.names().is_empty(), "{error}");
        for empty in ["blobs/sha256", "snapshots/layers", "ingest", "trash"] {
            wait_until_empty(&self.dir.path().join(empty));
        }
        error
    }

    fn runs_on(&self, image: &str, running: bool) {
        let user = User { container: "c".repeat(64), image: image.to_owned(), running, mounted: false };
        *self.users.lock().unwrap() = vec![user];
    }
}

fn wait_until_empty(dir: &Path) {
    for _ in 0..12_000 {
        if std::fs::read_dir(dir).unwrap().next().is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{} is not freed", dir.display());
}

/// A request's body in small pieces.
fn body(bytes: Vec<u8>) -> ByteStream {
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(async move {
        for piece in bytes.chunks(1000) {
            if sender.send(piece.to_vec().into()).await.is_err() {
                return;
            }
        }
    });
    stream
}

async fn bytes(mut stream: ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

async fn lines(progress: Progress) -> Vec<Value> {
    let text = String::from_utf8(bytes(progress).await).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let mut entry = Entry::new(Kind::File, *name);
        (entry.mode, entry.size) = (0o644, content.len() as u64);
        writer.append_file(&entry, *content).unwrap();
    }
    writer.finish().unwrap()
}

fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut writer = compressor(compression, &mut packed).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
    packed
}

/// A config whose layers are these tars.
fn config(layers: &[&[u8]]) -> Vec<u8> {
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.created = Some("2024-05-06T07:08:09.5Z".into());
    config.config.cmd = Some(vec!["sh".into()]);
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId(Digest::of(layer))).collect();
    config.history =
        layers.iter().map(|_| History { created_by: "made".into(), ..History::default() }).collect();
    serde_json::to_vec(&config).unwrap()
}

/// A docker-archive of one image; blobs may lie about the layers in its config.
fn archive(tags: &[&str], config: &[u8], blobs: &[&[u8]]) -> Vec<u8> {
    let paths: Vec<String> = (0..blobs.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": paths}]).to_string();
    let mut files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(blobs.iter().copied()).collect();
    files.extend([("config.json", config), ("manifest.json", manifest.as_bytes())]);
    tar(&files)
}

#[tokio::test]
async fn archives_of_every_compression_load_and_come_back_byte_for_byte() {
    let layer = tar(&[("x", b"12345")]);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let world = World::new();
        let blob = compressed(compression, &layer);
        let config = config(&[&layer]);
        let id = Digest::of(&config);
        let archive = archive(&["me/app:1", "app"], &config, &[&blob]);
        let said = world.loaded(compressed(Compression::Gzip, &archive)).await;
        assert_eq!(said, ["Loaded image: me/app:1\n", "Loaded image: app:latest\n"]);
        let image = world.images.inspect("me/app:1", true, None).await.unwrap();
        assert_eq!((image.id.clone(), image.size), (id.to_string(), 5));
        assert_eq!(image.repo_tags, ["app:latest", "me/app:1"]);
        assert_eq!(image.root_fs.layers, [Digest::of(&layer).to_string()]);
        assert_eq!(world.store.read_blob(&Digest::of(&blob), 1 << 20).unwrap(), blob);

        let saved = bytes(world.images.save(&["me/app:1".into()], &[]).await.unwrap()).await;
        let other = World::new();
        assert_eq!(other.loaded(saved.clone()).await, ["Loaded image: me/app:1\n"]);
        assert_eq!(other.store.read_blob(&Digest::of(&blob), 1 << 20).unwrap(), blob);
        let again = other.images.inspect("me/app:1", true, None).await.unwrap();
        assert_eq!(again.descriptor, image.descriptor);
        // Saved by its id it has no name; loaded where it is, it changes nothing.
        let unnamed = bytes(other.images.save(&[id.to_string()], &[]).await.unwrap()).await;
        assert_eq!(other.loaded(unnamed).await, [format!("Loaded image ID: {id}\n")]);
        assert_eq!(other.images.inspect("me/app:1", true, None).await.unwrap().descriptor, image.descriptor);
    }
}

#[tokio::test]
async fn an_oci_layout_of_several_platforms_is_kept_whole() {
    let layer = tar(&[("x", b"1")]);
    let blob = compressed(Compression::Gzip, &layer);
    let mut blobs = vec![blob.clone()];
    let mut entries = Vec::new();
    for architecture in ["s390x", "amd64"] {
        let config =
            String::from_utf8(config(&[&layer])).unwrap().replace("amd64", architecture).into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(&blob), "size": blob.len()}]})
        .to_string()
        .into_bytes();
        entries.push(
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(&manifest),
            "size": manifest.len(), "platform": {"os": "linux", "architecture": architecture}}),
        );
        blobs.extend([config, manifest]);
    }
    let nested = json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": Digest::of(&nested), "size": nested.len(), "annotations": {"io.containerd.image.name": "docker.io/me/app:1"}}]});
    blobs.push(nested.clone());
    let index = index.to_string();
    let paths: Vec<String> =
        blobs.iter().map(|blob| format!("blobs/sha256/{}", Digest::of(blob).hex())).collect();
    let mut files: Vec<(&str, &[u8])> =
        paths.iter().map(String::as_str).zip(blobs.iter().map(Vec::as_slice)).collect();
    files.push(("index.json", index.as_bytes()));

    let world = World::new();
    assert_eq!(world.loaded(tar(&files)).await, ["Loaded image: me/app:1\n"]);
    let image = world.images.inspect("me/app:1", true, None).await.unwrap();
    assert_eq!(image.architecture, "amd64");
    assert_eq!(image.descriptor.unwrap().digest, Digest::of(&nested));
    assert!(world.images.resolve(&Digest::of(&nested).hex()[..12]).is_ok());
    assert!(blobs.iter().all(|blob| world.store.has_blob(&Digest::of(blob))));
    let error =
        world.images.inspect("me/app:1", false, Some("linux/s390x".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let other = World::new();
    let chosen =
        other.images.load(body(tar(&files)), true, vec!["linux/s390x".parse().unwrap()]).await.unwrap();
    assert_eq!(lines(chosen).await.len(), 1);
    assert_eq!(other.images.inspect("me/app:1", false, None).await.unwrap().architecture, "s390x");
}

#[tokio::test]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let world = World::new();
    let good = tar(&[("x", b"1")]);
    let other = tar(&[("x", b"2")]);
    let whole = archive(&["a"], &config(&[&good]), &[&good]);
    assert_eq!(world.refused(whole[..1700].to_vec()).await, "unexpected EOF");
    assert_eq!(
        world.refused(archive(&["a"], &config(&[&good]), &[&other])).await,
        format!(
            "invalid diffID for layer 0: expected \"{}\", got \"{}\"",
            Digest::of(&good),
            Digest::of(&other)
        )
    );
    assert_eq!(
        world.refused(archive(&["a"], &config(&[&good, &good]), &[&good])).await,
        "invalid manifest, layers length mismatch: expected 1, got 2"
    );
    let escaping = tar(&[("../../x", b"1")]);
    world.refused(archive(&["a"], &config(&[&escaping]), &[&escaping])).await;
    let cut = &compressed(Compression::Gzip, &good)[..40];
    world.refused(archive(&["a"], &config(&[&good]), &[cut])).await;
    let error = world.refused(archive(&["Bad"], &config(&[&good]), &[&good])).await;
    assert_eq!(error, "invalid reference format: repository name (library/Bad) must be lowercase");
    let path = format!("blobs/sha256/{}", Digest::of(b"something else").hex());
    assert!(world.refused(tar(&[(&path, b"content")])).await.starts_with("digest mismatch"));
    assert!(world.refused(tar(&[("x", b"1")])).await.starts_with("unrecognized image format"));
    world.refused(b"garbage".to_vec()).await;
    world.refused(Vec::new()).await;
}

#[tokio::test]
async fn names_move_and_go_in_dockers_words() {
    let world = World::new();
    let (one, two) = (tar(&[("x", b"1")]), tar(&[("x", b"2")]));
    let (first, second) = (config(&[&one]), config(&[&two]));
    let (id, other) = (Digest::of(&first), Digest::of(&second));
    world.loaded(archive(&["app:1"], &first, &[&one])).await;
    world.images.tag("app:1", "moved", "x").await.unwrap();
    let said = world.loaded(archive(&["moved:x"], &second, &[&two])).await;
    assert_eq!(
        said,
        [
            format!("The image moved:x already exists, renaming the old one with ID {id} to empty string\n"),
            "Loaded image: moved:x\n".into()
        ]
    );
    let error = |result: Result<(), wharf_engine::Error>| result.unwrap_err().message().to_owned();
    assert_eq!(error(world.images.tag("nope", "a", "").await), "No such image: nope:latest");
    assert_eq!(error(world.images.tag("app:1", "a", "b:c").await), "invalid tag format");
    assert_eq!(
        error(world.images.tag("app:1", "sha256", "x").await),
        "refusing to create an ambiguous tag using digest algorithm as name"
    );
    let digest = format!("a@{id}");
    assert_eq!(error(world.images.tag("app:1", &digest, "").await), "cannot import digest reference");

    world.runs_on(&id.to_string(), false);
    let (container, short) = ("c".repeat(12), id.short());
    let removal = world.images.remove("app:1", false, false, &[]).await.unwrap_err();
    assert_eq!(removal.kind(), ErrorKind::Conflict);
    assert_eq!(
        removal.message(),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container {container} is using its referenced image {short}"
        )
    );
    let removal = world.images.remove(&short, false, false, &[]).await.unwrap_err();
    assert_eq!(
        removal.message(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {container}"
        )
    );
    world.runs_on(&id.to_string(), true);
    let removal = world.images.remove(&short, true, false, &[]).await.unwrap_err();
    assert_eq!(
        removal.message(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {container}"
        )
    );
    world.users.lock().unwrap().clear();
    let items = world.images.remove("app:1", false, false, &[]).await.unwrap();
    let said: Vec<&str> = items
        .iter()
        .map(|item| if item.deleted.is_empty() { item.untagged.as_str() } else { item.deleted.as_str() })
        .collect();
    assert_eq!(said, ["app:1", &id.to_string(), &Digest::of(&one).to_string()]);
    assert_eq!(world.images.resolve("app:1").unwrap_err().message(), "No such image: app:1");
    assert_eq!(world.images.resolve(&other.hex()[..5]).unwrap().id, other);
}

#[tokio::test]
async fn imports_commits_and_prunes_work_together() {
    let world = World::new();
    let options = ImportOptions {
        repository: "base".into(),
        changes: vec!["CMD [\"x\"]".into(), "LABEL k=v".into()],
        message: "hello".into(),
        ..ImportOptions::default()
    };
    let root = compressed(Compression::Gzip, &tar(&[("x", b"1")]));
    let said = lines(world.images.import(options, body(root)).await.unwrap()).await;
    let base = world.images.resolve("base").unwrap();
    assert_eq!(said, [json!({"status": base.id.to_string()})]);
    let document = world.images.inspect("base", false, None).await.unwrap();
    assert_eq!((document.comment.as_str(), document.config.unwrap().cmd), ("hello", Some(vec!["x".into()])));

    let diff = tar(&[("y", b"22")]);
    let config = world.images.config(&base.id).unwrap();
    let step = History { comment: "committed".into(), ..History::default() };
    let name = Reference::parse("child:1").unwrap();
    let child = world
        .images
        .create_from_diff(Some(&base.id), config, step, &mut diff.as_slice(), Some(&name))
        .unwrap();
    assert_eq!((child.parent, child.size()), (Some(base.id), 3));
    let history = world.images.history("child:1", None).await.unwrap();
    assert_eq!(
        history.iter().map(|item| item.id.clone()).collect::<Vec<_>>(),
        [child.id.to_string(), base.id.to_string()]
    );
    assert_eq!(world.images.descendants("base").len(), 2);
    let removal = world.images.remove(&base.id.short(), true, false, &[]).await.unwrap_err();
    assert!(removal.message().ends_with("(cannot be forced) - image has dependent child images"));

    let filters = |text: &str| wharf_api::Filters::parse(text).unwrap();
    let list = |text: &str| {
        let options = ListOptions { filters: filters(text), ..ListOptions::default() };
        let images = world.images.clone();
        async move { images.list(options).await.map(|list| list.len()) }
    };
    assert_eq!(list("").await, Ok(2));
    assert_eq!(list(r#"{"reference":["chi*"]}"#).await, Ok(1));
    assert_eq!(list(r#"{"label":["k=v"]}"#).await, Ok(2));
    assert_eq!(list(r#"{"dangling":["true"]}"#).await, Ok(0));
    assert_eq!(list(r#"{"x":["y"]}"#).await.unwrap_err().message(), "invalid filter 'x'");

    world.images.tag("base", "child", "1").await.unwrap();
    assert_eq!(list(r#"{"dangling":["true"]}"#).await, Ok(1));
    let pruned = world.images.prune(filters("")).await.unwrap();
    assert_eq!(pruned.space_reclaimed, 2);
    assert_eq!(world.store.images().len(), 1);
    world.runs_on(&base.id.to_string(), false);
    let pruned = world.images.prune(filters(r#"{"dangling":["false"]}"#)).await.unwrap();
    assert_eq!(pruned.images_deleted, None);
}

//! Pulls from registries that mean harm, through the whole engine: each is refused in words that say why, nothing of it
//! stays, and the engine serves the next request as if nothing had been.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_testkit::image::{self, Entry};
use wharf_testkit::registry::{Fault, Faulty, Registry, digest};
use wharf_testkit::{Daemon, daemon};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry with one image, and one before it that can be told to lie.
struct Scene {
    registry: Registry,
    faulty: Faulty,
    layer: String,
    config: String,
}

impl Scene {
    fn new(marker: &str) -> Self {
        let registry = Registry::start();
        let tar = tar(marker);
        registry.put_image("app", "v1", LAYER, &[&tar], &[&tar]);
        let faulty = Faulty::before(&registry);
        let document = registry.ask("GET", "/v2/app/manifests/v1", &[], b"").json();
        let config = document["config"]["digest"].as_str().unwrap().to_owned();
        Self { registry, faulty, layer: digest(&tar), config }
    }

    fn name(&self) -> String {
        format!("{}/app:v1", self.faulty.host())
    }

    /// A document in place of the manifest; HEAD is not answered, so that nobody is warned.
    fn instead(&self, media_type: &str, body: impl Into<Vec<u8>>) {
        self.faulty.every("HEAD", "/manifests/", Fault::status(404, None));
        self.faulty.every("GET", "/manifests/", Fault::document(media_type, body));
    }
}

fn tar(marker: &str) -> Vec<u8> {
    // Large enough that a part of it is more than its first block.
    let content = marker.repeat(100_000 / marker.len());
    image::layer(&[Entry::File("marker", 0o644, content.as_bytes())]).unwrap()
}

/// All files of the store that content is kept in.
fn kept(daemon: &Daemon) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["blobs/sha256", "partial", "ingest", "snapshots/layers"] {
        let path = daemon.path("data").join(directory);
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            found.insert(format!("{directory}/{}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Waits until the store keeps nothing that it did not keep `before`: reclaiming goes on after an answer.
#[track_caller]
fn nothing_more(daemon: &Daemon, before: &BTreeSet<String>) {
    let gone = wharf_testkit::client::eventually(Duration::from_secs(20), || {
        kept(daemon).is_subset(before).then_some(())
    });
    assert!(gone.is_some(), "left: {:?}", kept(daemon).difference(before).collect::<Vec<_>>());
}

/// A pull is refused with `text`, nothing stays, and once the registry is honest the same pull succeeds.
#[track_caller]
fn refused(daemon: &Daemon, scene: &Scene, text: &str) {
    let before = kept(daemon);
    daemon.docker(&["pull", &scene.name()]).fails(1, text);
    nothing_more(daemon, &before);
    assert_eq!(daemon.docker(&["images", "-q", &scene.name()]).ok(), "");
    scene.faulty.behave();
    daemon.docker(&["pull", "-q", &scene.name()]).ok();
    daemon.docker(&["rmi", &scene.name()]).ok();
}

#[test]
fn manifests_that_lie() {
    let d = daemon!();
    let scene = Scene::new("manifests that lie ");
    scene.faulty.every("GET", "/manifests/", Fault::WrongByte(30));
    refused(&d, &scene, "manifest verification failed for digest sha256:");
    scene.instead(MANIFEST, vec![b' '; 5 << 20]);
    refused(&d, &scene, "exceeds the limit of 4194304 bytes");
    scene.faulty.every("HEAD", "/manifests/", Fault::status(404, None));
    scene.faulty.every("GET", "/manifests/", Fault::Endless);
    refused(&d, &scene, "exceeds the limit of 4194304 bytes");
    scene.faulty.every("GET", "/manifests/", Fault::MediaType(MANIFEST_LIST.to_owned()));
    refused(&d, &scene, "mediaType in manifest");
    scene.faulty.every("HEAD", "/manifests/", Fault::status(404, None));
    scene.faulty.every("GET", "/manifests/", Fault::AnnounceDigest(digest(b"other")));
    refused(&d, &scene, "manifest verification failed for digest sha256:");
    scene.instead("application/vnd.docker.distribution.manifest.v1+prettyjws", "{\"schemaVersion\":1}");
    refused(&d, &scene, "schema 1");
    scene.instead(MANIFEST, "[".repeat(100_000));
    refused(&d, &scene, "manifest sha256:");
    let both = json!({ "schemaVersion": 2, "config": {}, "layers": [], "manifests": [] });
    scene.instead(INDEX, both.to_string());
    refused(&d, &scene, "both an image and an index");
}

#[test]
fn indexes_that_multiply() {
    let d = daemon!();
    let scene = Scene::new("indexes that multiply ");
    let entry = json!({ "mediaType": INDEX, "digest": digest(b"x"), "size": 1 });
    let wide = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; 1001] });
    scene.instead(INDEX, wide.to_string());
    refused(&d, &scene, "more than 1000 manifests");

    let bytes = scene.registry.ask("GET", "/v2/app/manifests/v1", &[], b"").body;
    let (mut kind, mut inner, mut size) = (MANIFEST, digest(&bytes), bytes.len());
    for depth in 0..20 {
        let entry = json!({ "mediaType": kind, "digest": inner, "size": size });
        let document: Value = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        inner = scene.registry.put_manifest("app", &format!("deep{depth}"), &document);
        (kind, size) = (INDEX, document.to_string().len());
    }
    let deep = format!("{}/app:deep19", scene.faulty.host());
    d.docker(&["pull", &deep]).fails(1, "is nested too deep");
}

#[test]
fn blobs_that_lie() {
    let d = daemon!();
    // A layer of its own each time: what an attempt left for the next one may outlive the image that it made.
    let lies = [
        (true, Fault::WrongByte(3), "image config verification failed for digest sha256:"),
        (true, Fault::Endless, "were announced"),
        (false, Fault::WrongByte(2000), "filesystem layer verification failed for digest sha256:"),
        (false, Fault::ShortenTo(100), "100 bytes where "),
        (false, Fault::AnnounceLength(1 << 40), "1099511627776 bytes where "),
        (false, Fault::status(404, None), "a fault that the test asked for"),
    ];
    for (number, (config, fault, text)) in lies.into_iter().enumerate() {
        let scene = Scene::new(&format!("blobs that lie {number} "));
        let blob = if config { &scene.config } else { &scene.layer };
        scene.faulty.every("GET", format!("/blobs/{blob}"), fault);
        refused(&d, &scene, text);
    }
}

#[test]
fn a_layer_that_is_not_what_the_config_says() {
    let d = daemon!();
    let scene = Scene::new("a good layer ");
    let (sent, said) = (tar("what is sent "), tar("what is said "));
    scene.registry.put_image("bad", "v1", LAYER, &[&sent], &[&said]);
    let before = kept(&d);
    let name = format!("{}/bad:v1", scene.faulty.host());
    d.docker(&["pull", &name]).fails(1, "layers from manifest don't match image configuration");
    scene.registry.put_image("few", "v1", LAYER, &[&sent, &said], &[&sent]);
    let name = format!("{}/few:v1", scene.faulty.host());
    d.docker(&["pull", &name]).fails(1, "layers length mismatch");
    nothing_more(&d, &before);
}

#[test]
fn what_came_with_a_refused_layer_goes_too() {
    let d = daemon!();
    let scene = Scene::new("one of several ");
    let tars = [tar("a good first layer "), tar("a bad layer "), tar("a good last layer ")];
    let layers: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    scene.registry.put_image("several", "v1", LAYER, &layers, &layers);
    let before = kept(&d);
    // The bad one is refused while the last is still coming.
    let bad = format!("/blobs/{}", digest(&tars[1]));
    scene.faulty.every("GET", bad, Fault::WrongByte(2000));
    let slow = Fault::Slow { bytes: 20_000, pause: Duration::from_millis(200) };
    scene.faulty.every("GET", format!("/blobs/{}", digest(&tars[2])), slow);
    let name = format!("{}/several:v1", scene.faulty.host());
    d.docker(&["pull", &name]).fails(1, "filesystem layer verification failed for digest sha256:");
    nothing_more(&d, &before);
}

#[test]
fn a_bomb_ends_early() {
    let d = daemon!();
    let scene = Scene::new("a bomb ");
    // Zeros after the archive's end: they are read for the digest, and fill no disk.
    let mut bomb = Vec::new();
    let mut writer = wharf_layer::compressor(wharf_layer::Compression::Zstd, &mut bomb).unwrap();
    std::io::Write::write_all(&mut writer, &tar("a bomb ")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), (1 << 30) + (64 << 20)), &mut writer).unwrap();
    writer.finish().unwrap();
    scene.registry.put_image("bomb", "v1", &format!("{LAYER}+zstd"), &[&bomb], &[b"whatever"]);
    let before = kept(&d);
    let name = format!("{}/bomb:v1", scene.faulty.host());
    d.docker(&["pull", &name]).fails(1, "1100 times its size");
    nothing_more(&d, &before);
}

#[test]
fn names_that_lead_out_of_a_layer() {
    let d = daemon!();
    let scene = Scene::new("names ");
    let outside = d.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    fn through(link: &str) -> [Entry<'_>; 2] {
        [Entry::Link("out", link), Entry::File("out/through", 0o644, b"written through a link")]
    }
    let up = format!("{}{}", "../".repeat(40), target.trim_start_matches('/'));
    for (tag, entries) in [("absolute", through(target)), ("relative", through(&up))] {
        let layer = image::layer(&entries).unwrap();
        scene.registry.put_image("names", tag, LAYER, &[&layer], &[&layer]);
        // Refused, or unpacked inside the layer: either will do, outside nothing may appear.
        d.docker(&["pull", "-q", &format!("{}/names:{tag}", scene.faulty.host())]);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{tag}");
    }
    let before = kept(&d);
    let mut layer = image::layer(&[Entry::File("AAAAAAAAAAAA", 0o644, b"up")]).unwrap();
    // The name in the header, and its checksum.
    layer[..12].copy_from_slice(b"../../../bad");
    layer[148..156].copy_from_slice(b"        ");
    let sum: u32 = layer[..512].iter().map(|byte| u32::from(*byte)).sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    scene.registry.put_image("names", "up", LAYER, &[&layer], &[&layer]);
    let run = d.docker(&["pull", "-q", &format!("{}/names:up", scene.faulty.host())]);
    if run.code != 0 {
        nothing_more(&d, &before);
    }
    for folder in ["", "data", "data/snapshots", "data/snapshots/layers"] {
        assert!(!d.path(folder).join("bad").exists(), "{folder}");
    }
}

#[test]
fn a_registry_that_is_only_unwell_is_helped_along() {
    let d = daemon!();
    let scene = Scene::new("a registry that is unwell ");
    let layer = format!("/blobs/{}", scene.layer);
    scene.faulty.first(1, "GET", "/manifests/", Fault::status(503, None));
    scene.faulty.first(1, "GET", layer.clone(), Fault::status(429, Some(1)));
    scene.faulty.first(2, "GET", layer.clone(), Fault::CutAfter(30_000));
    let said = d.docker(&["pull", &scene.name()]).ok();
    assert!(said.contains("Retrying in 1 second"), "{said}");
    let ranges: Vec<String> = scene
        .faulty
        .seen()
        .iter()
        .filter(|seen| seen.target.contains(&layer))
        .filter_map(|seen| seen.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["bytes=30000-", "bytes=60000-"]);
}

#[test]
fn a_foreign_host_learns_nothing() {
    let d = daemon!();
    let scene = Scene::new("a foreign host ");
    let foreign = Faulty::at(std::net::Ipv4Addr::new(127, 0, 0, 2), scene.registry.address());
    // A registry that asks for a name and password, and gets them.
    scene.faulty.rule(|seen| {
        let headers = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
        seen.header("authorization").is_none().then(|| Fault::Answer {
            status: 401,
            headers,
            body: Vec::new(),
        })
    });
    let redirect = Fault::RedirectTo(format!("http://{}", foreign.host()));
    scene.faulty.every("GET", "/blobs/", redirect);
    d.docker_with(&["login", "-u", "me", "--password-stdin", &scene.faulty.host()], b"secret").ok();
    d.docker(&["pull", "-q", &scene.name()]).ok();
    assert!(scene.faulty.seen().iter().any(|seen| seen.header("authorization").is_some()));
    assert_eq!(foreign.seen().len(), 2);
    assert!(foreign.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

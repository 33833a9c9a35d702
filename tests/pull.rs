//! Pulling: from good registries and bad ones, with the stock client, and what is left when it fails.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wharf_testkit::client::{self, eventually};
use wharf_testkit::image::{self, Entry};
use wharf_testkit::registry::{Fault, Faulty, Registry, digest};
use wharf_testkit::{Daemon, SmallDisk, daemon};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layer with one file of so many bytes that no compressor makes smaller.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ name.bytes().map(u64::from).sum::<u64>();
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    })
    .take(size)
    .collect();
    image::layer(&[Entry::Dir("data", 0o755), Entry::File(&format!("data/{name}"), 0o644, &bytes)]).unwrap()
}

fn start() -> (Registry, Daemon) {
    (Registry::start(), Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]))
}

/// Names of the files in a folder of the daemon's data root.
fn files(d: &Daemon, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(d.path("data").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Nothing came in, and nothing is on its way.
fn assert_empty(d: &Daemon) {
    let look = || {
        ["blobs/sha256", "partial", "ingest", "snapshots/layers", "trash"]
            .iter()
            .flat_map(|folder| files(d, folder).into_iter().map(move |name| format!("{folder}/{name}")))
            .collect::<Vec<String>>()
    };
    eventually(Duration::from_secs(10), || look().is_empty().then_some(()));
    assert_eq!(look(), Vec::<String>::new());
}

fn busybox(d: &Daemon, registry: &str) -> String {
    let name = format!("{registry}/library/busybox:one");
    d.docker(&["load", "-q", "-i", &image::busybox().to_string_lossy()]).ok();
    d.docker(&["tag", "busybox:latest", &name]).ok();
    d.docker(&["push", "-q", &name]).ok();
    d.docker(&["rmi", "-f", "busybox:latest", &name]).ok();
    name
}

#[test]
fn an_image_is_pulled_and_runs() {
    let (registry, d) = start();
    let name = busybox(&d, &registry.host());
    let said = d.docker(&["pull", &name]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "one: Pulling from library/busybox");
    let short = lines[1].split(':').next().unwrap();
    assert_eq!(lines[1], format!("{short}: Pulling fs layer"));
    let rest: Vec<String> = ["Verifying Checksum", "Download complete", "Pull complete"]
        .iter()
        .map(|word| format!("{short}: {word}"))
        .collect();
    assert_eq!(lines[2..5], rest);
    assert!(lines[5].starts_with("Digest: sha256:"));
    assert_eq!(lines[6], format!("Status: Downloaded newer image for {name}"));
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", &name, "echo", "hi"]).ok(), "hi");
    let again = d.docker(&["pull", &name]).ok();
    assert!(again.contains(&format!("Status: Image is up to date for {name}")), "{again}");
    assert_eq!(d.docker(&["pull", "-q", &name]).ok(), name);
    let document = d.get(&format!("/images/{name}/json")).unwrap().json();
    let digest = lines[5].trim_start_matches("Digest: ");
    assert_eq!(document["RepoDigests"], json!([format!("{}/library/busybox@{digest}", registry.host())]));
    let by_digest = format!("{}/library/busybox@{digest}", registry.host());
    let said = d.docker(&["pull", &by_digest]).ok();
    assert!(said.contains("Image is up to date"), "{said}");
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", &by_digest, "echo", "there"]).ok(), "there");
}

#[test]
fn layers_of_every_compression() {
    let (registry, d) = start();
    let tar = noise("x", 50_000);
    let pack = |kind| {
        let mut packed = Vec::new();
        let mut writer = wharf_layer::compressor(kind, &mut packed).unwrap();
        std::io::Write::write_all(&mut writer, &tar).unwrap();
        writer.finish().unwrap();
        packed
    };
    let (gzip, zstd) = (pack(wharf_layer::Compression::Gzip), pack(wharf_layer::Compression::Zstd));
    for (tag, kind, layer) in [("plain", PLAIN, &tar), ("gzip", GZIP, &gzip), ("zstd", ZSTD, &zstd)] {
        registry.put_image("app", tag, kind, &[layer], &[&tar]);
        let name = format!("{}/app:{tag}", registry.host());
        d.docker(&["pull", "-q", &name]).ok();
        let saved = d.get(&format!("/images/{name}/get")).unwrap().body;
        assert!(find(&saved, &layer[..64]), "{tag}: the very bytes come out again");
    }
    let all = format!("{}/app", registry.host());
    let said = d.docker(&["pull", "-a", &all]).ok();
    assert!(said.contains(&format!("Status: Image is up to date for {all}")), "{said}");
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn an_index_is_kept_as_received_and_the_platform_chosen() {
    let (registry, d) = start();
    let (ours, theirs) = (noise("ours", 1000), noise("theirs", 1000));
    let put = |tag: &str, layer: &Vec<u8>, architecture: &str| {
        let config = json!({ "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest(layer)] } });
        let config = config.to_string().into_bytes();
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": registry.put_blob("multi", &config), "size": config.len() },
            "layers": [{ "mediaType": PLAIN, "digest": registry.put_blob("multi", layer), "size": layer.len() }] });
        let size = manifest.to_string().len();
        (registry.put_manifest("multi", tag, &manifest), size, digest(&config))
    };
    let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (first, first_size, first_id) = put("a", &ours, host);
    let (second, second_size, second_id) = put("b", &theirs, "s390x");
    let entry = |digest: &str, size: usize, architecture: &str| {
        json!({ "mediaType": OCI, "digest": digest, "size": size,
            "platform": { "architecture": architecture, "os": "linux" } })
    };
    let mut attestation = entry(&first, first_size, "unknown");
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        attestation, entry(&second, second_size, "s390x"), entry(&first, first_size, host) ] });
    let top = registry.put_manifest("multi", "latest", &index);
    let name = format!("{}/multi", registry.host());
    let said = d.docker(&["pull", &name]).ok();
    assert!(said.contains(&format!("Digest: {top}")), "{said}");
    let document = d.get(&format!("/images/{name}/json")).unwrap().json();
    assert_eq!(document["Id"], first_id);
    assert_eq!(document["RepoDigests"], json!([format!("{name}@{top}")]));
    d.docker(&["pull", "-q", "--platform", "linux/s390x", &name]).ok();
    assert_eq!(d.get(&format!("/images/{name}/json")).unwrap().json()["Id"], second_id);
    d.docker(&["pull", "--platform", "linux/ppc64le", &name])
        .fails(1, "no matching manifest for linux/ppc64le in the manifest list entries");
    d.docker(&["pull", "-q", &name]).ok();
    assert_eq!(d.docker(&["images", "-q"]).ok().lines().count(), 2);
    // With both platforms here, what goes out is the index that came in.
    let copy = format!("{}/copy:x", registry.host());
    d.docker(&["tag", &name, &copy]).ok();
    let said = d.docker(&["push", &copy]).ok();
    assert!(said.contains(&format!("x: digest: {top}")), "{said}");
}

/// Pulls of an image that others remove at the same time bring it in each time, and so do creates, or say that it is
/// not there.
#[test]
fn pulls_and_removals_may_cross() {
    let (registry, d) = start();
    let tar = noise("x", 20_000);
    registry.put_image("app", "v1", PLAIN, &[&tar], &[&tar]);
    let name = format!("{}/app", registry.host());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (d, name, done) = (&d, &name, &done);
        let pulls: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..40 {
                        let target = format!("/images/create?fromImage={name}&tag=v1");
                        let said = d.post(&target, &Value::Null);
                        assert!(said.status == 200 && !said.text().contains("error"), "{}", said.text());
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let removed = d.request("DELETE", &format!("/images/{name}:v1?force=1"), None).unwrap();
                assert!([200, 404, 409].contains(&removed.status), "{}", removed.text());
            }
        });
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let made =
                    d.post("/containers/create", &json!({ "Image": format!("{name}:v1"), "Cmd": ["/none"] }));
                assert!([201, 404].contains(&made.status), "{}: {}", made.status, made.text());
                if let Some(id) = made.json()["Id"].as_str() {
                    let gone = d.request("DELETE", &format!("/containers/{id}"), None).unwrap();
                    assert_eq!(gone.status, 204, "{}", gone.text());
                }
            }
        });
        let ended: Vec<_> = pulls.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let _ = d.request("DELETE", &format!("/images/{name}:v1?force=1"), None);
    assert_empty(&d);
}

#[test]
fn attestations_beside_an_image_stay_hidden() {
    let (registry, d) = start();
    let tar = noise("x", 20_000);
    let image = registry.put_image("app", "plain", PLAIN, &[&tar], &[&tar]);
    let sized =
        |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() });
    let (config, statement) =
        (&br#"{"architecture":"unknown","os":"unknown"}"#[..], &br#"{"_type":"x"}"#[..]);
    for blob in [config, statement] {
        registry.put_blob("app", blob);
    }
    let attestation = json!({
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": sized("application/vnd.oci.image.config.v1+json", config),
        "layers": [sized("application/vnd.in-toto+json", statement)],
    });
    let attested = registry.put_manifest("app", "attestation", &attestation);
    let size = |reference: &str| {
        let target = format!("/v2/app/manifests/{reference}");
        registry.ask("GET", &target, &[("accept", OCI)], b"").body.len()
    };
    // As BuildKit writes it.
    let own = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {
                "mediaType": OCI, "digest": image, "size": size(&image),
                "platform": { "architecture": own, "os": "linux" },
            },
            {
                "mediaType": OCI, "digest": attested, "size": size(&attested),
                "platform": { "architecture": "unknown", "os": "unknown" },
                "annotations": {
                    "vnd.docker.reference.digest": image, "vnd.docker.reference.type": "attestation-manifest",
                },
            },
        ],
    });
    let top = registry.put_manifest("app", "attested", &index);
    let name = format!("{}/app:attested", registry.host());
    d.docker(&["pull", "-q", &name]).ok();
    let listed = d.docker(&["images", "-a", "--digests", "--format", "{{.Tag}} {{.Digest}}"]).ok();
    assert_eq!(listed, format!("attested {top}"), "one line");
    assert_eq!(d.get("/images/json?all=1&manifests=1").unwrap().json().as_array().unwrap().len(), 1);
    // Of the clients, the newest stock one alone draws trees.
    if client::replacement().is_none() {
        let tree = d.docker(&["images", "--tree"]).ok();
        assert!(tree.contains("app:attested") && !tree.contains("unknown"), "{tree}");
        assert!(!tree.contains(&attested[7..19]), "{tree}");
    }
    d.docker(&["pull", "--platform", "unknown/unknown", &name]).fails(1, "no matching manifest for unknown");
    // What nobody sees goes with the image, and goes out with it.
    let copy = format!("{}/copy:x", registry.host());
    d.docker(&["tag", &name, &copy]).ok();
    d.docker(&["push", "-q", &copy]).ok();
    d.docker(&["rmi", &name, &copy]).ok();
    assert_empty(&d);
}

#[test]
fn what_cannot_be_used_is_refused_and_leaves_nothing() {
    let (registry, d) = start();
    let tar = noise("x", 200_000);
    let bad = noise("y", 200_000);
    let host = registry.host();
    registry.put_image("bad", "diffid", PLAIN, &[&tar], &[&bad]);
    registry.put_image(
        "bad",
        "foreign",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        &[&tar],
        &[&tar],
    );
    registry.put_image("bad", "junk", GZIP, &[b"this is no archive"], &[&tar]);
    // Neither the registry nor anybody else is asked for one that lies elsewhere.
    let mut elsewhere = registry.ask("GET", "/v2/bad/manifests/foreign", &[("accept", OCI)], b"").json();
    elsewhere["layers"][0]["mediaType"] =
        json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    elsewhere["layers"][0]["urls"] = json!([format!("http://{host}/v2/bad/blobs/{}", digest(&tar))]);
    registry.put_manifest("bad", "elsewhere", &elsewhere);
    let escape = image::layer(&[Entry::File("fine", 0o644, b"x")]).unwrap();
    let mut hostile = escape.clone();
    hostile[..10].copy_from_slice(b"../../evil");
    registry.put_image("bad", "path", PLAIN, &[&hostile], &[&hostile]);
    registry.put_image("bad", "count", PLAIN, &[&tar], &[&tar, &bad]);
    for (tag, text) in [
        ("diffid", "layers from manifest don't match image configuration"),
        ("foreign", "is a foreign layer"),
        ("elsewhere", "is a foreign layer"),
        ("junk", ""),
        ("path", ""),
        ("count", "layers length mismatch"),
        ("absent", "not found: manifest unknown"),
    ] {
        d.docker(&["pull", &format!("{host}/bad:{tag}")]).fails(1, text);
        assert_empty(&d);
    }
    let faulty = Faulty::before(&registry);
    registry.put_image("good", "latest", PLAIN, &[&tar], &[&tar]);
    faulty.every("GET", format!("/blobs/{}", digest(&tar)), Fault::WrongByte(5000));
    d.docker(&["pull", &format!("{}/good", faulty.host())])
        .fails(1, &format!("filesystem layer verification failed for digest {}", digest(&tar)));
    assert_empty(&d);
    let schema1 =
        json!({ "schemaVersion": 1, "name": "old", "tag": "latest", "fsLayers": [], "history": [] });
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    faulty.every("GET", "/manifests/", Fault::document(kind, schema1.to_string()));
    faulty.every("HEAD", "/manifests/", Fault::document(kind, schema1.to_string()));
    d.docker(&["pull", &format!("{}/old", faulty.host())]).fails(1, "schema 1");
    assert_empty(&d);
}

#[test]
fn downloads_that_break_off_go_on_where_they_were() {
    let (registry, d) = start();
    let tar = noise("x", 3_000_000);
    registry.put_image("app", "latest", PLAIN, &[&tar], &[&tar]);
    let faulty = Faulty::before(&registry);
    let blob = format!("/blobs/{}", digest(&tar));
    faulty.first(2, "GET", blob.clone(), Fault::CutAfter(1_000_000));
    d.docker(&["pull", "-q", &format!("{}/app", faulty.host())]).ok();
    let seen = faulty.seen();
    let ranges: Vec<_> =
        seen.iter().filter(|seen| seen.target.contains(&blob)).map(|s| s.header("range")).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges[0].is_none() && ranges[1].is_some() && ranges[2].is_some(), "{ranges:?}");
}

#[test]
fn a_cut_pull_goes_on_after_a_restart() {
    let registry = Registry::start();
    let mut d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &["--max-download-attempts", "1"]);
    let (tar, small) = (noise("x", 3_000_000), noise("y", 1000));
    registry.put_image("app", "latest", PLAIN, &[&small, &tar], &[&small, &tar]);
    let faulty = Faulty::before(&registry);
    let blob = format!("/blobs/{}", digest(&tar));
    // A layer that breaks off ends the downloads beside it: not before the small one has come whole.
    let arrived = d.path("data/blobs/sha256").join(digest(&small).replace("sha256:", ""));
    let broken = blob.clone();
    faulty.rule(move |seen| {
        (seen.method == "GET" && seen.target.contains(&broken)).then(|| {
            eventually(Duration::from_secs(60), || arrived.exists().then_some(()));
            Fault::CutAfter(2_000_000)
        })
    });
    let name = format!("{}/app", faulty.host());
    let failed = d.docker(&["pull", &name]);
    assert_eq!(failed.code, 1);
    assert_eq!(files(&d, "partial").len(), 1, "{}", failed.stderr);
    d.kill();
    d.launch();
    assert_eq!(files(&d, "partial").len(), 1);
    faulty.behave();
    d.docker(&["pull", "-q", &name]).ok();
    let seen = faulty.seen();
    let last = seen.iter().rfind(|seen| seen.target.contains(&blob)).unwrap();
    let from: u64 = last
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok())
        .expect("the second attempt asks for the rest");
    assert!(from > 1_000_000, "{from}");
    assert_eq!(faulty.count("GET", &format!("/blobs/{}", digest(&small))), 1, "what had come was kept");
    assert!(files(&d, "partial").is_empty());
}

#[test]
fn pulls_of_the_same_share_one_download_and_the_last_one_to_leave_ends_it() {
    let (registry, d) = start();
    let tar = noise("x", 2_000_000);
    registry.put_image("app", "latest", PLAIN, &[&tar], &[&tar]);
    let faulty = Faulty::before(&registry);
    let blob = format!("/blobs/{}", digest(&tar));
    // Nothing comes before all of them wait for it.
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let asked = blob.clone();
    faulty.rule(move |seen| {
        (seen.method == "GET" && seen.target.contains(&asked)).then(|| {
            eventually(Duration::from_secs(60), || opened.load(Ordering::Relaxed).then_some(()));
            Fault::Slow { bytes: 100_000, pause: Duration::from_millis(100) }
        })
    });
    let name = format!("{}/app", faulty.host());
    let pull = || {
        let said = tempfile::NamedTempFile::new().unwrap();
        let mut command = d.command("docker");
        command.args(["pull", &name]).stdout(said.reopen().unwrap()).stderr(Stdio::null());
        (command.spawn().unwrap(), said)
    };
    let text = |said: &tempfile::NamedTempFile| std::fs::read_to_string(said.path()).unwrap();
    let (mut clients, (mut third, third_said)) = ([pull(), pull()], pull());
    for said in [&clients[0].1, &clients[1].1, &third_said] {
        let waits = || text(said).contains("Pulling fs layer").then_some(());
        eventually(Duration::from_secs(60), waits).expect("all of them wait for the layer");
    }
    gate.store(true, Ordering::Relaxed);
    third.kill().unwrap();
    third.wait().unwrap();
    for (child, said) in &mut clients {
        assert!(child.wait().unwrap().success());
        assert!(text(said).contains("Pull complete"), "{}", text(said));
    }
    assert_eq!(faulty.count("GET", &blob), 1);
    d.docker(&["rmi", &name]).ok();
    let size = || {
        let name = files(&d, "partial").pop()?;
        Some(std::fs::metadata(d.path("data/partial").join(name)).ok()?.len()).filter(|size| *size > 0)
    };
    let (mut alone, _) = pull();
    eventually(Duration::from_secs(60), size).expect("a part of the layer comes");
    alone.kill().unwrap();
    alone.wait().unwrap();
    // What had come stays, and stays as it is: nobody fetches on.
    let stands = || {
        let before = size();
        std::thread::sleep(Duration::from_millis(500));
        size().filter(|left| Some(*left) == before)
    };
    let left = eventually(Duration::from_secs(60), stands).expect("a partial blob");
    assert!(left < tar.len() as u64);
    let pruned = || {
        d.docker(&["image", "prune", "-f"]).ok();
        files(&d, "partial").is_empty().then_some(())
    };
    eventually(Duration::from_secs(60), pruned).expect("a prune takes what nobody waits for");
    assert_empty(&d);
}

#[test]
fn what_is_here_is_not_fetched_again_and_costs_one_request() {
    let (registry, d) = start();
    let (base, one, two) = (noise("base", 100_000), noise("one", 1000), noise("two", 1000));
    registry.put_image("app", "one", PLAIN, &[&base, &one], &[&base, &one]);
    registry.put_image("app", "two", PLAIN, &[&base, &two], &[&base, &two]);
    let faulty = Faulty::before(&registry);
    let name = |tag: &str| format!("{}/app:{tag}", faulty.host());
    d.docker(&["pull", "-q", &name("one")]).ok();
    let said = d.docker(&["pull", &name("two")]).ok();
    assert!(said.contains(&format!("{}: Already exists", &digest(&base)[7..19])), "{said}");
    assert_eq!(faulty.count("GET", &digest(&base)), 1);
    let before = faulty.seen().len();
    let target = format!("/images/create?fromImage={}/app&tag=one", faulty.host());
    let reply = d.post(&target, &Value::Null);
    assert!(reply.text().contains("Image is up to date"), "{}", reply.text());
    assert_eq!(faulty.seen().len(), before + 1, "{:?}", &faulty.seen()[before..]);
}

#[test]
fn reclaim_beside_a_running_pull_takes_nothing_of_it() {
    let (registry, d) = start();
    let (small, tar) = (noise("small", 1000), noise("x", 1_500_000));
    registry.put_image("app", "latest", PLAIN, &[&small, &tar], &[&small, &tar]);
    let faulty = Faulty::before(&registry);
    let slow = Fault::Slow { bytes: 100_000, pause: Duration::from_millis(50) };
    faulty.every("GET", format!("/blobs/{}", digest(&tar)), slow);
    let name = format!("{}/app", faulty.host());
    let mut command = d.command("docker");
    let mut pull =
        command.args(["pull", &name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while pull.try_wait().unwrap().is_none() {
        d.docker(&["system", "prune", "-f"]).ok();
    }
    assert!(pull.wait().unwrap().success());
    assert_eq!(d.docker(&["images", "-q"]).ok().lines().count(), 1);
    let id = d.docker(&["create", &name, "x"]).ok();
    let listed = d.docker(&["export", &id]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
}

#[test]
fn events_name_the_reference() {
    let (registry, d) = start();
    let tar = noise("x", 1000);
    registry.put_image("app", "v1", PLAIN, &[&tar], &[&tar]);
    let name = format!("{}/app:v1", registry.host());
    d.docker(&["pull", "-q", &name]).ok();
    // The client gives whole seconds, and the end is not included.
    std::thread::sleep(Duration::from_millis(1100));
    let seen = d
        .docker(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--filter",
            "event=pull",
            "--format",
            "{{json .}}",
        ])
        .ok();
    let event: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(event["Actor"]["ID"], json!(name));
    assert_eq!(event["Actor"]["Attributes"]["name"], format!("{}/app", registry.host()));
}

#[test]
fn the_vfs_driver_pulls_too() {
    let registry = Registry::start();
    let d = daemon!("--storage-driver", "vfs");
    let (one, two) = (noise("one", 1000), noise("two", 1000));
    registry.put_image("app", "latest", PLAIN, &[&one, &two], &[&one, &two]);
    let name = format!("{}/app", registry.host());
    d.docker(&["pull", "-q", &name]).ok();
    let id = d.docker(&["create", &name, "x"]).ok();
    let copied = d.path("two");
    d.docker(&["cp", &format!("{id}:/data/two"), &copied.to_string_lossy()]).ok();
    assert_eq!(Path::new(&copied).metadata().unwrap().len(), 1000);
}

#[test]
fn what_is_damaged_is_found_and_repaired() {
    let (registry, d) = start();
    let tars = [noise("first", 60_000), noise("second", 60_000)];
    let layers: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    registry.put_image("app", "v1", PLAIN, &layers, &layers);
    let name = format!("{}/app:v1", registry.host());
    d.docker(&["pull", "-q", &name]).ok();
    assert!(d.wharf(&["system", "check"]).ok().contains("checked 1 images"));
    // A byte of an unpacked file, its size and its time as they were.
    let trees = std::fs::read_dir(d.path("data/snapshots/layers")).unwrap().flatten();
    let file = trees.map(|tree| tree.path().join("fs/data/first")).find(|path| path.exists()).unwrap();
    let (mut bytes, modified) =
        (std::fs::read(&file).unwrap(), std::fs::metadata(&file).unwrap().modified().unwrap());
    let whole = bytes.clone();
    bytes[30_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    std::fs::write(file.with_file_name("stranger"), "not of the layer").unwrap();
    let quick = d.wharf(&["system", "check", "--quick"]).ok();
    assert!(quick.starts_with("checked 1 images, 2 layers"), "it reads nothing: {quick}");
    let found = d.wharf(&["system", "check"]);
    found.fails(1, "run it with --repair");
    assert!(
        found.stdout.contains("corrupt layer sha256:") && found.stdout.contains("(2 files)"),
        "{found:?}"
    );
    assert!(d.wharf(&["system", "check", "--repair"]).ok().contains(": repaired"));
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    assert!(!file.with_file_name("stranger").exists());
    // A byte of a blob: the registry still has it.
    let blob = wharf_testkit::registry::digest(&tars[1]);
    let path = d.path("data/blobs/sha256").join(blob.trim_start_matches("sha256:"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let repaired = d.wharf(&["system", "check", "--repair"]).ok();
    assert!(
        repaired.contains(&format!("corrupt blob {blob}")) && repaired.contains(": repaired"),
        "{repaired}"
    );
    assert!(!d.wharf(&["system", "check"]).ok().contains("corrupt"));
    // What is missing, or too short, is seen at a glance.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let tree = file.ancestors().nth(3).unwrap();
    std::fs::rename(tree, d.path("elsewhere")).unwrap();
    let found = d.wharf(&["system", "check", "--quick"]);
    found.fails(1, "2 found: run it with --repair");
    assert!(found.stdout.contains("corrupt blob") && found.stdout.contains("missing layer"), "{found:?}");
    let repaired = d.wharf(&["system", "check", "--quick", "--repair"]).ok();
    assert_eq!(repaired.matches(": repaired").count(), 2, "{repaired}");
    assert!(!d.wharf(&["system", "check"]).ok().contains("corrupt"));
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_pull_goes_on_with_it() {
    let (registry, mut d) = start();
    let tar = noise("x", 3_000_000);
    registry.put_image("app", "latest", PLAIN, &[&tar], &[&tar]);
    let faulty = Faulty::before(&registry);
    let blob = format!("/blobs/{}", digest(&tar));
    faulty.every("GET", blob.clone(), Fault::Slow { bytes: 1 << 16, pause: Duration::from_millis(200) });
    let name = format!("{}/app", faulty.host());
    let mut pull = d
        .command("docker")
        .args(["pull", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let come = || {
        let sizes = files(&d, "partial").into_iter().map(|file| d.path("data/partial").join(file).metadata());
        (sizes.flatten().map(|metadata| metadata.len()).sum::<u64>() > 1 << 19).then_some(())
    };
    let came = eventually(Duration::from_secs(60), come);
    d.kill();
    assert_ne!(pull.wait().unwrap().code(), Some(0));
    assert!(came.is_some(), "nothing came");
    d.launch();
    assert!(d.docker(&["images", "-q"]).ok().is_empty());
    faulty.behave();
    d.docker(&["pull", "-q", &name]).ok();
    let seen = faulty.seen();
    let last = seen.iter().rfind(|seen| seen.target.contains(&blob)).unwrap();
    assert!(last.header("range").is_some(), "the second attempt asks for the rest");
    assert!(files(&d, "partial").is_empty());
    d.docker(&["rmi", &name]).ok();
    assert_empty(&d);
}

#[test]
fn a_disk_that_fills_up_ends_a_pull_which_gives_its_room_back() {
    let disk = SmallDisk::new(48);
    let registry = Registry::start();
    let d = Daemon::start_on(&disk, env!("CARGO_BIN_EXE_wharf"), &[]);
    let layer = noise("x", 4_000_000);
    registry.put_image("app", "latest", PLAIN, &[&layer], &[&layer]);
    let name = format!("{}/app", registry.host());
    // First no room at all, then room for a part of it.
    for room in [0, 2 << 20] {
        disk.fill();
        disk.leave(room);
        d.docker(&["pull", &name]).fails(1, "no space left on device");
        let partial = || -> u64 {
            let files = std::fs::read_dir(disk.path("data/partial")).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        };
        let gone = eventually(Duration::from_secs(10), || (partial() == 0).then_some(()));
        assert!(gone.is_some(), "with {room} bytes left, {} stay", partial());
        disk.free();
    }
    d.docker(&["pull", "-q", &name]).ok();
    d.docker(&["rmi", &name]).ok();
}

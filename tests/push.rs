//! Pushing: the very bytes, mounts, layers made here, logins, and registries that misbehave.

use std::time::Duration;

use serde_json::{Value, json};
use wharf_testkit::image::{self, Entry};
use wharf_testkit::registry::{Fault, Faulty, Registry, digest};
use wharf_testkit::{Daemon, SmallDisk};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

fn start() -> (Registry, Daemon) {
    (Registry::start(), Daemon::start(env!("CARGO_BIN_EXE_wharf"), &[]))
}

fn layer(name: &str) -> Vec<u8> {
    image::layer(&[Entry::File(name, 0o644, name.as_bytes())]).unwrap()
}

/// The manifest that a registry has under a name.
fn manifest(registry: &Registry, repository: &str, tag: &str) -> (String, Value) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let reply = registry.ask("GET", &target, &[("accept", accept)], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    (digest(&reply.body), reply.json())
}

#[test]
fn what_was_pulled_goes_out_as_it_came() {
    let (registry, d) = start();
    let (base, top) = (layer("base"), layer("top"));
    let came = registry.put_image("app", "v1", PLAIN, &[&base, &top], &[&base, &top]);
    let from = format!("{}/app:v1", registry.host());
    d.docker(&["pull", "-q", &from]).ok();
    let other = Registry::start();
    let to = format!("{}/copy:v2", other.host());
    d.docker(&["tag", &from, &to]).ok();
    let said = d.docker(&["push", &to]).ok();
    assert!(said.starts_with(&format!("The push refers to repository [{}/copy]", other.host())), "{said}");
    let short = |layer: &[u8]| digest(layer)[7..19].to_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[1..3], [format!("{}: Preparing", short(&top)), format!("{}: Preparing", short(&base))]);
    assert!(lines.contains(&&*format!("{}: Pushed", short(&base))), "{said}");
    assert_eq!(manifest(&other, "copy", "v2").0, came);
    assert!(said.contains(&format!("v2: digest: {came} size: ")), "{said}");
    let again = d.docker(&["push", &to]).ok();
    assert!(again.contains("Layer already exists"), "{again}");
    let mounted = format!("{}/second:v2", other.host());
    d.docker(&["tag", &from, &mounted]).ok();
    let said = d.docker(&["push", &mounted]).ok();
    assert!(said.contains("Mounted from copy"), "{said}");
    let document = d.get(&format!("/images/{to}/json")).unwrap().json();
    let digests = document["RepoDigests"].as_array().unwrap();
    assert!(digests.contains(&json!(format!("{}/copy@{came}", other.host()))), "{digests:?}");
    // The client gives whole seconds, and the end is not included.
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
    let seen = d
        .docker(&[
            "events",
            "--since",
            "1h",
            "--until",
            &end.to_string(),
            "--filter",
            "event=push",
            "--format",
            "{{.ID}}",
        ])
        .ok();
    assert_eq!(seen.lines().collect::<Vec<_>>(), [&*to, &*to, &*mounted]);
}

#[test]
fn layers_made_here_are_compressed_once_and_always_to_the_same_bytes() {
    let (registry, d) = start();
    let name = format!("{}/made:1", registry.host());
    let id = d.docker(&["create", "busybox"]).ok();
    d.docker(&["commit", &id, &name]).ok();
    let image_id = d.docker(&["images", "-q", "--no-trunc", &name]).ok();
    d.docker(&["push", "-q", &name]).ok();
    let (first, document) = manifest(&registry, "made", "1");
    for layer in document["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    d.docker(&["push", "-q", &name]).ok();
    assert_eq!(manifest(&registry, "made", "1").0, first);
    assert_eq!(d.docker(&["images", "-q", "--no-trunc", &name]).ok(), image_id);
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", &name, "echo", "hi"]).ok(), "hi");
    // busybox itself, loaded as plain layers, shares what was compressed.
    let plain = format!("{}/busybox:1", registry.host());
    d.docker(&["tag", "busybox", &plain]).ok();
    let said = d.docker(&["push", &plain]).ok();
    assert!(said.contains("Mounted from made"), "{said}");
    let other = Daemon::start(env!("CARGO_BIN_EXE_wharf"), &[]);
    let fresh = Registry::start();
    let elsewhere = format!("{}/busybox:1", fresh.host());
    other.docker(&["tag", "busybox", &elsewhere]).ok();
    other.docker(&["push", "-q", &elsewhere]).ok();
    assert_eq!(manifest(&fresh, "busybox", "1").0, manifest(&registry, "busybox", "1").0);
    other.docker(&["rm", "-f", "-v", "none"]);
    d.docker(&["pull", "-q", &name]).ok();
}

#[test]
fn what_is_not_here_is_told_in_dockers_words() {
    let (registry, d) = start();
    let host = registry.host();
    d.docker(&["push", &format!("{host}/nothing:v1")])
        .fails(1, &format!("An image does not exist locally with the tag: {host}/nothing"));
    d.docker(&["tag", "busybox", &format!("{host}/some:v1")]).ok();
    d.docker(&["push", &format!("{host}/some:v2")]).fails(1, &format!("tag does not exist: {host}/some:v2"));
    d.docker(&["tag", "busybox", &format!("{host}/some:v2")]).ok();
    let said = d.docker(&["push", "-a", &format!("{host}/some")]).ok();
    assert!(said.contains("v1: digest:") && said.contains("v2: digest:"), "{said}");
}

#[test]
fn uploads_survive_a_registry_that_stumbles() {
    let (registry, d) = start();
    let faulty = Faulty::before(&registry);
    let name = format!("{}/app:1", faulty.host());
    d.docker(&["tag", "busybox", &name]).ok();
    faulty.first(1, "POST", "/blobs/uploads/", Fault::status(503, Some(0)));
    faulty.first(1, "PATCH", "/blobs/uploads/", Fault::CutRequestAfter(100_000));
    faulty.first(1, "PUT", "/blobs/uploads/", Fault::CutRequestAfter(100_000));
    d.docker(&["push", "-q", &name]).ok();
    let (_, document) = manifest(&registry, "app", "1");
    let layer = document["layers"][0]["digest"].as_str().unwrap();
    let reply = registry.ask("GET", &format!("/v2/app/blobs/{layer}"), &[], b"");
    assert_eq!(digest(&reply.body), layer);
}

#[test]
fn logins_are_tried_kept_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("htpasswd");
    // me:secret
    std::fs::write(&passwords, "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n").unwrap();
    let registry = Registry::with(|config| config.htpasswd = Some(passwords));
    let d = Daemon::start(env!("CARGO_BIN_EXE_wharf"), &[]);
    let host = registry.host();
    let name = format!("{host}/app:1");
    d.docker(&["tag", "busybox", &name]).ok();
    assert_eq!(d.docker(&["push", "-q", &name]).code, 1);
    let denied = d.docker_with(&["login", "-u", "me", "--password-stdin", &host], b"wrong");
    assert_eq!(denied.code, 1, "{denied:?}");
    let said = d.docker_with(&["login", "-u", "me", "--password-stdin", &host], b"secret\n").ok();
    assert_eq!(said, "Login Succeeded");
    d.docker(&["push", "-q", &name]).ok();
    d.docker(&["rmi", &name]).ok();
    d.docker(&["pull", "-q", &name]).ok();
    assert_eq!(d.docker(&["logout", &host]).ok(), format!("Removing login credentials for {host}"));
    let refused = d.docker(&["pull", &name]);
    assert!(refused.code == 1 && refused.stderr.contains("basic auth credentials"), "{refused:?}");
}

#[test]
fn a_client_that_leaves_ends_its_push() {
    let (registry, d) = start();
    let faulty = Faulty::before(&registry);
    let name = format!("{}/app:1", faulty.host());
    d.docker(&["tag", "busybox", &name]).ok();
    faulty.every("POST", "/blobs/uploads/", Fault::Hang(Duration::from_secs(60)));
    let mut push = d.command("docker");
    let mut child = push.args(["push", &name]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let came = || (faulty.count("POST", "/blobs/uploads/") > 0).then_some(());
    wharf_testkit::client::eventually(Duration::from_secs(20), came).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    faulty.behave();
    d.docker(&["push", "-q", &name]).ok();
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_push_pushes_again() {
    let (registry, mut d) = start();
    let faulty = Faulty::before(&registry);
    let name = format!("{}/app:1", faulty.host());
    d.docker(&["tag", "busybox", &name]).ok();
    faulty.every("PUT", "/blobs/uploads/", Fault::Hang(Duration::from_secs(60)));
    let mut push = d.command("docker");
    push.args(["push", &name]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = push.spawn().unwrap();
    let came = || (faulty.count("PUT", "/blobs/uploads/") > 0).then_some(());
    let came = wharf_testkit::client::eventually(Duration::from_secs(60), came);
    d.kill();
    assert_ne!(child.wait().unwrap().code(), Some(0));
    assert!(came.is_some(), "nothing was sent");
    d.launch();
    faulty.behave();
    d.docker(&["push", "-q", &name]).ok();
    let (_, document) = manifest(&registry, "app", "1");
    let layer = document["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(digest(&registry.ask("GET", &format!("/v2/app/blobs/{layer}"), &[], b"").body), layer);
}

#[test]
fn a_full_disk_stops_what_must_be_packed_and_nothing_else() {
    let disk = SmallDisk::new(48);
    let registry = Registry::start();
    let d = Daemon::start_on(&disk, env!("CARGO_BIN_EXE_wharf"), &[]);
    let pulled = format!("{}/pulled:1", registry.host());
    d.docker(&["tag", "busybox", &pulled]).ok();
    d.docker(&["push", "-q", &pulled]).ok();
    d.docker(&["create", "--name", "made", "--network", "none", "busybox", "true"]).ok();
    let file = disk.path("noise");
    std::fs::write(&file, layer("some content")).unwrap();
    d.docker(&["cp", file.to_str().unwrap(), "made:/noise"]).ok();
    let made = format!("{}/made:1", registry.host());
    d.docker(&["commit", "made", &made]).ok();
    disk.fill();
    d.docker(&["push", &made]).fails(1, "no space left on device");
    d.docker(&["push", "-q", &pulled]).ok();
    disk.free();
    d.docker(&["push", "-q", &made]).ok();
    d.docker(&["rm", "made"]).ok();
}

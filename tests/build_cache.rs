//! Caches of builds elsewhere: written by one engine, found by another that never built anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wharf_testkit::client;
use wharf_testkit::registry::Registry;
use wharf_testkit::{Daemon, Run, daemon};

/// What each run of its steps makes anew, so that an image made twice is another.
const DOCKERFILE: &str = "FROM busybox AS tools\nRUN date +%s%N > /tool\n\
    FROM busybox\nWORKDIR /w\nCOPY a /a\nRUN cat /a /proc/uptime > /b; date +%s%N >> /b\n\
    COPY --from=tools /tool /tool\nRUN date +%s%N > /c\nCMD [\"cat\", \"/b\"]\n";
/// Steps of it that are cached when everything is, the base image's among them.
const STEPS: usize = 7;

/// An engine of its own, and a directory to build.
struct Builder {
    d: Daemon,
    top: PathBuf,
}

fn builder() -> Builder {
    let d = daemon!();
    fs::create_dir_all(d.path("cli-plugins")).unwrap();
    let from = client::clients().join("sid/usr/libexec/docker/cli-plugins/docker-buildx");
    symlink(from, d.path("cli-plugins/docker-buildx")).unwrap();
    let top = d.path("project");
    fs::create_dir_all(&top).unwrap();
    fs::write(top.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(top.join("a"), "one").unwrap();
    Builder { d, top }
}

impl Builder {
    #[track_caller]
    fn docker(&self, args: &[&str]) -> Run {
        let mut command = client::command(client::program("docker"), &self.d.host(), &self.d.path(""));
        command.args(args).current_dir(&self.top);
        client::run(command, b"")
    }

    #[track_caller]
    fn build(&self, args: &[&str]) -> Run {
        let mut all = vec!["buildx", "build", "--progress", "plain", "-t", "x"];
        all.extend_from_slice(args);
        all.push(".");
        self.docker(&all)
    }

    /// An image's layers and the times of its steps.
    fn made(&self, image: &str) -> (String, String) {
        let layers = self.docker(&["image", "inspect", "-f", "{{.Created}} {{.RootFS.Layers}}", image]).ok();
        (
            layers,
            self.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}} {{.CreatedAt}}", image]).ok(),
        )
    }

    fn id(&self, image: &str) -> String {
        self.docker(&["image", "inspect", "-f", "{{.Id}}", image]).ok()
    }
}

#[track_caller]
fn assert_cached(run: &Run, count: usize) {
    run.ok();
    assert_eq!(run.stderr.matches(" CACHED").count(), count, "{}", run.stderr);
}

/// A document that a registry has.
fn manifest(registry: &Registry, target: &str) -> Value {
    let accept = "application/vnd.oci.image.manifest.v1+json";
    registry.ask("GET", &format!("/v2/{target}"), &[("accept", accept)], b"").json()
}

#[test]
fn a_cache_at_a_registry_spares_another_engine_every_step() {
    let (registry, first, second) = (Registry::start(), builder(), builder());
    let cache = format!("type=registry,ref={}/cache:1", registry.host());
    first.build(&["--cache-to", &format!("{cache},mode=max")]).ok();
    let written = manifest(&registry, "cache/manifests/1");
    assert_eq!(written["config"]["mediaType"], "application/vnd.buildkit.cacheconfig.v0");

    let run = second.build(&["--cache-from", &cache]);
    assert_cached(&run, STEPS);
    assert_eq!(second.id("x"), first.id("x"));
    let (one, two) = (first.docker(&["run", "--rm", "x"]).ok(), second.docker(&["run", "--rm", "x"]).ok());
    assert_eq!(one, two);

    // What came from there is this engine's own now.
    let again = second.build(&[]);
    assert_cached(&again, STEPS);
    assert!(!again.stderr.contains("importing"), "{}", again.stderr);
    // A change is seen, and what it does not touch is still spared.
    fs::write(second.top.join("a"), "two").unwrap();
    second.build(&["--cache-from", &cache]).ok();
    assert!(second.id("x") != first.id("x"));
    assert!(second.docker(&["run", "--rm", "x"]).ok().starts_with("two"));
}

/// The records of a cache in a directory.
fn records(directory: &Path) -> usize {
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |digest: &Value| {
        read(&directory.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:")))
    };
    let index = read(&directory.join("index.json"));
    let manifest = blob(&index["manifests"][0]["digest"]);
    blob(&manifest["config"]["digest"])["records"].as_array().unwrap().len()
}

#[test]
fn a_cache_in_a_directory_spares_another_engine_every_step_and_does_not_thin_out() {
    let (first, second, third) = (builder(), builder(), builder());
    let (one, two) = (first.d.path("one"), first.d.path("two"));
    let (from, to) = (
        |path: &Path| format!("type=local,src={}", path.display()),
        |path: &Path| format!("type=local,dest={},mode=max", path.display()),
    );
    first.build(&["--cache-to", &to(&one)]).ok();
    let whole = records(&one);
    // Another engine finds all of it, and writes all of it again.
    assert_cached(&second.build(&["--cache-from", &from(&one), "--cache-to", &to(&two)]), STEPS);
    assert_eq!(second.id("x"), first.id("x"));
    assert_eq!(records(&two), whole);
    assert_cached(&third.build(&["--cache-from", &from(&two)]), STEPS);
    assert_eq!(third.id("x"), first.id("x"));

    // Written again into the same place, it is there once; one that is not there, or was changed, costs time alone.
    assert_cached(&first.build(&["--cache-to", &to(&one)]), STEPS);
    assert_eq!(records(&one), whole);
    let fresh = builder();
    fresh.build(&["--cache-from", &from(&fresh.d.path("none"))]).ok();
    let fresh = builder();
    for blob in fs::read_dir(two.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    fresh.build(&["--cache-from", &from(&two)]).ok();
    assert!(fresh.id("x") != first.id("x"));
}

#[test]
fn the_least_cache_has_the_image_alone() {
    let (registry, first, second) = (Registry::start(), builder(), builder());
    let simple = "FROM busybox\nCOPY a /a\nRUN date +%s%N > /b\n";
    for builder in [&first, &second] {
        fs::write(builder.top.join("Dockerfile"), simple).unwrap();
    }
    let cache = format!("type=registry,ref={}/cache:min", registry.host());
    first.build(&["--cache-to", &cache]).ok();
    assert_eq!(manifest(&registry, "cache/manifests/min")["layers"].as_array().unwrap().len(), 2);
    assert_cached(&second.build(&["--cache-from", &cache]), 3);
    assert_eq!(second.id("x"), first.id("x"));
}

#[test]
fn the_least_cache_spares_the_stages_that_are_copied_from() {
    let (registry, first, mut second) = (Registry::start(), builder(), builder());
    let cache = format!("type=registry,ref={}/cache:min", registry.host());
    first.build(&["--cache-to", &cache]).ok();
    // What the image is not made of is not there, and need not be made.
    assert_eq!(manifest(&registry, "cache/manifests/min")["layers"].as_array().unwrap().len(), 5);
    assert_cached(&second.build(&["--cache-from", &cache]), STEPS);
    assert_eq!(second.id("x"), first.id("x"));
    // That is known from here on, and written again with the cache.
    assert_cached(&second.build(&[]), STEPS);
    second.d.kill();
    second.d.launch();
    let again = format!("type=registry,ref={}/again:min", registry.host());
    assert_cached(&second.build(&["--cache-to", &again]), STEPS);
    assert_eq!(second.id("x"), first.id("x"));
    let third = builder();
    assert_cached(&third.build(&["--cache-from", &again]), STEPS);
    assert_eq!(third.id("x"), first.id("x"));

    // What comes after a change needs it all the same, and what is to be made anew is.
    fs::write(second.top.join("a"), "two").unwrap();
    second.build(&["--cache-from", &cache]).ok();
    assert!(second.docker(&["run", "--rm", "x"]).ok().starts_with("two"));
    let tool = |builder: &Builder| builder.docker(&["run", "--rm", "x", "cat", "/tool"]).ok();
    let before = tool(&third);
    third.build(&["--no-cache-filter", "tools", "--cache-from", &again]).ok();
    let after = tool(&third);
    assert!(before != after);
    assert_cached(&third.build(&["--cache-from", &again]), STEPS);
    assert_eq!(tool(&third), after);
}

#[test]
fn an_image_carries_its_own_cache() {
    let simple = "FROM busybox\nCOPY a /a\nRUN date +%s%N > /b\nCOPY --link a /l\n";
    let ways: [&[&str]; 2] = [&["--cache-to", "type=inline"], &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]];
    for way in ways {
        let (registry, first, second) = (Registry::start(), builder(), builder());
        for builder in [&first, &second] {
            fs::write(builder.top.join("Dockerfile"), simple).unwrap();
        }
        let name = format!("{}/app:1", registry.host());
        let mut args = vec!["-t", &*name];
        args.extend_from_slice(way);
        first.build(&args).ok();
        first.docker(&["push", "-q", &name]).ok();
        args.extend_from_slice(&["--cache-from", &name]);
        let run = second.build(&args);
        run.ok();
        assert!(run.stderr.matches(" CACHED").count() >= 4, "{}", run.stderr);
        assert_eq!(second.made("x"), first.made("x"));

        // The classic interface names images too.
        let third = builder();
        fs::write(third.top.join("Dockerfile"), simple).unwrap();
        third.docker(&["pull", "-q", &name]).ok();
        let mut command = client::command(client::program("docker"), &third.d.host(), &third.d.path(""));
        command.env("DOCKER_BUILDKIT", "0").current_dir(&third.top);
        command.args(["build", "-t", "y", "--cache-from", &name, "."]);
        let run = client::run(command, b"");
        run.ok();
        assert!(run.stdout.matches("Using cache").count() >= 2, "{}", run.stdout);
    }
}

#[test]
fn a_cache_that_lies_gives_nothing() {
    let (registry, first, second) = (Registry::start(), builder(), builder());
    let cache = format!("type=registry,ref={}/cache:1", registry.host());
    first.build(&["--cache-to", &format!("{cache},mode=max")]).ok();
    // Every layer's bytes are damaged where they lie.
    let written = manifest(&registry, "cache/manifests/1");
    for layer in written["layers"].as_array().unwrap() {
        let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        for path in files(registry.root()) {
            let text = path.to_string_lossy().into_owned();
            if text.contains(&hex) && fs::metadata(&path).unwrap().len() == layer["size"].as_u64().unwrap() {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    let run = second.build(&["--cache-from", &cache]);
    run.ok();
    assert!(run.stderr.contains("importing cache layer"), "{}", run.stderr);
    assert!(second.id("x") != first.id("x"));
    assert!(second.docker(&["run", "--rm", "x"]).ok().starts_with("one"));
}

#[test]
fn what_cannot_be_read_is_said_and_what_cannot_be_written_fails() {
    let (registry, b) = (Registry::start(), builder());
    let host = registry.host();
    let run = b.build(&["--cache-from", &format!("type=registry,ref={host}/none:1")]);
    run.ok();
    assert!(run.stderr.contains(&format!("importing cache manifest from {host}/none:1")), "{}", run.stderr);
    for (tag, config) in [("list", json!([1, 2])), ("layers", json!({"layers": [{"blob": "x"}]}))] {
        let bytes = config.to_string().into_bytes();
        let digest = registry.put_blob("odd", &bytes);
        let kind = "application/vnd.buildkit.cacheconfig.v0";
        let document = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": kind, "digest": digest, "size": bytes.len() },
            "layers": [],
        });
        registry.put_manifest("odd", tag, &document);
        b.build(&["--no-cache-filter", "tools", "--cache-from", &format!("{host}/odd:{tag}")]).ok();
    }
    let nowhere = "type=registry,ref=127.0.0.1:1/cache:1";
    let run = b.build(&["--cache-to", nowhere]);
    assert!(run.code != 0, "{}", run.stderr);
    b.build(&["--cache-to", &format!("{nowhere},ignore-error=true")]).ok();
}

/// All files below a directory.
fn files(top: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

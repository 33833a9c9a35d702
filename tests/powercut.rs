//! The power is cut at random moments of pulls, loads, builds, creates, tags and removals: whatever the disk kept by then,
//! the daemon starts, what it had acknowledged is there, and every image and container that it lists is whole.
//!
//! `WHARF_POWERCUTS` says how many moments are tried (12 without it).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use wharf_testkit::client::eventually;
use wharf_testkit::http::{self, Reply};
use wharf_testkit::image::{self, Entry};
use wharf_testkit::powercut::{Disk, Mount};
use wharf_testkit::registry::Registry;

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A daemon on a disk that may vanish, as after a boot of its own.
struct Engine {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Engine {
    fn start(folder: &Path, data: &Path, boot: u64) -> Self {
        let (socket, log, id) = (folder.join("s.sock"), folder.join("log"), folder.join("boot_id"));
        let _ = std::fs::remove_file(&socket);
        std::fs::write(&id, format!("00000000-0000-4000-8000-{boot:012x}\n")).unwrap();
        let output = std::fs::File::create(&log).unwrap();
        // Another boot than the one before, as far as the daemon can see.
        let script =
            "mount --make-rprivate / && mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script])
            .arg(&id)
            .arg(env!("CARGO_BIN_EXE_wharf"))
            .args(["daemon", "--instance", &format!("wp{}", std::process::id()), "--config-file"])
            .arg({
                std::fs::write(folder.join("daemon.json"), "{}").unwrap();
                folder.join("daemon.json")
            })
            .arg("--data-root")
            .arg(data.join("data"))
            .arg("--exec-root")
            .arg(folder.join("run"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let engine = Self { child, socket, log };
        let answers = || http::request(&engine.socket, "GET", "/_ping", None).is_ok().then_some(());
        assert!(eventually(Duration::from_secs(20), answers).is_some(), "no answer: {}", engine.said());
        engine
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ask(&self, method: &str, target: &str, body: Option<&[u8]>) -> Reply {
        http::request(&self.socket, method, target, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error}\n{}", self.said()))
    }

    fn done(&self, method: &str, target: &str, body: Option<&[u8]>) -> Reply {
        let reply = self.ask(method, target, body);
        let text = reply.text();
        assert!(
            reply.status < 300 && !text.contains("\"error\""),
            "{method} {target}: {} {text}",
            reply.status
        );
        reply
    }

    /// Names of images, and of containers as they are listed: with a slash.
    fn names(&self) -> Vec<String> {
        let mut names = self.image_names();
        let list = self.done("GET", "/containers/json?all=1", None).json();
        let containers =
            list.as_array().unwrap().iter().flat_map(|one| one["Names"].as_array().unwrap().clone());
        names.extend(containers.map(|name| name.as_str().unwrap().to_owned()));
        names
    }

    fn image_names(&self) -> Vec<String> {
        let list = self.done("GET", "/images/json", None).json();
        let tags =
            list.as_array().unwrap().iter().flat_map(|image| image["RepoTags"].as_array().unwrap().clone());
        tags.map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn content(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(200_000).collect()
}

/// A layer whose files can be told apart, some of them small.
fn layer(name: &str) -> Vec<u8> {
    let big = content(name);
    let small: Vec<String> = (0..20).map(|number| format!("small/{name}{number}")).collect();
    let mut entries = vec![Entry::Dir("small", 0o755), Entry::File(name, 0o644, &big)];
    entries.extend(small.iter().map(|path| Entry::File(path, 0o644, path.as_bytes())));
    image::layer(&entries).unwrap()
}

/// Two steps on the image that was loaded: the first one's layer is packed while the second one runs.
fn context() -> Vec<u8> {
    let dockerfile = b"FROM loaded:y\nCOPY f /f\nCOPY small /small\n";
    let big = content("f");
    let small: Vec<String> = (0..20).map(|number| format!("small/f{number}")).collect();
    let mut entries = vec![Entry::File("Dockerfile", 0o644, dockerfile), Entry::File("f", 0o644, &big)];
    entries.push(Entry::Dir("small", 0o755));
    entries.extend(small.iter().map(|path| Entry::File(path, 0o644, path.as_bytes())));
    image::layer(&entries).unwrap()
}

/// From this moment on a name is there, or gone for good.
struct Promise {
    moment: usize,
    name: String,
    there: bool,
}

/// Work on the recorded disk; what it was promised, and when.
fn work(disk: &Disk, folder: &Path, registry: &Registry) -> Vec<Promise> {
    let record = disk.record();
    let engine = Engine::start(folder, &disk.path(), 1);
    let mut promises = Vec::new();
    let mut promise = |name: String, there| promises.push(Promise { moment: record.now(), name, there });
    let host = registry.host();
    for (name, layers) in [("one", ["base", "a"]), ("two", ["base", "b"]), ("three", ["c", "d"])] {
        let tars: Vec<Vec<u8>> = layers.iter().map(|layer_name| layer(layer_name)).collect();
        let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        registry.put_image(name, "latest", PLAIN, &tars, &tars);
        engine.done("POST", &format!("/images/create?fromImage={host}/{name}&tag=latest"), None);
        promise(format!("{host}/{name}:latest"), true);
    }
    engine.done("POST", &format!("/images/{host}/one/tag?repo=other&tag=x"), None);
    promise("other:x".to_owned(), true);
    engine.ask("DELETE", &format!("/images/{host}/two:latest"), None);
    promise(format!("{host}/two:latest"), false);
    let archive = image::archive("loaded:y", &serde_json::json!({}), &[layer("base"), layer("e")]).unwrap();
    engine.done("POST", "/images/load?quiet=1", Some(&archive));
    promise("loaded:y".to_owned(), true);
    for container in ["first", "second"] {
        let body = serde_json::json!({ "Image": "loaded:y", "Cmd": ["x"] }).to_string();
        engine.done("POST", &format!("/containers/create?name={container}"), Some(body.as_bytes()));
        promise(format!("/{container}"), true);
    }
    engine.done("POST", "/build?t=built:z", Some(&context()));
    promise("built:z".to_owned(), true);
    engine.done("DELETE", "/containers/first", None);
    promise("/first".to_owned(), false);
    engine.done("POST", &format!("/images/create?fromImage={host}/two&tag=latest"), None);
    std::thread::sleep(Duration::from_millis(500));
    promises
}

/// What must hold whatever the disk kept.
fn verify(cut: &Mount, folder: &Path, moment: usize, boot: u64, promises: &[Promise]) -> Result<(), String> {
    let engine = Engine::start(folder, cut.path(), boot);
    let names = engine.names();
    for promise in promises.iter().filter(|promise| promise.moment <= moment) {
        // What was promised later overrides; a name in between may be either.
        let later = promises.iter().any(|other| other.name == promise.name && other.there != promise.there);
        if !later && names.contains(&promise.name) != promise.there {
            return Err(format!("{} should be there: {}; there are {names:?}", promise.name, promise.there));
        }
    }
    let report = engine.done("POST", "/system/check", None).json();
    let bad = |finding: &&Value| {
        matches!(
            finding["Damage"].as_str(),
            Some("corrupt blob" | "missing blob" | "corrupt layer" | "dangling name")
        )
    };
    if let Some(finding) = report["Findings"].as_array().unwrap().iter().find(bad) {
        return Err(finding.to_string());
    }
    names.iter().try_for_each(|name| match name.strip_prefix('/') {
        Some(container) => whole(&engine, container, name, 42),
        None => read_back(&engine, name),
    })
}

/// Every file of an image is what went in.
fn read_back(engine: &Engine, name: &str) -> Result<(), String> {
    let body = serde_json::json!({ "Image": name, "Cmd": ["x"] }).to_string();
    let created = engine.ask("POST", "/containers/create", Some(body.as_bytes()));
    let id = created.json()["Id"].as_str().map(str::to_owned);
    let id = id.ok_or_else(|| format!("create on {name}: {}", created.text()))?;
    whole(engine, &id, name, if name.starts_with("built") { 63 } else { 42 })?;
    engine.done("DELETE", &format!("/containers/{id}?force=1"), None);
    Ok(())
}

/// Every file of a container is there, and what went in.
fn whole(engine: &Engine, id: &str, name: &str, expected_files: usize) -> Result<(), String> {
    let archive = engine.done("GET", &format!("/containers/{id}/export"), None).body;
    let mut seen = 0;
    for (path, bytes) in tar_entries(&archive) {
        let expected = match path.strip_prefix("small/") {
            Some(small) if !small.is_empty() => path.clone().into_bytes(),
            None if path.len() == 1 || path == "base" => content(&path),
            _ => continue,
        };
        if bytes != expected {
            return Err(format!("{name}: {path} has {} bytes, expected {}", bytes.len(), expected.len()));
        }
        seen += 1;
    }
    if seen == expected_files {
        Ok(())
    } else {
        Err(format!("{name}: {seen} files, expected {expected_files}"))
    }
}

/// Regular files of an uncompressed archive, by path.
fn tar_entries(archive: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut reader = wharf_layer::tar::Reader::new(std::io::Cursor::new(archive.to_vec()));
    std::iter::from_fn(move || {
        while let Some(entry) = reader.next().unwrap() {
            if entry.kind == wharf_layer::tar::Kind::File {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
                return Some((
                    String::from_utf8_lossy(&entry.path).trim_start_matches("./").to_owned(),
                    bytes,
                ));
            }
        }
        None
    })
}

#[test]
#[ignore = "makes a disk by FUSE and a loop device, and takes minutes: run it with --ignored"]
fn whatever_the_disk_kept_every_image_is_whole() {
    let rounds: u64 = std::env::var("WHARF_POWERCUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let mut disk = Disk::new(folder.path(), 192).unwrap();
    let promises = work(&disk, folder.path(), &registry);
    let end = disk.record().now();
    disk.end();
    let mut bad = Vec::new();
    for round in 0..rounds {
        // Spread over the whole record, and never the same place twice.
        let moment =
            usize::try_from((end as u64 * round + round * 7 % rounds.max(1)) / rounds.max(1)).unwrap() + 1;
        let seed = 0x9e37_79b9 + round * 7919;
        let cut = disk.cut(moment, seed).unwrap_or_else(|error| panic!("moment {moment}: {error:#}"));
        if let Err(why) = verify(&cut, folder.path(), moment, round + 2, &promises) {
            bad.push(format!("moment {moment} of {end}, seed {seed}: {why}"));
        }
    }
    assert!(bad.is_empty(), "{} of {rounds} bad:\n{}", bad.len(), bad.join("\n"));
}

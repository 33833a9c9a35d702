//! Images made on the spot: a busybox of Debian's `busybox-static`, as a docker-archive.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

/// One entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    Dir(&'a str, u32),
    File(&'a str, u32, &'a [u8]),
    Link(&'a str, &'a str),
}

/// An uncompressed layer of `entries`, owned by root, dated 2024-01-01.
///
/// # Errors
/// When a name does not fit a tar header.
pub fn layer(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_704_067_200);
        match entry {
            Entry::Dir(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
            }
            Entry::File(path, mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, *bytes)?;
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

/// A docker-archive of one image: `layers` bottom first, `config` its `config` object.
///
/// # Errors
/// When the archive cannot be built.
pub fn archive(tag: &str, config: &serde_json::Value, layers: &[Vec<u8>]) -> Result<Vec<u8>> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer)))).collect();
    let document = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "created": "2024-01-01T00:00:00Z", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": layers.iter().map(|_| json!({"created": "2024-01-01T00:00:00Z", "created_by": "testkit"})).collect::<Vec<_>>(),
    });
    let document = serde_json::to_vec(&document)?;
    let name = format!("{}.json", hex::encode(Sha256::digest(&document)));
    let paths: Vec<String> = (0..layers.len()).map(|index| format!("{index}/layer.tar")).collect();
    let manifest = serde_json::to_vec(&json!([{ "Config": name, "RepoTags": [tag], "Layers": paths }]))?;
    let mut files =
        vec![Entry::File(&name, 0o644, &document), Entry::File("manifest.json", 0o644, &manifest)];
    for (path, bytes) in paths.iter().zip(layers) {
        files.push(Entry::File(path, 0o644, bytes));
    }
    layer(&files)
}

/// The folder where made images are kept between runs.
fn folder() -> PathBuf {
    super::client::clients().with_file_name("images")
}

/// The path of `busybox:latest` as a docker-archive, made on first use.
///
/// # Panics
/// When Debian's `busybox-static` is not installed.
pub fn busybox() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| make_busybox().unwrap_or_else(|error| panic!("make the busybox image: {error:#}")))
}

fn make_busybox() -> Result<PathBuf> {
    let path = folder().join("busybox.tar");
    if path.exists() {
        return Ok(path);
    }
    let binary =
        std::fs::read("/bin/busybox").context("read /bin/busybox (apt-get install busybox-static)")?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    ensure!(applets.status.success(), "busybox --list failed");
    let applets = String::from_utf8(applets.stdout)?;
    let names: Vec<String> =
        applets.lines().filter(|name| *name != "busybox").map(|name| format!("bin/{name}")).collect();
    let passwd = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
    let group = b"root:x:0:\ndaemon:x:1:\nstaff:x:50:daemon\nnogroup:x:65534:\n";
    let mut entries = vec![
        Entry::Dir("bin", 0o755),
        Entry::Dir("etc", 0o755),
        Entry::Dir("root", 0o700),
        Entry::Dir("home", 0o755),
        Entry::Dir("usr", 0o755),
        Entry::Dir("var", 0o755),
        Entry::Dir("tmp", 0o1777),
        Entry::File("etc/passwd", 0o644, passwd),
        Entry::File("etc/group", 0o644, group),
        Entry::File("bin/busybox", 0o755, &binary),
    ];
    entries.extend(names.iter().map(|name| Entry::Link(name, "busybox")));
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] });
    let bytes = archive("busybox:latest", &config, &[layer(&entries)?])?;
    std::fs::create_dir_all(folder())?;
    // Several test programs may make it at once: each writes its own file, the rename settles it.
    let mut temporary = tempfile::NamedTempFile::new_in(folder())?;
    temporary.write_all(&bytes)?;
    temporary.persist(&path)?;
    Ok(path)
}

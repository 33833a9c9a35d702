//! Foreign clients: skopeo and Podman as Debian packs them (`scripts/clients.sh`).

use std::process::Command;

use wharf_testkit::client::{Run, program, run};
use wharf_testkit::image;
use wharf_testkit::registry::{Served, digest};

use crate::{WHARF, registry};

fn skopeo(arguments: &[&str]) -> Run {
    let mut command = Command::new(program("skopeo"));
    command.arg("--insecure-policy").args(arguments);
    run(command, b"")
}

/// The busybox image as the tests have it, pushed by skopeo.
pub(crate) fn push_busybox(registry: &Served, name: &str) -> String {
    let source = format!("docker-archive:{}", image::busybox().display());
    let target = format!("docker://{}/{name}", registry.host());
    skopeo(&["copy", "-q", "--dest-tls-verify=false", &source, &target]).ok();
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &target]).ok();
    digest(raw.as_bytes())
}

#[test]
fn skopeo_pushes_pulls_lists_and_deletes() {
    let (registry, _folder) = registry();
    let first = push_busybox(&registry, "busybox:one");
    let host = registry.host();
    // The same layers in another repository: mounted or known, and the same manifest.
    let (from, to) = (format!("docker://{host}/busybox:one"), format!("docker://{host}/other/copy:two"));
    let flags = ["-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"];
    skopeo(&[&["copy"], &flags[..], &[&from, &to]].concat()).ok();
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &to]).ok();
    assert_eq!(digest(raw.as_bytes()), first);

    let folder = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:copy", folder.path().join("layout").display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &to, &layout]).ok();
    let back = format!("docker://{host}/third:oci");
    skopeo(&["copy", "-q", "--dest-tls-verify=false", "--format", "oci", &layout, &back]).ok();
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &back]).ok();
    assert!(raw.contains("application/vnd.oci.image.manifest.v1+json"), "{raw}");

    let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{host}/busybox")]).ok();
    assert!(tags.contains("\"one\""), "{tags}");
    skopeo(&["delete", "--tls-verify=false", &from]).ok();
    assert_eq!(registry.ask("GET", "/v2/busybox/manifests/one", &[], b"").status, 404);
}

#[test]
fn skopeo_logs_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("{}\n", super::access::ADA)).unwrap();
    let registry = Served::start(WHARF, &folder.path().join("root"), &["--htpasswd", file.to_str().unwrap()]);
    let source = format!("docker-archive:{}", image::busybox().display());
    let target = format!("docker://{}/private/busybox:latest", registry.host());
    let push = |who: &[&str]| {
        skopeo(&[&["copy", "-q", "--dest-tls-verify=false"], who, &[&source, &target]].concat())
    };
    assert_ne!(push(&[]).code, 0);
    assert_ne!(push(&["--dest-creds", "ada:wrong"]).code, 0);
    push(&["--dest-creds", "ada:secret"]).ok();
    skopeo(&["inspect", "--tls-verify=false", "--creds", "ada:secret", &target]).ok();
}

#[test]
fn podman_pulls_and_pushes() {
    let (registry, _folder) = registry();
    push_busybox(&registry, "busybox:latest");
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join(".config/containers");
    std::fs::create_dir_all(&settings).unwrap();
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    std::fs::write(settings.join("policy.json"), policy).unwrap();
    std::fs::write(folder.path().join("registries.conf"), "").unwrap();
    let podman = |arguments: &[&str]| {
        let mut command = Command::new(program("podman"));
        command.env("CONTAINERS_REGISTRIES_CONF", folder.path().join("registries.conf"));
        command.env("XDG_RUNTIME_DIR", folder.path()).env("HOME", folder.path());
        for (flag, path) in [("--root", "store"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(folder.path().join(path));
        }
        // It looks for both although no container is started.
        command.arg("--conmon").arg(program("bookworm/usr/bin/conmon")).arg("--runtime").arg(program("crun"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(arguments);
        run(command, b"")
    };
    let name = format!("{}/busybox:latest", registry.host());
    podman(&["pull", "-q", "--tls-verify=false", &name]).ok();
    let copy = format!("{}/from/podman:1", registry.host());
    podman(&["tag", &name, &copy]).ok();
    podman(&["push", "-q", "--tls-verify=false", &copy]).ok();
    let tags = registry.ask("GET", "/v2/from/podman/tags/list", &[], b"").json();
    assert_eq!(tags["tags"][0], "1");
    podman(&["rmi", "-a", "-f"]).ok();
    podman(&["pull", "-q", "--tls-verify=false", &copy]).ok();
}

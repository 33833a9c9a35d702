//! A foreign client: containerd as Debian packs it, driven by its `ctr`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use wharf_testkit::client::{Run, eventually, program, run};

use super::clients::push_busybox;
use crate::registry;

/// What pushes and pulls; no containers, no kernel's file systems, nothing outside of the folder.
const SETTINGS: &str = r#"version = 3
root = "ROOT/root"
state = "ROOT/state"
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "ROOT/socket"
[ttrpc]
  address = "ROOT/ttrpc"
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux"
    snapshotter = "native"
    differ = "walking"
"#;

/// A daemon with a folder of its own; killed when dropped.
struct Containerd {
    child: Child,
    folder: TempDir,
}

impl Containerd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("config.toml");
        std::fs::write(&settings, SETTINGS.replace("ROOT", folder.path().to_str().unwrap())).unwrap();
        let child = daemon(&settings, &folder.path().join("log"));
        let started = Self { child, folder };
        let answers = || (started.ctr(&["version"]).code == 0).then_some(());
        eventually(Duration::from_secs(30), answers).expect("containerd answers");
        started
    }

    fn ctr(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(program("ctr"));
        command.arg("--address").arg(self.folder.path().join("socket")).args(arguments);
        run(command, b"")
    }

    /// The bytes of what it keeps under a digest.
    fn content(&self, digest: &str) -> PathBuf {
        self.folder
            .path()
            .join("root/io.containerd.content.v1.content/blobs/sha256")
            .join(digest.trim_start_matches("sha256:"))
    }
}

fn daemon(settings: &Path, log: &Path) -> Child {
    let mut command = Command::new(program("containerd"));
    command.arg("--config").arg(settings).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(log).unwrap()).spawn().unwrap()
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn containerd_pulls_and_pushes() {
    let (registry, _folder) = registry();
    let digest = push_busybox(&registry, "busybox:one");
    let name = format!("{}/busybox:one", registry.host());
    let containerd = Containerd::start();
    // Transfers in the daemon, and those of the client itself, which asks in other words.
    for (repository, flags) in [("daemon", &[][..]), ("client", &["--local"])] {
        let images = |verb: &str, arguments: &[&str]| {
            containerd.ctr(&[&["images", verb, "--plain-http"], flags, arguments].concat())
        };
        images("pull", &["--snapshotter", "native", &name]).ok();
        assert!(containerd.content(&digest).is_file(), "the manifest came as it was");
        let copy = format!("{}/{repository}/busybox:two", registry.host());
        containerd.ctr(&["images", "tag", &name, &copy]).ok();
        images("push", &[&copy]).ok();
        let pushed = registry.ask("HEAD", &format!("/v2/{repository}/busybox/manifests/two"), &[], b"");
        assert_eq!(pushed.header("docker-content-digest"), Some(&*digest));
        containerd.ctr(&["images", "rm", "--sync", &name, &copy]).ok();
        assert!(!containerd.content(&digest).exists(), "the next pull fetches everything again");
    }
}

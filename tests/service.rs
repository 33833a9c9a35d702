//! The shipped systemd units, on a machine that systemd runs; elsewhere the test says that it was skipped.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wharf_testkit::client;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/systemd");

/// The units under names and paths of their own; they go with it.
struct Service {
    name: String,
    folder: tempfile::TempDir,
}

impl Service {
    fn install() -> Self {
        let service =
            Self { name: format!("wharf-wt{}n0", std::process::id()), folder: tempfile::tempdir().unwrap() };
        let socket = service.socket();
        let unit = |kind: &str| fs::read_to_string(format!("{UNITS}/wharf.{kind}")).unwrap();
        let own = format!(
            "{} daemon --instance {} --data-root {} --exec-root {} -H fd://",
            env!("CARGO_BIN_EXE_wharf"),
            service.name,
            service.folder.path().join("data").display(),
            service.folder.path().join("run").display(),
        );
        let daemon = unit("service")
            .replace("/usr/bin/wharf daemon -H fd://", &own)
            .replace("wharf.socket", &format!("{}.socket", service.name));
        assert!(daemon.contains(&own), "the unit starts the daemon in another way: {daemon}");
        let listening = unit("socket")
            .replace("/run/wharf/wharf.sock", socket.to_str().unwrap())
            .replace("SocketGroup=docker", "SocketGroup=adm");
        fs::write(service.unit("service"), daemon).unwrap();
        fs::write(service.unit("socket"), listening).unwrap();
        service.systemctl(&["daemon-reload"]);
        service
    }

    fn unit(&self, kind: &str) -> PathBuf {
        Path::new("/run/systemd/system").join(format!("{}.{kind}", self.name))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api/wharf.sock")
    }

    fn systemctl(&self, args: &[&str]) -> String {
        let output = Command::new("systemctl").args(args).output().unwrap();
        assert!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn act(&self, verb: &str, kind: &str) {
        self.systemctl(&[verb, &format!("{}.{kind}", self.name)]);
    }

    fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "--value", "-p", name, &format!("{}.service", self.name)])
    }

    fn docker(&self, args: &[&str], stdin: &[u8]) -> client::Run {
        let host = format!("unix://{}", self.socket().display());
        let mut command = client::command(client::program("docker"), &host, self.folder.path());
        command.args(args);
        client::run(command, stdin)
    }

    fn pid(&self, container: &str) -> String {
        self.docker(&["inspect", "-f", "{{.State.Pid}}", container], b"").ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for kind in ["socket", "service"] {
            let _ = Command::new("systemctl").args(["stop", &format!("{}.{kind}", self.name)]).status();
            let _ = fs::remove_file(self.unit(kind));
        }
        let _ = Command::new("systemctl").arg("daemon-reload").status();
    }
}

fn runs(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn containers_outlive_the_service() {
    if !Path::new("/run/systemd/system").exists() {
        eprintln!("SKIPPED: this machine is not run by systemd; scripts/vm.sh has one that is");
        return;
    }
    let service = Service::install();
    service.act("start", "socket");
    let mode = rustix::fs::stat(service.socket()).unwrap().st_mode & 0o777;
    assert_eq!(mode, 0o660, "only the group of the socket may ask");
    // The first question starts the daemon.
    assert!(service.docker(&["version"], b"").ok().contains("Server"), "a daemon answers");
    assert_eq!(service.property("ActiveState"), "active");
    service.docker(&["load"], &fs::read(wharf_testkit::image::busybox()).unwrap()).ok();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
    service
        .docker(&["run", "-d", "--name", "on", "--network", "none", "busybox", "sh", "-c", script], b"")
        .ok();
    let pid = service.pid("on");

    service.act("stop", "socket");
    service.act("stop", "service");
    assert_eq!(service.property("ActiveState"), "inactive");
    assert!(runs(&pid), "stopping the service stops no container");
    service.act("start", "socket");
    service.act("start", "service");
    assert_eq!(service.pid("on"), pid);
    service.act("restart", "service");
    service.act("reload", "service");
    assert_eq!(service.docker(&["exec", "on", "echo", "reached"], b"").ok(), "reached");

    let before = service.property("MainPID");
    let killed = Command::new("kill").args(["-KILL", &before]).status().unwrap();
    assert!(killed.success());
    let again = client::eventually(Duration::from_secs(60), || {
        let now = service.property("MainPID");
        (now != "0" && now != before && service.property("ActiveState") == "active").then_some(now)
    });
    assert!(again.is_some(), "systemd starts a daemon that died again");
    assert_eq!(service.pid("on"), pid);
    let lines = service.docker(&["logs", "on"], b"").stdout;
    let numbers: Vec<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is lost, doubled or torn");
    service.docker(&["rm", "-f", "on"], b"").ok();
    assert!(!runs(&pid));
}

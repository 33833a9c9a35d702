//! Foreign OCI runtimes: what `--runtime` does with Debian's runc and crun in the place of the built-in one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use wharf_testkit::client::{eventually, program};
use wharf_testkit::{Daemon, daemon};

const RUNTIMES: [&str; 2] = ["old-runc", "crun"];

/// Debian's crun. It refuses machines where both kinds of cgroup have controllers, so there it is shown one kind only.
fn crun() -> PathBuf {
    let crun = program("crun");
    let unified = std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if unified.trim().is_empty() {
        return crun;
    }
    let wrapper = crun.with_file_name("crun-hybrid");
    let script = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"' {} \"$@\"\n",
        crun.display()
    );
    if std::fs::read_to_string(&wrapper).ok().as_deref() != Some(&script) {
        let draft = crun.with_file_name(format!("crun-hybrid.{}", std::process::id()));
        std::fs::write(&draft, script).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(draft, &wrapper).unwrap();
    }
    wrapper
}

/// A daemon that knows Debian's runc and crun.
fn with_runtimes() -> Daemon {
    let runc = format!("old-runc={}", program("runc").display());
    let crun = format!("crun={}", crun().display());
    daemon!("--add-runtime", &runc, "--add-runtime", &crun)
}

fn run(d: &Daemon, runtime: &str, options: &[&str], line: &str) -> wharf_testkit::Run {
    let first = ["run", "--rm", "--network", "none", "--runtime", runtime];
    d.docker(&[&first, options, &["busybox", "sh", "-c", line]].concat())
}

#[test]
fn a_whole_life_by_each_runtime() {
    let d = with_runtimes();
    for runtime in RUNTIMES {
        assert_eq!(run(&d, runtime, &[], "echo out; id -u; cat /proc/1/comm; true").ok(), "out\n0\nsh");
        assert_eq!(run(&d, runtime, &[], "exit 7").code, 7);
        assert_eq!(run(&d, runtime, &["-m", "64m", "--pids-limit", "50"], "echo limited").ok(), "limited");
        let piped = ["run", "--rm", "-i", "--network", "none", "--runtime", runtime, "busybox", "cat"];
        assert_eq!(d.docker_with(&piped, b"through").ok(), "through");
        assert!(run(&d, runtime, &["-t"], "tty; stty size").ok().starts_with("/dev/"), "{runtime}");

        let name = format!("long-{runtime}");
        let base = ["run", "-d", "--network", "none", "--runtime", runtime, "--name", &name, "--init"];
        d.docker(
            &[&base[..], &["busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]]
                .concat(),
        )
        .ok();
        assert_eq!(d.inspect(&name)["HostConfig"]["Runtime"], runtime);
        assert_eq!(d.docker(&["exec", &name, "sh", "-c", "echo $0; hostname >/dev/null; exit 4"]).code, 4);
        assert_eq!(d.docker(&["exec", "-i", "-e", "A=b", &name, "sh", "-c", "echo $A"]).ok(), "b");
        assert!(d.docker(&["exec", "-t", &name, "tty"]).ok().starts_with("/dev/"));
        assert!(d.docker(&["top", &name]).ok().contains("sleep"));
        d.docker(&["pause", &name]).ok();
        d.docker(&["unpause", &name]).ok();
        d.docker(&["restart", "-t", "5", &name]).ok();
        d.docker(&["stop", "-t", "5", &name]).ok();
        assert_eq!(d.inspect(&name)["State"]["ExitCode"], 3, "{runtime}");
        d.docker(&["start", &name]).ok();
        d.docker(&["rm", "-f", &name]).ok();
    }
}

#[test]
fn failures_are_told_in_the_runtimes_words() {
    let d = with_runtimes();
    run(&d, "nosuch", &[], "true").fails(125, "unknown or invalid runtime name: nosuch");
    let missing =
        d.docker(&["run", "--rm", "--network", "none", "--runtime", "old-runc", "busybox", "nosuch"]);
    missing.fails(
        127,
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
         failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
    );
    let missing = d.docker(&["run", "--rm", "--network", "none", "--runtime", "crun", "busybox", "nosuch"]);
    // The client goes by runc's words, so to it this is not a missing program.
    missing.fails(125, "OCI runtime create failed: executable file `nosuch` not found");
    let refused =
        d.docker(&["run", "--rm", "--network", "none", "--runtime", "old-runc", "busybox", "/etc/passwd"]);
    refused.fails(126, "permission denied");
    d.docker(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        "--runtime",
        "old-runc",
        "busybox",
        "sleep",
        "100",
    ])
    .ok();
    // An exec's own failure comes where its output would.
    let missing = d.docker(&["exec", "one", "nosuch"]);
    let said = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\"";
    assert!(missing.code == 127 && missing.stdout.contains(said), "{}: {}", missing.code, missing.stdout);
}

#[test]
fn a_runtime_that_is_not_there_fails_the_start_only() {
    let d = daemon!("--add-runtime", "ghost=/nonexistent/ghost");
    run(&d, "ghost", &[], "true").fails(127, "/nonexistent/ghost");
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", "busybox", "echo", "fine"]).ok(), "fine");
}

#[test]
fn they_outlive_the_daemon_and_follow_their_policy() {
    let mut d = with_runtimes();
    let base = ["run", "-d", "--network", "none", "--runtime", "old-runc"];
    d.docker(&[&base[..], &["--name", "stays", "busybox", "sleep", "1000"]].concat()).ok();
    d.docker(&[&base[..], &["--name", "again", "--restart", "on-failure:2", "busybox", "false"]].concat())
        .ok();
    d.until("again", |document| document["RestartCount"] == 2 && document["State"]["Running"] == false);
    d.kill();
    d.launch();
    assert_eq!(d.inspect("stays")["State"]["Running"], true);
    assert_eq!(d.docker(&["exec", "stays", "echo", "here"]).ok(), "here");
    d.docker(&["kill", "stays"]).ok();
    assert_eq!(d.until("stays", |document| document["State"]["Running"] == false)["State"]["ExitCode"], 137);
}

#[test]
fn the_default_comes_from_the_configuration_and_can_be_reloaded() {
    let d = daemon!();
    let write = |text: String| std::fs::write(d.path("daemon.json"), text).unwrap();
    let hang_up = || {
        let pid = rustix::process::Pid::from_raw(i32::try_from(d.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    };
    let info = || d.get("/info").unwrap().json();
    let path = crun().display().to_string();
    write(format!(
        r#"{{"runtimes": {{"crun": {{"path": {path:?}}}}}, "default-runtime": "crun", "labels": ["a=b"],
            "debug": true, "registry-mirrors": ["https://mirror.example"], "default-shm-size": "32m"}}"#
    ));
    hang_up();
    eventually(Duration::from_secs(10), || (info()["DefaultRuntime"] == "crun").then_some(()))
        .unwrap_or_else(|| panic!("not reloaded: {}", d.log()));
    let now = info();
    assert_eq!(now["Runtimes"]["crun"]["path"], path.as_str());
    assert_eq!((now["Labels"][0].as_str(), now["Debug"].as_bool()), (Some("a=b"), Some(true)));
    assert!(now["RegistryConfig"]["Mirrors"].is_array());
    d.docker(&["run", "--name", "one", "--network", "none", "busybox", "true"]).ok();
    let document = d.inspect("one");
    assert_eq!(
        (&document["HostConfig"]["Runtime"], &document["HostConfig"]["ShmSize"]),
        (&"crun".into(), &(32 << 20).into())
    );
    // A configuration that cannot be is told, and changes nothing.
    write(r#"{"default-runtime": "gone"}"#.to_owned());
    hang_up();
    eventually(Duration::from_secs(10), || d.log().contains("'gone' does not exist").then_some(())).unwrap();
    assert_eq!(info()["DefaultRuntime"], "crun");
}

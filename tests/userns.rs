//! `--userns-remap`: containers whose root is nobody on the host.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use wharf_testkit::{Daemon, daemon, image};

/// A daemon with the mapping of `dockremap`; `None`, said loudly, where this machine has no such ids.
fn remapped() -> (Daemon, u32, u32) {
    let d = daemon!("--userns-remap", "default");
    let first = |file: &str| -> u32 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("dockremap:")).unwrap();
        line.split(':').next().unwrap().parse().unwrap()
    };
    (d, first("/etc/subuid"), first("/etc/subgid"))
}

fn run(d: &Daemon, options: &[&str], line: &str) -> String {
    d.docker(&[&["run", "--rm", "--network", "none"], options, &["busybox", "sh", "-c", line]].concat()).ok()
}

#[test]
fn root_inside_is_nobody_outside() {
    let (d, uid, gid) = remapped();
    assert!(d.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok().contains("name=userns"));
    assert_eq!(run(&d, &[], "id -u; stat -c %u:%g /bin/busybox /etc/hostname /root"), "0\n0:0\n0:0\n0:0");
    assert_eq!(run(&d, &[], "cat /proc/self/uid_map").split_whitespace().nth(1).unwrap(), uid.to_string());
    assert_eq!(run(&d, &["-u", "nobody"], "id -u; touch /tmp/x && stat -c %u /tmp/x"), "65534\n65534");
    d.docker(&["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let pid = d.inspect("one")["State"]["Pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{uid}\t{uid}")), "{status}");
    assert!(status.contains(&format!("Gid:\t{gid}\t{gid}")), "{status}");
    assert_eq!(
        d.docker(&["exec", "one", "sh", "-c", "id -u; echo made >/made; stat -c %u /made"]).ok(),
        "0\n0"
    );
    // It may do in its namespaces what root may, and nothing to the host.
    assert_eq!(d.docker(&["exec", "one", "sh", "-c", "chown 5:6 /made && stat -c %u:%g /made"]).ok(), "5:6");
    assert_ne!(d.docker(&["exec", "one", "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq"]).code, 0);
    assert!(!d.log().contains("WARN"), "{}", d.log());
    // A network that is not its own namespace's is seen all the same.
    let seen = d.docker(&["run", "--rm", "busybox", "sh", "-c", "id -u; ls /sys/class/net"]).ok();
    assert!(seen.starts_with("0\n") && seen.contains("lo"), "{seen}");
}

#[test]
fn every_way_to_a_file_sees_the_containers_ids() {
    let (d, uid, gid) = remapped();
    d.docker(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /dir && echo text >/dir/file && chown 7:8 /dir/file && echo v >/data/file && exec sleep 1000",
    ])
    .ok();
    let volume = d.path("data/volumes/data/_data");
    // It is written last of all.
    let written = || (std::fs::read(volume.join("file")).ok()? == b"v\n").then_some(());
    wharf_testkit::client::eventually(std::time::Duration::from_secs(20), written).unwrap();
    let owner = |path: PathBuf| std::fs::metadata(path).map(|stat| (stat.uid(), stat.gid())).unwrap();
    assert_eq!(owner(volume.clone()), (uid, gid));
    assert_eq!(owner(volume.join("file")), (uid, gid));

    let listed = |args: &[&str]| {
        let archive = d.path("out.tar");
        let out = std::fs::File::create(&archive).unwrap();
        let mut command = d.command("docker");
        assert!(command.args(args).stdout(out).status().unwrap().success());
        let out = std::process::Command::new("tar")
            .args(["--numeric-owner", "-tvf"])
            .arg(archive)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let put = d.path("put");
    std::fs::write(&put, "put").unwrap();
    for running in [true, false] {
        if !running {
            d.docker(&["stop", "-t", "0", "one"]).ok();
        }
        let copied = listed(&["cp", "one:/dir", "-"]);
        assert!(copied.lines().any(|line| line.contains(" 7/8 ") && line.ends_with("dir/file")), "{copied}");
        let copied = listed(&["cp", "one:/data/file", "-"]);
        assert!(copied.contains(" 0/0 "), "{copied}");
        let whole = listed(&["export", "one"]);
        assert!(whole.lines().any(|line| line.contains(" 7/8 ") && line.ends_with("dir/file")), "{whole}");
        let name = format!("one:/dir/put-{running}");
        d.docker(&["cp", &put.display().to_string(), &name]).ok();
    }
    assert!(d.docker(&["diff", "one"]).ok().contains("A /dir/file"));
    d.docker(&["commit", "one", "made"]).ok();
    d.docker(&["start", "one"]).ok();
    let seen = d
        .docker(&["exec", "one", "stat", "-c", "%u:%g", "/dir/file", "/dir/put-true", "/dir/put-false"])
        .ok();
    assert_eq!(seen, "7:8\n0:0\n0:0");
    let seen = ["made", "stat", "-c", "%u:%g", "/dir/file", "/dir/put-true"];
    assert_eq!(d.docker(&[&["run", "--rm", "--network", "none"], &seen[..]].concat()).ok(), "7:8\n0:0");
    let exempt = ["--userns=host", "made", "stat", "-c", "%u:%g", "/dir/file"];
    assert_eq!(d.docker(&[&["run", "--rm", "--network", "none"], &exempt[..]].concat()).ok(), "7:8");
}

#[test]
fn some_are_exempt_and_some_things_do_not_go_together() {
    let (mut d, ..) = remapped();
    let own = std::fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
    assert_eq!(run(&d, &["--userns=host"], "readlink /proc/self/ns/user"), own);
    assert_ne!(run(&d, &[], "readlink /proc/self/ns/user"), own);
    assert_eq!(run(&d, &["--userns=host", "--privileged"], "id -u"), "0");
    let refused = |options: &[&str], why: &str| {
        d.docker(&[&["run", "--rm"], options, &["busybox", "true"]].concat()).fails(125, why);
    };
    refused(&["--privileged"], "privileged mode is incompatible with user namespaces");
    refused(
        &["--network", "host"],
        "cannot share the host's network namespace when user namespaces are enabled",
    );
    refused(&["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled");
    // Joined namespaces are that container's, so its ids are joined too.
    d.docker(&[
        "run",
        "-d",
        "--name",
        "first",
        "--network",
        "none",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let theirs = d.docker(&["exec", "first", "readlink", "/proc/self/ns/user"]).ok();
    let joined = ["run", "--rm", "--network", "container:first", "busybox", "readlink", "/proc/self/ns/user"];
    assert_eq!(d.docker(&joined).ok(), theirs);
    // What was made with the mapping is there without it, and the other way round.
    d.docker(&[
        "create",
        "--name",
        "kept",
        "--network",
        "none",
        "busybox",
        "stat",
        "-c",
        "%u",
        "/bin/busybox",
    ])
    .ok();
    d.docker(&["start", "-a", "kept"]).ok();
    d.kill();
    d.launch();
    assert_eq!(d.docker(&["exec", "first", "id", "-u"]).ok(), "0");
    assert_eq!(d.docker(&["start", "-a", "kept"]).ok(), "0");
    let _ = image::busybox();
}

#[test]
fn a_user_that_is_not_there_is_refused_by_name() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["daemon", "--validate", "--userns-remap", "no-such-user"])
        .output()
        .unwrap();
    assert!(!out.status.success());
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains("error during uid/gid lookup of \"no-such-user\": no such user"), "{text}");
}

//! What a container may be given: each option applied inside, shown by inspect, or refused in Docker's words.

use serde_json::json;
use wharf_testkit::{Daemon, client, daemon};

/// Runs a shell line in a fresh busybox with `options`.
fn run(d: &Daemon, options: &[&str], line: &str) -> String {
    d.docker(&[&["run", "--rm", "--network", "none"], options, &["busybox", "sh", "-c", line]].concat()).ok()
}

#[test]
fn who_where_and_with_what() {
    let d = daemon!();
    assert_eq!(run(&d, &["-u", "nobody"], "id -u; id -g"), "65534\n65534");
    assert_eq!(run(&d, &["-u", "1234:5678"], "id -u; id -g"), "1234\n5678");
    assert_eq!(
        run(&d, &["-u", "nobody", "--group-add", "staff", "--group-add", "777"], "id -G"),
        "65534 50 777"
    );
    assert_eq!(run(&d, &["-w", "/made/here"], "pwd"), "/made/here");
    assert_eq!(run(&d, &["-e", "A=b c", "-e", "PATH"], "echo $A"), "b c");
    assert_eq!(
        run(&d, &["-h", "name", "--domainname", "example.org"], "hostname; cat /etc/hostname"),
        "name\nname"
    );
    assert!(run(&d, &["--add-host", "other:10.1.2.3"], "cat /etc/hosts").contains("10.1.2.3\tother"));
    assert_eq!(
        d.docker(&["run", "--rm", "--network", "none", "--entrypoint", "echo", "busybox", "as", "given"])
            .ok(),
        "as given"
    );
    d.docker(&["run", "--rm", "-u", "nosuch", "--network", "none", "busybox"])
        .fails(125, "unable to find user nosuch: no matching entries in passwd file");
    d.docker(&["run", "--rm", "-w", "relative", "busybox"])
        .fails(125, "the working directory 'relative' is invalid, it needs to be an absolute path");
}

#[test]
fn namespaces() {
    let d = daemon!();
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_string_lossy().into_owned()
    };
    if !d.is_peer() {
        for (option, name) in
            [("--pid=host", "pid"), ("--ipc=host", "ipc"), ("--uts=host", "uts"), ("--network=host", "net")]
        {
            let seen = d
                .docker(&["run", "--rm", option, "busybox", "readlink", &format!("/proc/self/ns/{name}")])
                .ok();
            assert_eq!(seen, own(name), "{option}");
        }
    }
    for name in ["pid", "ipc", "uts", "net", "mnt"] {
        assert_ne!(run(&d, &[], &format!("readlink /proc/self/ns/{name}")), own(name));
    }
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--ipc",
        "shareable",
        "--name",
        "first",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    for (option, name) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
        let theirs = d.docker(&["exec", "first", "readlink", &format!("/proc/1/ns/{name}")]).ok();
        let joined = d
            .docker(&[
                "run",
                "--rm",
                option,
                "container:first",
                "busybox",
                "readlink",
                &format!("/proc/self/ns/{name}"),
            ])
            .ok();
        assert_eq!(joined, theirs, "{option}");
    }
    d.docker(&["run", "--rm", "--network", "container:nosuch", "busybox"])
        .fails(125, "No such container: nosuch");
    assert_eq!(run(&d, &[], "ip -o addr | grep -cv ' lo ' || true"), "0", "loopback alone");
}

#[test]
fn capabilities_and_privileges() {
    let d = daemon!();
    let caps = |options: &[&str]| run(&d, options, "grep CapEff /proc/self/status").replace("CapEff:\t", "");
    assert_eq!(caps(&[]), "00000000a80425fb");
    assert_eq!(caps(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(caps(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), "0000000000001000");
    assert_eq!(run(&d, &[], "grep CapInh /proc/self/status"), "CapInh:\t0000000000000000");
    assert_eq!(
        run(&d, &[], "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"),
        "NoNewPrivs:\t0\nSeccomp:\t2"
    );
    assert_eq!(
        run(&d, &["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t1"
    );
    assert_eq!(
        run(&d, &["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status"),
        "Seccomp:\t0"
    );
    assert_eq!(
        run(&d, &["--privileged"], "grep Seccomp: /proc/self/status; ls /dev/kmsg"),
        "Seccomp:\t0\n/dev/kmsg"
    );
    d.docker(&["run", "--rm", "--cap-add", "BOGUS", "busybox"])
        .fails(125, "invalid CapAdd: unknown capability: \"CAP_BOGUS\"");
    assert_eq!(
        run(
            &d,
            &[],
            "cat /proc/kcore 2>/dev/null | wc -c; ls /proc/acpi 2>/dev/null | wc -l; ls /sys/firmware | wc -l"
        ),
        "0\n0\n0"
    );
    assert!(run(&d, &[], "(echo 1 > /proc/sys/kernel/domainname) 2>&1 || true").contains("Read-only"));
    assert!(run(&d, &[], "unshare -m true 2>&1 || true").contains("not permitted"));
}

#[test]
fn file_systems() {
    let d = daemon!();
    let folder = d.path("bound");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "content").unwrap();
    let folder = folder.to_str().unwrap();
    if d.is_peer() {
        return; // It lives in a mount namespace of its own.
    }
    assert_eq!(run(&d, &["-v", &format!("{folder}:/b")], "cat /b/file; echo new > /b/made"), "content");
    assert_eq!(std::fs::read_to_string(format!("{folder}/made")).unwrap(), "new\n");
    assert!(
        run(&d, &["-v", &format!("{folder}:/b:ro")], "touch /b/x 2>&1 || true")
            .contains("Read-only file system")
    );
    assert_eq!(
        run(&d, &["--mount", &format!("type=bind,src={folder},dst=/b,readonly")], "cat /b/file"),
        "content"
    );
    assert!(run(&d, &["--read-only"], "touch /x 2>&1 || true").contains("Read-only file system"));
    assert!(
        run(&d, &["--read-only", "--tmpfs", "/t:size=1m"], "touch /t/x && grep ' /t ' /proc/mounts")
            .contains("size=1024k")
    );
    assert!(
        run(&d, &["--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=700"], "grep ' /t ' /proc/mounts")
            .contains("size=2048k")
    );
    assert!(run(&d, &["--shm-size", "5m"], "grep /dev/shm /proc/mounts").contains("size=5120k"));
}

#[test]
fn mounts_that_cannot_be() {
    let d = daemon!();
    d.docker(&["run", "--rm", "--mount", "type=bind,src=/nonexistent/x,dst=/b", "busybox"]).fails(
        125,
        "invalid mount config for type \"bind\": bind source path does not exist: /nonexistent/x",
    );
    d.docker(&["run", "--rm", "-v", "/a:relative", "busybox"])
        .fails(125, "invalid volume specification: '/a:relative'");
    d.docker(&["run", "--rm", "-v", "/tmp:/b:bogus", "busybox"]).fails(125, "invalid mode: bogus");
}

#[test]
fn volumes() {
    let d = daemon!();
    assert_eq!(d.docker(&["volume", "create", "named"]).ok(), "named");
    run(&d, &["-v", "named:/v"], "echo kept > /v/file");
    assert_eq!(run(&d, &["-v", "named:/v"], "cat /v/file"), "kept");
    assert_eq!(
        run(&d, &["-v", "filled:/etc"], "cat /etc/group | head -1"),
        "root:x:0:",
        "an empty volume is filled from the image"
    );
    let id = d.docker(&["create", "-v", "/anonymous", "-v", "named:/v", "busybox"]).ok();
    let mounts = d.inspect(&id)["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 2);
    d.docker(&["volume", "rm", "named"]).fails(1, &format!("remove named: volume is in use - [{id}]"));
    assert_eq!(d.docker(&["volume", "ls", "-q"]).ok().lines().count(), 3);
    d.docker(&["rm", "-v", &id]).ok();
    assert_eq!(d.docker(&["volume", "ls", "-q"]).ok(), "filled\nnamed");
    d.docker(&["volume", "rm", "filled", "named"]).ok();
    d.docker(&["volume", "inspect", "named"])
        .fails(1, client::words("get named: no such volume", "No such volume: named"));
}

#[test]
fn limits() {
    let d = daemon!();
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(run(&d, &["-m", "32m"], read), "33554432");
    let read = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max";
    assert!(run(&d, &["--cpus", "0.5"], read).starts_with("50000"));
    let read = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    assert_eq!(run(&d, &["--pids-limit", "33"], read), "33");
    let read = "cat /sys/fs/cgroup/cpuset/cpuset.cpus 2>/dev/null || cat /sys/fs/cgroup/cpuset.cpus";
    assert_eq!(run(&d, &["--cpuset-cpus", "1"], read), "1");
    assert_eq!(run(&d, &["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"), "100\n200");
    assert_eq!(run(&d, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    assert_eq!(run(&d, &["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward"), "1");
    d.docker(&["run", "--rm", "-m", "1m", "busybox"]).fails(125, "Minimum memory limit allowed is 6MB");
    d.docker(&["run", "--rm", "-m", "64m", "--memory-swap", "32m", "busybox"])
        .fails(125, "Minimum memoryswap limit should be larger than memory limit, see usage");
    d.docker(&["run", "--rm", "--cpus", "99", "busybox"])
        .fails(125, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available");
    d.docker(&["run", "--rm", "--cpuset-cpus", "7", "busybox"])
        .fails(125, "Requested CPUs are not available - requested 7, available: 0-1");
    d.docker(&["run", "--rm", "--oom-score-adj", "5000", "busybox"])
        .fails(125, "Invalid value 5000, range for oom score adj is [-1000, 1000]");
}

#[test]
fn the_oom_killer_is_noticed() {
    let d = daemon!();
    let run = d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "oom",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "tail /dev/zero",
    ]);
    assert_eq!(run.code, 137, "{run:?}");
    assert_eq!(d.inspect("oom")["State"]["OOMKilled"], true);
}

#[test]
fn devices() {
    let d = daemon!();
    assert_eq!(
        run(&d, &["--device", "/dev/null:/dev/mine"], "echo x > /dev/mine && stat -c %t:%T /dev/mine"),
        "1:3"
    );
    assert!(run(&d, &[], "mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1 || true").contains("not permitted"));
    d.docker(&["run", "--rm", "--network", "none", "--device", "/dev/nonexistent", "busybox"])
        .fails(127, "error gathering device information while adding custom device \"/dev/nonexistent\": no such file or directory");
    let names = run(&d, &[], "cd /dev; echo *").replace("core ", "");
    assert_eq!(names, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
}

#[test]
fn inspect_shows_what_was_asked() {
    let d = daemon!();
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1"], "Labels": { "a": "b" }, "StopTimeout": 7,
        "HostConfig": { "Memory": 67108864, "NanoCpus": 500000000, "CapAdd": ["NET_ADMIN"], "ReadonlyRootfs": true, "NetworkMode": "none",
            "Ulimits": [{ "Name": "nofile", "Soft": 10, "Hard": 20 }], "Tmpfs": { "/t": "" }, "PidsLimit": 9 },
    });
    let reply = d.post("/containers/create?name=shown", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let document = d.inspect("shown");
    assert_eq!(document["Config"]["Image"], "busybox");
    assert_eq!(document["Config"]["Labels"], json!({ "a": "b" }));
    assert_eq!(document["Config"]["StopTimeout"], 7);
    assert_eq!(document["Path"], "sleep");
    let host = &document["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["MemorySwap"], &host["NanoCpus"]),
        (&json!(67108864), &json!(134217728), &json!(500000000))
    );
    assert_eq!(
        (&host["ReadonlyRootfs"], &host["PidsLimit"], &host["IpcMode"]),
        (&json!(true), &json!(9), &json!("private"))
    );
    assert_eq!(host["ShmSize"], 67108864);
    assert!(document["Image"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(document["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert!(document["NetworkSettings"]["Networks"]["none"].is_object());
}

#[test]
fn a_size_of_the_root_file_system_is_kept_or_refused() {
    let d = daemon!();
    let quota =
        std::process::Command::new("findmnt").args(["-no", "OPTIONS", "-T"]).arg(d.path("data")).output();
    let options =
        quota.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let made =
        d.docker(&["run", "--rm", "--network", "none", "--storage-opt", "size=20m", "busybox", "true"]);
    if options.contains("prjquota") || options.contains("pquota") {
        made.ok();
        let fills = ["busybox", "dd", "if=/dev/zero", "of=/full", "bs=1M", "count=40"];
        let full = d.docker(
            &[&["run", "--rm", "--network", "none", "--storage-opt", "size=20m"], &fills[..]].concat(),
        );
        assert!(full.code != 0 && full.stderr.contains("No space left"), "{full:?}");
        return;
    }
    made.fails(125, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    d.docker(&["create", "--storage-opt", "foo=1", "busybox"]).fails(1, "Unknown option foo");
}

#[test]
fn a_volume_in_memory_is_one_for_all_that_use_it() {
    let mut d = daemon!();
    let made = [
        "volume",
        "create",
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        "o=size=4m,noexec",
        "fast",
    ];
    d.docker(&made).ok();
    let base = ["run", "-d", "--network", "none", "-v", "fast:/fast"];
    d.docker(&[&base[..], &["--name", "one", "busybox", "sleep", "1000"]].concat()).ok();
    d.docker(&[&base[..], &["--name", "two", "busybox", "sleep", "1000"]].concat()).ok();
    d.docker(&["exec", "one", "sh", "-c", "echo shared >/fast/file"]).ok();
    assert_eq!(d.docker(&["exec", "two", "cat", "/fast/file"]).ok(), "shared");
    let mounted = d.docker(&["exec", "two", "grep", " /fast ", "/proc/mounts"]).ok();
    assert!(
        mounted.contains("tmpfs") && mounted.contains("noexec") && mounted.contains("size=4096k"),
        "{mounted}"
    );
    // It outlives the daemon and the first container, and ends with the last.
    d.kill();
    d.launch();
    d.docker(&["stop", "-t", "0", "one"]).ok();
    assert_eq!(d.docker(&["exec", "two", "cat", "/fast/file"]).ok(), "shared");
    d.docker(&["stop", "-t", "0", "two"]).ok();
    d.docker(&["start", "one"]).ok();
    assert_eq!(d.docker(&["exec", "one", "ls", "/fast"]).ok(), "");
    let bad =
        ["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=nonsense=1", "bad"];
    d.docker(&bad).ok();
    let run = d.docker(&["run", "--rm", "--network", "none", "-v", "bad:/x", "busybox", "true"]);
    assert!(run.code == 125 && run.stderr.contains("failed to mount local volume"), "{run:?}");
}

#[test]
fn a_directory_of_an_image_of_several_layers_can_be_mounted() {
    use wharf_testkit::image::{Entry, archive, layer};
    let d = daemon!();
    let base = [
        Entry::Dir("data", 0o755),
        Entry::Dir("data/in", 0o755),
        Entry::File("data/in/old", 0o644, b"old"),
        Entry::File("data/in/gone", 0o644, b"gone"),
    ];
    let top = [
        Entry::Dir("data", 0o755),
        Entry::Dir("data/in", 0o755),
        Entry::File("data/in/new", 0o644, b"new"),
        Entry::File("data/in/.wh.gone", 0o644, b""),
        Entry::Link("data/good", "in"),
        Entry::Link("data/root", "/"),
        Entry::Link("data/up", "../../etc"),
    ];
    let more = [Entry::Dir("more", 0o755)];
    let bytes = archive(
        "two:latest",
        &json!({}),
        &[layer(&base).unwrap(), layer(&top).unwrap(), layer(&more).unwrap()],
    )
    .unwrap();
    std::fs::write(d.path("two.tar"), bytes).unwrap();
    d.docker(&["load", "-q", "-i", &d.path("two.tar").display().to_string()]).ok();
    let mount = |subpath: &str| format!("type=image,source=two,target=/image,image-subpath={subpath}");
    let seen = |subpath: &str, line: &str| {
        d.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--mount",
            &mount(subpath),
            "busybox",
            "sh",
            "-c",
            line,
        ])
    };
    assert_eq!(
        seen("data/in", "ls /image; cat /image/old; touch /image/x || echo kept").ok(),
        "new\nold\noldkept"
    );
    assert_eq!(seen("data/in/new", "cat /image").ok(), "new");
    assert_eq!(seen("data/good/new", "cat /image").ok(), "new");
    for leads_out in ["data/root", "data/up"] {
        seen(leads_out, "true").fails(125, "path concatenation escapes the base directory");
    }
    // The whole image, whose layers' paths together are longer than one option of a mount.
    let whole =
        ["run", "--rm", "--network", "none", "--mount", "type=image,source=two,target=/image", "busybox"];
    assert_eq!(d.docker(&[&whole[..], &["ls", "/image/data/in"]].concat()).ok(), "new\nold");
    // Whoever mounts it needs it for every start.
    d.docker(&["create", "--name", "reader", "--mount", "type=image,source=two,target=/image", "busybox"])
        .ok();
    let used = d.docker(&["rmi", "two"]);
    used.fails(1, "is using its referenced image");
    d.docker(&["rmi", "-f", &d.docker(&["images", "-q", "two"]).ok()])
        .fails(1, "image is mounted in container");
    d.docker(&["start", "reader"]).ok();
    // The client takes every "no such file or directory" for a program that is not there.
    seen("data/nothing", "true").fails(127, "cannot access path");
}

#[test]
fn a_daemon_without_a_default_bridge_runs_containers_without_a_network() {
    let d = daemon!("--bridge", "none", "--default-ulimit", "nofile=4096:4096");
    let run = ["run", "-d", "--name", "alone", "busybox", "sleep", "1000"];
    d.docker(&run).ok();
    assert_eq!(d.docker(&["exec", "alone", "ls", "/sys/class/net"]).ok(), "lo");
    let limits = json!([{ "Name": "nofile", "Hard": 4096, "Soft": 4096 }]);
    assert_eq!(d.inspect("alone")["HostConfig"]["Ulimits"], limits);
    d.docker(&["network", "create", "own"]).ok();
    let linked = ["run", "--rm", "--network", "own", "busybox", "ls", "/sys/class/net"];
    assert_eq!(d.docker(&linked).ok(), "eth0\nlo");
}

/// Takes a test's own mounts away again.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", "-R", &self.0]).status();
    }
}

#[test]
fn the_whole_host_can_be_mounted_beside_a_mount_namespace_s_file() {
    let d = daemon!();
    let folder = d.path("kept").display().to_string();
    // As snapd keeps the namespaces of its programs.
    let script = "mkdir $0 && mount --bind $0 $0 && mount --make-private $0 && touch $0/ns $0/beside && unshare --mount=$0/ns true";
    let made = std::process::Command::new("sh").args(["-ec", script, &folder]).status().unwrap();
    let _mounted = Mounted(folder.clone());
    assert!(made.success());
    assert_eq!(run(&d, &["-v", &format!("{folder}:/kept")], "ls /kept"), "beside\nns");
    let shown = run(
        &d,
        &["-v", "/:/host:ro"],
        &format!("ls /host{folder}; cat /host/proc/1/comm; touch /host/x; ls -d /host/bin/busybox 2>&1"),
    );
    let own = std::fs::read_to_string("/proc/1/comm").unwrap();
    assert!(shown.starts_with(&format!("beside\nns\n{own}")), "{shown}");
    // Elsewhere than in the container's own tree, which is mounted over the host's while it is made.
    assert!(run(&d, &["-v", "/:/host"], "mount | grep -c ' on /host type overlay' || true") == "0");
}

#[test]
fn devices_by_their_vendors_names() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let d = daemon!("--cdi-spec-dir", &at("cdi"));
    if d.is_peer() {
        return; // It reads other directories.
    }
    let ask = |device: &str| {
        let line = "echo $UNIT; head -c 1 /dev/unit0 | wc -c; cat /vendor/file";
        let options = ["run", "--rm", "--network", "none", "--device", device, "busybox", "sh", "-c", line];
        d.docker(&options)
    };
    ask("vendor.com/unit=0")
        .fails(125, "CDI device injection failed: unresolvable CDI devices vendor.com/unit=0");
    std::fs::create_dir(at("cdi")).unwrap();
    std::fs::write(at("file"), "of the vendor's\n").unwrap();
    let text = format!(
        r#"
cdiVersion: 0.6.0
kind: vendor.com/unit
containerEdits:
  mounts:
  - {{hostPath: {file}, containerPath: /vendor/file, options: [ro, nosuid, nodev, bind]}}
devices:
- name: "0"
  containerEdits:
    env: [UNIT=zero]
    deviceNodes: [{{path: /dev/unit0, hostPath: /dev/zero, permissions: r}}]
    hooks:
    - {{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > {seen}"]}}
"#,
        file = at("file"),
        seen = at("seen"),
    );
    std::fs::write(at("cdi/vendor.yaml"), text).unwrap();
    let run = ask("vendor.com/unit=0");
    assert_eq!(run.stdout.trim_end(), "zero\n1\nof the vendor's", "{run:?}");
    assert!(std::fs::read_to_string(at("seen")).unwrap().contains("\"status\":\"creating\""));
    assert!(d.docker(&["info"]).ok().contains("cdi: vendor.com/unit=0"));
    std::fs::write(at("cdi/other.json"), "{\"kind\": \"vendor.com/other\"}").unwrap();
    let missing = ask("vendor.com/unit=1");
    missing.fails(125, "unresolvable CDI devices vendor.com/unit=1; ");
    missing.fails(125, "other.json: ");
    let refused = d.docker(&["run", "--rm", "--gpus", "all", "busybox", "true"]);
    refused.fails(125, "could not select device driver \"\" with capabilities: [[gpu]]");
}

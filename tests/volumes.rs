//! Volumes: the local driver and its options, plugins, archives and copies, owners.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use wharf_testkit::client::{self, eventually};
use wharf_testkit::plugin::VolumePlugin;
use wharf_testkit::{Daemon, daemon};

const QUICK: [&str; 4] = ["run", "--rm", "--network", "none"];

/// Runs a shell in a container of its own, with `flags` before the image.
fn shell(d: &Daemon, flags: &[&str], script: &str) -> client::Run {
    d.docker(&[&QUICK[..], flags, &["busybox", "sh", "-c", script]].concat())
}

fn tool(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A file with a file system, attached to a loop device; both go with it.
struct Loop {
    device: String,
    _folder: tempfile::TempDir,
}

impl Loop {
    fn new(megabytes: u64, maker: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        let path = file.to_string_lossy().into_owned();
        tool(maker[0], &[&maker[1..], &[&path]].concat());
        let output = Command::new("losetup").args(["--find", "--show", &path]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self { device: String::from_utf8_lossy(&output.stdout).trim().to_owned(), _folder: folder }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// A place where something is mounted until it is dropped.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).status();
    }
}

#[test]
fn a_plugin_s_volumes_are_used_as_any_other() {
    let mut d = daemon!();
    let folder = d.path("plugin");
    let plugin = VolumePlugin::start(&d.path("run/plugins/disks.sock"), &folder);
    let refused = d.docker(&["volume", "create", "-d", "nosuch", "vol"]);
    refused.fails(1, "create vol: error looking up volume plugin nosuch: plugin \"nosuch\" not found");
    d.docker(&["volume", "create", "-d", "disks", "-o", "size=1g", "--label", "a=b", "vol"]).ok();
    assert_eq!(plugin.calls("Create"), [json!({ "Name": "vol", "Opts": { "size": "1g" } })]);
    let shown = d.get("/volumes/vol").unwrap().json();
    assert_eq!(shown["Driver"], "disks");
    assert_eq!((&shown["Scope"], &shown["Labels"]["a"]), (&json!("global"), &json!("b")));
    assert_eq!(shown["Status"]["from"], "plugin");
    let taken = d.docker(&["volume", "create", "vol"]);
    taken.fails(1, "create vol: driver 'disks' already has volume 'vol': volume name must be unique");

    let base = ["run", "-d", "--network", "none", "-v", "vol:/data", "--name"];
    let one = d.docker(&[&base[..], &["one", "busybox", "sleep", "1000"]].concat()).ok();
    let two = d.docker(&[&base[..], &["two", "busybox", "sleep", "1000"]].concat()).ok();
    assert_eq!(plugin.mounts("vol"), [one.clone(), two.clone()].into(), "one mount for each container");
    let source = d.inspect("one")["Mounts"][0]["Source"].clone();
    assert_eq!(source, folder.join("vol").to_string_lossy().as_ref());
    d.docker(&["exec", "one", "sh", "-c", "echo hello >/data/file"]).ok();
    assert_eq!(std::fs::read_to_string(folder.join("vol/file")).unwrap(), "hello\n");
    assert_eq!(d.docker(&["exec", "two", "cat", "/data/file"]).ok(), "hello");
    let copied = d.docker(&["cp", "two:/data/file", &d.path("copied").to_string_lossy()]);
    copied.ok();
    assert_eq!(std::fs::read_to_string(d.path("copied")).unwrap(), "hello\n");
    d.docker(&["volume", "rm", "vol"]).fails(1, "remove vol: volume is in use - [");

    // A new daemon knows the mounts: what ended meanwhile is given back, what runs is not.
    d.kill();
    tool("kill", &["-9", &running_pid(&one)]);
    d.launch();
    let given_back = || Some(()).filter(|()| plugin.mounts("vol") == [two.clone()].into());
    eventually(Duration::from_secs(10), given_back).expect("the first is given back");
    d.docker(&["stop", "-t", "0", "two"]).ok();
    eventually(Duration::from_secs(10), || Some(()).filter(|()| plugin.mounts("vol").is_empty())).unwrap();
    assert_eq!(plugin.calls("Mount").len(), plugin.calls("Unmount").len());
    d.docker(&["start", "two"]).ok();
    assert_eq!(d.docker(&["exec", "two", "cat", "/data/file"]).ok(), "hello");
    d.docker(&["rm", "-f", "one", "two"]).ok();
    d.docker(&["volume", "rm", "vol"]).ok();
    assert_eq!(plugin.volumes(), Vec::<String>::new());
}

/// The pid of the only process that sleeps in a container.
fn running_pid(id: &str) -> String {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if groups.contains(id) && line.starts_with(b"sleep") {
            return entry.file_name().to_string_lossy().into_owned();
        }
    }
    panic!("no process of {id}");
}

#[test]
fn plugins_errors_are_passed_on_and_lists_show_what_they_have() {
    let mut d = daemon!();
    let plugin = VolumePlugin::start(&d.path("run/plugins/disks.sock"), &d.path("plugin"));
    plugin.add("theirs");
    let names = |d: &Daemon| d.docker(&["volume", "ls", "-q"]).ok();
    assert_eq!(names(&d), "theirs");
    assert_eq!(d.docker(&["volume", "ls", "-q", "-f", "driver=local"]).ok(), "");
    assert_eq!(d.docker(&["volume", "inspect", "-f", "{{.Driver}}", "theirs"]).ok(), "disks");
    // Plugins' volumes are called what plugins like.
    d.docker(&["volume", "create", "-d", "disks", "remote:a/b c"]).ok();
    shell(&d, &["--mount", "type=volume,src=remote:a/b c,dst=/x"], "echo yes >/x/f").ok();
    assert_eq!(std::fs::read_to_string(d.path("plugin/remote:a/b c/f")).unwrap(), "yes\n");
    d.kill();
    d.launch();
    assert_eq!(names(&d), "remote:a/b c\ntheirs");
    d.docker(&["volume", "rm", "remote:a/b c"]).ok();
    assert!(!d.path("plugin/remote:a/b c").exists());
    // It is found by its name alone, as nothing here has that name.
    shell(&d, &["-v", "theirs:/x"], "echo yes >/x/f").ok();
    assert_eq!(std::fs::read_to_string(d.path("plugin/theirs/f")).unwrap(), "yes\n");
    plugin.refuse("Create", Some("no room"));
    let refused = d.docker(&["volume", "create", "-d", "disks", "more"]);
    refused.fails(1, "create more: VolumeDriver.Create: no room");
    plugin.refuse("Mount", Some("no such disk"));
    let refused = shell(&d, &["-v", "theirs:/x"], "true");
    refused.fails(125, "error while mounting volume '': VolumeDriver.Mount: no such disk");
    plugin.refuse("Remove", Some("busy"));
    d.docker(&["volume", "rm", "theirs"]).fails(1, "remove theirs: VolumeDriver.Remove: busy");
    plugin.refuse("Remove", None);
    d.docker(&["volume", "rm", "theirs"]).ok();
    assert!(!d.docker(&["system", "df", "-v"]).ok().contains("theirs"));
    assert!(d.get("/info").unwrap().json()["Plugins"]["Volume"].to_string().contains("disks"));
}

#[test]
fn a_plugin_that_hangs_holds_up_nobody_else() {
    let d = daemon!();
    let plugin = VolumePlugin::start(&d.path("run/plugins/slow.sock"), &d.path("plugin"));
    d.docker(&["volume", "create", "-d", "slow", "vol"]).ok();
    for name in ["Create", "Mount", "List", "Get", "Path"] {
        plugin.hang(name, true);
    }
    let start = |args: &[&str]| d.command("docker").args(args).spawn().unwrap();
    let mut held = [
        start(&["volume", "create", "-d", "slow", "other"]),
        start(&["run", "--rm", "--network", "none", "-v", "vol:/x", "busybox", "true"]),
    ];
    let waits = || Some(()).filter(|()| !plugin.calls("Mount").is_empty());
    eventually(Duration::from_secs(10), waits).expect("the start waits for the plugin");
    // Each of these ends while the plugin still hangs.
    d.docker(&["ps", "-a"]).ok();
    assert_eq!(shell(&d, &["-v", "mine:/x"], "echo fine").ok(), "fine");
    let listed = d.get("/volumes").unwrap().json();
    assert!(listed["Volumes"].as_array().unwrap().iter().any(|volume| volume["Name"] == "vol"));
    assert!(listed["Warnings"][0].as_str().unwrap().starts_with("list slow: "), "{listed}");
    d.docker(&["volume", "rm", "mine"]).ok();
    d.docker(&["system", "df"]).ok();
    for name in ["Create", "Mount", "List", "Get", "Path"] {
        plugin.hang(name, false);
    }
    for child in &mut held {
        assert!(child.wait().unwrap().success());
    }
    d.docker(&["volume", "rm", "vol", "other"]).ok();
}

#[test]
fn plugins_are_found_where_docker_looks() {
    let d = daemon!();
    let name = format!("wharftest{}", std::process::id());
    let plugin = VolumePlugin::start(&d.path("elsewhere.sock"), &d.path("plugin"));
    let place = Path::new("/etc/docker/plugins");
    let made = place.ancestors().find(|path| path.exists()).unwrap().to_owned();
    let spec = place.join(format!("{name}.spec"));
    let text = format!("unix://{}\n", d.path("elsewhere.sock").display());
    // Another test that is done may take an empty directory away in between.
    let write = || std::fs::create_dir_all(place).and_then(|()| std::fs::write(&spec, &text)).ok();
    eventually(Duration::from_secs(5), write).unwrap();
    d.docker(&["volume", "create", "-d", &name, "vol"]).ok();
    assert_eq!(plugin.volumes(), ["vol"]);
    d.docker(&["volume", "rm", "vol"]).ok();
    std::fs::remove_file(&spec).unwrap();
    for path in place.ancestors().take_while(|path| *path != made) {
        // Another test may have put something there.
        let _ = std::fs::remove_dir(path);
    }
}

#[test]
fn devices_are_mounted_while_they_are_used() {
    let d = daemon!();
    let disk = Loop::new(16, &["mkfs.ext4", "-q"]);
    let device = format!("device={}", disk.device);
    d.docker(&["volume", "create", "-o", "type=ext4", "-o", &device, "-o", "o=noexec", "disk"]).ok();
    let data = d.path("data/volumes/disk/_data");
    d.docker(&[
        "run",
        "-d",
        "--name",
        "cc",
        "--network",
        "none",
        "-v",
        "disk:/x",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let mounted = d.docker(&["exec", "cc", "grep", " /x ", "/proc/mounts"]).ok();
    assert!(mounted.starts_with(&disk.device) && mounted.contains("noexec"), "{mounted}");
    d.docker(&["exec", "cc", "sh", "-c", "echo kept >/x/file"]).ok();
    assert_eq!(shell(&d, &["-v", "disk:/y"], "cat /y/file").ok(), "kept");
    assert!(data.join("file").exists(), "it is seen on the host while it is used");
    d.docker(&["rm", "-f", "cc"]).ok();
    eventually(Duration::from_secs(10), || Some(()).filter(|()| !data.join("file").exists())).unwrap();
    assert_eq!(shell(&d, &["-v", "disk:/y"], "cat /y/file").ok(), "kept");
    // A container that does not run is copied from and to all the same.
    d.docker(&["create", "--name", "still", "--network", "none", "-v", "disk:/x", "busybox"]).ok();
    let (out, back) = (d.path("out").to_string_lossy().into_owned(), d.path("daemon.json"));
    d.docker(&["cp", "still:/x/file", &out]).ok();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "kept\n");
    d.docker(&["cp", &back.to_string_lossy(), "still:/x/back"]).ok();
    assert!(std::fs::read_dir(&data).unwrap().next().is_none(), "nothing lies below the disk");
    assert_eq!(shell(&d, &["-v", "disk:/y"], "cat /y/back").ok(), "{}");
    d.docker(&["rm", "still"]).ok();
    // An archive of it is one of the disk.
    let tar = d.path("disk.tar");
    d.wharf(&["volume", "export", "-o", &tar.to_string_lossy(), "disk"]).ok();
    let listed = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("./file\n"), "{listed:?}");
    d.docker(&["volume", "create", "-o", "type=ext4", "-o", "device=/dev/nosuch", "gone"]).ok();
    let words = format!("failed to mount local volume: mount /dev/nosuch:{}", d.path("data").display());
    shell(&d, &["-v", "gone:/x"], "true").fails(127, &words);
}

#[test]
fn directories_and_file_servers_can_be_volumes() {
    let d = daemon!();
    let source = d.path("source");
    std::fs::create_dir_all(&source).unwrap();
    let device = format!("device={}", source.display());
    let create = |options: &[&str], name: &str| {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", *option]).collect();
        d.docker(&[&["volume", "create"], &options[..], &[name]].concat())
    };
    let none = d.post("/volumes/create", &json!({ "Name": "none", "DriverOpts": {} })).json();
    assert_eq!(none["Options"], json!({}), "what was asked for is shown");
    assert_eq!(d.get("/volumes/none").unwrap().json()["Options"], json!({}));
    create(&["type=none", "o=bind", &device], "bound").ok();
    // What the image has there goes into the directory.
    let files = shell(&d, &["-v", "bound:/bin"], "ls /bin | wc -l").ok();
    assert_eq!(files, std::fs::read_dir(&source).unwrap().count().to_string());
    create(&["type=none", "o=bind,ro", &device], "fixed").ok();
    let refused = shell(&d, &["-v", "fixed:/x"], "echo no >/x/new");
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    create(&["type=none", "o=bind", "device=/no/such/place"], "nowhere").ok();
    let refused = shell(&d, &["-v", "nowhere:/x"], "true");
    // The client makes another exit code of such words.
    refused.fails(127, "error while mounting volume '");
    refused.fails(127, "failed to mount local volume: mount /no/such/place:");
    refused.fails(127, ", flags: 0x1000: no such file or directory");
    create(&["type=nfs", "o=addr=127.0.0.1,rw", "device=:/export"], "remote").ok();
    let refused = shell(&d, &["-v", "remote:/x"], "true");
    refused.fails(125, "failed to mount local volume: mount :/export:");
    refused.fails(125, "addr=127.0.0.1");
    create(&["type=nfs", "o=addr=nosuch.invalid", "device=:/export"], "unknown").ok();
    let refused = shell(&d, &["-v", "unknown:/x"], "true");
    refused.fails(125, "error resolving passed in network volume address");
    create(&["o=bind"], "bad").fails(1, "create bad: missing required option: \"device\"");
}

#[test]
fn parts_rights_and_sharing() {
    let d = daemon!();
    shell(&d, &["-v", "vol:/v"], "mkdir -p /v/a/b; echo in >/v/a/b/f; ln -s /etc /v/out; ln -s a /v/in").ok();
    let mount = |part: &str| format!("type=volume,src=vol,dst=/x,volume-subpath={part}");
    assert_eq!(shell(&d, &["--mount", &mount("a/b")], "cat /x/f").ok(), "in");
    assert_eq!(shell(&d, &["--mount", &mount("in/b")], "cat /x/f").ok(), "in", "links inside are followed");
    assert_ne!(shell(&d, &["--mount", &mount("out")], "true").code, 0, "none leads out");
    shell(&d, &["--mount", &mount("nosuch")], "true").fails(127, "no such file or directory");
    let climbing = shell(&d, &["--mount", &mount("../other")], "true");
    climbing.fails(125, "subpath must be a relative path within the volume");
    let refused = shell(&d, &["-v", "vol:/x:ro"], "echo no >/x/new");
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    assert_eq!(shell(&d, &["-v", "empty:/bin:nocopy"], "true").code, 127, "the image's files stay out");

    let base = ["create", "--network", "none", "--name"];
    d.docker(&[&base[..], &["first", "-v", "vol:/v", "-v", "/anon", "busybox"]].concat()).ok();
    let flags = ["--volumes-from", "first:ro"];
    assert_eq!(shell(&d, &flags, "cat /v/a/b/f; touch /v/x 2>&1 | grep -c Read-only").ok(), "in\n1");
    let id = d.inspect("first")["Id"].as_str().unwrap().to_owned();
    d.docker(&["volume", "rm", "vol"]).fails(1, &format!("remove vol: volume is in use - [{id}]"));
    d.docker(&["volume", "rm", "-f", "vol"]).fails(1, "volume is in use");
    let anonymous = d.docker(&["volume", "ls", "-q", "-f", "label=com.docker.volume.anonymous"]).ok();
    assert_eq!(anonymous.lines().count(), 1);
    assert_eq!(d.docker(&["volume", "ls", "-q", "-f", "dangling=true"]).ok(), "empty");

    let table = d.docker(&["system", "df", "-v"]).ok();
    let line = table.lines().find(|line| line.starts_with("vol ")).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some("1"), "{line}");
    assert!(table.lines().any(|line| line.starts_with("empty ") && line.contains(" 0 ")), "{table}");
    let usage = d.get("/system/df?type=volume").unwrap().json();
    let volume =
        usage["Volumes"].as_array().unwrap().iter().find(|one| one["Name"] == "vol").unwrap().clone();
    assert_eq!(volume["UsageData"]["RefCount"], 1);

    d.docker(&["rm", "-v", "first"]).ok();
    assert_eq!(d.docker(&["volume", "ls", "-q"]).ok(), "empty\nvol");
    let swarm = d.request("PUT", "/volumes/vol?version=1", Some(&json!({}))).unwrap();
    assert_eq!(swarm.status, 503);
    assert!(swarm.json()["message"].as_str().unwrap().starts_with("This node is not a swarm manager."));
}

#[test]
fn a_volume_that_was_made_is_never_lost() {
    let mut d = daemon!();
    for round in 0..5 {
        let name = format!("kept{round}");
        d.docker(&["volume", "create", "--label", "n=1", &name]).ok();
        d.kill();
        d.launch();
    }
    assert_eq!(d.docker(&["volume", "ls", "-q", "-f", "label=n=1"]).ok().lines().count(), 5);
    let places = std::fs::read_dir(d.path("data/volumes")).unwrap();
    let hidden = places.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn archives_go_out_and_in() {
    let d = daemon!();
    let script = "cd /v; mkdir d; echo x >d/f; chmod 4755 d/f; chown 7:8 d; ln d/f g; ln -s d l; chown 5:6 .; chmod 750 .";
    shell(&d, &["-v", "vol:/v"], script).ok();
    let tar = d.path("vol.tar").to_string_lossy().into_owned();
    d.wharf(&["volume", "export", "-o", &tar, "vol"]).ok();
    assert_eq!(d.wharf(&["volume", "import", "--label", "from=tar", "copy", &tar]).ok(), "copy");
    let look = "cd /v; stat -c '%n %u %g %a %h' . d d/f g; readlink l; cat g";
    let same = [shell(&d, &["-v", "vol:/v"], look).ok(), shell(&d, &["-v", "copy:/v"], look).ok()];
    assert_eq!(same[0], same[1]);
    assert!(same[0].starts_with(". 5 6 750 "), "{}", same[0]);
    assert_eq!(d.docker(&["volume", "ls", "-q", "-f", "label=from=tar"]).ok(), "copy");
    d.wharf(&["volume", "import", "copy", &tar]).fails(1, "import copy: the volume has content already");
    // One that was made before is filled, compressed or not.
    d.docker(&["volume", "create", "--label", "a=b", "made"]).ok();
    tool("gzip", &["-k", &tar]);
    d.wharf(&["volume", "import", "made", &format!("{tar}.gz")]).ok();
    assert_eq!(shell(&d, &["-v", "made:/v"], "cat /v/g").ok(), "x");
    assert_eq!(d.docker(&["volume", "inspect", "-f", "{{.Labels.a}}", "made"]).ok(), "b");
    d.wharf(&["volume", "export", "-o", &tar, "nosuch"]).fails(1, "get nosuch: no such volume");
}

/// A member of an archive with whatever name.
fn member(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

#[test]
fn hostile_archives_leave_nothing() {
    let d = daemon!();
    let outside = d.path("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let target = outside.to_string_lossy().into_owned();
    let climb = member("../../../../climbed", b'0', "", b"x");
    let link = [member("l", b'2', &target, b""), member("l/through", b'0', "", b"x")].concat();
    let cut = member("f", b'0', "", &[7; 100_000])[..50_000].to_vec();
    for (name, bytes) in [("climb", climb), ("link", link), ("cut", cut), ("noise", vec![b'x'; 2000])] {
        let reply = wharf_testkit::http::request(
            &d.socket(),
            "POST",
            &format!("/volumes/{name}/import"),
            Some(&bytes),
        );
        let reply = reply.unwrap();
        if reply.status == 201 {
            // What led out was put inside.
            let data = d.path("data/volumes").join(name).join("_data");
            assert!(std::fs::read_dir(data).unwrap().count() > 0, "{name}");
        } else {
            assert_eq!(reply.status, 400, "{name}: {}", reply.json());
            assert!(!d.path("data/volumes").join(name).exists());
        }
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!d.path("climbed").exists() && !Path::new("/climbed").exists());
    let hidden = std::fs::read_dir(d.path("data/volumes")).unwrap().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn copies_and_other_names() {
    let d = daemon!();
    d.docker(&["volume", "create", "--label", "a=b", "vol"]).ok();
    shell(&d, &["-v", "vol:/v"], "echo x >/v/f; chown 7:7 /v/f; mkfifo /v/p; chmod 700 /v").ok();
    assert_eq!(d.wharf(&["volume", "clone", "vol", "twin"]).ok(), "twin");
    assert_eq!(
        shell(&d, &["-v", "twin:/v"], "stat -c '%U %a %F' /v /v/p; stat -c %u /v/f; cat /v/f").ok(),
        "root 700 directory\nroot 644 fifo\n7\nx"
    );
    assert_eq!(d.docker(&["volume", "inspect", "-f", "{{.Labels.a}}", "twin"]).ok(), "b");
    d.wharf(&["volume", "clone", "vol", "twin"]).fails(1, "a volume twin exists already");
    d.docker(&["run", "-d", "--name", "cc", "--network", "none", "-v", "vol:/v", "busybox", "sleep", "1000"])
        .ok();
    let warned = d.wharf(&["volume", "clone", "vol", "third"]);
    assert!(warned.stderr.contains("WARNING: volume vol was in use while it was copied ["), "{warned:?}");
    assert_eq!(warned.ok(), "third");
    d.wharf(&["volume", "rename", "vol", "new"]).fails(1, "rename vol: volume is in use - [");
    d.docker(&["rm", "-f", "cc"]).ok();
    d.wharf(&["volume", "rename", "vol", "twin"]).fails(1, "rename vol: a volume twin exists already");
    d.wharf(&["volume", "rename", "vol", "new"]).ok();
    assert_eq!(shell(&d, &["-v", "new:/v"], "cat /v/f").ok(), "x");
    assert_eq!(d.docker(&["volume", "ls", "-q"]).ok(), "new\nthird\ntwin");
    d.wharf(&["volume", "rename", "vol", "x1"]).fails(1, "get vol: no such volume");
    d.wharf(&["volume", "rename", "new", "../x"]).fails(1, "includes invalid characters");
    // One that nobody named is not pruned once it has a name.
    let unnamed = d.docker(&["volume", "create"]).ok();
    d.wharf(&["volume", "rename", &unnamed, "named"]).ok();
    d.docker(&["volume", "prune", "-f"]).ok();
    assert_eq!(d.docker(&["volume", "ls", "-q", "-f", "name=named"]).ok(), "named");
}

#[test]
fn copies_share_their_contents_where_the_file_system_can() {
    let mut d = daemon!();
    let disk = Loop::new(300, &["mkfs.btrfs", "-q"]);
    d.stop();
    let place = d.path("data/volumes").to_string_lossy().into_owned();
    tool("mount", &[&disk.device, &place]);
    let mounted = Mounted(place);
    d.launch();
    shell(&d, &["-v", "vol:/v"], "head -c 90000000 /dev/urandom >/v/big").ok();
    let reply = d.post("/volumes/vol/clone", &json!({ "Name": "one" }));
    assert_eq!((reply.status, &reply.json()["SharedFiles"]), (201, &json!(1)), "{}", reply.json());
    // Three of them would not fit otherwise.
    d.wharf(&["volume", "clone", "vol", "two"]).ok();
    d.wharf(&["volume", "clone", "vol", "three"]).ok();
    let sum = |name: &str| shell(&d, &["-v", &format!("{name}:/v")], "md5sum </v/big").ok();
    assert_eq!(sum("vol"), sum("three"));
    d.stop();
    drop(mounted);
}

/// A volume that is removed while containers come and go is there for each of them.
#[test]
fn a_volume_is_removed_between_two_users_never_under_one() {
    let d = daemon!();
    std::thread::scope(|scope| {
        let d = &d;
        for _ in 0..2 {
            scope.spawn(move || {
                for _ in 0..8 {
                    assert_eq!(shell(d, &["-v", "both:/x"], "echo x >/x/f && cat /x/f").ok(), "x");
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..200 {
                let reply = d.request("DELETE", "/volumes/both", None).unwrap();
                assert!([204, 404, 409].contains(&reply.status), "{}: {}", reply.status, reply.text());
            }
        });
    });
    let places = std::fs::read_dir(d.path("data/volumes")).unwrap().flatten();
    let names: Vec<_> = places.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let listed = d.docker(&["volume", "ls", "-q"]).ok();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names, "the list is what lies on the disk");
}

fn owner(path: PathBuf) -> (u32, u32) {
    let metadata = path.metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn files_belong_to_the_caller() {
    let d = daemon!();
    let home = d.path("home");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1234), Some(4321)).unwrap();
    for open in [d.path(""), d.socket()] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Somebody who is not root calls.
    let call = |flags: &[&str], script: &str| {
        let mut command = d.command("docker");
        command.args(QUICK).args(flags).args(["busybox", "sh", "-c", script]);
        command.uid(1234).gid(4321);
        client::run(command, b"")
    };
    let bind = format!("{}:/home:idmap", home.display());
    assert_eq!(
        call(&["-v", &bind], "id -u; echo x >/home/f; stat -c '%u %g' /home /home/f").ok(),
        "0\n0 0\n0 0"
    );
    assert_eq!(owner(home.join("f")), (1234, 4321));
    // Whoever the container runs as.
    call(&["-u", "77:88", "-v", &bind], "echo x >/home/g; cat /home/f").ok();
    assert_eq!(owner(home.join("g")), (1234, 4321));
    // Root's own files are nobody's there.
    std::fs::write(home.join("roots"), "x").unwrap();
    assert_eq!(call(&["-v", &bind], "stat -c %u /home/roots").ok(), "65534");
    let read_only = call(&["-v", &format!("{bind},ro")], "touch /home/h");
    assert!(read_only.stderr.contains("Read-only file system"), "{read_only:?}");
    // A volume, for somebody who is named.
    shell(&d, &["-v", "vol:/v:idmap=50-60"], "mkdir /v/d").ok();
    let data = d.path("data/volumes/vol/_data");
    assert_eq!(owner(data.join("d")), (50, 60));
    let mount = format!("type=bind,src={},dst=/home,idmap", home.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.env("DOCKER_HOST", d.host()).env("DOCKER_CONFIG", d.path(""));
    command.args(QUICK).args(["--mount", &mount, "busybox", "touch", "/home/i"]).uid(1234).gid(4321);
    client::run(command, b"").ok();
    assert_eq!(owner(home.join("i")), (1234, 4321));
    // What is copied in belongs to the caller as well, whether the container runs or not.
    std::fs::write(d.path("copied"), "x").unwrap();
    let bind = format!("{}:/home:idmap=1234-4321", home.display());
    d.docker(&["create", "--init", "--name", "keeper", "-v", &bind, "busybox", "sleep", "1000"]).ok();
    let copy = |name: &str| {
        let (from, to) = (d.path("copied"), format!("keeper:/home/{name}"));
        d.docker(&["cp", &from.to_string_lossy(), &to]).ok();
        assert_eq!(owner(home.join(name)), (1234, 4321), "{name}");
    };
    copy("still");
    d.docker(&["start", "keeper"]).ok();
    copy("running");
    d.docker(&["rm", "-f", "keeper"]).ok();
    // A file system that cannot is told.
    let refused = shell(&d, &["-v", "/proc/sys:/x:idmap=5-5"], "true");
    refused.fails(125, "its file system cannot map owners (idmap)");
    shell(&d, &["-v", "/tmp:/x:idmap=a"], "true").fails(125, "invalid mode: idmap=a");
}

#[test]
fn owners_are_mapped_beside_a_user_namespace_too() {
    let d = daemon!("--userns-remap", "default");
    let home = d.path("home");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1234), Some(4321)).unwrap();
    for open in [d.path(""), d.path("data")] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let bind = format!("{}:/home:idmap=1234-4321", home.display());
    assert_eq!(shell(&d, &["-v", &bind], "echo x >/home/f; stat -c '%u %g' /home/f").ok(), "0 0");
    assert_eq!(owner(home.join("f")), (1234, 4321));
}

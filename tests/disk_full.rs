//! A full disk stops what needs room, with words that say so, and nothing else; once there is room all goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::{Daemon, SmallDisk};

const FULL: &str = "no space left on device";

fn daemon_on(disk: &SmallDisk) -> Daemon {
    Daemon::start_on(disk, env!("CARGO_BIN_EXE_wharf"), &[])
}

/// Containers by name.
fn names(d: &Daemon) -> Vec<String> {
    let mut names: Vec<String> =
        d.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok().lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flatten().flat_map(|entry| below(entry.path())).collect()
}

#[test]
fn what_runs_runs_on_and_what_cannot_start_says_why() {
    let disk = SmallDisk::new(48);
    let mut d = daemon_on(&disk);
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    d.docker(&["run", "-d", "--name", "talks", "--network", "none", "busybox", "sh", "-c", script]).ok();
    d.docker(&["run", "-d", "--name", "waits", "--network", "none", "busybox", "sleep", "1000"]).ok();
    d.docker(&["create", "--name", "made", "--network", "none", "busybox", "true"]).ok();
    disk.fill();

    let refused = d.docker(&["run", "--name", "new", "--network", "none", "busybox", "true"]);
    assert!(refused.code != 0 && refused.stderr.contains(FULL), "{refused:?}");
    // As with Docker, one that was made and could not start is there to be started again.
    d.docker(&["rm", "-f", "new"]);
    assert_eq!(names(&d), ["made", "talks", "waits"], "nothing half made is left");
    assert_eq!(d.docker(&["exec", "waits", "echo", "reached"]).ok(), "reached");
    assert_eq!(d.docker(&["exec", "waits", "sh", "-c", "echo x > /file; echo $?"]).stdout, "1\n");
    // Also a daemon that begins with a full disk knows what runs.
    d.kill();
    d.launch();
    assert_eq!(d.docker(&["exec", "talks", "echo", "reached"]).ok(), "reached");
    d.docker(&["kill", "waits"]).ok();
    let ended = d.until("waits", |document| document["State"]["Running"] == false);
    assert_eq!(ended["State"]["ExitCode"], 137);

    disk.free();
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", "busybox", "echo", "again"]).ok(), "again");
    d.docker(&["start", "-a", "made"]).ok();
    assert_eq!(d.inspect("waits")["State"]["ExitCode"], 137);
    let last = |d: &Daemon| d.docker(&["logs", "--tail", "1", "talks"]).ok();
    let before = last(&d);
    let later = eventually(Duration::from_secs(20), || (last(&d) != before).then_some(()));
    assert!(later.is_some(), "what is said after there is room again is kept");
    d.docker(&["kill", "talks"]).ok();
    let lines = d.docker(&["logs", "talks"]).stdout;
    let numbers: Vec<u32> =
        lines.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "no line is torn, doubled or out of its place");
    d.kill();
    d.launch();
    assert_eq!(
        d.inspect("waits")["State"]["ExitCode"],
        137,
        "what ended while the disk was full is known for good"
    );
    assert_eq!(names(&d), ["made", "talks", "waits"]);
}

#[test]
fn what_frees_room_works_on_a_full_disk_right_after_a_start() {
    let disk = SmallDisk::new(32);
    let mut d = daemon_on(&disk);
    d.docker(&["tag", "busybox", "other:x"]).ok();
    // Stopped in order, the database is as short as it can be: the next change has to grow it.
    d.stop();
    d.launch();
    disk.fill();
    d.docker(&["rmi", "other:x"]).ok();
    d.docker(&["rmi", "busybox"]).ok();
    assert_eq!(d.docker(&["images", "-q"]).ok(), "");
    disk.free();
}

#[test]
fn a_build_that_finds_no_room_leaves_nothing() {
    let disk = SmallDisk::new(64);
    let d = daemon_on(&disk);
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("big"), vec![7; 40 << 20]).unwrap();
    std::fs::write(context.path().join("Dockerfile"), "FROM busybox\nCOPY big /big\nRUN cp /big /again\n")
        .unwrap();
    let folder = context.path().to_str().unwrap();
    let used = || {
        rustix::fs::statvfs(disk.path("data"))
            .map(|stat| (stat.f_blocks - stat.f_bfree) * stat.f_frsize)
            .unwrap()
    };
    let before = used();
    for args in
        [vec!["build", "-q", "-t", "big", folder], vec!["build", "-q", "--no-cache", "-t", "big", folder]]
    {
        let mut command = d.command("docker");
        command.args(&args).env("DOCKER_BUILDKIT", "0");
        let run = wharf_testkit::client::run(command, b"");
        assert!(run.code != 0 && run.stderr.to_lowercase().contains(FULL), "{run:?}");
        assert!(files(&d.data().join("build/tmp")).is_empty(), "{:?}", files(&d.data().join("build/tmp")));
    }
    assert!(d.docker(&["images", "-q", "big"]).ok().is_empty());
    d.docker(&["builder", "prune", "-af"]).ok();
    let given_back = eventually(Duration::from_secs(20), || (used() < before + (4 << 20)).then_some(()));
    assert!(given_back.is_some(), "{} bytes more are in use than before", used() - before);
    // With less to keep it fits.
    std::fs::write(context.path().join("big"), vec![7; 4 << 20]).unwrap();
    let mut command = d.command("docker");
    command.args(["build", "-q", "-t", "big", folder]).env("DOCKER_BUILDKIT", "0");
    wharf_testkit::client::run(command, b"").ok();
    d.docker(&["rmi", "big"]).ok();
}

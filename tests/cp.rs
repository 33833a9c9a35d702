//! `docker cp`, `diff`, `export` and `commit`.

use serde_json::json;
use wharf_testkit::{Daemon, client, daemon};

fn container(d: &Daemon, running: bool) {
    let script = "mkdir -p /src/sub && echo one > /src/file && echo two > /src/sub/deep && ln -s file /src/link && ln -s /src/sub /abs && echo made && sleep 1000";
    d.docker(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", script]).ok();
    d.until_said("box", "made");
    if !running {
        d.docker(&["kill", "box"]).ok();
    }
}

fn copies(running: bool) {
    let d = daemon!();
    container(&d, running);
    let local = d.path("out");
    std::fs::create_dir(&local).unwrap();
    let out = |name: &str| local.join(name).to_str().unwrap().to_owned();
    let read = |name: &str| std::fs::read_to_string(local.join(name)).unwrap();
    let cp = |from: &str, to: &str| d.docker(&["cp", from, to]);

    cp("box:/src/file", &out("plain")).ok();
    assert_eq!(read("plain"), "one\n");
    cp("box:/src", &out("tree")).ok();
    assert_eq!(read("tree/sub/deep"), "two\n");
    assert_eq!(std::fs::read_link(local.join("tree/link")).unwrap().to_str(), Some("file"));
    cp("box:/src", &out("tree")).ok();
    assert_eq!(read("tree/src/file"), "one\n", "into a directory that exists");
    std::fs::create_dir(local.join("dots")).unwrap();
    cp("box:/src/.", &out("dots")).ok();
    assert_eq!(read("dots/file"), "one\n", "the content alone");
    cp("box:/src/link", &out("aslink")).ok();
    assert!(std::fs::symlink_metadata(local.join("aslink")).unwrap().is_symlink());
    d.docker(&["cp", "-L", "box:/src/link", &out("followed")]).ok();
    assert_eq!(read("followed"), "one\n");
    cp("box:/abs/deep", &out("through")).ok();
    assert_eq!(read("through"), "two\n", "a link in the path is followed inside");

    std::fs::write(local.join("in"), "inward").unwrap();
    cp(&out("in"), "box:/src/inside").ok();
    cp(&out("in"), "box:/src/sub/").ok();
    cp(&out("dots"), "box:/newdir").ok();
    cp("box:/src/inside", &out("back")).ok();
    cp("box:/src/sub/in", &out("back2")).ok();
    cp("box:/newdir/sub/deep", &out("back3")).ok();
    assert_eq!(
        (read("back").as_str(), read("back2").as_str(), read("back3").as_str()),
        ("inward", "inward", "two\n")
    );

    cp("box:/nosuch", &out("x")).fails(
        1,
        client::words(
            "Could not find the file /nosuch in container box",
            "No such container:path: box:/nosuch",
        ),
    );
    cp(&out("in"), "box:/no/such/dir/file").fails(
        1,
        client::words(
            "Could not find the file /no/such/dir in container box",
            "No such container:path: box:/no/such/dir",
        ),
    );
    cp(&out("in"), "nosuch:/x")
        .fails(1, client::words("No such container: nosuch", "No such container:path: nosuch:/"));
    let head = d.request("HEAD", "/containers/box/archive?path=/src/file", None).unwrap();
    assert_eq!(head.status, 200);
    assert!(head.header("x-docker-container-path-stat").is_some());
}

#[test]
fn copies_both_ways_while_it_runs() {
    copies(true);
}

#[test]
fn copies_both_ways_when_it_is_stopped() {
    copies(false);
}

#[test]
fn diff_tells_what_changed() {
    let d = daemon!();
    let script = "echo x >> /etc/passwd; rm /etc/group; mkdir /new; touch /new/file";
    d.docker(&["run", "--network", "none", "--name", "changed", "busybox", "sh", "-c", script]).ok();
    let mut lines: Vec<String> = d.docker(&["diff", "changed"]).ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A /new", "A /new/file", "C /etc", "C /etc/passwd", "D /etc/group"]);
}

#[test]
fn export_is_the_whole_tree() {
    let d = daemon!();
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "exported",
        "busybox",
        "sh",
        "-c",
        "echo hello > /greeting; rm /etc/group",
    ])
    .ok();
    let path = d.path("export.tar");
    d.docker(&["export", "-o", path.to_str().unwrap(), "exported"]).ok();
    let list = std::process::Command::new("tar").arg("tf").arg(&path).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(
        list.lines().any(|line| line == "greeting") && list.lines().any(|line| line == "bin/busybox"),
        "{list}"
    );
    assert!(!list.lines().any(|line| line == "etc/group"));
    d.docker(&["import", path.to_str().unwrap(), "again:1"]).ok();
    assert_eq!(
        d.docker(&["run", "--rm", "--network", "none", "again:1", "/bin/cat", "/greeting"]).ok(),
        "hello"
    );
}

#[test]
fn commit_makes_an_image() {
    let d = daemon!();
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "worked",
        "busybox",
        "sh",
        "-c",
        "echo result > /result; rm /etc/group",
    ])
    .ok();
    let id = d
        .docker(&[
            "commit",
            "-m",
            "message",
            "-a",
            "author",
            "-c",
            "CMD [\"cat\", \"/result\"]",
            "worked",
            "made:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", "made:1"]).ok(), "result");
    let gone = d.docker(&["run", "--rm", "--network", "none", "made:1", "ls", "/etc/group"]);
    assert_eq!(gone.code, 1);
    let document = d.get("/images/made:1/json").unwrap().json();
    assert_eq!((&document["Author"], &document["Comment"]), (&json!("author"), &json!("message")));
    assert_eq!(document["RootFS"]["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn a_created_container_has_its_working_directory() {
    let d = daemon!();
    std::fs::write(d.path("file"), "in time").unwrap();
    let file = d.path("file").display().to_string();
    let create =
        ["create", "--network", "none", "--name", "made", "-w", "/made/here", "busybox", "cat", "file"];
    d.docker(&create).ok();
    d.docker(&["cp", &file, "made:/made/here/"]).ok();
    assert_eq!(d.docker(&["start", "-a", "made"]).ok(), "in time");
    let refused =
        d.docker(&["create", "--network", "none", "--name", "file", "-w", "/bin/busybox", "busybox", "true"]);
    refused.fails(1, "Cannot mkdir: /bin/busybox is not a directory");
    assert_eq!(d.docker(&["ps", "-aq", "--filter", "name=file"]).ok(), "");
}

#[test]
fn an_archive_of_the_whole_tree_is_named_as_it_was_asked_for() {
    let d = daemon!();
    d.docker(&["create", "--network", "none", "--name", "tree", "busybox", "true"]).ok();
    for (asked, first) in
        [("/", "/"), ("/.", "./"), (".", "./"), ("/./", "./"), ("/etc/.", "./"), ("/etc/", "etc/")]
    {
        let archive = d.get(&format!("/containers/tree/archive?path={asked}")).unwrap().body;
        let name: Vec<u8> = archive.into_iter().take_while(|byte| *byte != 0).collect();
        assert_eq!(String::from_utf8_lossy(&name), first, "{asked}");
    }
}

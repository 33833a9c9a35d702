//! What builds leave: nothing after a failure, a client that goes, a daemon that dies; a cache that can be counted, pruned
//! and bounded.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use wharf_testkit::client::{self, eventually};
use wharf_testkit::{census, daemon};

use super::context::{Context, files, plain};

/// Processes of a build step that sleeps so long.
fn sleepers(seconds: &str) -> usize {
    census::processes(seconds).len()
}

fn wait_for(count: usize, seconds: &str) {
    let found = eventually(Duration::from_secs(20), || (sleepers(seconds) == count).then_some(()));
    assert!(found.is_some(), "{:?}", census::processes(seconds));
}

#[test]
fn a_client_that_goes_ends_its_build() {
    let d = daemon!();
    let context = Context::new("FROM busybox\nRUN --mount=type=tmpfs,target=/t sleep 7654321\n");
    let mut child = context
        .command(&d, &[])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = eventually(Duration::from_secs(20), || (sleepers("7654321") > 0).then_some(()));
    assert!(began.is_some(), "{}", d.log());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for(0, "7654321");
    let clean = eventually(Duration::from_secs(10), || {
        (files(&d.path("data/containers")).is_empty() && files(&d.path("data/build/tmp")).is_empty())
            .then_some(())
    });
    assert!(clean.is_some(), "{:?}", files(&d.path("data/build/tmp")));
}

#[test]
fn a_build_is_ended_by_its_id() {
    let d = daemon!();
    let text = "FROM busybox\nRUN sleep 7654322\n";
    let context = Context::new(text);
    let tar = context.path().join("c.tar");
    let status = std::process::Command::new("tar")
        .arg("cf")
        .arg(&tar)
        .arg("-C")
        .arg(context.path())
        .arg("Dockerfile")
        .status();
    assert!(status.unwrap().success());
    let body = std::fs::read(&tar).unwrap();
    let socket = d.socket();
    let asked = std::thread::spawn(move || {
        wharf_testkit::http::request(&socket, "POST", "/build?buildid=mine", Some(&body)).unwrap()
    });
    let began = eventually(Duration::from_secs(20), || (sleepers("7654322") > 0).then_some(()));
    assert!(began.is_some(), "{}", d.log());
    assert_eq!(d.post("/build/cancel?id=other", &json!(null)).status, 200);
    assert_eq!(d.post("/build/cancel?id=mine", &json!(null)).status, 200);
    assert!(asked.join().unwrap().text().contains("context canceled"));
    wait_for(0, "7654322");
}

#[test]
fn a_daemon_that_dies_leaves_nothing_of_its_builds() {
    let mut d = daemon!();
    let context = Context::new(
        "FROM busybox\nRUN echo kept > /kept\nRUN --mount=type=bind,from=busybox,target=/m sleep 7654323\n",
    );
    let mut child = context
        .command(&d, &[])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = eventually(Duration::from_secs(20), || (sleepers("7654323") > 0).then_some(()));
    assert!(began.is_some(), "{}", d.log());
    d.kill();
    child.wait().unwrap();
    d.launch();
    wait_for(0, "7654323");
    let clean = eventually(Duration::from_secs(10), || {
        let empty =
            files(&d.path("data/containers")).is_empty() && files(&d.path("data/build/tmp")).is_empty();
        (empty && census::mounts(d.instance()).is_empty()).then_some(())
    });
    assert!(clean.is_some(), "{:?} {:?}", census::mounts(d.instance()), files(&d.path("data/containers")));
    context.put("Dockerfile", "FROM busybox\nRUN echo kept > /kept\n");
    context.build(&d, &[]).ok();
}

#[test]
fn two_that_build_the_same_share_the_work() {
    let d = daemon!();
    let text = "FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /id\n";
    let (one, two) = (Context::new(text), Context::new(text));
    let first = std::thread::scope(|scope| {
        let other = scope.spawn(|| two.build(&d, &["-q"]).ok());
        (one.build(&d, &["-q"]).ok(), other.join().unwrap())
    });
    assert_eq!(first.0, first.1);
}

#[test]
fn a_step_that_fails_while_another_runs_ends_it() {
    let d = daemon!();
    let text = "FROM busybox AS one\nRUN sleep 1; exit 4\nFROM busybox AS two\nRUN sleep 7654324\nFROM busybox\nCOPY --from=two /two /\nCOPY --from=one /x /\n";
    let run = Context::new(text).build(&d, &[]);
    run.fails(4, "The command '/bin/sh -c sleep 1; exit 4' returned a non-zero code: 4");
    wait_for(0, "7654324");
    let done = "FROM busybox AS one\nRUN exit 4\nFROM busybox AS two\nRUN echo two > /two\nFROM busybox\nCOPY --from=two /two /\n";
    Context::new(done).build(&d, &[]).ok();
}

#[test]
fn the_cache_is_counted_and_pruned() {
    let d = daemon!();
    let context = Context::new(
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null\nRUN rm /big; echo small > /small\n",
    );
    context.build(&d, &["-q", "-t", "kept"]).ok();
    Context::new("FROM busybox\nRUN dd if=/dev/zero of=/other bs=1M count=4 2>/dev/null; exit 1\n")
        .build(&d, &[]);
    let df = d.get("/system/df?type=build-cache").unwrap().json();
    let records = df["BuildCache"].as_array().unwrap();
    assert_eq!(records.len(), 2, "{df}");
    assert!(records.iter().all(|record| record["Type"] == "regular" && record["Shared"] == true), "{df}");
    // What an image has too stays, unless all goes.
    let pruned = d.post("/build/prune", &json!(null)).json();
    assert_eq!(pruned, json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }));
    let pruned = d.post("/build/prune?all=1&filters=%7B%22id%22%3A%5B%22zzz%22%5D%7D", &json!(null)).json();
    assert_eq!(pruned["SpaceReclaimed"], 0);
    let bad = d.post("/build/prune?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", &json!(null));
    assert_eq!((bad.status, bad.message().contains("invalid filter 'colour'")), (400, true));
    let pruned = d.post("/build/prune?all=1", &json!(null)).json();
    assert_eq!(pruned["CachesDeleted"].as_array().unwrap().len(), 2, "{pruned}");
    let df = d.get("/system/df?type=build-cache").unwrap().json();
    assert_eq!(df["BuildCache"], json!([]));
    // The image is whole without it.
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", "kept", "cat", "/small"]).ok(), "small");
    let fresh = plain(&context.build(&d, &[]));
    assert!(!fresh.contains("Using cache"), "{fresh}");
}

#[test]
fn the_cache_stays_below_its_ceiling() {
    let mut d = daemon!();
    d.stop();
    let settings =
        r#"{"builder": {"gc": {"enabled": true, "policy": [{"all": true, "maxUsedSpace": "20m"}]}}}"#;
    std::fs::write(d.path("daemon.json"), settings).unwrap();
    d.launch();
    for number in 0..6 {
        let text = format!(
            "FROM busybox\nRUN dd if=/dev/urandom of=/{number} bs=1M count=8 2>/dev/null\nRUN rm /{number}\nRUN exit 0\n"
        );
        Context::new(&text).build(&d, &["-q"]).ok();
        d.docker(&["image", "prune", "-f"]).ok();
    }
    let df = d.get("/system/df?type=build-cache").unwrap().json();
    let sizes = df["BuildCache"].as_array().unwrap().iter().map(|record| record["Size"].as_u64().unwrap());
    // The last build's own were in use while it was looked at.
    assert!(sizes.sum::<u64>() <= 30 << 20, "{df}");
    let steps = files(&d.path("data/snapshots/steps"));
    assert!(steps.len() < 18, "{steps:?}");
}

#[test]
fn hostile_contexts_stay_inside() {
    let d = daemon!();
    // A link to the host's files is followed in the context, if at all.
    let context = Context::new("FROM busybox\nCOPY link /x\nRUN cat /x\n");
    std::os::unix::fs::symlink("/etc/shadow", context.path().join("link")).unwrap();
    let run = context.build(&d, &[]);
    assert!(!plain(&run).contains("root:"), "{}", plain(&run));
    let context = Context::new("FROM busybox\nRUN --mount=type=bind,source=up,target=/m ls /m\n");
    std::os::unix::fs::symlink("../../../../../../etc", context.path().join("up")).unwrap();
    let run = context.build(&d, &[]);
    assert!(!plain(&run).contains("passwd"), "{}", plain(&run));
    // A stage's link does not lead out of it either.
    let text = "FROM busybox AS one\nRUN ln -s /etc/shadow /s && rm -rf /d && ln -s ../../../../../etc /d\nFROM busybox\nCOPY --from=one /s /d/shadow /out/\nRUN cat /out/*\n";
    let run = Context::new(text).build(&d, &[]);
    let host = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    let first = host.lines().next().unwrap_or("no such line").to_owned();
    assert!(!plain(&run).contains(&first), "{}", plain(&run));
    let mut quiet = Context::new("FROM busybox\nRUN yes | head -c 20000000\nRUN echo end\n").command(&d, &[]);
    quiet.env("DOCKER_BUILDKIT", "0");
}

#[test]
fn a_daemon_of_another_driver_says_that_it_cannot_build() {
    let d = wharf_testkit::daemon!("--storage-driver", "vfs");
    let run = Context::new("FROM busybox\nRUN true\n").build(&d, &[]);
    run.fails(1, "builds need layers that stack");
    drop(client::program("docker"));
}

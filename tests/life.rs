//! The life of a container, as the stock client drives it.

use std::time::{Duration, Instant};

use serde_json::json;
use wharf_testkit::client::{self, eventually};
use wharf_testkit::daemon;

#[test]
fn run_prints_and_gives_the_exit_code() {
    let d = daemon!();
    let run = d.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (3, "out\n", "err\n"));
    assert_eq!(d.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn exit_codes_are_dockers() {
    let d = daemon!();
    let run = |args: &[&str]| d.docker(&[&["run", "--rm", "--network", "none"], args].concat());
    run(&["busybox", "/nonexistent"]).fails(
        127,
        "OCI runtime create failed: runc create failed: unable to start container process: error during container init: \
         exec: \"/nonexistent\": stat /nonexistent: no such file or directory",
    );
    run(&["busybox", "nonexistent"]).fails(127, "exec: \"nonexistent\": executable file not found in $PATH");
    run(&["busybox", "/etc/passwd"]).fails(126, "exec: \"/etc/passwd\": permission denied");
    run(&["busybox", "/etc"])
        .fails(if client::is_20_10() { 125 } else { 126 }, "exec: \"/etc\": is a directory");
    run(&["--no-such-flag", "busybox"]).fails(125, "unknown flag");
    assert_eq!(run(&["--init", "busybox", "sh", "-c", "kill -TERM $$"]).code, 143);
    assert_eq!(run(&["--init", "busybox", "sh", "-c", "kill -KILL $$"]).code, 137);
    assert_eq!(d.docker(&["ps", "-aq"]).ok(), "", "containers that never started and had --rm are gone");
}

#[test]
fn an_unknown_image_is_said_so() {
    let d = daemon!();
    let reply = d.post("/containers/create", &json!({ "Image": "nosuch:tag" }));
    assert_eq!((reply.status, reply.message().as_str()), (404, "No such image: nosuch:tag"));
    let reply = d.post("/containers/create", &json!({}));
    assert_eq!(reply.status, 400);
}

#[test]
fn names_are_unique_generated_and_renamed() {
    let d = daemon!();
    let id = d.docker(&["create", "--name", "first", "busybox"]).ok();
    assert_eq!(id.len(), 64);
    d.docker(&["create", "--name", "first", "busybox"]).fails(
        1,
        &format!(
            "Conflict. The container name \"/first\" is already in use by container \"{id}\". You have to remove (or rename) \
             that container to be able to reuse that name."
        ),
    );
    d.docker(&["create", "--name", "a b", "busybox"])
        .fails(1, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    d.docker(&["rename", "first", "second"]).ok();
    assert_eq!(d.inspect("second")["Name"], "/second");
    assert_eq!(d.inspect(&id[..12])["Id"], id.as_str());
    assert_eq!(d.get("/containers/first/json").unwrap().message(), "No such container: first");
    let generated = d.docker(&["create", "busybox"]).ok();
    let name = d.inspect(&generated)["Name"].as_str().unwrap().to_owned();
    assert!(name.starts_with('/') && name.contains('_'), "{name}");
    d.docker(&["rename", &generated, "second"]).fails(1, "already in use by container");
}

#[test]
fn stop_kill_and_wait() {
    let d = daemon!();
    let id =
        d.docker(&["run", "-d", "--network", "none", "--name", "sleeper", "busybox", "sleep", "1000"]).ok();
    let state = d.inspect("sleeper")["State"].clone();
    assert_eq!((state["Running"].clone(), state["Status"].clone()), (json!(true), json!("running")));
    assert!(state["Pid"].as_i64().unwrap() > 0);
    assert_eq!(d.post("/containers/sleeper/start", &json!(null)).status, 304);
    d.docker(&["kill", "-s", "KILL", "sleeper"]).ok();
    assert_eq!(d.docker(&["wait", "sleeper"]).ok(), "137");
    let state = d.inspect("sleeper")["State"].clone();
    assert_eq!(
        (state["Status"].clone(), state["ExitCode"].clone(), state["Pid"].clone()),
        (json!("exited"), json!(137), json!(0))
    );
    let reply = d.post("/containers/sleeper/kill", &json!(null));
    assert_eq!(
        (reply.status, reply.message()),
        (409, format!("cannot kill container: sleeper: container {id} is not running"))
    );
    assert_eq!(d.post("/containers/sleeper/stop", &json!(null)).status, 304);
    // sleep as PID 1 ignores SIGTERM: stop has to kill it when its time is over.
    d.docker(&["start", "sleeper"]).ok();
    let start = Instant::now();
    d.docker(&["stop", "-t", "1", "sleeper"]).ok();
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(d.inspect("sleeper")["State"]["ExitCode"], 137);
    let reply = d.post("/containers/sleeper/kill?signal=NOSUCH", &json!(null));
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (400, "cannot kill container: sleeper: invalid signal: NOSUCH")
    );
}

#[test]
fn the_stop_signal_is_the_containers() {
    let d = daemon!();
    let script = "trap 'echo got usr1; exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "ss",
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    d.until_said("ss", "ready");
    d.docker(&["stop", "ss"]).ok();
    assert_eq!(d.inspect("ss")["State"]["ExitCode"], 7);
    assert_eq!(d.docker(&["logs", "ss"]).ok(), "ready\ngot usr1");
    assert_eq!(d.inspect("ss")["Config"]["StopSignal"], "USR1");
}

#[test]
fn pause_and_unpause() {
    let d = daemon!();
    let id = d.docker(&["run", "-d", "--network", "none", "--name", "pp", "busybox", "sleep", "1000"]).ok();
    d.docker(&["pause", "pp"]).ok();
    assert_eq!(d.inspect("pp")["State"]["Status"], "paused");
    assert!(d.docker(&["ps", "--format", "{{.Status}}"]).ok().contains("(Paused)"));
    let reply = d.post("/containers/pp/pause", &json!(null));
    assert_eq!((reply.status, reply.message()), (409, format!("Container {id} is already paused")));
    let reply = d.post("/containers/pp/exec", &json!({ "Cmd": ["true"] }));
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (409, "Container pp is paused, unpause the container before exec")
    );
    d.docker(&["unpause", "pp"]).ok();
    assert_eq!(d.inspect("pp")["State"]["Status"], "running");
    let reply = d.post("/containers/pp/unpause", &json!(null));
    assert_eq!((reply.status, reply.message()), (500, format!("Container {id} is not paused")));
    d.docker(&["pause", "pp"]).ok();
    d.docker(&["rm", "-f", "pp"]).ok();
}

#[test]
fn removal() {
    let d = daemon!();
    let id = d.docker(&["run", "-d", "--network", "none", "--name", "rr", "busybox", "sleep", "1000"]).ok();
    let reply = d.request("DELETE", "/containers/rr", None).unwrap();
    assert_eq!(reply.status, 409);
    assert_eq!(
        reply.message(),
        format!(
            "cannot remove container \"rr\": container is running: stop the container before removing or force remove"
        ),
        "{id}"
    );
    d.docker(&["rm", "-f", "rr"]).ok();
    assert_eq!(d.request("DELETE", "/containers/rr", None).unwrap().message(), "No such container: rr");
    d.docker(&["create", "--name", "cc", "busybox"]).ok();
    d.docker(&["run", "--network", "none", "--name", "ee", "busybox", "true"]).ok();
    let pruned = d.docker(&["container", "prune", "-f"]).ok();
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
    assert_eq!(d.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn wait_has_three_conditions() {
    let d = daemon!();
    d.docker(&["create", "--network", "none", "--name", "ww", "busybox", "sh", "-c", "exit 5"]).ok();
    let reply = d.post("/containers/ww/wait", &json!(null));
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({ "StatusCode": 0 })),
        "a container that never ran is not running"
    );
    let reply = d.post("/containers/ww/wait?condition=bogus", &json!(null));
    assert_eq!((reply.status, reply.message().as_str()), (400, "invalid condition: \"bogus\""));
    // The answer begins when the daemon waits.
    let next = d.begin("/containers/ww/wait?condition=next-exit");
    let gone = d.begin("/containers/ww/wait?condition=removed");
    d.docker(&["start", "ww"]).ok();
    assert_eq!(next.finish().unwrap().json()["StatusCode"], 5);
    d.docker(&["rm", "ww"]).ok();
    assert_eq!(gone.finish().unwrap().json()["StatusCode"], 5);
}

#[test]
fn restart_policies() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "ff",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo again; exit 9",
    ])
    .ok();
    let state =
        d.until("ff", |document| document["State"]["Status"] == "exited" && document["RestartCount"] == 2);
    assert_eq!(state["State"]["ExitCode"], 9);
    assert_eq!(d.docker(&["logs", "ff"]).ok(), "again\nagain\nagain");
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "aa",
        "--restart",
        "always",
        "busybox",
        "sh",
        "-c",
        "sleep 0.1; exit 0",
    ])
    .ok();
    d.until("aa", |document| document["RestartCount"].as_i64() >= Some(2));
    d.docker(&["stop", "aa"]).ok();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(d.inspect("aa")["State"]["Status"], "exited", "a stopped container stays stopped");
    d.docker(&["run", "-d", "--rm", "--restart", "always", "busybox"]).fails(
        125,
        client::words(
            "conflicting options: cannot specify both --restart and --rm",
            "Conflicting options: --restart and --rm",
        ),
    );
    let reply = d.post(
        "/containers/create",
        &json!({ "Image": "busybox", "HostConfig": { "RestartPolicy": { "Name": "sometimes" } } }),
    );
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (
            400,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    );
    d.docker(&["update", "--restart", "no", "aa"]).ok();
    assert_eq!(d.inspect("aa")["HostConfig"]["RestartPolicy"]["Name"], "no");
}

#[test]
fn health() {
    let d = daemon!();
    let args = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "hh",
        "--health-cmd",
        "test -e /tmp/well && echo fine",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "busybox",
        "sleep",
        "1000",
    ];
    d.docker(&args).ok();
    assert_eq!(d.inspect("hh")["State"]["Health"]["Status"], "starting");
    let document = d.until("hh", |document| document["State"]["Health"]["Status"] == "unhealthy");
    assert!(document["State"]["Health"]["FailingStreak"].as_i64() >= Some(2));
    assert!(d.docker(&["ps", "--format", "{{.Status}}"]).ok().contains("(unhealthy)"));
    d.docker(&["exec", "hh", "touch", "/tmp/well"]).ok();
    let document = d.until("hh", |document| document["State"]["Health"]["Status"] == "healthy");
    assert_eq!(document["State"]["Health"]["FailingStreak"], 0);
    let last = document["State"]["Health"]["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["ExitCode"].clone(), last["Output"].clone()), (json!(0), json!("fine\n")));
    eventually(Duration::from_secs(5), || {
        Some(()).filter(|()| d.inspect("hh")["State"]["Health"]["Log"].as_array().unwrap().len() == 5)
    })
    .expect("five probes are kept");
}

#[test]
fn ps_filters_and_formats() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "up1",
        "-l",
        "tier=web",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "down1",
        "-l",
        "tier=db",
        "busybox",
        "sh",
        "-c",
        "exit 4",
    ]);
    d.docker(&["create", "--name", "new1", "busybox"]).ok();
    let names = |args: &[&str]| {
        let mut found: Vec<String> = d
            .docker(&[&["ps", "--format", "{{.Names}}"], args].concat())
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        found.sort();
        found.join(",")
    };
    assert_eq!(names(&[]), "up1");
    assert_eq!(names(&["-a"]), "down1,new1,up1");
    assert_eq!(names(&["-f", "status=exited"]), "down1");
    assert_eq!(names(&["-f", "status=created"]), "new1");
    assert_eq!(names(&["-af", "exited=4"]), "down1");
    assert_eq!(names(&["-af", "label=tier"]), "down1,up1");
    assert_eq!(names(&["-af", "label=tier=db"]), "down1");
    assert_eq!(names(&["-af", "name=1$"]), "down1,new1,up1");
    assert_eq!(names(&["-af", "ancestor=busybox"]), "down1,new1,up1");
    assert_eq!(names(&["-af", "before=down1"]), "up1");
    assert_eq!(names(&["-af", "since=up1"]), "down1,new1");
    assert_eq!(names(&["-n", "1"]), "new1");
    assert_eq!(names(&["-l"]), "new1");
    assert_eq!(names(&["-af", "network=none"]), "down1,up1");
    d.docker(&["ps", "-f", "bogus=1"]).fails(1, "invalid filter 'bogus'");
    d.docker(&["ps", "-af", "status=bogus"])
        .fails(1, "invalid filter 'status=bogus': invalid value for state (bogus)");
    let sized = d.docker(&["ps", "-as", "--format", "{{.Names}} {{.Size}}"]).ok();
    assert!(sized.contains("virtual"), "{sized}");
    let status = d.docker(&["ps", "-a", "--format", "{{.Names}}={{.Status}}"]).ok();
    assert!(
        status.contains("down1=Exited (4) ") && status.contains("new1=Created") && status.contains("up1=Up "),
        "{status}"
    );
}

#[test]
fn update_changes_a_running_container() {
    let d = daemon!();
    d.docker(&["run", "-d", "--network", "none", "--name", "uu", "-m", "64m", "busybox", "sleep", "1000"])
        .ok();
    d.docker(&["update", "-m", "128m", "--memory-swap", "256m", "--pids-limit", "50", "uu"]).ok();
    assert_eq!(d.inspect("uu")["HostConfig"]["Memory"], 134_217_728);
    let limit = d.docker(&[
        "exec",
        "uu",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null",
    ]);
    assert_eq!(limit.stdout.trim(), "134217728");
}

#[test]
fn an_init_reaps_and_forwards() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--init",
        "--network",
        "none",
        "--name",
        "ii",
        "busybox",
        "sh",
        "-c",
        "sleep 1000",
    ])
    .ok();
    let first = d.docker(&["exec", "ii", "cat", "/proc/1/cmdline"]).ok();
    assert!(first.contains("init"), "{first}");
    let start = Instant::now();
    d.docker(&["stop", "-t", "20", "ii"]).ok();
    assert!(start.elapsed() < Duration::from_secs(10), "the init forwards SIGTERM");
    assert_eq!(d.inspect("ii")["State"]["ExitCode"], 143);
}

#[test]
fn updates_and_resizes_that_come_too_late_are_conflicts() {
    let d = daemon!();
    let run = ["run", "-d", "--network", "none"];
    d.docker(
        &[&run[..], &["--rm", "--name", "brief", "--pids-limit", "32", "busybox", "sleep", "1000"]].concat(),
    )
    .ok();
    let why = "Restart policy cannot be updated because AutoRemove is enabled for the container";
    let update = |body: serde_json::Value| d.post("/containers/brief/update", &body);
    let refused = update(json!({ "RestartPolicy": { "Name": "always" } }));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.message().contains(why), "{}", refused.text());
    assert_eq!(update(json!({ "PidsLimit": -2 })).status, 200);
    assert_eq!(d.inspect("brief")["HostConfig"]["PidsLimit"], 0);
    d.docker(&[&run[..], &["--name", "gone", "busybox", "sleep", "1000"]].concat()).ok();
    let exec = d.post("/containers/gone/exec", &json!({ "Cmd": ["sleep", "1000"], "Tty": true })).json();
    let id = exec["Id"].as_str().unwrap().to_owned();
    assert_eq!(d.post(&format!("/exec/{id}/start"), &json!({ "Detach": true, "Tty": true })).status, 200);
    d.docker(&["kill", "gone"]).ok();
    let late = d.post(&format!("/exec/{id}/resize?h=40&w=40"), &json!({}));
    assert_eq!(late.status, 409, "{}", late.text());
    assert!(late.message().ends_with("is not running"), "{}", late.text());
}

#[test]
fn prune_tells_moments_of_one_second_apart() {
    let d = daemon!();
    let create = ["create", "--network", "none", "busybox", "true"];
    let old = d.docker(&create).ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let young = d.docker(&create).ok();
    // Longer ago than there is time.
    let long_ago = d.docker(&["container", "prune", "-f", "--filter", "until=99999999999h"]);
    long_ago.fails(1, "failed to parse value as time or duration");
    let until = format!("until={}.{:09}", now.as_secs(), now.subsec_nanos());
    let pruned = d.docker(&["container", "prune", "-f", "--filter", &until]).ok();
    assert!(pruned.contains(&old) && !pruned.contains(&young), "{pruned}");
}

#[test]
fn what_stands_on_the_same_layers_is_no_descendant() {
    let d = daemon!();
    let commit = |of: &str, label: &str, name: &str| {
        d.docker(&["create", "--network", "none", "--name", label, of, "true"]).ok();
        d.docker(&["commit", "-c", &format!("LABEL {label}=1"), label, name]).ok();
    };
    commit("busybox", "one", "first");
    commit("busybox", "two", "second");
    commit("first", "three", "third");
    d.docker(&["create", "--network", "none", "--name", "four", "third", "true"]).ok();
    let of = |image: &str| {
        let filter = format!("ancestor={image}");
        let names = d.docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]).ok();
        let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(of("busybox"), "four one three two");
    assert_eq!((of("first"), of("second")), ("four three".to_owned(), String::new()));
}

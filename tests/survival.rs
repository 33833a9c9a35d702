//! Nothing is lost when the daemon is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::{census, daemon};

#[test]
fn containers_run_on_and_are_found_again() {
    let mut d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "on",
        "busybox",
        "sh",
        "-c",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done",
    ])
    .ok();
    let before = d.inspect("on");
    d.kill();
    let log = before["LogPath"].as_str().unwrap().to_owned();
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let written = lines();
    eventually(Duration::from_secs(20), || (lines() > written + 20).then_some(())).expect("it writes on");
    d.launch();
    let after = d.inspect("on");
    assert_eq!(before["State"]["Pid"], after["State"]["Pid"]);
    assert_eq!(before["State"]["StartedAt"], after["State"]["StartedAt"]);
    assert_eq!(d.docker(&["exec", "on", "echo", "reached"]).ok(), "reached");
    d.docker(&["stop", "-t", "0", "on"]).ok();
    let lines = d.docker(&["logs", "on"]).stdout;
    let numbers: Vec<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.len() > 20);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is lost, doubled or torn");
}

#[test]
fn an_exit_while_nobody_looks_is_remembered() {
    let mut d = daemon!();
    let told = d.path("told");
    std::fs::create_dir(&told).unwrap();
    let bind = format!("{}:/told", told.display());
    let run = |name: &str, more: &[&str], script: &str| {
        let base = ["run", "-d", "--network", "none", "-v", &bind, "--name", name];
        d.docker(&[&base[..], more, &["busybox", "sh", "-c", script]].concat()).ok();
        d.inspect(name)
    };
    let waits = "until [ -e /told/go ]; do sleep 0.05; done; exit 42";
    let gone = run("gone", &[], waits);
    let vanishes = run("vanishes", &["--rm"], waits);
    let again = run("again", &["--restart", "always"], &format!("echo started; {waits}"));
    d.kill();
    std::fs::write(told.join("go"), "").unwrap();
    let log = again["LogPath"].as_str().unwrap().to_owned();
    let ended = |one: &serde_json::Value| !Path::new(&format!("/proc/{}", one["State"]["Pid"])).exists();
    let starts = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let all = || (ended(&gone) && ended(&vanishes) && starts() > 2).then_some(());
    eventually(Duration::from_secs(20), all)
        .expect("they end, and the policy starts one again without a daemon");
    d.launch();
    let document = d.until("gone", |document| document["State"]["Status"] == "exited");
    assert_eq!(document["State"]["ExitCode"], 42);
    let finished = document["State"]["FinishedAt"].as_str().unwrap().to_owned();
    assert!(finished.starts_with("20"), "{finished}");
    assert!(d.inspect("again")["RestartCount"].as_i64() >= Some(2), "what the policy did is known");
    let gone = eventually(Duration::from_secs(20), || {
        Some(()).filter(|()| d.get("/containers/vanishes/json").unwrap().status == 404)
    });
    assert!(gone.is_some(), "--rm is caught up on");
}

/// As an upgrade of the package does under a daemon that runs on.
#[test]
fn a_daemon_whose_program_was_replaced_starts_containers() {
    let folder = tempfile::tempdir().unwrap();
    let (program, next) = (folder.path().join("wharf"), folder.path().join("next"));
    std::fs::copy(env!("CARGO_BIN_EXE_wharf"), &program).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_wharf"), &next).unwrap();
    let d = wharf_testkit::Daemon::start(&program, &[]);
    std::fs::rename(&next, &program).unwrap();
    let run = ["run", "--rm", "--init", "--network", "none", "busybox", "cat", "/proc/1/comm"];
    assert!(d.docker(&run).ok().contains("docker-init"));
    let run = ["run", "-d", "--network", "none", "--name", "on", "busybox", "sleep", "1000"];
    d.docker(&run).ok();
    assert_eq!(d.docker(&["exec", "on", "echo", "here"]).ok(), "here");
}

#[test]
fn an_attached_session_outlives_the_daemon() {
    let mut d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "-i",
        "--network",
        "none",
        "--name",
        "talk",
        "busybox",
        "sh",
        "-c",
        "while read line; do echo got $line; done",
    ])
    .ok();
    let mut child = d
        .command("docker")
        .args(["attach", "--sig-proxy=false", "talk"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    input.write_all(b"before\n").unwrap();
    output.read_line(&mut line).unwrap();
    d.kill();
    input.write_all(b"after\n").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got before\ngot after\n");
    d.launch();
    d.docker(&["kill", "talk"]).ok();
    child.wait().unwrap();
}

#[test]
fn a_created_container_is_kept_and_a_removed_one_stays_gone() {
    let mut d = daemon!();
    let kept = d.docker(&["create", "--name", "kept", "busybox", "true"]).ok();
    d.docker(&["create", "--name", "removed", "busybox"]).ok();
    d.docker(&["rename", "kept", "renamed"]).ok();
    d.docker(&["rm", "removed"]).ok();
    d.kill();
    d.launch();
    assert_eq!(d.inspect("renamed")["Id"], kept.as_str());
    assert_eq!(d.docker(&["ps", "-aq"]).ok().lines().count(), 1);
    d.docker(&["start", "-a", "renamed"]).ok();
}

#[test]
fn stopping_the_daemon_stops_no_container() {
    let mut d = daemon!();
    d.docker(&["run", "-d", "--network", "none", "--name", "on", "busybox", "sleep", "1000"]).ok();
    let pid = d.inspect("on")["State"]["Pid"].clone();
    d.stop();
    d.launch();
    assert_eq!(d.inspect("on")["State"]["Pid"], pid);
}

/// The process id of a container's supervisor.
fn supervisor(d: &wharf_testkit::Daemon, name: &str) -> i32 {
    let id = d.inspect(name)["Id"].as_str().unwrap().to_owned();
    let all = census::processes("supervisor");
    let line = all.iter().find(|line| line.contains(&id)).expect("it has a supervisor");
    line.split([' ', ':']).nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

const COUNTING: &str =
    "trap 'exit 9' TERM; i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 7";

fn numbers(d: &wharf_testkit::Daemon, name: &str) -> Vec<u32> {
    d.docker(&["logs", name]).stdout.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_killed_supervisor_costs_nothing() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    for name in ["one", "two"] {
        d.docker(&["run", "-d", "--network", "none", "--name", name, "busybox", "sh", "-c", COUNTING]).ok();
    }
    let before = d.inspect("one");
    let old = supervisor(&d, "one");
    kill(old);
    kill(supervisor(&d, "two"));
    let another = wharf_testkit::client::eventually(Duration::from_secs(5), || {
        let all = wharf_testkit::census::processes("--adopt");
        all.iter().any(|line| line.contains(before["Id"].as_str().unwrap())).then_some(())
    });
    assert!(another.is_some(), "{}", d.log());
    let after = d.inspect("one");
    assert_eq!(after["State"]["Pid"], before["State"]["Pid"]);
    assert_eq!(d.docker(&["exec", "one", "echo", "reached"]).ok(), "reached");
    d.docker(&["stop", "-t", "5", "two"]).ok();
    assert_eq!(d.inspect("two")["State"]["ExitCode"], 9, "as its new supervisor's signal made it end");
    let after = d.until("one", |document| document["State"]["Status"] == "exited");
    assert_eq!(after["State"]["ExitCode"], 7, "{}", after["State"]);
    assert_eq!(after["State"]["StartedAt"], before["State"]["StartedAt"]);
    let numbers = numbers(&d, "one");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(numbers.len(), 300, "no line is lost");
}

#[test]
fn a_supervisor_killed_between_two_runs_is_replaced() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    let script = "sleep 0.1; exit 3";
    d.docker(&[
        "run",
        "-d",
        "--restart",
        "always",
        "--network",
        "none",
        "--name",
        "again",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    d.until("again", |document| {
        document["RestartCount"].as_u64() >= Some(3) && document["State"]["Status"] == "restarting"
    });
    kill(supervisor(&d, "again"));
    d.until("again", |document| document["State"]["Status"] == "running");
    d.until("again", |document| document["State"]["Status"] == "restarting");
    d.docker(&["stop", "-t", "0", "again"]).ok();
}

#[test]
fn a_container_outlives_daemon_and_supervisor_and_says_so() {
    let mut d = daemon!();
    if d.is_peer() {
        return;
    }
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "on",
        "busybox",
        "sh",
        "-c",
        "while :; do sleep 0.05; done",
    ])
    .ok();
    let before = d.inspect("on");
    let killed = supervisor(&d, "on");
    d.kill();
    kill(killed);
    d.launch();
    let after = d.inspect("on");
    assert_eq!(after["State"]["Status"], "running");
    assert_eq!(after["State"]["Pid"], before["State"]["Pid"]);
    assert_eq!(after["State"]["StartedAt"], before["State"]["StartedAt"]);
    assert!(d.log().contains("runs on, but what it wrote meanwhile is lost"), "{}", d.log());
    d.docker(&["kill", "on"]).ok();
    let ended = d.until("on", |document| document["State"]["Status"] == "exited");
    let code = ended["State"]["ExitCode"].as_i64();
    assert!(code == Some(137) || code == Some(255), "known from Linux 6.15 on, never guessed: {code:?}");
}

/// A daemon that sleeps while a policy starts containers again still thinks that they wait when it wakes to an order.
#[test]
fn what_a_policy_started_meanwhile_is_removed_too() {
    const MARKER: &str = "86411";
    let d = daemon!();
    // Fails four times at once, then waits 800 ms.
    let script = format!("echo -n x >>/n; test $(wc -c </n) -gt 4 || exit 1; exec sleep {MARKER}");
    let names: Vec<String> = (0..6).map(|number| format!("again{number}")).collect();
    for name in &names {
        let run = ["run", "-d", "--network", "none", "--restart", "always", "--name", name, "busybox"];
        d.docker(&[&run[..], &["sh", "-c", &script]].concat()).ok();
    }
    for name in &names {
        d.until(name, |document| document["RestartCount"].as_u64() >= Some(4));
    }
    let daemon = i32::try_from(d.pid()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::STOP).unwrap();
    let own = format!(": sleep {MARKER}");
    let sleepers = || census::processes(MARKER).iter().filter(|line| line.contains(&own)).count();
    let all = eventually(Duration::from_secs(10), || (sleepers() == names.len()).then_some(()));
    let remove = |name: &String| {
        wharf_testkit::http::send(&d.socket(), "DELETE", &format!("/containers/{name}?force=1"), None)
    };
    let orders: Vec<_> = names.iter().map(remove).collect();
    rustix::process::kill_process(daemon, rustix::process::Signal::CONT).unwrap();
    all.expect("the policy needs no daemon");
    for order in orders {
        let reply = order.unwrap().finish().unwrap();
        assert_eq!(reply.status, 204, "{}", reply.text());
    }
    assert_eq!(sleepers(), 0);
}

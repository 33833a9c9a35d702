//! Events: what is said, in which order, filtered, and remembered.

use wharf_testkit::{Daemon, daemon};

fn actions(d: &Daemon, args: &[&str]) -> Vec<String> {
    let until = d.get("/info").unwrap().json()["SystemTime"].as_str().unwrap().to_owned();
    let all =
        [&["events", "--since", "1h", "--until", &until, "--format", "{{.Type}} {{.Action}}"], args].concat();
    d.docker(&all).ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_life_in_events() {
    let d = daemon!();
    d.docker(&["run", "--rm", "--network", "none", "--name", "told", "-l", "key=value", "busybox", "true"])
        .ok();
    d.docker(&["create", "--name", "other", "busybox"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let seen = actions(&d, &["-f", "container=told"]);
    assert_eq!(
        seen,
        ["container create", "container attach", "container start", "container die", "container destroy"]
    );
    assert_eq!(actions(&d, &["-f", "event=die", "-f", "label=key=value"]), ["container die"]);
    let die = d
        .docker(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "-f",
            "event=die",
            "--format",
            "{{json .Actor.Attributes}}",
        ])
        .ok();
    let attributes: serde_json::Value = serde_json::from_str(die.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&attributes["exitCode"], &attributes["name"], &attributes["key"]),
        (&"0".into(), &"told".into(), &"value".into())
    );
}

#[test]
fn events_survive_a_restart() {
    let mut d = daemon!();
    if d.is_peer() {
        return;
    }
    d.docker(&["create", "--name", "remembered", "busybox"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    d.kill();
    d.launch();
    assert_eq!(actions(&d, &["-f", "container=remembered"]), ["container create"]);
}

#[test]
fn exec_and_kill_are_told() {
    let d = daemon!();
    d.docker(&["run", "-d", "--network", "none", "--name", "executes", "busybox", "sleep", "1000"]).ok();
    d.docker(&["exec", "executes", "echo", "hi"]).ok();
    d.docker(&["kill", "executes"]).ok();
    d.docker(&["wait", "executes"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let seen = actions(&d, &["-f", "container=executes"]);
    assert_eq!(
        seen,
        [
            "container create",
            "container start",
            "container exec_create: echo hi",
            "container exec_start: echo hi",
            "container exec_die",
            "container kill",
            "container die"
        ]
    );
}

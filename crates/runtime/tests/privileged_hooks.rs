//! Hooks around a container's life.

#![allow(unreachable_pub, dead_code, reason = "the fixture is shared between test files")]

mod common;

use std::fs;

use common::Fixture;
use wharf_oci::runtime::{Hook, Hooks};
use wharf_runtime::hooks::{Subject, after_end};

/// A hook that runs a shell line.
fn hook(line: &str) -> Vec<Hook> {
    let args = ["sh", "-c", line].map(str::to_owned).to_vec();
    vec![Hook { path: "/bin/sh".to_owned(), args, env: vec!["PATH=/bin:/usr/bin".to_owned()], timeout: None }]
}

#[test]
fn each_runs_at_its_time_and_place_and_is_told_the_state() {
    let mut fixture = Fixture::new("cat /tmp/before");
    let dir = fixture.dir.path().display().to_string();
    let note =
        |name: &str| hook(&format!("cat >{dir}/{name}.json; readlink /proc/self/ns/mnt >>{dir}/{name}.ns"));
    let inside = "read -r state; echo \"$state\" >/tmp/before; ls /host 2>/dev/null; test ! -e /usr/bin/env";
    fixture.spec.hooks = Some(Hooks {
        prestart: note("prestart"),
        create_runtime: note("create-runtime"),
        create_container: note("create-container"),
        start_container: vec![Hook { path: "/bin/sh".into(), ..hook(inside)[0].clone() }],
        poststart: note("poststart"),
        poststop: note("poststop"),
    });
    let ended = fixture.run();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.output.contains("\"status\":\"created\"") && ended.output.contains("\"id\":\"fixture\""),
        "{ended:?}"
    );
    let subject = Subject { id: "fixture", bundle: fixture.dir.path() };
    assert!(after_end(&fixture.spec, subject).is_empty());
    let read = |name: &str| fs::read_to_string(fixture.dir.path().join(name)).unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    for (name, status, outside) in [
        ("prestart", "creating", true),
        ("create-runtime", "creating", true),
        ("create-container", "creating", false),
        ("poststart", "running", true),
        ("poststop", "stopped", true),
    ] {
        let state: serde_json::Value = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
        assert_eq!((&state["status"], &state["bundle"]), (&status.into(), &dir.as_str().into()), "{name}");
        assert_eq!(state["pid"].as_i64().is_some_and(|pid| pid > 1), name != "poststop", "{name}: {state}");
        assert_eq!(read(&format!("{name}.ns")).trim() == own, outside, "{name}");
    }
}

#[test]
fn a_hook_that_fails_or_takes_too_long_prevents_the_start() {
    let failing = |hooks: Hooks| {
        let mut fixture = Fixture::new("echo started");
        fixture.spec.hooks = Some(hooks);
        fixture.fails().to_string()
    };
    let error = failing(Hooks { create_runtime: hook("exit 3"), ..Hooks::default() });
    assert_eq!(error, "error running createRuntime hook #0: exit status 3");
    let error = failing(Hooks { create_container: hook("exit 4"), ..Hooks::default() });
    assert_eq!(error, "error running createContainer hook #0: exit status 4");
    let error = failing(Hooks { start_container: hook("exit 5"), ..Hooks::default() });
    assert_eq!(error, "error running startContainer hook #0: exit status 5");
    let slow = vec![Hook { timeout: Some(1), ..hook("sleep 100")[0].clone() }];
    let error = failing(Hooks { prestart: slow, ..Hooks::default() });
    assert_eq!(error, "error running prestart hook #0: ran longer than 1 s");
    let missing = vec![Hook { path: "/nonexistent".into(), ..Hook::default() }];
    let error = failing(Hooks { prestart: missing, ..Hooks::default() });
    assert!(error.starts_with("error running prestart hook #0: /nonexistent could not be run"), "{error}");
}

#[test]
fn a_hook_after_the_start_only_warns() {
    let mut fixture = Fixture::new("echo started");
    fixture.spec.hooks = Some(Hooks { poststart: hook("exit 9"), ..Hooks::default() });
    let ended = fixture.run();
    assert_eq!((ended.code, ended.output.as_str()), (0, "started\n"));
    assert_eq!(ended.warnings, ["error running poststart hook #0: exit status 9"]);
}

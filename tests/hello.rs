//! The embedded first image.

use wharf_testkit::Daemon;

#[test]
fn hello_needs_no_registry() {
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    if d.is_peer() {
        return;
    }
    let run = d.wharf(&["run", "--rm", "hello"]);
    let text = run.ok();
    for word in ["pid", "hostname", "user", "namespaces", "cgroup", "mounts", "capabilities", "addresses"] {
        assert!(text.to_lowercase().contains(word), "{word} is missing:\n{text}");
    }
    let run = d.docker(&["run", "--rm", "hello"]);
    assert_eq!(run.code, 0, "{run:?}");
    d.docker(&["run", "-d", "--name", "served", "hello", "serve"]).ok();
    let reached = wharf_testkit::client::eventually(std::time::Duration::from_secs(10), || {
        let run = d.docker(&["logs", "served"]);
        Some(run.stdout + &run.stderr).filter(|text| text.contains("8080"))
    });
    assert!(reached.is_some());
}

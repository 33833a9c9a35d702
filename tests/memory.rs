//! The kernel's kills for memory, and limits that the engine may not raise.

use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::daemon;

#[test]
fn a_kill_in_a_living_container_is_an_event() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let hog = || d.docker(&["exec", "one", "sh", "-c", "tail /dev/zero; echo survived"]);
    let events = || {
        d.docker(&[
            "events",
            "--since",
            "1000s",
            "--until",
            "0s",
            "--filter",
            "event=oom",
            "--format",
            "{{.Actor.Attributes.name}}",
        ])
        .ok()
    };
    let told = || events().lines().filter(|line| *line == "one").count();
    assert_eq!(events(), "");
    // The watch begins a moment after the start: what happens before is not told.
    let heard = || {
        assert!(hog().stdout.contains("survived"));
        eventually(Duration::from_secs(3), || (told() > 0).then_some(()))
    };
    eventually(Duration::from_secs(20), heard).expect("the event comes");
    let state = d.inspect("one")["State"].clone();
    assert_eq!((&state["Running"], &state["OOMKilled"]), (&true.into(), &true.into()));
    let before = told();
    assert!(hog().stdout.contains("survived"));
    eventually(Duration::from_secs(20), || (told() > before).then_some(())).expect("and again");
    let before = told();
    d.docker(&["kill", "one"]).ok();
    assert_eq!(told(), before, "the end tells of nothing new");
}

#[test]
#[expect(clippy::print_stderr, reason = "what is not run is told")]
fn what_the_engine_may_not_raise_is_told_at_create_and_in_its_log() {
    let d = daemon!();
    if std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| {
        let caps = line.strip_prefix("CapEff:").and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
        caps.is_some_and(|caps| caps & (1 << 24) != 0)
    }) {
        eprintln!("skipped: this machine's root has CAP_SYS_RESOURCE");
        return;
    }
    let made = d.docker(&[
        "create",
        "--name",
        "one",
        "--network",
        "none",
        "--ulimit",
        "nofile=99999999:99999999",
        "busybox",
        "true",
    ]);
    assert!(made.stderr.contains("RLIMIT_NOFILE 99999999:99999999 needs CAP_SYS_RESOURCE"), "{made:?}");
    d.docker(&["start", "-a", "one"]).ok();
    assert!(d.log().contains("which the engine lacks: lowered to"), "{}", d.log());
    let made = d.docker(&["create", "--oom-score-adj", "-500", "busybox"]);
    assert!(made.stderr.contains("oom_score_adj -500 needs CAP_SYS_RESOURCE"), "{made:?}");
}

//! On the real cgroup file systems of this machine.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

static NUMBER: AtomicU32 = AtomicU32::new(0);

struct TestGroup(Cgroup);

impl TestGroup {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(Cgroup::create(&format!("/wharf-test-{}/{number}", std::process::id())).unwrap())
    }

    fn run(&self, script: &str) -> Child {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.0.add(i32::try_from(child.id()).unwrap()).unwrap();
        child
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        self.0.kill_all().unwrap();
        self.0.remove().unwrap();
        // Succeeds for the last test of this process.
        for dir in self.0.directories() {
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
    }
}

#[test]
fn processes_are_listed_frozen_and_killed() {
    let group = TestGroup::new();
    let mut child = group.run("read line; sleep 1000 & sleep 1000");
    // It forks only once it is in the group.
    drop(child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(5);
    while group.0.pids().unwrap().len() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(group.0.pids().unwrap().contains(&i32::try_from(child.id()).unwrap()));
    group.0.freeze().unwrap();
    assert!(group.0.is_frozen().unwrap());
    group.0.thaw().unwrap();
    assert!(!group.0.is_frozen().unwrap());
    group.0.freeze().unwrap();
    group.0.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn limits_are_written_and_seen_in_statistics() {
    let group = TestGroup::new();
    let limits = Limits {
        memory: Memory { limit: Some(64 << 20), ..Memory::default() },
        cpu: Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() },
        pids: Some(32),
        ..Limits::default()
    };
    group.0.apply(&limits).unwrap();
    let stats = group.0.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids_limit), (Some(64 << 20), Some(32)));
    assert_eq!(group.0.oom_kills().unwrap(), 0);
    // Raising and lowering in one go.
    for limit in [128 << 20, 32 << 20] {
        let memory = Memory { limit: Some(limit), swap: Some(limit), ..Memory::default() };
        let applied = group.0.apply(&Limits { memory, ..Limits::default() });
        assert!(applied.is_ok() || !has_swap_accounting(&group.0), "{applied:?}");
    }
}

fn has_swap_accounting(group: &Cgroup) -> bool {
    group.controller("memory").is_some_and(|dir| dir.join("memory.memsw.limit_in_bytes").exists())
}

#[test]
fn devices_outside_the_rules_cannot_be_opened() {
    let group = TestGroup::new();
    let null = DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(1),
        minor: Some(3),
        access: DeviceAccess::parse("rw"),
    };
    group.0.apply(&Limits { devices: Some(vec![null]), ..Limits::default() }).unwrap();
    let script = "read line; true < /dev/null || exit 1; true < /dev/zero && exit 2; exit 0";
    let mut child = group.run(script);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_device_program_decides_in_the_unified_tree() {
    let group = TestGroup::new();
    let Some(dir) = &group.0.v2 else { return };
    let rule = DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(1),
        minor: Some(3),
        access: DeviceAccess::parse("r"),
    };
    crate::bpf::attach_device_filter(dir, &crate::bpf::device_program(false, &[rule])).unwrap();
    let script = "read line; true < /dev/null || exit 1; true < /dev/zero && exit 2; true > /dev/null && exit 3; exit 0";
    let mut child = group.run(script);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn paths_that_climb_are_refused() {
    for path in ["", "/", "/a/../b", "a//b", "system.slice:docker:abc"] {
        assert!(Cgroup::open(path).is_err(), "{path}");
    }
}

//! Attacks and corners on the real kernel; needs root.

#![allow(unreachable_pub, dead_code, reason = "the fixture is shared between test files")]

mod common;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use common::{Fixture, shell};
use wharf_oci::runtime::{LinuxResources, MemoryResources, Mount, PidsResources};
use wharf_sys::cgroup::Cgroup;

fn resources(fixture: &mut Fixture) -> &mut LinuxResources {
    fixture.spec.linux.as_mut().unwrap().resources.as_mut().unwrap()
}

#[test]
fn one_process_is_enough_for_one_process() {
    let mut fixture = Fixture::new("cat /proc/self/status >/dev/null || echo no more");
    resources(&mut fixture).pids = Some(PidsResources { limit: 1 });
    let ended = fixture.run();
    assert!(ended.output.contains("can't fork"), "{ended:?}");
}

#[test]
fn the_kernels_killing_for_memory_is_counted() {
    let mut fixture = Fixture::new("x=x; while true; do x=$x$x; done");
    resources(&mut fixture).memory =
        Some(MemoryResources { limit: Some(16 << 20), ..MemoryResources::default() });
    let path = fixture.spec.linux.as_ref().unwrap().cgroups_path.clone();
    assert_eq!(fixture.run().code, 137);
    assert_eq!(Cgroup::open(&path).unwrap().oom_kills().unwrap(), 1);
}

#[test]
fn devices_beyond_the_default_ones_are_closed() {
    let ended =
        Fixture::new("busybox mknod /tmp/kmsg c 1 11; cat /tmp/kmsg 2>&1; echo x > /dev/null && echo null")
            .run();
    assert!(ended.output.contains("not permitted") && ended.output.ends_with("null\n"), "{ended:?}");
}

/// CVE-2021-30465: another container swaps a mount's target for a link to the host while it is resolved.
#[test]
fn a_swapped_mount_target_never_reaches_the_host() {
    let shared = tempfile::tempdir().unwrap();
    let sentinel = tempfile::tempdir().unwrap();
    fs::create_dir(shared.path().join("target")).unwrap();
    std::os::unix::fs::symlink(sentinel.path(), shared.path().join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [one, two] = ["target", "link"].map(|name| shared.path().join(name));
            while !stop.load(Ordering::Relaxed) {
                let here = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(here, &one, here, &two, rustix::fs::RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..100 {
            let mut fixture = Fixture::new("touch /volume/target/mark 2>/dev/null; true");
            let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
                destination: destination.to_owned(),
                kind: kind.to_owned(),
                source: source.to_owned(),
                options: options.iter().map(|&word| word.to_owned()).collect(),
                ..Mount::default()
            };
            let volume = shared.path().to_str().unwrap();
            fixture.spec.mounts.push(mount("/volume", "bind", volume, &["rbind"]));
            fixture.spec.mounts.push(mount("/volume/target", "tmpfs", "tmpfs", &[]));
            // Either way it ends, inside: the link leads to a path below the container's root.
            if let Ok(running) = fixture.start() {
                running.wait();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(sentinel.path()).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(sentinel.path().to_str().unwrap()));
}

/// CVE-2019-5736: whoever starts us through `/proc/self/exe` must not get at our executable.
#[test]
fn proc_self_exe_as_entry_point_is_the_containers_own_program() {
    let mut fixture = Fixture::new("");
    let program = fixture.lower().join("bin/entry");
    fs::write(&program, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fixture.process().args = vec!["/bin/entry".to_owned()];
    let own = std::env::current_exe().unwrap();
    let before = fs::metadata(&own).unwrap().modified().unwrap();
    let _either_way = fixture.start().map(common::Running::wait);
    assert_eq!(fs::metadata(&own).unwrap().modified().unwrap(), before);
}

#[test]
fn masks_hold_for_execs_too() {
    let fixture = Fixture::new("sleep 100");
    let running = fixture.start().unwrap();
    let ended = fixture
        .exec(&running, &shell("echo 1 > /proc/sys/kernel/core_pattern || echo refused; ls /sys/firmware"));
    let ended = ended.unwrap().wait();
    assert!(ended.output.ends_with("refused\n"), "{ended:?}");
    running.kill();
    running.wait();
}

//! Containers on the real kernel; needs root.
#![allow(unreachable_pub, reason = "the fixture is shared between test files")]

mod common;

use std::fs;

use common::{Fixture, shell};
use wharf_oci::runtime::{Mount, NamespaceKind, Rlimit};
use wharf_runtime::FailureKind;

#[test]
fn a_container_runs_and_sees_only_its_own() {
    let ended = Fixture::new("echo $$; hostname; id -u; ls /; echo $HOME; ls /proc/self/fd").run();
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines: Vec<&str> = ended.output.lines().collect();
    assert_eq!(&lines[..3], ["1", "container", "0"], "{ended:?}");
    assert!(ended.output.contains("\n/root\n"), "{ended:?}");
    // 0, 1, 2, and the directory being listed.
    assert!(ended.output.ends_with("0\n1\n2\n3\n"), "{ended:?}");
}

#[test]
fn exit_codes_come_through() {
    assert_eq!(Fixture::new("exit 42").run().code, 42);
    // A shell that is pid 1 cannot be killed by itself but by the kernel's own hand.
    let fixture = Fixture::new("sleep 100");
    let running = fixture.start().unwrap();
    running.kill();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn programs_that_cannot_be_executed_are_named_as_runc_does() {
    let cases = [
        ("nonexistent", FailureKind::NotFound, r#"exec: "nonexistent": executable file not found in $PATH"#),
        ("/no/such", FailureKind::NotFound, r#"exec: "/no/such": stat /no/such: no such file or directory"#),
        ("/etc/passwd", FailureKind::NotExecutable, r#"exec: "/etc/passwd": permission denied"#),
        ("/etc", FailureKind::NotExecutable, r#"exec: "/etc": is a directory"#),
    ];
    for (program, kind, message) in cases {
        let mut fixture = Fixture::new("");
        fixture.process().args = vec![program.to_owned()];
        let error = fixture.fails();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }
}

#[test]
fn an_unknown_format_ends_with_255_after_the_start() {
    let mut fixture = Fixture::new("");
    let program = fixture.lower().join("bin/odd");
    fs::write(&program, "not a program").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fixture.process().args = vec!["/bin/odd".to_owned()];
    let ended = fixture.run();
    assert_eq!((ended.code, ended.output.as_str()), (255, "exec /bin/odd: exec format error\n"));
}

#[test]
fn masked_and_read_only_paths_hold() {
    let script = "cat /proc/kcore | wc -c 2>/dev/null; ls /sys/firmware; \
        echo x > /proc/sys/kernel/hostname || echo refused; echo x > /sys/kernel/x || echo refused; \
        cat /proc/keys; touch /x && echo writable";
    let ended = Fixture::new(script).run();
    assert_eq!(ended.output.matches("refused").count(), 2, "{ended:?}");
    assert!(ended.output.contains("writable"), "{ended:?}");
}

#[test]
fn a_read_only_root_stays_so() {
    let mut fixture = Fixture::new("touch /x || echo refused; touch /dev/shm/x && echo shm");
    fixture.spec.root.as_mut().unwrap().readonly = true;
    let ended = fixture.run();
    assert!(ended.output.contains("refused\nshm"), "{ended:?}");
}

#[test]
fn privileges_are_what_was_asked_for() {
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; mount -t tmpfs x /tmp 2>&1";
    let mut fixture = Fixture::new(script);
    fixture.process().no_new_privileges = true;
    let ended = fixture.run();
    let expected = [
        "CapInh:\t0000000000000000",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "permission denied",
    ];
    for line in expected {
        assert!(ended.output.contains(line), "{line}: {ended:?}");
    }
}

#[test]
fn users_get_their_groups_home_and_streams() {
    let mut fixture = Fixture::new("id; echo $HOME; echo hi > /dev/stdout; grep CapEff /proc/self/status");
    let user = &mut fixture.process().user;
    (user.uid, user.gid, user.additional_gids) = (1000, 1000, vec![10, 20]);
    let ended = fixture.run();
    assert!(ended.output.starts_with("uid=1000(user) gid=1000 groups=10,20"), "{ended:?}");
    assert!(ended.output.contains("\n/home/user\nhi\nCapEff:\t0000000000000000\n"), "{ended:?}");
}

#[test]
fn binds_of_files_and_directories_obey_their_options() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let script =
        "cat /data/file /etc/one; echo x > /data/file || echo refused; echo x > /etc/one && echo written";
    let mut fixture = Fixture::new(script);
    let bind = |destination: &str, source: std::path::PathBuf, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_str().unwrap().to_owned(),
        options: options.iter().map(|&word| word.to_owned()).collect(),
        ..Mount::default()
    };
    fixture.spec.mounts.push(bind("/data", host.path().to_owned(), &["rbind", "ro", "rprivate"]));
    fs::write(host.path().join("one"), "single").unwrap();
    fixture.spec.mounts.push(bind("/etc/one", host.path().join("one"), &["rbind", "rprivate"]));
    let ended = fixture.run();
    assert!(ended.output.contains("contentsingle"), "{ended:?}");
    assert!(ended.output.contains("refused") && ended.output.contains("written"), "{ended:?}");
    assert_eq!(fs::read_to_string(host.path().join("one")).unwrap(), "x\n");
}

#[test]
fn a_link_put_where_a_place_in_a_volume_was_found_leads_nowhere() {
    let host = tempfile::tempdir().unwrap();
    let (volume, outside) = (host.path().join("volume"), host.path().join("outside"));
    fs::create_dir_all(volume.join("a/b")).unwrap();
    fs::create_dir_all(outside.join("b")).unwrap();
    fs::write(volume.join("a/b/f"), "mine").unwrap();
    fs::write(outside.join("b/f"), "secret").unwrap();
    // The way to the volume may have links: nobody else writes there.
    std::os::unix::fs::symlink(&volume, host.path().join("way")).unwrap();
    let base = host.path().join("way");
    let launch = || {
        let mut fixture = Fixture::new("cat /data/f");
        fixture.spec.mounts.push(Mount {
            destination: "/data".to_owned(),
            kind: "bind".to_owned(),
            source: base.join("a/b").to_str().unwrap().to_owned(),
            source_base: base.to_str().unwrap().to_owned(),
            options: vec!["rbind".to_owned()],
            ..Mount::default()
        });
        fixture
    };
    assert_eq!(launch().run().output, "mine");
    fs::rename(volume.join("a"), volume.join("moved")).unwrap();
    for target in [outside.as_path(), std::path::Path::new("moved")] {
        std::os::unix::fs::symlink(target, volume.join("a")).unwrap();
        let error = launch().fails().to_string();
        assert!(error.contains("too many levels of symbolic links"), "{error}");
        fs::remove_file(volume.join("a")).unwrap();
    }
}

#[test]
fn links_in_place_of_kernel_file_systems_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let host = tempfile::tempdir().unwrap();
        let fixture = Fixture::new("true");
        std::os::unix::fs::symlink(host.path(), fixture.lower().join(name)).unwrap();
        let error = fixture.fails().to_string();
        assert!(error.contains("must be an ordinary directory") || error.contains("no such file"), "{error}");
        assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_mounted_inside_proc_or_outside_the_root() {
    let host = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new("cat /link/x");
    std::os::unix::fs::symlink("/proc/sys", fixture.lower().join("link")).unwrap();
    let mount = |destination: &str| Mount {
        destination: destination.to_owned(),
        kind: "bind".to_owned(),
        source: host.path().to_str().unwrap().to_owned(),
        options: vec!["rbind".to_owned()],
        ..Mount::default()
    };
    fixture.spec.mounts.push(mount("/link"));
    assert!(fixture.fails().to_string().contains("cannot be mounted because it is inside /proc"));
    // Climbing ends at the root.
    let mut fixture = Fixture::new("ls /escape");
    fixture.spec.mounts.push(mount("/../../escape"));
    fs::write(host.path().join("inside"), "").unwrap();
    assert_eq!(fixture.run().output, "inside\n");
}

#[test]
fn a_working_directory_in_leaked_descriptors_is_refused() {
    for number in [3, 7, 10, 20] {
        let mut fixture = Fixture::new("pwd");
        fixture.process().cwd = format!("/proc/self/fd/{number}");
        let error = fixture.fails().to_string();
        assert!(error.starts_with("chdir to cwd") || error.contains("outside of container"), "{error}");
    }
}

#[test]
fn a_missing_working_directory_is_made() {
    let mut fixture = Fixture::new("pwd");
    fixture.process().cwd = "/some/new/place".to_owned();
    assert_eq!(fixture.run().output, "/some/new/place\n");
}

#[test]
fn limits_and_sysctls_are_in_force() {
    let mut fixture = Fixture::new("ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    fixture.process().rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 200, soft: 100 }];
    let linux = fixture.spec.linux.as_mut().unwrap();
    linux.sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    assert_eq!(fixture.run().output, "100\n0\n");
}

#[test]
fn what_needs_a_missing_capability_is_said() {
    let mut fixture = Fixture::new("true");
    fixture.process().rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1 << 30, soft: 1 << 30 }];
    let error_or_warning = match fixture.start() {
        Ok(running) => running.wait().warnings.join(" "),
        Err(error) => error.to_string(),
    };
    assert!(error_or_warning.contains("RLIMIT_NOFILE"), "{error_or_warning}");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let mut fixture = Fixture::new("tty; stat -c %t /dev/console; stty size 2>/dev/null; echo end");
    let process = fixture.process();
    process.terminal = true;
    process.console_size = Some(wharf_oci::runtime::ConsoleSize { height: 30, width: 100 });
    let ended = fixture.run();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.output.starts_with("/dev/pts/0\r\n88\r\n"), "{ended:?}");
}

#[test]
fn execs_join_everything_and_end_on_their_own() {
    let fixture = Fixture::new("sleep 100");
    let running = fixture.start().unwrap();
    let script = "echo $$; hostname; grep -E 'Seccomp:|CapInh|CapEff' /proc/self/status; cat /proc/self/cgroup; exit 3";
    let ended = fixture.exec(&running, &shell(script)).unwrap().wait();
    assert_eq!(ended.code, 3, "{ended:?}");
    for part in
        ["\ncontainer\n", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapEff:\t00000000a80425fb", ":/\n"]
    {
        assert!(ended.output.contains(part), "{part}: {ended:?}");
    }
    let mut process = shell("tty");
    process.terminal = true;
    let ended = fixture.exec(&running, &process).unwrap().wait();
    assert_eq!(ended.output, "/dev/pts/0\r\n");
    let mut process = shell("");
    process.args = vec!["missing".to_owned()];
    let Err(error) = fixture.exec(&running, &process) else { panic!("started") };
    assert_eq!(error.kind(), FailureKind::NotFound);
    common::collect_failed();
    running.kill();
    running.wait();
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let first = Fixture::new("sleep 100");
    let running = first.start().unwrap();
    let mut second = Fixture::new("hostname; readlink /proc/self/ns/net");
    for namespace in &mut second.spec.linux.as_mut().unwrap().namespaces {
        let name = match namespace.kind {
            NamespaceKind::Network => "net",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Pid => "pid",
            _ => continue,
        };
        namespace.path = format!("/proc/{}/ns/{name}", running.pid);
    }
    let theirs = fs::read_link(format!("/proc/{}/ns/net", running.pid)).unwrap();
    std::os::unix::fs::symlink("busybox", second.lower().join("bin/readlink")).unwrap();
    let ended = second.run();
    assert_eq!(ended.output, format!("container\n{}\n", theirs.display()));
    running.kill();
    running.wait();
}

#[test]
fn a_user_namespace_maps_root() {
    let mut fixture = Fixture::new("id -u; cat /proc/self/uid_map; echo x > /dev/null && echo null");
    let linux = fixture.spec.linux.as_mut().unwrap();
    linux.namespaces.push(wharf_oci::runtime::Namespace::new(NamespaceKind::User));
    let mapping = wharf_oci::runtime::IdMapping { container_id: 0, host_id: 100_000, size: 65_536 };
    (linux.uid_mappings, linux.gid_mappings) = (vec![mapping], vec![mapping]);
    // The tree belongs to the host's root, which is nobody in there: places to mount at must exist.
    for dir in ["proc", "sys", "dev"] {
        fs::create_dir(fixture.lower().join(dir)).unwrap();
    }
    let ended = fixture.run();
    assert!(ended.output.starts_with("0\n") && ended.output.ends_with("null\n"), "{ended:?}");
    assert!(ended.output.contains("100000"), "{ended:?}");
}

#[test]
fn nothing_of_the_host_is_left_behind() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fixture = Fixture::new("cat /proc/self/mountinfo");
    let inside = fixture.run().output;
    assert!(!mounts().contains(fixture.dir.path().to_str().unwrap()));
    // Only what the spec lists, the covers of masked paths, and the root.
    let count = inside.lines().count();
    assert!(count < 45 && inside.lines().next().unwrap().contains(" / / rw"), "{inside}");
}

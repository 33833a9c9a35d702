//! Supervisors forked by a nursery are like any other. Needs root.

mod common;

use common::*;
use wharf_shim::nursery::Nursery;

#[tokio::test]
async fn a_forked_supervisor_runs_its_container_and_shows_whose_it_is() {
    let nursery = Nursery::default();
    let first = Fixture::new("echo one; exec sleep 100");
    let second = Fixture::new("echo two; exit 3");
    let mut running = Vec::new();
    for fixture in [&first, &second] {
        let (handle, events, _) = nursery.spawn(fixture.executable(), &fixture.config, &[], false).unwrap();
        let launched = handle.launch().await.unwrap();
        running.push((handle, events, launched));
    }
    let (_, events, _) = &mut running[1];
    assert_eq!(end(events).await.code, Some(3));
    assert_eq!(second.logged("stdout"), "two\n");

    // The parent of the container's process, and a child of this one.
    let field = |pid: i32, number: usize| -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(number - 3).unwrap().parse().unwrap()
    };
    let (handle, events, launched) = &mut running[0];
    let supervisor = field(launched.pid, 4);
    assert_eq!(field(supervisor, 4), i32::try_from(std::process::id()).unwrap());
    let line = std::fs::read_to_string(format!("/proc/{supervisor}/cmdline")).unwrap();
    assert!(line.contains(&*first.config.bundle.to_string_lossy()), "{line:?}");

    // It does not go with its nursery.
    nursery.close();
    handle.signal(None, 9).await.unwrap();
    assert_eq!(end(events).await.code, Some(137));
    assert!(soon(events.recv()).await.is_none());
    assert_eq!(first.logged("stdout"), "one\n");
}

#[tokio::test]
async fn a_killed_nursery_is_replaced() {
    let nursery = Nursery::default();
    for _ in 0..2 {
        let fixture = Fixture::new("exit 4");
        let (handle, mut events, launching) =
            nursery.spawn(fixture.executable(), &fixture.config, &[], true).unwrap();
        // The one that is killed cannot ask for it.
        match launching {
            Some(launching) => handle.launched(launching).await.unwrap(),
            None => handle.launch().await.unwrap(),
        };
        assert_eq!(end(&mut events).await.code, Some(4));
        let own = std::process::id().to_string();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |name| std::fs::read_to_string(process.path().join(name)).unwrap_or_default();
            let ours = read("stat")
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&own));
            let room = "-".repeat(fixture.config.bundle.as_os_str().len() - "--nursery ".len());
            if ours && read("cmdline").split('\0').nth(3) == Some(&room) {
                let pid: i32 = process.file_name().to_str().unwrap().parse().unwrap();
                wharf_sys::pidfd::PidFd::open(pid).unwrap().kill().unwrap();
            }
        }
    }
}

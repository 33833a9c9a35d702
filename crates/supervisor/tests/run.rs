//! Starting, ending, starting again; daemons that come and go. Needs root.

mod common;

use common::*;
use wharf_shim::protocol::{Event, FailureKind, LogConfig, Phase, RestartPolicy};
use wharf_shim::{Handle, HandleError};

#[tokio::test]
async fn a_process_runs_is_logged_and_its_end_is_told() {
    let fixture = Fixture::new("echo out; echo err >&2; printf tail; exit 7");
    let (handle, mut events) = fixture.spawn();
    assert_eq!(handle.hello().await.unwrap(), 1);
    let launched = handle.launch().await.unwrap();
    assert!(launched.pid > 1 && launched.descriptors.pidfd.is_some());
    assert!(matches!(next(&mut events).await, Event::Started { restart_count: 0, .. }));
    let exit = end(&mut events).await;
    assert_eq!((exit.code, exit.oom_killed), (Some(7), false));
    assert!(exit.finished_at >= launched.started_at, "{:?} {:?}", exit.finished_at, launched.started_at);
    assert!(soon(events.recv()).await.is_none());
    assert_eq!((fixture.logged("stdout"), fixture.logged("stderr")), ("out\ntail".into(), "err\n".into()));
    let journal = fixture.journal();
    assert!(
        matches!(journal[..], [Event::Started { .. }, Event::Exited { restart_in_ms: None, .. }]),
        "{journal:?}"
    );
    assert!(!fixture.config.socket.exists());
    let cgroup = format!("/wharf-test-supervisor-{}", fixture.config.id);
    assert!(!wharf_sys::cgroup::Cgroup::open(&cgroup).unwrap().exists());
}

#[tokio::test]
async fn a_missing_program_is_told_apart() {
    let mut process = shell("");
    process.args = vec!["/no/such/program".into()];
    let fixture = Fixture::with(process);
    let (handle, mut events) = fixture.spawn();
    let error = handle.launch().await.unwrap_err();
    let HandleError::Failed(failure) = error else { panic!("{error}") };
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert_eq!(
        failure.message,
        "exec: \"/no/such/program\": stat /no/such/program: no such file or directory"
    );
    assert!(soon(events.recv()).await.is_none());
}

#[tokio::test]
async fn a_signal_ends_it_and_says_so() {
    let fixture = Fixture::new("exec sleep 100");
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    assert!(handle.resize(None, 10, 10).await.is_err());
    handle.signal(None, 9).await.unwrap();
    assert_eq!(end(&mut events).await.code, Some(137));
}

#[tokio::test]
async fn killing_all_ends_what_ignores_signals() {
    let fixture = Fixture::new("trap '' TERM; sleep 100 & wait; sleep 100");
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    handle.kill_all().await.unwrap();
    assert_eq!(end(&mut events).await.code, Some(137));
}

#[tokio::test]
async fn failures_are_restarted_and_counted() {
    let mut fixture = Fixture::new("echo again; exit 3");
    fixture.config.restart = RestartPolicy::OnFailure { maximum_retry_count: 2 };
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    let mut waits = Vec::new();
    loop {
        match next(&mut events).await {
            Event::Exited { restart_in_ms: None, restart_count, .. } => break assert_eq!(restart_count, 2),
            Event::Exited { restart_in_ms, .. } => waits.extend(restart_in_ms),
            Event::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [100, 200]);
    assert_eq!(fixture.logged("stdout"), "again\nagain\nagain\n");
}

#[tokio::test]
async fn an_intended_stop_ends_a_wait_for_the_restart() {
    let mut fixture = Fixture::new("exit 0");
    fixture.config.restart = RestartPolicy::Always;
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    while !matches!(next(&mut events).await, Event::Exited { restart_in_ms: Some(400..), .. }) {}
    let (status, _) = handle.status().await.unwrap();
    assert!(matches!(status.phase, Phase::Restarting { .. }) && status.restart_count >= 3);
    handle.stop_intended().await.unwrap();
    assert_eq!(end(&mut events).await.code, Some(0));
    assert!(soon(events.recv()).await.is_none());
}

#[tokio::test]
async fn a_new_daemon_finds_the_container_and_hears_its_end() {
    let fixture = Fixture::new("read line; exit 5");
    let mut fixture = fixture;
    fixture.config.open_stdin = true;
    let (handle, events) = fixture.spawn();
    let launched = handle.launch().await.unwrap();
    drop((handle, events));

    let (handle, mut events) = Handle::connect(&fixture.config.socket).unwrap();
    assert_eq!(handle.hello().await.unwrap(), 1);
    let (status, descriptors) = handle.status().await.unwrap();
    assert_eq!(status.phase, Phase::Running { pid: launched.pid, started_at: launched.started_at });
    assert!(descriptors.pidfd.is_some());
    let mut client = Client::attach(&handle, attach(true)).await;
    client.say(b"go\n").await;
    assert_eq!(end(&mut events).await.code, Some(5));
    assert!(Handle::connect(&fixture.config.socket).is_err());
}

#[tokio::test]
async fn a_supervisor_that_nobody_launches_goes_away() {
    let fixture = Fixture::new("true");
    let (handle, mut events) = fixture.spawn();
    handle.hello().await.unwrap();
    let (second, _events) = Handle::connect(&fixture.config.socket).unwrap();
    second.hello().await.unwrap();
    drop(second);
    assert!(handle.status().await.is_ok());
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced() {
    let fixture =
        Fixture::new("echo before; while ! test -e /tmp/$GO; do sleep 0.05; done; echo after; exit 6");
    let go = format!("wharf-adopt-{}", fixture.config.id);
    let config = std::fs::read_to_string(fixture.directory.path().join("config.json")).unwrap();
    std::fs::write(fixture.directory.path().join("config.json"), config.replace("$GO", &go)).unwrap();
    let (handle, events) = fixture.spawn();
    let launched = handle.launch().await.unwrap();
    let (_, descriptors) = handle.status().await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", launched.pid)).unwrap();
    let supervisor: i32 = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    wharf_sys::pidfd::PidFd::open(supervisor).unwrap().kill().unwrap();
    drop((handle, events));

    let (handle, mut events) = Handle::adopt(fixture.executable(), &fixture.config, &descriptors).unwrap();
    drop(descriptors);
    let (status, _) = handle.status().await.unwrap();
    assert_eq!(status.phase, Phase::Running { pid: launched.pid, started_at: launched.started_at });
    std::fs::write(format!("/tmp/{go}"), "").unwrap();
    let exit = end(&mut events).await;
    std::fs::remove_file(format!("/tmp/{go}")).unwrap();
    // Before Linux 6.15 nobody can know the code.
    assert!(matches!(exit.code, Some(6) | None));
    assert_eq!(fixture.logged("stdout"), "before\nafter\n");
}

#[tokio::test]
async fn without_a_log_everything_works_but_reading_back() {
    let mut fixture = Fixture::new("echo lost");
    fixture.config.log = LogConfig::None;
    let (handle, mut events) = fixture.spawn();
    let mut wanted = attach(false);
    wanted.replay = true;
    let client = Client::attach(&handle, wanted).await;
    handle.launch().await.unwrap();
    assert_eq!(streams(&client.all().await).0, "lost\n");
    end(&mut events).await;
}

//! The life of containers as far as it needs no process: records, names, lists, removal, and what an engine
//! makes of what an earlier one left behind. Needs root, as the engine does.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_api::{ContainerConfig, CreateRequest, Filters, HostConfig};
use wharf_engine::container::{ListOptions, WaitCondition};
use wharf_engine::{Engine, EngineConfig, ErrorKind};

/// Runs `work` with an engine over `root` whose supervisors end at once without a word. The engine is gone
/// afterwards, as abruptly as a killed daemon's.
fn with_engine<F: Future<Output = ()>>(root: &Path, work: impl FnOnce(Arc<Engine>) -> F) {
    let config = EngineConfig {
        data_root: root.join("data"),
        exec_root: root.join("run"),
        executable: "/bin/false".into(),
        instance: "engine-test".to_owned(),
        cgroup_parent: "wharf-engine-test".to_owned(),
        ..EngineConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move { work(Engine::open(config).await.unwrap()).await });
    drop(runtime);
    // What an engine that ends in order removes itself; other tests' may still be in use.
    for group in ["/wharf-engine-test/supervisors", "/wharf-engine-test"] {
        if let Ok(group) = wharf_sys::cgroup::Cgroup::open(group) {
            group.remove_unused();
        }
    }
}

fn request() -> CreateRequest {
    let config = ContainerConfig { cmd: Some(vec!["/true".to_owned()]), ..ContainerConfig::default() };
    let host = HostConfig { network_mode: "none".to_owned(), ..HostConfig::default() };
    CreateRequest { config, host_config: Some(host), networking_config: None }
}

async fn create(engine: &Engine, name: &str) -> String {
    engine.containers.create(Some(name), None, request()).await.unwrap().id
}

async fn names(engine: &Engine, filters: &str) -> Vec<String> {
    let options =
        ListOptions { all: true, filters: Filters::parse(filters).unwrap(), ..ListOptions::default() };
    let list = engine.containers.list(&options).await.unwrap();
    let text: serde_json::Value = serde_json::from_slice(&list.to_json().unwrap()).unwrap();
    assert_eq!(text, serde_json::to_value(&list).unwrap(), "what is kept of a list is what it would be now");
    list.documents().map(|one| one.names.concat()).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_reopening() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        create(&engine, "kept").await;
        let gone = create(&engine, "gone").await;
        create(&engine, "old").await;
        engine.containers.rename("old", "new").await.unwrap();
        engine.containers.remove(&gone[..12], false, false, false).await.unwrap();
    });
    with_engine(root.path(), |engine| async move {
        assert_eq!(names(&engine, "").await, ["/new", "/kept"]);
        let found = engine.containers.inspect("kept", true).await.unwrap();
        assert_eq!((found.state.status.as_str(), found.path.as_str()), ("created", "/true"));
    });
    assert_eq!(std::fs::read_dir(root.path().join("data/containers")).unwrap().count(), 2);
}

/// As after a power cut: the record was on the disk, the directory was not yet.
#[test]
fn a_lost_snapshot_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = root.path().join("data/snapshots/active");
    let present = || std::fs::read_dir(&snapshots).unwrap().count();
    with_engine(root.path(), |engine| async move {
        create(&engine, "web").await;
    });
    assert_eq!(present(), 1);
    std::fs::remove_dir_all(&snapshots).unwrap();
    with_engine(root.path(), |engine| async move {
        assert_eq!(names(&engine, "").await, ["/web"]);
    });
    assert_eq!(present(), 1);
}

#[test]
fn names_are_taken_until_given_back() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        let id = create(&engine, "/web").await;
        let error = engine.containers.create(Some("web"), None, request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        );
        assert_eq!(error.message(), text);
        let error = engine.containers.rename("web", "web").await.unwrap_err();
        assert_eq!(error.message(), "Renaming a container with the same name as its current name");
        let error = engine.containers.rename("web", "..").await.unwrap_err();
        assert!(error.message().starts_with("Error when allocating new name: Invalid container name (/..)"));
        assert_eq!(names(&engine, "").await, ["/web"]);
        engine.containers.rename("web", "site").await.unwrap();
        assert_eq!(names(&engine, "").await, ["/site"]);
        create(&engine, "web").await;
        engine.containers.remove("web", false, false, false).await.unwrap();
        create(&engine, "web").await;
    });
}

#[test]
fn lists_are_filtered_and_ordered() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        for name in ["one", "two", "three"] {
            create(&engine, name).await;
        }
        assert_eq!(names(&engine, "").await, ["/three", "/two", "/one"]);
        assert_eq!(names(&engine, r#"{"name":["^t"]}"#).await, ["/three", "/two"]);
        assert_eq!(names(&engine, r#"{"before":["two"]}"#).await, ["/one"]);
        assert_eq!(names(&engine, r#"{"since":["two"]}"#).await, ["/three"]);
        assert_eq!(names(&engine, r#"{"status":["running"]}"#).await, Vec::<String>::new());
        let options =
            ListOptions { filters: Filters::parse(r#"{"bad":["x"]}"#).unwrap(), ..ListOptions::default() };
        assert_eq!(engine.containers.list(&options).await.unwrap_err().message(), "invalid filter 'bad'");
        assert_eq!(engine.containers.list(&ListOptions::default()).await.unwrap().documents().count(), 0);
    });
}

#[test]
fn refusals_are_dockers() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        let containers = &engine.containers;
        let id = create(&engine, "web").await;
        assert_eq!(containers.stop("web", None, None).await.unwrap_err().kind(), ErrorKind::NotModified);
        let not_running = format!("container {id} is not running");
        assert_eq!(containers.pause("web").await.unwrap_err().message(), not_running);
        let error = containers.kill("web", "").await.unwrap_err();
        assert_eq!(error.message(), format!("cannot kill container: web: {not_running}"));
        let error = containers.kill("web", "FOO").await.unwrap_err();
        assert_eq!(error.message(), "cannot kill container: web: invalid signal: FOO");
        assert_eq!(containers.start("nope").await.unwrap_err().message(), "No such container: nope");
        let waited = containers.wait("web", WaitCondition::NotRunning).unwrap().done().await.unwrap();
        assert_eq!((waited.status_code, waited.error), (0, None));
    });
}

#[test]
fn a_start_that_fails_leaves_a_container_that_says_why() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        create(&engine, "web").await;
        let error = engine.containers.start("web").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        let state = engine.containers.inspect("web", false).await.unwrap().state;
        assert_eq!(
            (state.status.as_str(), state.exit_code, state.error.as_str()),
            ("created", 128, error.message())
        );
        engine.containers.remove("web", false, false, false).await.unwrap();
    });
}

#[test]
fn waiters_for_the_removal_hear_of_it() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        create(&engine, "web").await;
        let removed = engine.containers.wait("web", WaitCondition::Removed).unwrap();
        let next = engine.containers.wait("web", WaitCondition::NextExit).unwrap();
        engine.containers.remove("web", true, true, false).await.unwrap();
        assert_eq!(removed.done().await.unwrap().status_code, 0);
        assert_eq!(next.done().await.unwrap().status_code, 0);
    });
}

#[test]
fn half_made_and_half_removed_containers_are_swept() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |_| async {});
    let stray = root.path().join("data/containers").join("f".repeat(64));
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("config.json"), "{").unwrap();
    std::fs::write(root.path().join("run/c").join("f".repeat(64)), "").unwrap();
    with_engine(root.path(), |_| async {});
    assert!(!stray.exists());
    assert_eq!(std::fs::read_dir(root.path().join("run/c")).unwrap().count(), 0);
}

#[test]
fn an_end_that_no_daemon_saw_is_read_from_the_journal() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        create(&engine, "web").await;
    });
    let journal = concat!(
        r#"{"event":"started","pid":7,"started_at":1700000000000000000,"restart_count":0}"#,
        "\n",
        r#"{"event":"exited","exit":{"code":137,"oom_killed":true,"finished_at":1700000003500000000},"#,
        r#""restart_in_ms":null,"restart_count":0}"#,
        "\n",
    );
    let mut containers = std::fs::read_dir(root.path().join("data/containers")).unwrap();
    std::fs::write(containers.next().unwrap().unwrap().path().join("journal"), journal).unwrap();
    for _ in 0..2 {
        with_engine(root.path(), |engine| async move {
            let state = engine.containers.inspect("web", false).await.unwrap().state;
            assert_eq!((state.status.as_str(), state.exit_code, state.oom_killed), ("exited", 137, true));
            assert_eq!(state.started_at, "2023-11-14T22:13:20Z");
            assert_eq!(state.finished_at, "2023-11-14T22:13:23.5Z");
        });
    }
}

#[test]
fn reads_do_not_wait_for_writers() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        create(&engine, "web").await;
        let mut creating = Vec::new();
        for number in 0..50 {
            let engine = engine.clone();
            creating.push(tokio::spawn(async move { create(&engine, &format!("many{number}")).await }));
        }
        let started = Instant::now();
        for _ in 0..50 {
            engine.containers.inspect("web", false).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        for one in creating {
            one.await.unwrap();
        }
        assert_eq!(names(&engine, "").await.len(), 51);
    });
}

/// Prints what an operation costs among few and among many containers; run with `--ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost_among_many() {
    let root = tempfile::tempdir().unwrap();
    with_engine(root.path(), |engine| async move {
        measure(&engine, "empty").await;
        for number in 0..1_000 {
            create(&engine, &format!("many{number}")).await;
        }
        measure(&engine, "1,000").await;
        let started = Instant::now();
        for _ in 0..20 {
            names(&engine, "").await;
        }
        println!("list of 1,000: {:?}", started.elapsed() / 20);
    });
    let started = Instant::now();
    with_engine(root.path(), |_| async move {
        println!("open with 1,000: {:?}", started.elapsed());
    });
}

async fn measure(engine: &Engine, among: &str) {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..200 {
        let started = Instant::now();
        create(engine, "probe").await;
        times[0].push(started.elapsed());
        let started = Instant::now();
        engine.containers.inspect("probe", false).await.unwrap();
        times[1].push(started.elapsed());
        let started = Instant::now();
        engine.containers.remove("probe", false, false, false).await.unwrap();
        times[2].push(started.elapsed());
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let [create, inspect, remove] = times.map(median);
    println!("among {among}: create {create:?}, inspect {inspect:?}, remove {remove:?}");
}

//! Attached clients: framing, input, terminals, replay, laggards; execs. Needs root.

mod common;

use std::time::Duration;

use common::*;
use wharf_shim::HandleError;
use wharf_shim::protocol::{Event, FailureKind, Framing};

#[tokio::test]
async fn streams_come_framed_and_end_with_the_process() {
    let fixture = Fixture::new("echo out; echo err >&2; printf end");
    let (handle, mut events) = fixture.spawn();
    let client = Client::attach(&handle, attach(false)).await;
    let mut only_errors = attach(false);
    only_errors.stdout = false;
    let errors = Client::attach(&handle, only_errors).await;
    handle.launch().await.unwrap();
    assert_eq!(streams(&client.all().await), ("out\nend".into(), "err\n".into()));
    assert_eq!(streams(&errors.all().await), (String::new(), "err\n".into()));
    end(&mut events).await;
}

#[tokio::test]
async fn the_end_of_a_clients_input_is_the_processes() {
    let mut fixture = Fixture::new("cat; echo done");
    (fixture.config.open_stdin, fixture.config.stdin_once) = (true, true);
    let (handle, mut events) = fixture.spawn();
    let mut wanted = attach(true);
    wanted.read_ahead = b"ahead ".to_vec();
    let mut client = Client::attach(&handle, wanted).await;
    handle.launch().await.unwrap();
    let large = "0123456789".repeat(50_000);
    let expected = format!("ahead {large}\ndone\n");
    let reader = {
        client.say(b"").await;
        let (mut read, mut write) = client.0.into_split();
        let large = large.clone();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let writer = async {
                write.write_all(large.as_bytes()).await.unwrap();
                write.write_all(b"\n").await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut all = Vec::new();
            let (_, read) = tokio::join!(writer, read.read_to_end(&mut all));
            read.unwrap();
            all
        })
    };
    let all = soon(reader).await.unwrap();
    assert!(streams(&all).0 == expected, "{} bytes", all.len());
    assert_eq!(end(&mut events).await.code, Some(0));
}

#[tokio::test]
async fn input_that_stays_open_takes_several_clients() {
    let mut fixture = Fixture::new("read a; read b; echo $a-$b");
    fixture.config.open_stdin = true;
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    let mut first = Client::attach(&handle, attach(true)).await;
    first.say(b"one\n").await;
    first.say_no_more().await;
    drop(first);
    let mut second = Client::attach(&handle, attach(true)).await;
    second.say(b"two\n").await;
    let out = streams(&second.all().await).0;
    assert!(out == "one-two\n" || out == "two-one\n", "{out}");
    end(&mut events).await;
}

#[tokio::test]
async fn a_terminal_is_raw_resized_and_left_by_keys() {
    let mut process = shell("stty size; read line; echo got $line; stty size; read more");
    process.terminal = true;
    let mut fixture = Fixture::with(process);
    (fixture.config.open_stdin, fixture.config.stdin_once) = (true, true);
    let (handle, mut events) = fixture.spawn();
    let mut wanted = attach(true);
    (wanted.framing, wanted.detach_keys) = (Framing::Raw, vec![0x10, 0x11]);
    let mut client = Client::attach(&handle, wanted.clone()).await;
    handle.launch().await.unwrap();
    client.until("\r\n").await;
    handle.resize(None, 33, 77).await.unwrap();
    client.say(b"hello\n").await;
    let text = client.until("33 77\r\n").await;
    assert!(text.contains("got hello\r\n"), "{text}");
    client.say(b"\x10\x11").await;
    while !matches!(next(&mut events).await, Event::Detached { exec: None }) {}
    client.all().await;
    // The process goes on, and another client may come.
    let mut client = Client::attach(&handle, wanted).await;
    client.say(b"bye\n").await;
    assert_eq!(end(&mut events).await.code, Some(0));
}

#[tokio::test]
async fn a_replay_comes_before_what_follows() {
    let mut fixture = Fixture::new("echo one; echo two >&2; printf thr; read line; echo ee");
    fixture.config.open_stdin = true;
    let (handle, mut events) = fixture.spawn();
    let mut first = Client::attach(&handle, attach(true)).await;
    handle.launch().await.unwrap();
    first.until("thr").await;

    let mut wanted = attach(false);
    wanted.replay = true;
    let following = Client::attach(&handle, wanted.clone()).await;
    wanted.stream = false;
    let replay = Client::attach(&handle, wanted).await;
    assert_eq!(streams(&replay.all().await), ("one\n".into(), "two\n".into()));
    first.say(b"\n").await;
    assert_eq!(streams(&following.all().await), ("one\nthree\n".into(), "two\n".into()));
    end(&mut events).await;
}

#[tokio::test]
async fn a_lagging_client_gets_everything_and_blocks_nobody() {
    let fixture = Fixture::new(
        "i=0; while [ $i -lt 60000 ]; do echo line-$i-0123456789012345678901234567890; i=$((i+1)); done",
    );
    let (handle, mut events) = fixture.spawn();
    let client = Client::attach(&handle, attach(false)).await;
    handle.launch().await.unwrap();
    // It does not read before the process has ended.
    assert_eq!(end(&mut events).await.code, Some(0));
    let out = streams(&client.all().await).0;
    let expected: String =
        (0..60000).map(|i| format!("line-{i}-0123456789012345678901234567890\n")).collect();
    assert!(out == expected, "{} bytes of {}", out.len(), expected.len());
}

#[tokio::test]
async fn a_client_that_goes_away_disturbs_nobody() {
    let fixture = Fixture::new("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done");
    let (handle, mut events) = fixture.spawn();
    drop(Client::attach(&handle, attach(true)).await);
    let stays = Client::attach(&handle, attach(false)).await;
    handle.launch().await.unwrap();
    assert_eq!(streams(&stays.all().await).0.lines().count(), 2000);
    assert_eq!(end(&mut events).await.code, Some(0));
}

#[tokio::test]
async fn an_exec_runs_beside_the_process() {
    let fixture = Fixture::new("exec sleep 100");
    let (handle, mut events) = fixture.spawn();
    let refused = handle.exec("e0".into(), shell("true"), false, None).await.unwrap_err();
    assert!(matches!(refused, HandleError::Failed(failure) if failure.kind == FailureKind::Conflict));
    handle.launch().await.unwrap();

    let (mut client, theirs) = Client::pair();
    let script = shell("cat; echo error >&2; exit 9");
    let started = handle.exec("e1".into(), script, true, Some((attach(true), theirs))).await.unwrap();
    assert!(started.pid > 1);
    client.say(b"through").await;
    client.say_no_more().await;
    assert_eq!(streams(&client.all().await), ("through".into(), "error\n".into()));
    loop {
        if let Event::ExecExited { id, exit } = next(&mut events).await {
            assert_eq!((id.as_str(), exit.code), ("e1", Some(9)));
            break;
        }
    }

    handle.exec("e2".into(), shell("sleep 100"), false, None).await.unwrap();
    let (status, _) = handle.status().await.unwrap();
    assert_eq!(status.execs.len(), 1);
    handle.signal(Some("e2".into()), 15).await.unwrap();
    while !matches!(next(&mut events).await, Event::ExecExited { exit, .. } if exit.code == Some(143)) {}

    // What runs when the container ends, ends with it.
    handle.exec("e3".into(), shell("sleep 100"), false, None).await.unwrap();
    handle.kill_all().await.unwrap();
    while !matches!(next(&mut events).await, Event::ExecExited { exit, .. } if exit.code == Some(137)) {}
    end(&mut events).await;
}

#[tokio::test]
async fn an_exec_that_cannot_start_says_so_in_its_stream() {
    let fixture = Fixture::new("exec sleep 100");
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    let (client, theirs) = Client::pair();
    let mut process = shell("");
    process.args = vec!["/no/such".into()];
    let error = handle.exec("e".into(), process, false, Some((attach(false), theirs))).await.unwrap_err();
    assert!(matches!(error, HandleError::Failed(failure) if failure.kind == FailureKind::NotFound));
    let said = streams(&client.all().await).0;
    assert_eq!(
        said,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown\r\n"
    );
    handle.signal(None, 9).await.unwrap();
    end(&mut events).await;
}

#[tokio::test]
async fn a_background_process_does_not_hold_an_exec_for_ever() {
    let fixture = Fixture::new("exec sleep 100");
    let (handle, mut events) = fixture.spawn();
    handle.launch().await.unwrap();
    let (client, theirs) = Client::pair();
    handle.exec("e".into(), shell("sleep 50 & echo hi"), false, Some((attach(false), theirs))).await.unwrap();
    let said = tokio::time::timeout(Duration::from_secs(10), client.all()).await.unwrap();
    assert_eq!(streams(&said).0, "hi\n");
    handle.kill_all().await.unwrap();
    end(&mut events).await;
}

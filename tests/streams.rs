//! Standard streams: attach, exec, terminals, half-close.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use wharf_testkit::client::eventually;
use wharf_testkit::{Daemon, daemon};

#[test]
fn standard_input_reaches_the_process_and_ends() {
    let d = daemon!();
    let run = d.docker_with(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"], b"one\ntwo\n");
    assert_eq!(run.ok(), "one\ntwo");
    let big = vec![b'x'; 3_000_000];
    let run = d.docker_with(&["run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c"], &big);
    assert_eq!(run.ok(), "3000000");
}

#[test]
fn binary_output_survives() {
    let d = daemon!();
    let mut command = d.command("docker");
    command.args([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        r"printf '\000\001\377\376\n\r'",
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"\x00\x01\xff\xfe\n\r");
}

#[test]
fn a_terminal_is_a_terminal() {
    let d = daemon!();
    let id = d
        .docker(&["create", "-t", "--network", "none", "busybox", "sh", "-c", "tty; stty size; echo done"])
        .ok();
    d.docker(&["start", &id]).ok();
    assert_eq!(d.docker(&["wait", &id]).ok(), "0");
    let logs = d.docker(&["logs", &id]).ok();
    assert!(logs.starts_with("/dev/pts/0\r\n") && logs.ends_with("done\r"), "{logs:?}");
}

#[test]
fn exec_runs_beside() {
    let d = daemon!();
    d.docker(&["run", "-d", "--network", "none", "--name", "xx", "-e", "A=1", "busybox", "sleep", "1000"])
        .ok();
    let run = d.docker(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "xx",
        "sh",
        "-c",
        "echo $A$B; pwd; echo err >&2; exit 6",
    ]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (6, "12\n/tmp\n", "err\n"));
    assert_eq!(d.docker(&["exec", "-u", "nobody", "xx", "id", "-u"]).ok(), "65534");
    assert_eq!(
        d.docker(&["exec", "-u", "1:50", "xx", "id"]).ok(),
        "uid=1(daemon) gid=50(staff) groups=50(staff)"
    );
    assert_eq!(d.docker_with(&["exec", "-i", "xx", "cat"], b"through").ok(), "through");
    let run = d.docker(&["exec", "xx", "nonexistent"]);
    let said = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nonexistent\": executable file not found in $PATH";
    assert!(run.code == 127 && run.stdout.contains(said), "{run:?}");
    let run = d.docker(&["exec", "xx", "/etc"]);
    assert!(run.code == 126 && run.stdout.contains("exec: \"/etc\": is a directory"), "{run:?}");
    d.docker(&["exec", "-d", "xx", "touch", "/tmp/detached"]).ok();
    let touched = || (d.docker(&["exec", "xx", "test", "-e", "/tmp/detached"]).code == 0).then_some(());
    eventually(Duration::from_secs(20), touched).expect("the command runs on its own");
    d.docker(&["exec", "-u", "nosuch", "xx", "id"])
        .fails(1, "unable to find user nosuch: no matching entries in passwd file");
    d.docker(&["stop", "-t", "0", "xx"]).ok();
    let reply = d.post("/containers/xx/exec", &json!({ "Cmd": ["true"] }));
    assert_eq!(reply.status, 409);
    assert!(reply.message().contains("is not running"), "{}", reply.message());
    assert_eq!(d.get("/exec/nosuch/json").unwrap().message(), "No such exec instance: nosuch");
}

#[test]
fn attach_sees_what_comes_and_detaches_by_keys() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "-i",
        "--network",
        "none",
        "--name",
        "aa",
        "busybox",
        "sh",
        "-c",
        "while read line; do echo got $line; done",
    ])
    .ok();
    let mut child = d
        .command("docker")
        .args(["attach", "aa"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    input.write_all(b"first\n").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got first\n");
    drop(input);
    // Standard input was opened without "once": the container lives on when this client's input ends.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(d.inspect("aa")["State"]["Status"], "running");
    d.docker(&["kill", "aa"]).ok();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    child.wait().unwrap();
}

#[test]
fn the_configured_keys_detach_from_a_terminal() {
    let d = daemon!();
    d.docker(&["run", "-dit", "--network", "none", "--name", "tt", "busybox", "cat"]).ok();
    std::fs::write(d.path("config.json"), r#"{"detachKeys": "ctrl-x"}"#).unwrap();
    let attach = d.command("docker");
    let line = format!("{} attach tt", attach.get_program().to_string_lossy());
    let mut script = std::process::Command::new("script");
    for (name, value) in attach.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut child = script
        .args(["-qefc", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run script (bsdutils)");
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    input.write_all(b"typed\n").unwrap();
    // What comes back tells that the client is attached and its terminal set.
    let (mut seen, mut byte) = (Vec::new(), [0; 1]);
    while String::from_utf8_lossy(&seen).matches("typed").nth(1).is_none() {
        assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    input.write_all(b"\x18").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("read escape sequence"), "{rest:?}");
    child.wait().unwrap();
    assert_eq!(d.inspect("tt")["State"]["Status"], "running");
}

#[test]
fn several_clients_see_the_same() {
    let d = daemon!();
    d.docker(&[
        "create",
        "-i",
        "--network",
        "none",
        "--name",
        "mm",
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do echo tick; sleep 0.05; done; read go; seq 1 20000",
    ])
    .ok();
    d.docker(&["start", "mm"]).ok();
    let mut readers: Vec<_> = (0..3)
        .map(|_| {
            d.command("docker")
                .args(["attach", "--no-stdin", "mm"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut outputs: Vec<_> =
        readers.iter_mut().map(|reader| BufReader::new(reader.stdout.take().unwrap())).collect();
    for output in &mut outputs {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "tick\n", "the reader is attached");
    }
    d.docker(&["exec", "mm", "touch", "/go"]).ok();
    let numbers = |text: &str| text.replace("tick\n", "");
    let writer = d.docker_with(&["attach", "mm"], b"go\n");
    let wanted: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!(numbers(&writer.stdout), wanted);
    for (reader, mut output) in readers.iter_mut().zip(outputs) {
        let mut seen = String::new();
        output.read_to_string(&mut seen).unwrap();
        assert_eq!(numbers(&seen).len(), wanted.len());
        reader.wait().unwrap();
    }
    assert_eq!(numbers(&d.docker(&["logs", "mm"]).stdout), wanted);
}

#[test]
fn a_client_that_does_not_read_blocks_nobody() {
    let d = daemon!();
    if d.is_peer() {
        return; // Docker blocks the container.
    }
    d.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "slow",
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do echo tick; sleep 0.05; done; seq 1 300000; echo end",
    ])
    .ok();
    d.docker(&["start", "slow"]).ok();
    let mut stuck = d
        .command("docker")
        .args(["attach", "--no-stdin", "slow"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = stuck.stdout.take().unwrap();
    let mut first = [0; 5];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"tick\n", "the client is attached");
    d.docker(&["exec", "slow", "touch", "/go"]).ok();
    assert_eq!(d.docker(&["wait", "slow"]).ok(), "0", "it ends although nobody reads");
    let mut seen = String::new();
    output.read_to_string(&mut seen).unwrap();
    assert!(seen.ends_with("300000\nend\n"), "and the slow client still gets everything: {}", seen.len());
    stuck.wait().unwrap();
}

#[test]
fn both_hijack_forms() {
    let d = daemon!();
    for upgrade in [true, false] {
        let id = d.docker(&["create", "--network", "none", "busybox", "echo", "hi"]).ok();
        let mut stream = UnixStream::connect(d.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let extra = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        write!(stream, "POST /v1.51/containers/{id}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n{extra}Content-Length: 0\r\n\r\n").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if upgrade {
            assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
            assert!(head.contains("Content-Type: application/vnd.docker.multiplexed-stream\r\n"), "{head}");
        } else {
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("Content-Type: application/vnd.docker.raw-stream\r\n"), "{head}");
        }
        assert_eq!(d.post(&format!("/containers/{id}/start"), &json!(null)).status, 204);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x01\0\0\0\0\0\0\x03hi\n");
    }
}

/// What comes in one piece with the head of an answer, and what comes after it.
type Pieces = (String, String);

/// The pieces for a client that reads a good while after it asked.
fn read_late(d: &Daemon, path: &str, body: &str) -> Pieces {
    let mut stream = UnixStream::connect(d.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json";
    write!(stream, "POST /v1.51{path} {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (mut first, mut rest) = ([0; 8192], Vec::new());
    let length = stream.read(&mut first).unwrap();
    stream.read_to_end(&mut rest).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let first = text(&first[..length]);
    (first.split_once("\r\n\r\n").unwrap().1.to_owned(), text(&rest))
}

#[test]
fn output_waits_until_the_head_was_read() {
    let d = daemon!();
    let run = |line: &str| d.docker(&["run", "-d", "--network", "none", "busybox", "sh", "-c", line]).ok();
    let (running, ended) = (run("echo hi; sleep 1000"), run("echo hi"));
    d.until_said(&running, "hi");
    assert_eq!(d.docker(&["wait", &ended]).ok(), "0");
    let exec = |command: &[&str]| {
        let ask = json!({ "Cmd": command, "AttachStdout": true, "AttachStderr": true });
        let reply = d.post(&format!("/containers/{running}/exec"), &ask).json();
        read_late(&d, &format!("/exec/{}/start", reply["Id"].as_str().unwrap()), "{}")
    };
    let attach = |id: &str| read_late(&d, &format!("/containers/{id}/attach?stdout=1&logs=1"), "");
    let cases: [(&str, &dyn Fn() -> Pieces); 4] = [
        ("hi\n", &|| exec(&["echo", "hi"])),
        ("unable to start container process", &|| exec(&["nosuch"])),
        ("hi\n", &|| attach(&running)),
        ("hi\n", &|| attach(&ended)),
    ];
    for (number, (wanted, ask)) in cases.iter().enumerate() {
        // The daemon does not wait for ever: a reader that is kept off the processor may find both in one piece.
        let apart = |(first, rest): &Pieces| first.is_empty() && rest.contains(wanted);
        let said: Vec<_> = (0..5).map(|_| ask()).take_while(|said| !apart(said)).collect();
        assert!(said.len() < 5, "case {number}: {said:?}");
    }
}

#[test]
fn resize_wants_both_numbers_and_a_running_container() {
    let d = daemon!();
    d.docker(&[
        "create",
        "-t",
        "--name",
        "tt",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while :; do stty size; sleep 0.1; done",
    ])
    .ok();
    assert_eq!(d.post("/containers/tt/resize?h=10", &json!(null)).status, 400);
    assert_eq!(d.post("/containers/tt/resize?h=10&w=20", &json!(null)).status, 409);
    d.docker(&["start", "tt"]).ok();
    assert_eq!(d.post("/containers/tt/resize?h=33&w=77", &json!(null)).status, 200);
    d.until_said("tt", "33 77");
}

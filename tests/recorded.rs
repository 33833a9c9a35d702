//! Refusals, word for word: requests whose answers were recorded from dockerd 28.5.2.
//!
//! `recorded/requests.txt` holds a request a line, `recorded/answers.txt` the status and message each got. To record
//! again: `WHARF_TEST_PEER=unix:///dockerd.sock WHARF_RECORD=1 cargo test --test recorded`. What differs on purpose
//! is listed in `recorded/differences.txt` with Wharf's own answer and the reason.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;
use wharf_testkit::{Daemon, daemon, http};

/// An answer without the warnings that this machine's root alone gives.
fn without_machine(answer: String) -> String {
    if answer.starts_with("201 ") && answer.contains("needs CAP_SYS_RESOURCE") {
        "201 ".to_owned()
    } else {
        answer
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file(name)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Answers by request: `REQUEST => STATUS MESSAGE`.
fn answers(name: &str) -> BTreeMap<String, String> {
    lines(name)
        .iter()
        .filter_map(|line| line.split_once(" => "))
        .map(|(request, answer)| (request.to_owned(), answer.to_owned()))
        .collect()
}

fn fixture(d: &Daemon) -> Vec<(String, &'static str)> {
    let id = |run: wharf_testkit::Run| run.ok();
    vec![
        (id(d.docker(&["create", "--network", "none", "--name", "rec-created", "busybox"])), "<created>"),
        (
            id(d.docker(&[
                "run",
                "-d",
                "--network",
                "none",
                "--name",
                "rec-running",
                "busybox",
                "sleep",
                "100000",
            ])),
            "<running>",
        ),
        (exited(d), "<exited>"),
    ]
}

fn exited(d: &Daemon) -> String {
    d.docker(&["run", "--network", "none", "--name", "rec-exited", "busybox", "true"]).ok();
    d.inspect("rec-exited")["Id"].as_str().unwrap().to_owned()
}

/// Asks one thing and says status and message, with the fixture's ids replaced by their names.
fn ask(d: &Daemon, line: &str, ids: &[(String, &'static str)]) -> String {
    let mut words = line.splitn(3, ' ');
    let (method, path, body) = (words.next().unwrap(), words.next().unwrap(), words.next());
    let target: String =
        path.chars()
            .map(|letter| {
                if "{}[]\"".contains(letter) { format!("%{:02X}", letter as u32) } else { letter.to_string() }
            })
            .collect();
    let reply = http::request(&d.socket(), method, &target, body.map(str::as_bytes))
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    if reply.status == 201 && path.starts_with("/containers/create") {
        let document = reply.json();
        let id = document["Id"].as_str().unwrap().to_owned();
        d.request("DELETE", &format!("/containers/{id}?force=1&v=1"), None).unwrap();
        let warnings = document["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let warnings: Vec<&str> = warnings.collect();
        return format!("201 {}", warnings.join(" | "));
    }
    let mut message = if reply.status >= 400 { reply.message() } else { String::new() };
    for (id, name) in ids {
        message = message.replace(id, name).replace(&id[..12], name);
    }
    format!("{} {}", reply.status, message.trim().replace('\n', "\\n"))
}

#[test]
fn refusals_are_dockers_word_for_word() {
    let d = daemon!();
    let ids = fixture(&d);
    let requests = lines("requests.txt");
    if std::env::var_os("WHARF_RECORD").is_some() {
        assert!(d.is_peer(), "WHARF_RECORD records from the engine that WHARF_TEST_PEER names");
        let mut text = String::from("# dockerd 28.5.2, API 1.51.\n");
        for request in &requests {
            writeln!(text, "{request} => {}", ask(&d, request, &ids)).unwrap();
        }
        return std::fs::write(file("answers.txt"), text).unwrap();
    }
    let (recorded, differences) = (answers("answers.txt"), answers("differences.txt"));
    assert!(recorded.len() > 200, "only {} answers are recorded", recorded.len());
    let mut wrong = String::new();
    for request in &requests {
        let wanted = if d.is_peer() { None } else { differences.get(request) };
        let Some(wanted) = wanted.or_else(|| recorded.get(request)) else { continue };
        let got = without_machine(ask(&d, request, &ids));
        if got != *wanted {
            write!(wrong, "{request}\n  docker: {wanted}\n  wharf:  {got}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{wrong}", wrong.lines().count() / 3);
}

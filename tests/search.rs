//! Searching an index: the first version of Docker's registry API, served here by a small server.

use serde_json::{Value, json};
use wharf_testkit::Daemon;
use wharf_testkit::registry::{Fault, Faulty, Registry};

fn results() -> Value {
    json!({
        "num_pages": 1, "num_results": 3, "page": 1, "page_size": 25, "query": "tool",
        "results": [
            { "name": "tool", "description": "The tool itself", "star_count": 7, "is_official": true, "is_automated": true },
            { "name": "some/tool", "description": "x".repeat(80), "star_count": 9, "is_official": false },
            { "name": "other/tool", "description": null, "star_count": 0 },
        ],
    })
}

fn index(answer: Fault) -> (Registry, Faulty, Daemon) {
    let behind = Registry::start();
    let index = Faulty::before(&behind);
    index.every("GET", "/v1/search", answer);
    let address = format!("http://{}/", index.host());
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &["--search-index", &address]);
    (behind, index, d)
}

#[test]
fn an_index_is_asked() {
    let (_behind, index, d) = index(Fault::document("application/json", results().to_string()));
    let table = d.docker(&["search", "some tool"]).ok();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    assert_eq!((lines[1][0], lines[2][0], lines[3][0]), ("tool", "some/tool", "other/tool"), "{table}");
    assert_eq!(lines[1], ["tool", "The", "tool", "itself", "7", "[OK]"]);
    assert_eq!(index.seen()[0].target, "/v1/search?q=some%20tool&n=25");
    let names = |flags: &[&str]| {
        let words = [&["search", "--format", "{{.Name}} {{.StarCount}}"], flags, &["tool"]].concat();
        d.docker(&words).ok()
    };
    assert_eq!(names(&["--filter", "is-official=true"]), "tool 7");
    assert_eq!(names(&["--filter", "stars=8"]), "some/tool 9");
    assert_eq!(names(&["--filter", "is-automated=true"]), "");
    assert_eq!(names(&["--limit", "1"]), "tool 7");
    d.docker(&["search", "--limit", "101", "tool"]).fails(1, "limit 101 is outside the range of [1, 100]");
    d.docker(&["search", "--filter", "colour=red", "tool"]).fails(1, "invalid filter");
    assert_eq!(d.get("/images/search?term=tool").unwrap().json()[0]["is_automated"], false);
}

#[test]
fn an_index_that_fails_is_told() {
    for (answer, message) in [
        (Fault::status(503, None), "Unexpected status code 503"),
        (Fault::document("text/html", "<html>"), "error decoding search results"),
        (Fault::document("application/json", vec![b' '; 3 << 20]), "more than"),
    ] {
        let (_behind, _index, d) = index(answer);
        d.docker(&["search", "tool"]).fails(1, message);
    }
}

#[test]
fn without_an_index_the_setting_is_named() {
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let reply = d.get("/images/search?term=tool").unwrap();
    assert_eq!(reply.status, 501);
    assert!(reply.message().contains("--search-index"), "{}", reply.message());
    let mut other = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    other.stop();
    std::fs::write(other.path("daemon.json"), r#"{"search-index": "index.example"}"#).unwrap();
    assert!(!other.try_launch(&[]), "an address without a scheme is refused");
    assert!(other.log().contains("invalid search-index"), "{}", other.log());
}

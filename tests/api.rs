//! Every endpoint answers; conventions that clients lean on.

use serde_json::json;
use wharf_testkit::{daemon, http};

/// A registry that nobody serves: whoever asks it hears so at once.
const NOBODY: &str = "127.0.0.1:1";

/// Method and path of every endpoint of the API, with a name that exists nowhere.
const ENDPOINTS: &str = "
GET /containers/json | POST /containers/create | GET /containers/x/json | GET /containers/x/top | GET /containers/x/logs
GET /containers/x/changes | GET /containers/x/export | GET /containers/x/stats | POST /containers/x/resize?h=1&w=1 | POST /containers/x/start
POST /containers/x/stop | POST /containers/x/restart | POST /containers/x/kill | POST /containers/x/update | POST /containers/x/rename?name=y
POST /containers/x/pause | POST /containers/x/unpause | POST /containers/x/attach | GET /containers/x/attach/ws | POST /containers/x/wait
DELETE /containers/x | HEAD /containers/x/archive?path=/ | GET /containers/x/archive?path=/ | PUT /containers/x/archive?path=/
POST /containers/prune | POST /containers/x/exec | POST /exec/x/start | POST /exec/x/resize?h=1&w=1 | GET /exec/x/json
GET /images/json | POST /build | POST /build/prune | POST /images/create?fromImage=127.0.0.1:1/x | GET /images/x/json | GET /images/x/history
POST /images/x/push | POST /images/x/tag?repo=y | DELETE /images/x | GET /images/search?term=x | POST /images/prune
POST /commit?container=x | GET /images/x/get | GET /images/get?names=x | POST /images/load | GET /networks | GET /networks/x
DELETE /networks/x | POST /networks/create | POST /networks/x/connect | POST /networks/x/disconnect | POST /networks/prune
GET /volumes | POST /volumes/create | GET /volumes/x | PUT /volumes/x?version=1 | DELETE /volumes/x | POST /volumes/prune
POST /auth | GET /info | GET /version | GET /_ping | HEAD /_ping | GET /events?until=1 | GET /system/df | GET /distribution/127.0.0.1:1/x/json
POST /session | GET /plugins | GET /plugins/privileges?remote=x | POST /plugins/pull?remote=x | GET /plugins/x/json | DELETE /plugins/x
POST /plugins/x/enable | POST /plugins/x/disable | POST /plugins/x/upgrade?remote=x | POST /plugins/create?name=x | POST /plugins/x/push
POST /plugins/x/set | GET /swarm | POST /swarm/init | POST /swarm/join | POST /swarm/leave | POST /swarm/update?version=1
GET /swarm/unlockkey | POST /swarm/unlock | GET /nodes | GET /nodes/x | DELETE /nodes/x | POST /nodes/x/update?version=1
GET /services | POST /services/create | GET /services/x | DELETE /services/x | POST /services/x/update?version=1 | GET /services/x/logs
GET /tasks | GET /tasks/x | GET /tasks/x/logs | GET /secrets | POST /secrets/create | GET /secrets/x | DELETE /secrets/x
POST /secrets/x/update?version=1 | GET /configs | POST /configs/create | GET /configs/x | DELETE /configs/x | POST /configs/x/update?version=1
POST /grpc | POST /build/cancel?id=x | GET /containers/x/checkpoints | POST /containers/x/checkpoints | DELETE /containers/x/checkpoints/y
GET /networks/ | OPTIONS /anything";

#[test]
fn no_endpoint_is_missing() {
    let d = daemon!();
    let mut wrong = Vec::new();
    for line in ENDPOINTS.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let (method, path) = line.split_once(' ').unwrap();
        for prefix in ["", "/v1.24", "/v1.41", "/v1.51"] {
            let body = matches!(method, "POST" | "PUT").then(|| json!({ "serveraddress": NOBODY }));
            let reply = d
                .request(method, &format!("{prefix}{path}"), body.as_ref())
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let message = reply.message();
            let failed = reply.status == 500 && !message.contains(NOBODY) && !d.is_peer();
            if message.contains("page not found") || failed {
                wrong.push(format!("{line} ({prefix}): {} {message}", reply.status));
            }
            if path.starts_with("/swarm") && method == "GET" || path == "/services" {
                assert_eq!(reply.status, 503, "{line}: {message}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(d.get("/plugins").unwrap().text(), "[]\n");
    let reply = d.get("/nosuch").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (404, "{\"message\":\"page not found\"}\n"));
    let reply = d.request("PATCH", "/containers/json", None).unwrap();
    assert_eq!((reply.status, reply.message().as_str()), (404, "page not found"));
}

#[test]
fn negotiation_and_headers() {
    let d = daemon!();
    let reply = d.get("/_ping").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "OK"));
    for (name, value) in [
        ("ostype", "linux"),
        ("docker-experimental", "false"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let newest = reply.header("api-version").unwrap().to_owned();
    assert!(newest.as_str() >= "1.51");
    let head = d.request("HEAD", "/_ping", None).unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("0")));
    let reply = d.get("/v1.99/info").unwrap();
    assert_eq!(
        (reply.status, reply.message()),
        (400, format!("client version 1.99 is too new. Maximum supported API version is {newest}"))
    );
    let reply = d.get("/v1.10/info").unwrap();
    assert_eq!(reply.status, 400);
    assert!(
        reply.message().starts_with("client version 1.10 is too old. Minimum supported API version is "),
        "{}",
        reply.message()
    );
    let version = d.get("/version").unwrap().json();
    assert_eq!(version["ApiVersion"], newest.as_str());
    for key in
        ["Version", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion", "BuildTime"]
    {
        assert!(version[key].is_string(), "{key}");
    }
    assert!(version["Components"].as_array().is_some_and(|list| !list.is_empty()));
}

#[test]
fn bodies_are_read_as_go_reads_them() {
    let d = daemon!();
    let reply = d.post("/containers/create?name=lower", &json!({ "image": "busybox", "hostconfig": { "networkmode": "none", "memory": 67108864 }, "Unknown": 1 }));
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(d.inspect("lower")["HostConfig"]["Memory"], 67108864);
    let reply =
        http::request(&d.socket(), "POST", "/containers/create", Some(b"{\"Image\":\"busybox\"} trailing"))
            .unwrap();
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = http::request(&d.socket(), "POST", "/containers/create", Some(b"{not json")).unwrap();
    assert_eq!(reply.status, 400);
    let reply = d.get("/containers/json?filters=%7B%22label%22%3A%5B%22a%22%5D%7D").unwrap();
    assert_eq!((reply.status, reply.json()), (200, json!([])), "the old form of filters");
    let reply = d.get("/containers/json?filters=nonsense").unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(d.get("/containers/json?all=1&limit=0").unwrap().json().as_array().unwrap().len(), 1);
}

#[test]
fn info_and_disk_use() {
    let d = daemon!();
    let info = d.get("/info").unwrap().json();
    assert_eq!((&info["OSType"], &info["Swarm"]["LocalNodeState"]), (&json!("linux"), &json!("inactive")));
    assert!(info["NCPU"].as_i64() >= Some(1) && info["MemTotal"].as_i64() > Some(0));
    assert_eq!(info["Images"].as_i64().map(|count| count >= 1), Some(true));
    let df = d.docker(&["system", "df", "--format", "{{.Type}}"]).ok();
    assert_eq!(df, "Images\nContainers\nLocal Volumes\nBuild Cache");
    d.docker(&["info"]).ok();
    d.docker(&["version"]).ok();
    let networks = d.docker(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(networks.contains("host") && networks.contains("none"), "{networks}");
}

#[test]
fn stats_and_top() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .ok();
    let line =
        d.docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}", "busy"]).ok();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words[0], words[2]), ("busy", "1"));
    let share: f64 = words[1].trim_end_matches('%').parse().unwrap();
    assert!(share > 5.0 && share < 250.0, "{line}");
    let one = d.get("/containers/busy/stats?stream=0&one-shot=1").unwrap().json();
    assert!(
        one["memory_stats"]["usage"].as_i64() > Some(0) && one["cpu_stats"]["online_cpus"].as_i64() > Some(0)
    );
    let top = d.docker(&["top", "busy"]).ok();
    assert!(top.starts_with("UID ") && top.contains("while :"), "{top}");
    assert!(d.docker(&["top", "busy", "-o", "pid,args"]).ok().starts_with("PID "));
}

#[test]
fn the_old_client_still_works() {
    let d = daemon!();
    assert_eq!(d.docker_20(&["run", "--rm", "--network", "none", "busybox", "echo", "old"]).ok(), "old");
    d.docker_20(&["run", "-d", "--network", "none", "--name", "old", "busybox", "sleep", "1000"]).ok();
    assert!(d.docker_20(&["ps"]).ok().contains("Up "));
    assert_eq!(d.docker_20(&["exec", "old", "echo", "in"]).ok(), "in");
    assert!(d.docker_20(&["inspect", "old"]).ok().contains("\"Running\": true"));
    d.docker_20(&["images"]).ok();
    d.docker_20(&["info"]).ok();
    d.docker_20(&["system", "df"]).ok();
    d.docker_20(&["rm", "-f", "old"]).ok();
}

//! The HTTP layer over a real engine in a temporary folder, spoken to byte by byte.

use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use wharf_api::ApiVersion;
use wharf_engine::{Engine, EngineConfig};

use crate::http::connection;
use crate::http::route::TABLE;
use crate::listen::Socket;
use crate::server::App;

struct Server {
    app: Arc<App>,
    closing: watch::Receiver<bool>,
    _close: watch::Sender<bool>,
    _folder: TempDir,
}

async fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        data_root: folder.path().join("data"),
        exec_root: folder.path().join("run"),
        instance: "apitest".to_owned(),
        executable: PathBuf::from("/proc/self/exe"),
        cgroup_parent: "wharf-apitest".to_owned(),
        ..EngineConfig::default()
    };
    let engine = Engine::open(config).await.unwrap();
    let (close, closing) = watch::channel(false);
    Server {
        app: Arc::new(App::new(engine, ApiVersion::MIN).unwrap()),
        closing,
        _close: close,
        _folder: folder,
    }
}

impl Server {
    fn connect(&self) -> UnixStream {
        let (ours, theirs) = StdStream::pair().unwrap();
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        let socket = Socket::Unix(UnixStream::from_std(theirs).unwrap());
        tokio::spawn(connection::serve(socket, self.app.clone(), self.closing.clone()));
        UnixStream::from_std(ours).unwrap()
    }

    /// All that is answered to `request` until the connection ends.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn send(&self, method: &str, target: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{headers}");
        let answer = self.raw(&format!("{head}Content-Length: {length}\r\n\r\n{body}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn json(&self, method: &str, target: &str, body: &str) -> Reply {
        self.send(method, target, "Content-Type: application/json\r\n", body).await
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    #[track_caller]
    fn is(&self, status: u16, message: &str) {
        let body = serde_json::json!({ "message": message }).to_string();
        assert_eq!((self.status, self.body.trim_end()), (status, body.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_with_and_without_a_version() {
    let server = server().await;
    for route in TABLE {
        // These answer when something happens.
        if route.pattern == "/events" {
            continue;
        }
        let path =
            route.pattern.replace("{name*}", "no/such").replace("{id*}", "nosuch").replace("{id}", "nosuch");
        let path = path.replace("{checkpoint}", "c");
        for prefix in ["", "/v1.24", "/v1.51"] {
            let target = format!("{prefix}{path}");
            let reply = server.json(route.method.as_str(), &target, "").await;
            assert!(!reply.body.contains("page not found"), "{} {target}: {reply:?}", route.method);
            let hijacked = reply.head.contains("raw-stream");
            assert!(
                hijacked || reply.head.contains("Api-Version: 1.51"),
                "{} {target}: {reply:?}",
                route.method
            );
            // A registry that cannot be reached is no fault of the route, and an empty context has Docker's answer.
            let explained = ["dial tcp", "Cannot locate specified Dockerfile"];
            let explained = explained.iter().any(|words| reply.body.contains(words));
            assert!(reply.status != 500 || explained, "{} {target}: {reply:?}", route.method);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_unknown_paths_are_refused_as_docker_does() {
    let server = server().await;
    let reply = server.send("GET", "/v1.52/info", "", "").await;
    reply.is(400, "client version 1.52 is too new. Maximum supported API version is 1.51");
    assert!(!reply.head.contains("Docker-Experimental") && reply.head.contains("Ostype: linux"));
    let reply = server.send("GET", "/v1.10/info", "", "").await;
    assert!(
        reply.head.contains("text/plain")
            && reply.body.starts_with("client version 1.10 is too old. Minimum")
    );
    for (method, path) in
        [("GET", "/nope"), ("DELETE", "/info"), ("GET", "/v1.x/info"), ("PATCH", "/containers/json")]
    {
        let reply = server.send(method, path, "", "").await;
        reply.is(404, "page not found");
        assert!(!reply.head.contains("Api-Version"));
    }
    assert_eq!(server.send("OPTIONS", "/info", "", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_says_what_clients_negotiate_by() {
    let server = server().await;
    let reply = server.send("GET", "/_ping", "", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "OK"));
    for line in [
        "Api-Version: 1.51",
        "Docker-Experimental: false",
        "Ostype: linux",
        "Swarm: inactive",
        "Builder-Version: 1",
    ] {
        assert!(reply.head.contains(line), "{line} in {}", reply.head);
    }
    let head = server.send("HEAD", "/v1.40/_ping", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_checked_as_docker_checks_them() {
    let server = server().await;
    let create = "/containers/create";
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    server.send("POST", create, form, "{}").await.is(
        400,
        "unsupported Content-Type header (application/x-www-form-urlencoded): must be 'application/json'",
    );
    server.json("POST", create, "").await.is(400, "invalid JSON: got EOF while reading request body");
    server.json("POST", create, "{} {}").await.is(400, "unexpected content after JSON");
    server
        .json("POST", create, r#"{"Tty":"a"}"#)
        .await
        .is(400, "invalid JSON: json: cannot unmarshal string into Go struct field .Tty of type bool");
    let reply = server.json("POST", create, r#"{"image":"no-such-image","cmd":"ls"}"#).await;
    reply.is(404, "No such image: no-such-image:latest");
    let refused =
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
    server.json("POST", "/containers/x/start", r#"{"Binds":[]}"#).await.is(400, refused);
    server.json("POST", "/containers/x/start", "{}").await.is(404, "No such container: x");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked_as_docker_checks_them() {
    let server = server().await;
    let get = async |target: &str| server.send("GET", target, "", "").await;
    get("/containers/json?filters=zz").await.is(400, "invalid filter");
    get("/containers/json?filters=%7B%22zz%22:%5B%22a%22%5D%7D").await.is(400, "invalid filter 'zz'");
    get("/events?filters=%7B%22zz%22:%5B%22a%22%5D%7D&until=1").await.is(400, "invalid filter 'zz'");
    get("/containers/json?limit=abc").await.is(500, "strconv.Atoi: parsing \"abc\": invalid syntax");
    get("/containers/x/archive").await.is(400, "bad parameter: pathcannot be empty");
    get("/containers/x/logs").await.is(400, "Bad parameters: you must choose at least one stream");
    let post = async |target: &str| server.send("POST", target, "", "").await;
    post("/containers/x/resize?h=a&w=1").await.is(400, "invalid resize height \"a\": invalid syntax");
    let range = "invalid resize width \"-1\": value out of range";
    post("/containers/x/resize?h=1&w=-1").await.is(400, range);
    let range = "invalid resize height \"4294967296\": value out of range";
    post("/containers/x/resize?h=4294967296&w=1").await.is(400, range);
    post("/containers/x/wait?condition=zz").await.is(400, "invalid condition: \"zz\"");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    server
        .send("POST", "/containers/x/resize", form, "h=a")
        .await
        .is(400, "invalid resize height \"a\": invalid syntax");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attach_that_fails_is_answered_on_the_bare_connection() {
    let server = server().await;
    let failure = "HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nNo such container: x\r\n";
    let request = "POST /v1.51/containers/x/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    assert_eq!(server.raw(&format!("{request}{upgrade}\r\n")).await, failure);
    // Options in the body, as some clients send them, are not standard input.
    let body = "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"stdin\":true}";
    assert_eq!(server.raw(&format!("{request}{body}")).await, failure);
    server.json("POST", "/exec/x/start", "{}").await.is(404, "No such exec instance: x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants_does_not_break_the_answer() {
    let server = server().await;
    let context = "x".repeat(4 << 20);
    let refused = "read build context: invalid tar header: number with a digit that is not octal";
    server.send("POST", "/build", "Content-Type: application/x-tar\r\n", &context).await.is(400, refused);
    let reply = server.send("PUT", "/containers/x/archive?path=/", "", &context).await;
    reply.is(404, "No such container: x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests() {
    let server = server().await;
    let mut stream = server.connect();
    let mut buffer = vec![0; 4096];
    for _ in 0..3 {
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..length].ends_with(b"OK"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_begin_at_once_and_end_with_the_client() {
    let server = server().await;
    let mut stream = server.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    let made = server.json("POST", "/volumes/create", r#"{"Name":"v1"}"#).await;
    assert_eq!(made.status, 201);
    let length = stream.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert!(text.contains(r#""Type":"volume","Action":"create","Actor":{"ID":"v1""#), "{text}");
    drop(stream);
    for _ in 0..200 {
        if server.app.engine.events.listeners() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the subscription outlives its client");
}

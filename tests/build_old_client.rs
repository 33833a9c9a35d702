//! BuildKit as clients without the `buildx` plugin ask for it: `POST /build?version=2` beside a session, by the 20.10 client
//! of Debian 12 and by hand.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use wharf_testkit::client::{self, Run, eventually};
use wharf_testkit::{Daemon, daemon, http};

/// A daemon, and a directory to build.
struct Project {
    d: Daemon,
    top: PathBuf,
}

fn project(files: &[(&str, &str)]) -> Project {
    let d = daemon!();
    let top = d.path("project");
    let project = Project { d, top };
    for (name, text) in files {
        project.write(name, text);
    }
    project
}

impl Project {
    fn write(&self, name: &str, text: &str) {
        let path = self.top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.top.join(name).to_string_lossy().into_owned()
    }

    #[track_caller]
    fn build_with(&self, args: &[&str], stdin: &[u8]) -> Run {
        let mut command = self.d.command("docker-20");
        command.env("DOCKER_BUILDKIT", "1").env("BUILDKIT_PROGRESS", "plain").current_dir(&self.top);
        command.arg("build").args(args);
        client::run(command, stdin)
    }

    #[track_caller]
    fn build(&self, args: &[&str]) -> Run {
        self.build_with(&[args, &["."]].concat(), b"")
    }

    /// What a command says in a container of an image.
    #[track_caller]
    fn run(&self, image: &str, command: &[&str]) -> String {
        self.d.docker_20(&[&["run", "--rm", "--network", "none", image], command].concat()).ok()
    }

    /// The directory as an archive.
    fn packed(&self, name: &str) -> Vec<u8> {
        Command::new("tar").args(["-C", &self.path(name), "-c", "."]).output().unwrap().stdout
    }
}

#[test]
fn the_client_of_debian_12_builds_with_a_session() {
    let p = project(&[
        (
            "Dockerfile",
            "FROM busybox\nARG WHO=nobody\nCOPY . /c/\nRUN --mount=type=secret,id=one \
             echo $WHO > /who; cp /run/secrets/one /two\nCMD [\"cat\", \"/who\", \"/c/a\", \"/two\"]\n",
        ),
        ("a", "one\n"),
        ("secret", "hidden\n"),
        (".dockerignore", "secret\n"),
    ]);
    let (id, secret) = (p.path("../id"), format!("id=one,src={}", p.path("secret")));
    let flags = ["-t", "x:1", "-t", "x:2", "--label", "a=b", "--build-arg", "WHO=me", "--secret", &secret];
    let first = p.build(&[&flags[..], &["--iidfile", &id]].concat());
    first.ok();
    assert!(first.stderr.contains("[2/3] COPY . /c/"), "{}", first.stderr);
    assert!(first.stderr.contains("naming to docker.io/library/x:2"), "{}", first.stderr);
    assert_eq!(p.run("x:2", &[]), "me\none\nhidden");
    assert_eq!(p.run("x:1", &["ls", "-A", "/c"]), ".dockerignore\nDockerfile\na");
    let of = |what: &str| p.d.docker_20(&["image", "inspect", "-f", what, "x:1"]).ok();
    assert_eq!(
        (of("{{.Id}}"), of("{{.Config.Labels.a}}")),
        (fs::read_to_string(&id).unwrap(), "b".to_owned())
    );

    let again = p.build(&flags);
    again.ok();
    assert_eq!(again.stderr.matches(" CACHED").count(), 3, "{}", again.stderr);
    let quiet = p.build(&[&flags[..], &["-q"]].concat());
    assert_eq!((quiet.ok(), quiet.stderr.as_str()), (of("{{.Id}}"), ""));

    // A context that is fetched by the daemon.
    let nowhere = p.d.post("/build?version=2&remote=http://127.0.0.1:1/x.tar", &serde_json::Value::Null);
    assert!(nowhere.text().contains("127.0.0.1:1"), "{}", nowhere.text());
}

#[test]
fn what_fails_is_told_and_nothing_is_named() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN echo said; exit 7\n")]);
    let run = p.build(&["-t", "x"]);
    run.fails(1, "did not complete successfully: exit code: 7");
    assert!(run.stderr.contains("said"), "{}", run.stderr);
    let run = p.build(&["-q", "-t", "x"]);
    run.fails(1, "did not complete successfully: exit code: 7");
    assert!(run.stdout.is_empty() && run.stderr.contains("said"), "{} {}", run.stdout, run.stderr);
    assert!(p.d.docker_20(&["image", "inspect", "x"]).code != 0);
    p.write("Dockerfile", "FROM busybox\nCPOY a b\n");
    p.build(&[]).fails(1, "unknown instruction: CPOY");
    p.build(&["--network", "bridge"]).fails(1, "network mode \"bridge\" not supported by buildkit");
}

#[test]
fn contexts_and_outputs_of_all_kinds() {
    let p = project(&[("in/Dockerfile", "FROM busybox\nCOPY f /f\n"), ("in/f", "packed\n")]);
    p.build_with(&["-t", "x", "-"], &p.packed("in")).ok();
    assert_eq!(p.run("x", &["cat", "/f"]), "packed");
    p.build_with(&["-t", "y", "-"], b"FROM busybox\nRUN echo alone > /f\n").ok();
    assert_eq!(p.run("y", &["cat", "/f"]), "alone");
    p.build_with(&["-t", "z", "-f", "-", "in"], b"FROM busybox\nCOPY f /g\n").ok();
    assert_eq!(p.run("z", &["cat", "/g"]), "packed");

    p.write("out/Dockerfile", "FROM scratch\nCOPY f /d/f\n");
    p.write("out/f", "out\n");
    let (local, tar) = (format!("type=local,dest={}", p.path("local")), p.path("out.tar"));
    p.build_with(&["-o", &local, "out"], b"").ok();
    assert_eq!(fs::read_to_string(p.top.join("local/d/f")).unwrap(), "out\n");
    p.build_with(&["-o", &format!("type=tar,dest={tar}"), "out"], b"").ok();
    let listed = Command::new("tar").args(["-tf", &tar]).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().lines().any(|line| line == "d/f"));
}

#[test]
fn archives_come_with_the_request_without_a_session() {
    let p = project(&[("in/Dockerfile", "FROM busybox\nCOPY f /f\n"), ("in/f", "sent\n")]);
    let build = |query: &str, body: &[u8]| {
        http::request(&p.d.socket(), "POST", &format!("/build?version=2&{query}"), Some(body)).unwrap()
    };
    let reply = build("t=x", &p.packed("in"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let lines: Vec<serde_json::Value> =
        reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["id"] == "moby.buildkit.trace" && line["aux"].is_string()));
    let image = lines.iter().find(|line| line["id"] == "moby.image.id").unwrap();
    assert_eq!(image["aux"]["ID"], p.d.docker_20(&["image", "inspect", "-f", "{{.Id}}", "x"]).ok());
    assert_eq!(p.run("x", &["cat", "/f"]), "sent");
    let quiet = build("q=1", &p.packed("in"));
    assert_eq!(quiet.json()["stream"], format!("{}\n", image["aux"]["ID"].as_str().unwrap()));

    // What makes no sense, and a session that is not there.
    let cases = [
        ("version=3", "invalid version \"3\""),
        ("version=2&outputs=x", "invalid outputs specified"),
        ("version=2&outputs=[{},{}]", "multiple outputs not supported"),
        ("version=2&session=none&remote=client-session", "no active session for none"),
        ("version=2&buildid=x&remote=upload-request", "context deadline exceeded"),
        ("version=2&buildid=upload-request:y", "context deadline exceeded"),
        ("remote=client-session", "use builder version v2"),
    ];
    // Some wait for what never comes: all at once.
    let sent = cases.map(|(query, said)| {
        let begun = http::send(&p.d.socket(), "POST", &format!("/build?{query}"), None).unwrap();
        (query, said, begun)
    });
    for (query, said, begun) in sent {
        let reply = begun.finish().unwrap();
        assert!(
            reply.status != 200 && reply.message().contains(said),
            "{query}: {} {}",
            reply.status,
            reply.text()
        );
    }
}

#[test]
fn a_build_is_canceled_by_its_id_and_when_nobody_listens() {
    let p = project(&[("in/Dockerfile", "FROM busybox\nRUN exec sleep 300\n")]);
    let (socket, body) = (p.d.socket(), p.packed("in"));
    let building = std::thread::spawn(move || {
        http::request(&socket, "POST", "/build?version=2&buildid=one", Some(&body))
    });
    // One that has not begun is not ended.
    let ended = eventually(Duration::from_secs(30), || {
        assert_eq!(p.d.post("/build/cancel?id=one", &serde_json::Value::Null).status, 200);
        building.is_finished().then_some(())
    });
    assert!(ended.is_some());
    let reply = building.join().unwrap().unwrap();
    assert!(reply.text().contains("context canceled"), "{}", reply.text());
    assert!(p.d.post("/build/cancel", &serde_json::Value::Null).message().contains("build ID not provided"));

    // The answer has begun once a step is told; who leaves then takes the build along.
    let begun = http::begin(&p.d.socket(), "POST", "/build?version=2", Some(&p.packed("in"))).unwrap();
    let runs = || sleeping(&p.d);
    assert!(eventually(Duration::from_secs(30), || runs().then_some(())).is_some());
    drop(begun);
    assert!(eventually(Duration::from_secs(30), || (!runs()).then_some(())).is_some());
}

/// Whether a step of a build of this daemon sleeps.
fn sleeping(d: &Daemon) -> bool {
    let of = |pid: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let pid = entry.file_name().to_string_lossy().into_owned();
        pid.bytes().all(|byte| byte.is_ascii_digit())
            && of(&pid, "cmdline") == "sleep\x00300\x00"
            && of(&pid, "cgroup").contains(d.instance())
    })
}

//! Builds that need more than anybody has: registries and repositories that want to know who asks, and what is written on
//! the manifests that go there.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use wharf_testkit::client::{self, Run};
use wharf_testkit::registry::Registry;

use crate::{Project, project};

/// me:secret, as `htpasswd` writes it.
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry that wants to know who asks.
fn registry(folder: &Path) -> Registry {
    let passwords = folder.join("htpasswd");
    fs::write(&passwords, PASSWORDS).unwrap();
    Registry::with(|config| config.htpasswd = Some(passwords))
}

/// `me` with that password, as HTTP has it.
const ME: (&str, &str) = ("authorization", "Basic bWU6c2VjcmV0");

impl Project {
    /// `wharf build` of this directory.
    #[track_caller]
    fn wharf(&self, args: &[&str]) -> Run {
        let mut command = client::command(env!("CARGO_BIN_EXE_wharf"), &self.d.host(), &self.d.path(""));
        command.arg("build").args(args).arg(".").current_dir(&self.top);
        client::run(command, b"")
    }

    /// The manifest of the image in an archive.
    fn manifest(&self, archive: &str) -> Value {
        let out = self.top.join(format!("{archive}.d"));
        fs::create_dir(&out).unwrap();
        let status = Command::new("tar").arg("-xf").arg(self.top.join(archive)).arg("-C").arg(&out).status();
        assert!(status.unwrap().success());
        let read = |path: &str| serde_json::from_slice::<Value>(&fs::read(out.join(path)).unwrap()).unwrap();
        of_image(read("index.json"), |digest| read(&format!("blobs/{}", digest.replace(':', "/"))))
    }
}

/// The manifest of an image, which may be in an index with what is attested of it.
fn of_image(mut document: Value, read: impl Fn(&str) -> Value) -> Value {
    while let Some(first) = document["manifests"][0]["digest"].as_str() {
        document = read(first);
    }
    assert!(document["layers"].is_array(), "{document}");
    document
}

fn manifest_at(registry: &Registry, repository: &str) -> Value {
    let types = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
    let read = |reference: &str| {
        registry
            .ask("GET", &format!("/v2/{repository}/manifests/{reference}"), &[("accept", types), ME], b"")
            .json()
    };
    of_image(read("1"), read)
}

#[test]
fn registries_that_want_to_know_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, p) =
        (registry(folder.path()), project(&[("Dockerfile", "FROM busybox\nRUN echo 1 > /one\n")]));
    let host = registry.host();
    let (one, two) = (format!("{host}/one:1"), format!("{host}/two:1"));
    for run in [p.build(&["--push", "-t", &one]), p.wharf(&["--push", "-t", &one])] {
        assert!(run.code != 0 && run.stderr.contains("basic auth credentials"), "{run:?}");
    }
    p.docker_with(&["login", "-u", "me", "--password-stdin", &host], b"secret").ok();
    p.build(&["--push", "-t", &one]).ok();
    p.wharf(&["--push", "-t", &two]).ok();
    assert_eq!(manifest_at(&registry, "one")["layers"], manifest_at(&registry, "two")["layers"]);
    // A cache goes there and comes from there too.
    let cache = format!("type=registry,ref={host}/cache:1");
    p.build(&["--cache-to", &cache, "-t", "x"]).ok();

    // What stands on such an image, by a daemon that never had it.
    let q = project(&[("Dockerfile", &format!("FROM {one}\nCOPY --from={two} /one /two\n"))]);
    for run in [q.build(&["-t", "x"]), q.wharf(&["-t", "x"])] {
        assert!(run.code != 0 && run.stderr.contains(&host), "{run:?}");
    }
    q.docker_with(&["login", "-u", "me", "--password-stdin", &host], b"secret").ok();
    q.build(&["-t", "x"]).ok();
    assert_eq!(q.run("x", &["cat", "/one", "/two"]), "1\n1");
    q.docker(&["rmi", "x"]).ok();
    q.docker(&["builder", "prune", "-af"]).ok();
    q.wharf(&["-t", "x", "--cache-from", &cache]).ok();
    // The classic interface sends what it has with the request.
    q.docker(&["builder", "prune", "-af"]).ok();
    q.classic().ok();
}

#[test]
fn annotations_stand_on_what_goes_out() {
    let (registry, p) = (Registry::start(), project(&[("Dockerfile", "FROM busybox\nLABEL l=m\n")]));
    let note = |value: &str| ["--annotation".to_owned(), format!("org.example.note={value}")];
    let said = |document: &Value| document["annotations"]["org.example.note"].clone();
    let name = format!("{}/app:1", registry.host());
    for (number, own_client) in [false, true].into_iter().enumerate() {
        let build = |args: &[&str]| if own_client { p.wharf(args) } else { p.build(args) };
        let archive = format!("{number}.tar");
        let [flag, value] = note(&number.to_string());
        build(&[&flag, &value, "-o", &format!("type=oci,dest={archive}")]).ok();
        assert_eq!(said(&p.manifest(&archive)), number.to_string());
        // An image that is kept here and pushed later has them as well.
        build(&[&flag, &value, "-o", "type=image", "-t", &name]).ok();
        p.docker(&["push", "-q", &name]).ok();
        assert_eq!(said(&manifest_at(&registry, "app")), number.to_string());
        let [flag, value] = ["--annotation", "manifest-descriptor:org.example.note=outside"];
        let archive = format!("{number}-outside.tar");
        build(&[flag, value, "-o", &format!("type=oci,dest={archive}")]).ok();
        assert_eq!(said(&p.manifest(&archive)), Value::Null);
        let bytes = fs::read(p.top.join(&archive)).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(r#""org.example.note":"outside""#));
    }
}

/// Repositories below a directory, by git's own server, for who knows `header`; ends with the process.
fn serve(top: &Path, header: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let top = top.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), top) = (stream, top.clone()) else { return };
            // A client that breaks off is one that was refused.
            std::thread::spawn(move || drop(answer(&stream, &top, header)));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: &TcpStream, top: &Path, header: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut headers) = (String::new(), Vec::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let of = |name: &str| headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let length: usize = of("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if of("authorization") != header {
        let end = "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return write!(stream, "HTTP/1.1 401 Unauthorized\r\n{end}");
    }
    let target = first.split(' ').nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut server = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", top)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", first.split(' ').next().unwrap_or("GET"))
        .env("CONTENT_TYPE", of("content-type"))
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", of("content-encoding"))
        .env("GIT_PROTOCOL", of("git-protocol"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = server.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&body));
    let mut said = Vec::new();
    server.stdout.take().unwrap().read_to_end(&mut said)?;
    server.wait()?;
    drop(writer.join());
    let status = match said.strip_prefix(b"Status: ") {
        Some(rest) => String::from_utf8_lossy(rest).lines().next().unwrap_or_default().to_owned(),
        None => "200 OK".to_owned(),
    };
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    stream.write_all(&said)
}

#[test]
fn repositories_that_want_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("r.git");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("Dockerfile"), "FROM busybox\nCOPY f /f\n").unwrap();
    fs::write(work.join("f"), "private\n").unwrap();
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "1"]] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
        assert!(git.args(args).current_dir(&work).status().unwrap().success());
    }
    // x-access-token:t0ken
    let address = serve(folder.path(), "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=");
    let p = project(&[
        ("token", "t0ken\n"),
        ("wrong", "other"),
        ("header", "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="),
    ]);
    p.write("add/Dockerfile", &format!("FROM busybox\nADD {address}/r.git#main /r\n"));
    let (context, add) = (format!("{address}/r.git#main"), p.path("add"));
    let from = |name: &str, file: &str| format!("id={name},src={}", p.path(file));
    let host = address.trim_start_matches("http://");
    let secrets = [
        from("GIT_AUTH_TOKEN", "token"),
        from(&format!("GIT_AUTH_TOKEN.{host}"), "token"),
        from("GIT_AUTH_HEADER", "header"),
    ];
    let build = |secret: &[&str], what: &str| {
        let all = [&["buildx", "build", "--no-cache", "-t", "x"][..], secret, &[what]].concat();
        p.docker(&all)
    };
    for secret in &secrets {
        build(&["--secret", secret], &context).ok();
        assert_eq!(p.run("x", &["cat", "/f"]), "private");
        build(&["--secret", secret], &add).ok();
        assert_eq!(p.run("x", &["cat", "/r/f"]), "private");
    }
    for what in [context.as_str(), &add] {
        let wrong = from("GIT_AUTH_TOKEN", "wrong");
        for secret in [&[][..], &["--secret", wrong.as_str()]] {
            let run = build(secret, what);
            assert!(run.code != 0 && run.stderr.contains("failed to fetch remote"), "{run:?}");
            assert!(!run.stderr.contains("t0ken"), "{run:?}");
        }
    }
    assert!(!p.d.log().contains("t0ken") && !p.d.log().contains("eC1hY2Nlc3"));
}

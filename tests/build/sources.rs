//! Where files come from: the context and its ignore file, archives, addresses, repositories.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use wharf_testkit::{client, daemon};

use super::context::Context;

/// Serves files of a directory by HTTP, until it is dropped with the process.
fn serve(dir: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                request.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let path = text.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let answer = match path.strip_prefix("moved/") {
                Some(rest) => format!("HTTP/1.1 302 Found\r\nLocation: /{rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(),
                None => match std::fs::read(dir.join(&path)) {
                    Ok(body) => [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\n", body.len()).into_bytes(), body].concat(),
                    Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                },
            };
            let _ = stream.write_all(&answer);
        }
    });
    address
}

#[test]
fn what_is_ignored_is_not_there() {
    let d = daemon!();
    let context = Context::new("FROM busybox\nCOPY . /c/\n");
    context
        .put(".dockerignore", "*.log\nsecret\n!keep.log\n**/deep.txt\n")
        .put("a.log", "")
        .put("keep.log", "")
        .put("secret/x", "")
        .put("sub/deep.txt", "")
        .put("sub/other.txt", "");
    let told = context.shell(&d, &[], "cd /c; find . -type f | sort");
    assert_eq!(told, "./.dockerignore\n./Dockerfile\n./keep.log\n./sub/other.txt");
    // The file's own ignore file goes first.
    context.put("Dockerfile.dockerignore", "sub\n");
    let told = context.shell(&d, &[], "cd /c; find . -type f | sort");
    assert!(told.contains("./keep.log") && !told.contains("sub"), "{told}");
}

#[test]
fn archives_and_addresses_are_added() {
    let d = daemon!();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain.txt"), "by http").unwrap();
    let context = Context::new("");
    context.put("in/one", "1").put("in/two", "2");
    let status = Command::new("tar")
        .arg("czf")
        .arg(context.path().join("in.tgz"))
        .arg("-C")
        .arg(context.path())
        .arg("in")
        .status();
    assert!(status.unwrap().success());
    let address = serve(folder.path());
    let sum = String::from_utf8(
        Command::new("sha256sum").arg(folder.path().join("plain.txt")).output().unwrap().stdout,
    )
    .unwrap();
    let sum = sum.split(' ').next().unwrap();
    context.put("Dockerfile", &format!("FROM busybox\nADD in.tgz /x/\nCOPY in.tgz /y/\nADD {address}/plain.txt /z/\nADD --chmod=644 --checksum=sha256:{sum} {address}/moved/plain.txt /named\n"));
    let told = context.shell(
        &d,
        &[],
        "find /x /y -type f | sort; cat /z/plain.txt; stat -c ' %a %Y' /z/plain.txt; stat -c %a /named",
    );
    assert_eq!(told, "/x/in/one\n/x/in/two\n/y/in.tgz\nby http 600 1445412480\n644");
    context.put(
        "Dockerfile",
        &format!("FROM busybox\nADD --checksum=sha256:{} {address}/plain.txt /z\n", "0".repeat(64)),
    );
    context.build(&d, &[]).fails(1, "digest mismatch");
    context.put("Dockerfile", &format!("FROM busybox\nADD {address}/nosuch /z\n"));
    context.build(&d, &[]).fails(1, "404");
}

#[test]
fn a_dockerfile_comes_from_standard_input_beside_its_context() {
    let d = daemon!();
    let context = Context::new("FROM nosuch\n");
    context.put("foo", "bar");
    let command = context.command(&d, &["-q", "-t", "piped", "-f", "-"]);
    client::run(command, b"FROM busybox\nCOPY . /c/\n").ok();
    let there =
        d.docker(&["run", "--rm", "--network", "none", "piped", "sh", "-c", "cd /c && ls && cat foo"]);
    assert_eq!(there.ok(), "Dockerfile\nfoo\nbar");
}

#[test]
fn contexts_come_from_addresses() {
    let d = daemon!();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("c")).unwrap();
    std::fs::write(folder.path().join("c/Dockerfile"), "FROM busybox\nCOPY f /f\nRUN cat /f\n").unwrap();
    std::fs::write(folder.path().join("c/f"), "packed\n").unwrap();
    std::fs::write(folder.path().join("alone"), "FROM busybox\nRUN echo alone\n").unwrap();
    let status = Command::new("tar")
        .arg("czf")
        .arg(folder.path().join("c.tgz"))
        .arg("-C")
        .arg(folder.path().join("c"))
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    let address = serve(folder.path());
    for (name, said) in [("c.tgz", "packed"), ("alone", "alone")] {
        let mut command = d.command("docker");
        command.env("DOCKER_BUILDKIT", "0").args(["build", &format!("{address}/{name}")]);
        // The client fetches what is no repository itself; the daemon does when it is asked to.
        let run = client::run(command, b"");
        assert!(run.ok().contains(said));
        let reply = d.post(&format!("/build?nocache=1&remote={address}/{name}"), &serde_json::Value::Null);
        assert!(
            reply.text().contains(said) && reply.text().contains("Successfully built"),
            "{}",
            reply.text()
        );
    }
    let reply = d.post(&format!("/build?remote={address}/nosuch"), &serde_json::Value::Null);
    assert!(reply.text().contains("404"), "{}", reply.text());
    // Images do too.
    let said = d.docker(&["import", "-c", "CMD x", &format!("{address}/c.tgz"), "fetched:1"]).ok();
    assert!(said.starts_with(&format!("Downloading from {address}/c.tgz\nsha256:")), "{said}");
    let comment = d.docker(&["history", "--format", "{{.Comment}}", "fetched:1"]).ok();
    assert_eq!(comment, format!("Imported from {address}/c.tgz"));
    d.docker(&["import", &format!("{address}/nosuch")]).fails(1, "with status 404 Not Found");
    let reply = d.post("/images/create?fromSrc=file:///etc/passwd", &serde_json::Value::Null);
    assert!(reply.text().contains("unsupported protocol scheme"), "{}", reply.text());
    d.docker(&["import", "http://127.0.0.1:1/x"]).fails(1, "connect: connection refused");
}

/// A repository with one file at two commits, served by git itself.
struct Repository {
    folder: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl Repository {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("r.git");
        std::fs::create_dir(&work).unwrap();
        let git = |args: &[&str]| {
            let output = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
                .args(args)
                .current_dir(&work)
                .output()
                .unwrap();
            assert!(output.status.success(), "{args:?}: {output:?}");
        };
        git(&["init", "-q"]);
        std::fs::create_dir(work.join("sub")).unwrap();
        for (number, tag) in [("1", "v1"), ("2", "v2")] {
            std::fs::write(work.join("f"), number).unwrap();
            std::fs::write(work.join("sub/Dockerfile"), "FROM busybox\nCOPY . /g\nRUN ls -A /g; cat /g/n\n")
                .unwrap();
            std::fs::write(work.join("sub/n"), format!("n{number}\n")).unwrap();
            std::fs::write(work.join("Dockerfile"), "FROM busybox\nCOPY f /f\nRUN cat /f; ls -A /\n")
                .unwrap();
            git(&["add", "."]);
            git(&["commit", "-q", "-m", number]);
            git(&["tag", tag]);
        }
        // What a hostile repository brings.
        std::os::unix::fs::symlink("/etc", work.join("out")).unwrap();
        std::fs::write(work.join(".gitattributes"), "f filter=evil\n").unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "3"]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new("git")
            .args(["-c", "uploadpack.allowAnySHA1InWant=true", "daemon", "--reuseaddr", "--export-all"])
            .args(["--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", folder.path().display()))
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let reached = client::eventually(std::time::Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        assert!(reached.is_some());
        Self { folder, server, port }
    }

    fn address(&self) -> String {
        format!("git://127.0.0.1:{}/r.git", self.port)
    }

    fn commit(&self, name: &str) -> String {
        let output = Command::new("git")
            .args(["rev-parse", name])
            .current_dir(self.folder.path().join("r.git"))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn repositories_are_contexts_and_are_added() {
    let d = daemon!();
    let repository = Repository::new();
    let address = repository.address();
    let remote = |fragment: &str| {
        let target = format!("/build?remote={address}{}", fragment.replace('#', "%23"));
        d.post(&target, &serde_json::Value::Null).text()
    };
    assert!(remote("#v1").contains("Step 3/3 : RUN cat /f; ls -A /"));
    assert!(remote("#v1").contains("Successfully built"));
    let sub = remote("#v2:sub");
    assert!(sub.contains("Dockerfile\\n") && sub.contains("n2\\n") && !sub.contains(".git"), "{sub}");
    assert!(remote(&format!("#{}:sub", repository.commit("v1"))).contains("n1\\n"));
    assert!(remote("#nosuch").contains("nosuch"), "{}", remote("#nosuch"));
    assert!(remote("#main:out").contains("subdirectory out"), "{}", remote("#main:out"));
    let context = Context::new(&format!(
        "FROM busybox\nADD {address}#v1 /plain\nADD --keep-git-dir=true {address}#v2 /kept\n"
    ));
    let told = context.shell(
        &d,
        &[],
        "cat /plain/f /kept/f; ls -A /plain | head -1; test -d /kept/.git && echo kept",
    );
    assert_eq!(told, "12Dockerfile\nkept");
}

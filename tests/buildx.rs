//! Builds through the stock client: `buildx` as its plugin, and Compose.

#![allow(unreachable_pub, reason = "a test program with modules of its own")]

mod buildx {
    pub mod frontend;
    pub mod program;
    pub mod protected;
    pub mod record;
    pub mod remapped;
    pub mod scan;
}

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use wharf_testkit::client::{self, eventually};
use wharf_testkit::{Daemon, Run, daemon};

/// A daemon, and a directory to build.
struct Project {
    d: Daemon,
    top: PathBuf,
}

fn project(files: &[(&str, &str)]) -> Project {
    project_of(daemon!(), files)
}

fn project_of(d: Daemon, files: &[(&str, &str)]) -> Project {
    fs::create_dir_all(d.path("cli-plugins")).unwrap();
    for plugin in ["docker-buildx", "docker-compose"] {
        let from = client::clients().join("sid/usr/libexec/docker/cli-plugins").join(plugin);
        symlink(from, d.path("cli-plugins").join(plugin)).unwrap();
    }
    let top = d.path("project");
    fs::create_dir_all(&top).unwrap();
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
    fn docker(&self, args: &[&str]) -> Run {
        self.docker_with(args, b"")
    }

    #[track_caller]
    fn docker_with(&self, args: &[&str], stdin: &[u8]) -> Run {
        let mut command = client::command(client::program("docker"), &self.d.host(), &self.d.path(""));
        command.args(args).current_dir(&self.top);
        client::run(command, stdin)
    }

    /// Builds this directory; returns what was said.
    #[track_caller]
    fn build(&self, args: &[&str]) -> Run {
        let mut all = vec!["buildx", "build", "--progress", "plain"];
        all.extend_from_slice(args);
        all.push(".");
        self.docker(&all)
    }

    /// Builds this directory through the classic interface.
    #[track_caller]
    fn classic(&self) -> Run {
        let mut command = client::command(client::program("docker"), &self.d.host(), &self.d.path(""));
        command.args(["build", "."]).env("DOCKER_BUILDKIT", "0").current_dir(&self.top);
        client::run(command, b"")
    }

    /// What a command says in a container of an image.
    #[track_caller]
    fn run(&self, image: &str, command: &[&str]) -> String {
        let mut all = vec!["run", "--rm", "--network", "none", image];
        all.extend_from_slice(command);
        self.docker(&all).ok()
    }

    fn inspect(&self, image: &str) -> Value {
        let text = self.docker(&["image", "inspect", image]).ok();
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    }
}

#[test]
fn a_project_is_built_and_built_again_from_the_cache() {
    let p = project(&[
        ("Dockerfile", "FROM busybox\nCOPY a /a\nRUN cat /a > /b && echo said\nCMD [\"cat\", \"/b\"]\n"),
        ("a", "one"),
    ]);
    let first = p.build(&["-t", "x:1", "-t", "x:2"]);
    first.ok();
    assert!(first.stderr.contains("[3/3] RUN cat /a > /b && echo said"), "{}", first.stderr);
    assert!(first.stderr.contains("said"), "{}", first.stderr);
    assert!(first.stderr.contains("naming to docker.io/library/x:2"), "{}", first.stderr);
    assert_eq!(p.run("x:1", &[]), "one");
    assert_eq!(p.inspect("x:1")["Id"], p.inspect("x:2")["Id"]);
    let id = p.inspect("x:1")["Id"].clone();

    let again = p.build(&["-t", "x:1"]);
    again.ok();
    assert_eq!(again.stderr.matches(" CACHED").count(), 3, "{}", again.stderr);
    assert_eq!(p.inspect("x:1")["Id"], id);

    p.write("a", "two");
    p.build(&["-t", "x:1"]).ok();
    assert_eq!(p.run("x:1", &[]), "two");
    assert_eq!(p.run("x:2", &[]), "one");
}

#[test]
fn what_fails_is_shown_where_it_stands() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN echo first\nRUN false\nRUN echo never\n")]);
    let run = p.build(&[]);
    run.fails(1, "failed to solve: process \"/bin/sh -c false\" did not complete successfully: exit code: 1");
    assert!(run.stderr.contains("Dockerfile:3\n--------------------\n"), "{}", run.stderr);
    assert!(run.stderr.contains("   3 | >>> RUN false\n"), "{}", run.stderr);

    p.write("Dockerfile", "FROM busybox\nCPOY a b\n");
    let run = p.build(&[]);
    run.fails(1, "dockerfile parse error on line 2: unknown instruction: CPOY (did you mean COPY?)");
    assert!(run.stderr.contains("   2 | >>> CPOY a b\n"), "{}", run.stderr);

    p.write("Dockerfile", "FROM busybox\nCOPY missing /\n");
    p.build(&[]).fails(1, "\"/missing\": not found");

    p.write("Dockerfile", "FROM busybox AS a\n");
    p.build(&["--target", "b"]).fails(1, "target stage \"b\" could not be found");

    fs::remove_file(p.top.join("Dockerfile")).unwrap();
    p.build(&[]).fails(1, "failed to read dockerfile: open Dockerfile: no such file or directory");
}

#[test]
fn arguments_labels_and_targets_count() {
    let p = project(&[(
        "Dockerfile",
        "FROM busybox AS one\nARG WHO=nobody\nRUN echo $WHO > /who\nFROM one AS two\nRUN echo two > /two\n",
    )]);
    p.build(&["-t", "x", "--target", "one", "--build-arg", "WHO=me", "--label", "a=b"]).ok();
    assert_eq!(p.run("x", &["cat", "/who"]), "me");
    assert_eq!(p.inspect("x")["Config"]["Labels"]["a"], "b");
    assert_eq!(p.docker(&["run", "--rm", "x", "cat", "/two"]).code, 1);
}

#[test]
fn ids_and_metadata_are_written() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let (id, metadata) = (p.path("id"), p.path("metadata.json"));
    p.build(&["-t", "x", "--iidfile", &id, "--metadata-file", &metadata]).ok();
    let image = p.inspect("x");
    assert_eq!(fs::read_to_string(&id).unwrap(), image["Id"].as_str().unwrap());
    let metadata: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], image["Id"]);
    assert!(metadata["containerimage.digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(metadata["image.name"], "docker.io/library/x:latest");
    assert!(metadata["containerimage.descriptor"]["size"].as_u64().unwrap() > 0);
    let provenance = &metadata["buildx.build.provenance"];
    assert!(
        provenance["materials"][0]["uri"].as_str().unwrap().starts_with("pkg:docker/busybox"),
        "{metadata}"
    );
    assert_eq!(p.docker(&["buildx", "build", "-q", "."]).ok(), image["Id"].as_str().unwrap());
}

#[test]
fn secrets_leave_no_trace() {
    let secret = "s3cr3t-that-is-nowhere";
    let p = project(&[
        (
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=secret,id=one cat /run/secrets/one | wc -c > /length\n\
             RUN --mount=type=secret,id=one,env=ONE test -n \"$ONE\"\n",
        ),
        ("secret", secret),
        (".dockerignore", "secret\n"),
    ]);
    let from = format!("id=one,src={}", p.path("secret"));
    let run = p.build(&["-t", "x", "--secret", &from]);
    run.ok();
    assert_eq!(p.run("x", &["cat", "/length"]), secret.len().to_string());
    assert_eq!(p.docker(&["run", "--rm", "x", "ls", "/run/secrets/one"]).code, 1);
    assert!(!run.stderr.contains(secret));
    let history = p.docker(&["history", "--no-trunc", "x"]).ok();
    assert!(!history.contains(secret));
    let archive = p.path("x.tar");
    p.docker(&["save", "-o", &archive, "x"]).ok();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!holds(&fs::read(archive).unwrap()));
    let mut open = vec![p.d.path("data")];
    while let Some(folder) = open.pop() {
        // What was thrown away goes meanwhile.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                assert!(!holds(&fs::read(entry.path()).unwrap_or_default()), "{:?}", entry.path());
            }
        }
    }
    p.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=two,required=true true\n");
    p.build(&[]).fails(1, "secret two: not found");
}

#[test]
fn files_and_archives_come_out() {
    let p = project(&[(
        "Dockerfile",
        "FROM busybox AS made\nRUN mkdir -p /out/d && echo x > /out/d/f && chmod 4755 /out/d/f && ln -s d/f /out/l\n\
         FROM scratch\nCOPY --from=made /out /\n",
    )]);
    p.build(&["-o", "local-out"]).ok();
    let out = p.top.join("local-out");
    assert_eq!(fs::read_to_string(out.join("d/f")).unwrap(), "x\n");
    assert_eq!(fs::metadata(out.join("d/f")).unwrap().permissions().mode() & 0o7777, 0o4755);
    assert_eq!(fs::read_link(out.join("l")).unwrap(), Path::new("d/f"));

    p.build(&["-o", "type=tar,dest=out.tar"]).ok();
    let listed = std::process::Command::new("tar").args(["-tf", &p.path("out.tar")]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line == "d/f"), "{listed}");

    p.build(&["-o", "type=oci,dest=oci.tar,name=example.com/x:1"]).ok();
    let listed = std::process::Command::new("tar").args(["-tf", &p.path("oci.tar")]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("oci-layout") && listed.contains("index.json"), "{listed}");

    p.build(&["-o", "type=oci,dest=layout,tar=false,name=example.com/x:1"]).ok();
    let index: Value = serde_json::from_slice(&fs::read(p.top.join("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let manifest = fs::read(p.top.join("layout/blobs/sha256").join(digest)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["manifests"].is_array() || manifest["layers"].is_array(), "{manifest}");

    p.build(&["-o", "type=docker,dest=docker.tar,name=example.com/x:2"]).ok();
    p.docker(&["load", "-i", &p.path("docker.tar")]).ok();
    p.inspect("example.com/x:2");

    p.build(&["-o", "type=cacheonly"]).ok();
}

#[test]
fn contexts_come_from_elsewhere() {
    let p = project(&[
        ("Dockerfile", "FROM base\nCOPY --from=other f /f\nCOPY . /all\n"),
        ("other/f", "other"),
        ("kept", "1"),
        ("left", "2"),
        (".dockerignore", "left\nother\n"),
    ]);
    let other = format!("other={}", p.path("other"));
    let contexts = ["--build-context", "base=docker-image://busybox:latest", "--build-context", &other];
    p.build(&[&["-t", "x"], &contexts[..]].concat()).ok();
    assert_eq!(p.run("x", &["cat", "/f"]), "other");
    assert_eq!(p.run("x", &["ls", "-A", "/all"]), ".dockerignore\nDockerfile\nkept");

    // An image in a directory: as a base with its config, and to copy from.
    p.write("layout/Dockerfile", "FROM busybox\nENV FROM=layout\nRUN echo laid > /laid\n");
    p.docker(&[
        "buildx",
        "build",
        "-o",
        "type=oci,dest=oci,tar=false,name=example.com/l:1",
        p.path("layout").as_str(),
    ])
    .ok();
    p.write("laid/Dockerfile", "FROM base\nRUN echo $FROM > /from\nCOPY --from=base /laid /again\n");
    let base = format!("base=oci-layout://{}", p.path("oci"));
    p.docker(&["buildx", "build", "-t", "v", "--build-context", &base, p.path("laid").as_str()]).ok();
    assert_eq!(p.run("v", &["cat", "/from", "/laid", "/again"]), "layout\nlaid\nlaid");
    // Its layers are what they are, whatever bound the times of new ones have.
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1", "--build-context", &base];
    p.docker(&[&["buildx", "build", "-t", "v1"], &epoch[..], &[p.path("laid").as_str()]].concat()).ok();
    let layers = |image: &str| p.inspect(image)["RootFS"]["Layers"].as_array().unwrap().clone();
    let (usual, bound) = (layers("v"), layers("v1"));
    assert_eq!(usual[..2], bound[..2]);
    assert_ne!(usual[2..], bound[2..]);

    // A Dockerfile alone, then an archive, on standard input.
    let text = b"FROM busybox\nRUN echo in > /f\n";
    p.docker_with(&["buildx", "build", "-t", "y", "-"], text).ok();
    assert_eq!(p.run("y", &["cat", "/f"]), "in");
    p.write("second/Dockerfile", "FROM busybox\nCOPY f /f\n");
    p.write("second/f", "packed");
    let packed =
        std::process::Command::new("tar").args(["-C", &p.path("second"), "-c", "."]).output().unwrap();
    p.docker_with(&["buildx", "build", "-t", "z", "-"], &packed.stdout).ok();
    assert_eq!(p.run("z", &["cat", "/f"]), "packed");
    p.docker_with(
        &["buildx", "build", "-t", "w", "-f", "-", p.path("second").as_str()],
        b"FROM busybox\nCOPY f /w\n",
    )
    .ok();
    assert_eq!(p.run("w", &["cat", "/w"]), "packed");
}

#[test]
fn an_agent_is_forwarded() {
    let p = project(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\nRUN test -z \"$SSH_AUTH_SOCK\"\n",
    )]);
    let Ok(agent) = std::process::Command::new("ssh-agent").arg("-s").output() else { return };
    let said = String::from_utf8(agent.stdout).unwrap();
    let value = |name: &str| {
        let rest = &said[said.find(name).unwrap() + name.len() + 1..];
        rest[..rest.find(';').unwrap()].to_owned()
    };
    let (socket, pid) = (value("SSH_AUTH_SOCK"), value("SSH_AGENT_PID"));
    let run = p.build(&["-t", "x", "--ssh", &format!("default={socket}")]);
    let _ = std::process::Command::new("kill").arg(&pid).status();
    run.ok();
    let left = || fs::read_dir(p.d.path("run").join("ssh")).map_or(0, Iterator::count);
    assert!(eventually(Duration::from_secs(10), || (left() == 0).then_some(())).is_some(), "{} left", left());
}

#[test]
fn all_ways_to_show_progress_work() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN echo said\n")]);
    let raw = p.docker(&["buildx", "build", "--progress", "rawjson", "."]);
    raw.ok();
    let events: Vec<Value> = raw.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let vertices: Vec<&Value> =
        events.iter().filter_map(|event| event["vertexes"].as_array()).flatten().collect();
    let step = vertices.iter().find(|vertex| vertex["name"] == "[2/2] RUN echo said").unwrap();
    assert!(step["digest"].as_str().unwrap().starts_with("sha256:"));
    let logged = events.iter().filter_map(|event| event["logs"].as_array()).flatten().count();
    assert!(logged > 0, "{}", raw.stderr);
    assert_eq!(p.docker(&["buildx", "build", "--progress", "quiet", "."]).stderr, "");
    let shown = p.docker(&["buildx", "build", "--progress", "tty", "."]);
    shown.fails(1, "provided file is not a console");
    let script = format!("docker -H {} buildx build --progress tty .", p.d.host());
    let script = script.replace("docker", &client::program("docker").to_string_lossy());
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &script, "/dev/null"]).env("DOCKER_CONFIG", p.d.path("")).current_dir(&p.top);
    let shown = client::run(command, b"").ok();
    assert!(shown.contains("FINISHED"), "{shown}");
}

#[test]
fn findings_targets_and_parameters_are_told() {
    let p = project(&[(
        "Dockerfile",
        "ARG BASE=busybox\n# one is first\nFROM $BASE AS one\n# WHO is greeted\nARG WHO=all\nrun true\nFROM one as two\n",
    )]);
    let run = p.docker(&["buildx", "build", "--check", "."]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.contains("ConsistentInstructionCasing"), "{}", run.stdout);
    assert!(run.stdout.contains("FromAsCasing"), "{}", run.stdout);
    let told = p.docker(&["buildx", "build", "--call", "targets", "."]).ok();
    assert!(told.contains("one           is first") && told.contains("two (default)"), "{told}");
    let told = p.docker(&["buildx", "build", "--call", "outline", "."]).ok();
    assert!(told.contains("WHO") && told.contains("is greeted"), "{told}");
}

#[test]
fn several_targets_are_baked_together() {
    let bake = r#"
        group "default" { targets = ["app", "tool"] }
        target "base" { dockerfile = "base.Dockerfile" }
        target "app" {
            contexts = { base = "target:base" }
            tags = ["app:1"]
            args = { WHO = "app" }
        }
        target "tool" {
            contexts = { base = "target:base" }
            tags = ["tool:1"]
            args = { WHO = "tool" }
        }
    "#;
    let p = project(&[
        ("docker-bake.hcl", bake),
        ("base.Dockerfile", "FROM busybox\nENV FROM_BASE=yes\nRUN echo base > /base\n"),
        ("Dockerfile", "FROM base\nARG WHO\nCOPY f /f\nRUN echo $WHO $FROM_BASE > /who\n"),
        ("f", "file"),
    ]);
    p.docker(&["buildx", "bake", "--progress", "plain"]).ok();
    assert_eq!(p.run("app:1", &["cat", "/base", "/who", "/f"]), "base\napp yes\nfile");
    assert_eq!(p.run("tool:1", &["cat", "/who"]), "tool yes");
}

#[test]
fn compose_builds_its_services() {
    let compose = "services:\n  one:\n    build: ./one\n    image: one:built\n  two:\n    build:\n      context: ./two\n      \
                   args: {WHO: compose}\n    image: two:built\n";
    let p = project(&[
        ("compose.yaml", compose),
        ("one/Dockerfile", "FROM busybox\nCOPY f /f\n"),
        ("one/f", "1"),
        ("two/Dockerfile", "FROM busybox\nARG WHO\nRUN echo $WHO > /f\n"),
    ]);
    p.docker(&["compose", "--progress", "plain", "build"]).ok();
    assert_eq!(p.run("one:built", &["cat", "/f"]), "1");
    assert_eq!(p.run("two:built", &["cat", "/f"]), "compose");
}

#[test]
fn a_builder_shows_itself_and_what_it_keeps() {
    let p = project(&[("Dockerfile", "FROM busybox\nCOPY f /f\nRUN echo kept > /kept\n"), ("f", "1")]);
    let shown = p.docker(&["buildx", "inspect"]).ok();
    assert!(shown.contains("Driver:        docker") || shown.contains("docker"), "{shown}");
    assert!(shown.contains("linux/amd64"), "{shown}");
    assert!(p.docker(&["buildx", "ls"]).ok().contains("running"));
    p.build(&["-t", "x"]).ok();
    let used = p.docker(&["buildx", "du"]).ok();
    assert!(used.contains("Total:"), "{used}");
    let listed = p.docker(&["buildx", "history", "ls"]).ok();
    assert!(listed.contains("Completed"), "{listed}");
    p.docker(&["buildx", "prune", "-af"]).ok();
    let again = p.build(&["-t", "x"]);
    again.ok();
    assert!(!again.stderr.contains("CACHED"), "{}", again.stderr);
    assert_eq!(p.run("x", &["cat", "/kept"]), "kept");
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN echo begun && sleep 300\n")]);
    let mut command = client::command(client::program("docker"), &p.d.host(), &p.d.path(""));
    command.args(["buildx", "build", "--progress", "plain", "."]).current_dir(&p.top);
    let mut child =
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let running = || {
        let listed = std::process::Command::new("pgrep").args(["-f", "^sleep 300$"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().filter_map(|pid| pid.parse::<i32>().ok()).any(
            |pid| {
                let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                group.contains(p.d.instance())
            },
        )
    };
    eventually(Duration::from_secs(30), || running().then_some(())).expect("the step begins");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    eventually(Duration::from_secs(10), || (!running()).then_some(())).expect("the step ends");
    let mounts = || wharf_testkit::census::mounts(p.d.instance());
    eventually(Duration::from_secs(10), || mounts().is_empty().then_some(())).unwrap_or_else(|| {
        panic!("mounts are left: {:?}", mounts());
    });
}

#[test]
fn only_what_changed_is_sent() {
    let p = project(&[("Dockerfile", "FROM busybox\nCOPY . /all\n")]);
    for number in 0..300 {
        p.write(&format!("d{}/f{number}", number % 7), &"x".repeat(3_000));
    }
    // 900 kB of content, and what each file is known by.
    let sent = |run: &Run| {
        let line = |line: &&str| line.contains("transferring context:") && line.contains("kB");
        let line = run.stderr.lines().find(line).unwrap_or_else(|| panic!("{}", run.stderr));
        let words: Vec<&str> = line.split_whitespace().collect();
        words[3].trim_end_matches("kB").parse::<f64>().unwrap()
    };
    let first = p.build(&["-t", "x"]);
    first.ok();
    assert!(sent(&first) > 900.0, "{}", first.stderr);
    let second = p.build(&["-t", "x"]);
    second.ok();
    assert!(sent(&second) < 50.0, "{}", second.stderr);
    let mut file = fs::OpenOptions::new().append(true).open(p.top.join("d3/f3")).unwrap();
    file.write_all(b"more").unwrap();
    fs::remove_file(p.top.join("d4/f4")).unwrap();
    p.build(&["-t", "x"]).ok();
    assert_eq!(
        p.run(
            "x",
            &["sh", "-c", "tail -c 4 /all/d3/f3; ls /all/d4/f4 2>&1 | wc -l; find /all -type f | wc -l"]
        ),
        "more1\n300"
    );
}

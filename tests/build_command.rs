//! `wharf build`: what it takes, what it gives, and what it says.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use wharf_testkit::client::{self, Run};
use wharf_testkit::{Daemon, daemon};

fn write(top: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn project(d: &Daemon, files: &[(&str, &str)]) -> PathBuf {
    let top = d.path("project");
    write(&top, files);
    top
}

/// `wharf build` in a directory, with bytes on standard input.
#[track_caller]
fn build(d: &Daemon, top: &Path, args: &[&str], stdin: &[u8]) -> Run {
    let mut command = client::command(env!("CARGO_BIN_EXE_wharf"), &d.host(), &d.path(""));
    command.arg("build").args(args).current_dir(top).env("SECRET_HERE", "from the environment");
    client::run(command, stdin)
}

fn run(d: &Daemon, image: &str, command: &[&str]) -> String {
    d.docker(&[&["run", "--rm", "--network", "none", image], command].concat()).ok()
}

#[test]
fn files_flags_and_their_results() {
    let d = daemon!();
    let top = project(
        &d,
        &[
            (
                "Dockerfile",
                "FROM busybox AS base\nARG A\nRUN echo $A > /a\nFROM base AS end\nCOPY . /in/\nRUN false",
            ),
            (".dockerignore", "left\n*.log\n!kept.log\n"),
            ("left/out", "x"),
            ("some.log", "x"),
            ("kept.log", "x"),
            ("sub/file", "x"),
            ("other/Other", "FROM busybox\nCOPY --from=more file /more\nCOPY sub /sub\n"),
            ("more/file", "from elsewhere"),
        ],
    );
    let (iid, told) = (d.path("iid"), d.path("told"));
    let flags = ["--target", "base", "--build-arg", "A=1 2", "-t", "one", "-t", "me/two:3", "--label", "l=m"];
    let files = ["--iidfile", iid.to_str().unwrap(), "--metadata-file", told.to_str().unwrap()];
    build(&d, &top, &[&flags[..], &files, &["."]].concat(), b"").ok();
    assert_eq!(run(&d, "me/two:3", &["cat", "/a"]), "1 2");
    let image = d.get("/images/one/json").unwrap().json();
    assert_eq!(image["Id"], fs::read_to_string(&iid).unwrap());
    assert_eq!(image["Config"]["Labels"]["l"], "m");
    let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    assert_eq!(told["image.name"], "docker.io/library/one:latest,docker.io/me/two:3");
    assert_eq!(told["containerimage.descriptor"]["digest"], told["containerimage.digest"]);
    // Another Dockerfile, a context of its own name, and quiet.
    let more = format!("more={}", top.join("more").display());
    let quiet =
        build(&d, &top, &["-q", "-f", "other/Other", "--build-context", &more, "-t", "three", "."], b"");
    assert!(quiet.ok().starts_with("sha256:") && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(run(&d, "three", &["cat", "/more"]), "from elsewhere");
    // What is ignored is not sent.
    let list = "FROM busybox\nCOPY . /in/\nCMD find /in -type f\n";
    write(&top, &[("Dockerfile", list)]);
    build(&d, &top, &["-t", "four", "."], b"").ok();
    let mut found: Vec<String> =
        run(&d, "four", &["find", "/in", "-type", "f"]).lines().map(str::to_owned).collect();
    found.sort();
    let expected = [
        "/in/.dockerignore",
        "/in/Dockerfile",
        "/in/kept.log",
        "/in/more/file",
        "/in/other/Other",
        "/in/sub/file",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_failure_shows_what_and_where() {
    let d = daemon!();
    let top = project(&d, &[("Dockerfile", "FROM busybox\nRUN true\nRUN echo last words; exit 7\n")]);
    let failed = build(&d, &top, &["--progress", "plain", "."], b"");
    failed
        .fails(1, "ERROR: failed to build: failed to solve: process \"/bin/sh -c echo last words; exit 7\"");
    for part in
        ["Dockerfile:3\n", "   3 | >>> RUN echo last words; exit 7\n", "exit code: 7", "\nlast words\n"]
    {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }
    build(&d, &top, &["nowhere"], b"").fails(1, "path \"nowhere\" not found");
    build(&d, &top, &["--secret", "id=x,src=/no/such", "."], b"").fails(1, "failed to stat /no/such");
    build(&d, &top, &["-t", "UPPER", "."], b"").fails(1, "invalid tag");
}

#[test]
fn contexts_on_standard_input() {
    let d = daemon!();
    let top = project(&d, &[("file", "in the archive"), ("Dockerfile", "FROM busybox\nCOPY file /f\n")]);
    build(&d, &top, &["-t", "alone", "-"], b"FROM busybox\nRUN echo alone > /f\n").ok();
    assert_eq!(run(&d, "alone", &["cat", "/f"]), "alone");
    build(&d, &top, &["-t", "file", "-f", "-", "."], b"FROM busybox\nCOPY file /g\n").ok();
    assert_eq!(run(&d, "file", &["cat", "/g"]), "in the archive");
    let archive =
        std::process::Command::new("tar").args(["-cz", "."]).current_dir(&top).output().unwrap().stdout;
    build(&d, &top, &["-t", "archive", "-"], &archive).ok();
    assert_eq!(run(&d, "archive", &["cat", "/f"]), "in the archive");
}

#[test]
fn results_that_leave_the_engine() {
    let d = daemon!();
    let dockerfile = "FROM scratch\nCOPY script /bin/script\nCOPY dir /dir\n";
    let top =
        project(&d, &[("Dockerfile", dockerfile), ("script", "#!/bin/sh\n"), ("dir/deep/file", "deep")]);
    fs::set_permissions(top.join("script"), fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::symlink("deep/file", top.join("dir/link")).unwrap();
    let out = d.path("out");
    build(&d, &top, &["-o", out.to_str().unwrap(), "."], b"").ok();
    assert_eq!(fs::read_to_string(out.join("dir/link")).unwrap(), "deep");
    assert_eq!(fs::metadata(out.join("bin/script")).unwrap().permissions().mode() & 0o7777, 0o751);
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "dir"], "nothing that no step made");
    let tar = d.path("files.tar");
    build(&d, &top, &["-o", &format!("type=tar,dest={}", tar.display()), "."], b"").ok();
    let listed = std::process::Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("dir/deep/file\n"));
    let image = d.path("image.tar");
    let output = format!("type=docker,dest={}", image.display());
    let id = build(&d, &top, &["-q", "-t", "loaded:1", "-o", &output, "."], b"").ok();
    assert!(
        d.get("/images/loaded:1/json").is_ok_and(|reply| reply.status == 404),
        "it is in the archive alone"
    );
    d.docker(&["load", "-q", "-i", image.to_str().unwrap()]).ok();
    assert_eq!(d.get("/images/loaded:1/json").unwrap().json()["Id"], id.as_str());
}

/// Whether some file below a directory has these bytes.
fn holds(dir: &Path, needle: &str) -> bool {
    found(dir, needle, &mut HashSet::new())
}

/// Files of many names are read once: an image may have hundreds.
fn found(dir: &Path, needle: &str, seen: &mut HashSet<u64>) -> bool {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        let Ok(meta) = path.symlink_metadata() else { return false };
        if meta.is_dir() {
            return found(&path, needle, seen);
        }
        meta.is_file()
            && seen.insert(meta.ino())
            && fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle))
    })
}

#[test]
fn secrets_reach_steps_and_nothing_else() {
    let d = daemon!();
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=file --mount=type=secret,id=env,env=SEEN \
        grep -q '^xy.*-4711$' /run/secrets/file && echo \"$SEEN\" | grep -q '^from.*ment$' && touch /seen\n";
    let top = project(&d, &[("Dockerfile", dockerfile), ("ignored", "x")]);
    let secret = d.path("secret-file");
    fs::write(&secret, "xyzzy-4711").unwrap();
    let file = format!("id=file,src={}", secret.display());
    let flags =
        ["--secret", &file, "--secret", "id=env,env=SECRET_HERE", "--provenance", "mode=max", "-t", "s", "."];
    let said = build(&d, &top, &flags, b"");
    said.ok();
    run(&d, "s", &["ls", "/seen"]);
    assert!(!said.stderr.contains("xyzzy"), "{said:?}");
    assert!(holds(&d.path("data"), "touch /seen"), "the history is looked through");
    assert!(!holds(&d.path("data"), "xyzzy-4711"));
    assert!(!holds(&d.path("data"), "from the environment"));
}

#[test]
fn questions_are_answered_without_a_build() {
    let d = daemon!();
    let top = project(&d, &[("Dockerfile", "FROM busybox as x\nRUN touch /never\n")]);
    let checked = build(&d, &top, &["--check", "."], b"");
    assert_eq!(checked.code, 1, "{checked:?}");
    for part in ["1 warning has been found", "WARNING: FromAsCasing", "   1 | >>> FROM busybox as x"] {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }
    write(&top, &[("Dockerfile", "FROM busybox AS x\nARG A=1\nRUN touch /never\n")]);
    assert_eq!(build(&d, &top, &["--check", "."], b"").ok(), "Check complete, no warnings found.");
    let outline: Value =
        serde_json::from_str(&build(&d, &top, &["--call", "outline", "."], b"").ok()).unwrap();
    assert_eq!(outline["args"][0]["name"], "A");
    assert_eq!(d.wharf(&["images", "-q"]).ok().lines().count(), 1, "nothing was built");
}

#[test]
fn the_cache_is_told_and_pruned() {
    let d = daemon!();
    let top = project(&d, &[("Dockerfile", "FROM busybox\nRUN head -c 100000 /dev/zero > /zeros\n")]);
    build(&d, &top, &["-o", "type=cacheonly", "."], b"").ok();
    let used = d.wharf(&["buildx", "du"]).ok();
    assert!(used.starts_with("ID") && used.contains("Total:\t\t"), "{used}");
    let raw = build(&d, &top, &["--progress", "rawjson", "-t", "x", "."], b"");
    assert_eq!(raw.code, 0, "{raw:?}");
    let cached = raw.stderr.lines().any(|line| {
        let update: Value = serde_json::from_str(line).unwrap();
        update["vertexes"].as_array().is_some_and(|all| all.iter().any(|vertex| vertex["cached"] == true))
    });
    assert!(cached, "{}", raw.stderr);
    let freed = d.wharf(&["builder", "prune", "-a", "-f"]).ok();
    assert!(freed.contains("Total reclaimed space:"), "{freed}");
}

#[test]
fn an_image_in_a_directory_is_a_context() {
    let d = daemon!();
    let text = "FROM busybox\nENV FROM=layout\nRUN echo laid > /laid\n";
    let top = project(
        &d,
        &[
            ("Dockerfile", text),
            ("on/Dockerfile", "FROM base\nRUN echo $FROM > /from\nCOPY --from=base /laid /again\n"),
        ],
    );
    let layout = d.path("layout");
    build(&d, &top, &["-t", "made:1", "."], b"").ok();
    d.docker(&["save", "-o", d.path("made.tar").to_str().unwrap(), "made:1"]).ok();
    fs::create_dir(&layout).unwrap();
    let tar =
        std::process::Command::new("tar").arg("-xf").arg(d.path("made.tar")).arg("-C").arg(&layout).status();
    assert!(tar.unwrap().success());
    d.docker(&["rmi", "-f", "made:1"]).ok();
    for (tag, number) in [("", "one"), (":1", "two")] {
        let base = format!("base=oci-layout://{}{tag}", layout.display());
        build(&d, &top, &["-t", number, "--build-context", &base, "on"], b"").ok();
        assert_eq!(run(&d, number, &["cat", "/from", "/laid", "/again"]), "layout\nlaid\nlaid");
    }
    let nowhere = format!("base=oci-layout://{}", d.path("nowhere").display());
    build(&d, &top, &["--build-context", &nowhere, "on"], b"").fails(1, "could not be resolved");
    let digest = format!("base=oci-layout://{}@sha256:{}", layout.display(), "0".repeat(64));
    build(&d, &top, &["--build-context", &digest, "on"], b"").fails(1, "not found");
}

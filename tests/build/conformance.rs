//! The same Dockerfile built here and by BuildKit: layers compared file by file, configs field by field.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wharf_testkit::client;
use wharf_testkit::{Daemon, daemon};

use super::context::Context;

/// A feature: its name, and a Dockerfile that uses it on [`context`].
const DOCKERFILES: [(&str, &str); 30] = [
    ("copy-file", "FROM busybox\nCOPY a /x\nCOPY a b /dir/\nCOPY sub /s\nCOPY sub/ /s2/\n"),
    ("copy-globs", "FROM busybox\nCOPY *.txt /t/\nCOPY sub/?ne /q/\nCOPY sub/[a-z]* /r/\n"),
    ("copy-all", "FROM busybox\nCOPY . /all\n"),
    (
        "copy-over",
        "FROM busybox\nRUN mkdir -p /d/e && echo old > /d/e/f\nCOPY a /d/e/f\nCOPY sub /d/e\nCOPY link /l\n",
    ),
    (
        "copy-chown",
        "FROM busybox\nCOPY --chown=1:2 a /a\nCOPY --chown=root:root sub /s\nCOPY --chown=5 --chmod=600 b /b\n",
    ),
    ("copy-chmod", "FROM busybox\nCOPY --chmod=0755 a /a\nCOPY --chmod=u=rwX,go=rX sub /s\n"),
    ("copy-link", "FROM busybox\nRUN mkdir /d\nCOPY --link a /d/a\nCOPY --link sub /d/s\nRUN cat /d/a\n"),
    ("copy-top", "FROM busybox\nCOPY sub/deep /q/\nCOPY sub/deep /r\nCOPY sub/dee? /s\n"),
    ("copy-exclude", "FROM busybox\nCOPY --exclude=*.txt --exclude=sub/one . /e/\n"),
    (
        "copy-from-stage",
        "FROM busybox AS one\nRUN mkdir /o && echo 1 > /o/f && chown 7:8 /o/f && chmod 4750 /o/f && ln -s f /o/l\nFROM busybox\nCOPY --from=one /o /o2\nCOPY --from=0 /o/l /l\n",
    ),
    (
        "copy-from-image",
        "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo x > /made\"]\n",
    ),
    (
        "copy-heredoc",
        "FROM busybox\nARG W=world\nCOPY <<EOF /h\nhello $W\nEOF\nCOPY --chmod=755 <<\"A\" <<B /two/\n$W\nA\nb\nB\n",
    ),
    ("add-archive", "FROM busybox\nADD in.tgz /x/\nADD --unpack=false in.tgz /y/\n"),
    ("workdir", "FROM busybox\nWORKDIR /a/b\nWORKDIR c\nRUN pwd > here\nWORKDIR /\nWORKDIR /tmp\n"),
    ("workdir-user", "FROM busybox\nUSER 1000\nWORKDIR /w\nRUN id > /tmp/id; pwd >> /tmp/id\n"),
    ("user-home", "FROM busybox\nUSER root\nRUN id > /tmp/id; echo $HOME >> /tmp/id\n"),
    (
        "env-arg",
        "ARG G=1\nFROM busybox\nARG G\nARG L=${G}x\nENV E=$L F=\"a b\" H=${NOPE:-d} I=${L:+y}\nRUN echo $G $L $E > /v\nENV E=2\n",
    ),
    (
        "expansion",
        "FROM busybox\nENV v=foobarbaz\nENV a=${v#foo} b=${v%baz} c=${v/bar/X} d=${v//a/o} e=\\$v f='$v'\nRUN echo $a $b $c $d $e $f > /v\n",
    ),
    (
        "metadata",
        "FROM busybox\nLABEL a=b \"c d\"=\"e f\"\nEXPOSE 80 53/udp 90-92\nVOLUME /v [\"/w\"]\nSTOPSIGNAL 9\nUSER me\nMAINTAINER someone\n",
    ),
    (
        "metadata-json",
        "FROM busybox\nVOLUME [\"/w\", \"/x y\"]\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"a\", \"b\"]\n",
    ),
    ("commands", "FROM busybox\nCMD echo $HOME\nENTRYPOINT exec top\nCMD [\"x\"]\n"),
    ("shell", "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo 1 > /one\nCMD x\n"),
    (
        "healthcheck",
        "FROM busybox\nHEALTHCHECK --interval=5s --timeout=1m30s --retries=2 --start-period=500ms CMD test -f /x\n",
    ),
    ("healthcheck-none", "FROM busybox\nHEALTHCHECK NONE\n"),
    (
        "run-forms",
        "FROM busybox\nRUN [\"touch\", \"/exec\"]\nRUN echo a; \\\n  # in between\n  echo b > /shell\nRUN <<EOF\necho 1 > /h1\necho 2 > /h2\nEOF\nRUN <<EOF sh\necho 3 > /h3\nEOF\n",
    ),
    ("run-script", "FROM busybox\nRUN <<EOF\n#!/bin/sh\necho script > /script\nEOF\n"),
    (
        "run-removes",
        "FROM busybox\nRUN mkdir -p /d/e && touch /d/a /d/e/b\nRUN rm /d/a\nRUN rm -r /d/e && mkdir /d/e && touch /d/e/c\nRUN rm -r /d\n",
    ),
    (
        "run-special",
        "FROM busybox\nRUN mkfifo /fifo && ln -s /nowhere /dangling && ln /bin/busybox /hard && touch /a && ln /a /b && chmod 1777 /tmp && mkdir -m 2750 /sticky\n",
    ),
    (
        "run-mounts",
        "FROM busybox\nRUN --mount=target=/m --mount=type=cache,target=/c --mount=type=tmpfs,target=/t/u cp /m/a /a && touch /c/x /t/u/y\n",
    ),
    ("onbuild", "FROM busybox\nONBUILD RUN echo later > /later\nONBUILD COPY a /a\n"),
];

/// Where every process has something mounted.
const MOUNTED: [&str; 4] = ["dev", "etc", "proc", "sys"];

fn context(dockerfile: &str) -> Context {
    let context = Context::new(dockerfile);
    context
        .put("a", "A\n")
        .put("b", "BB\n")
        .put("one.txt", "1")
        .put("two.txt", "2")
        .put("sub/one", "s1")
        .put("sub/two.txt", "s2")
        .put("sub/deep/x", "x")
        .put(".dockerignore", "in.tgz.src\n")
        .mode("b", 0o755)
        .mode("sub/one", 0o600)
        .mode("sub/deep", 0o700);
    std::os::unix::fs::symlink("a", context.path().join("link")).unwrap();
    let tar = Command::new("tar")
        .args(["czf", "in.tgz", "--owner=3", "--group=4", "--mtime=2020-01-01", "sub"])
        .current_dir(context.path())
        .status();
    assert!(tar.unwrap().success());
    context
}

/// An image as it is saved: what each layer has, and the config.
#[derive(Debug)]
struct Saved {
    layers: Vec<BTreeMap<String, String>>,
    config: Value,
}

fn unpack(archive: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let status = Command::new("tar")
        .args(["xf"])
        .arg(archive)
        .args(["--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-C"])
        .arg(to)
        .status();
    assert!(status.unwrap().success(), "{}", archive.display());
}

fn saved(archive: &Path, work: &Path) -> Saved {
    let whole = work.join("image");
    unpack(archive, &whole);
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let manifest = read(&whole.join("manifest.json"));
    let text = |value: &Value| whole.join(value.as_str().unwrap());
    let config = read(&text(&manifest[0]["Config"]));
    let layers = manifest[0]["Layers"].as_array().unwrap().iter().enumerate();
    let layers = layers.skip(1).map(|(number, layer)| {
        let place = work.join(number.to_string());
        unpack(&text(layer), &place);
        let mut found = BTreeMap::new();
        list(&place, Path::new(""), &mut found);
        found
    });
    Saved { layers: layers.collect(), config }
}

fn list(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(root.join(at)).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let path = entry.strip_prefix(root).unwrap().to_owned();
        let stat = entry.symlink_metadata().unwrap();
        let what = if stat.is_symlink() {
            format!("-> {}", std::fs::read_link(&entry).unwrap().display())
        } else if stat.is_file() {
            let content = std::fs::read(&entry).unwrap();
            format!("{} {}", content.len(), wharf_testkit::registry::digest(&content))
        } else {
            String::new()
        };
        let mode = stat.permissions().mode();
        let links = if stat.is_file() { stat.nlink() } else { 1 };
        let line = format!("{mode:o} {}:{} {links} {what}", stat.uid(), stat.gid());
        found.insert(path.to_string_lossy().into_owned(), line);
        if stat.is_dir() {
            list(root, &path, found);
        }
    }
}

fn history(config: &Value) -> Vec<(String, bool)> {
    let entries = config["history"].as_array().unwrap().iter().skip(1);
    let of = |entry: &Value| {
        (entry["created_by"].as_str().unwrap_or_default().to_owned(), entry["empty_layer"] == true)
    };
    entries.map(of).collect()
}

/// What differs between two images.
fn differences(ours: &Saved, theirs: &Saved) -> Vec<String> {
    let mut found = Vec::new();
    if ours.config["config"] != theirs.config["config"] {
        found.push(format!(
            "config\n  ours   {}\n  theirs {}",
            ours.config["config"], theirs.config["config"]
        ));
    }
    for name in ["architecture", "os", "author"] {
        if ours.config[name] != theirs.config[name] {
            found.push(format!("{name}: {} {}", ours.config[name], theirs.config[name]));
        }
    }
    if history(&ours.config) != history(&theirs.config) {
        found.push(format!(
            "history\n  ours   {:?}\n  theirs {:?}",
            history(&ours.config),
            history(&theirs.config)
        ));
    }
    if ours.layers != theirs.layers {
        for (number, (one, two)) in ours.layers.iter().zip(&theirs.layers).enumerate() {
            let names: std::collections::BTreeSet<&String> = one.keys().chain(two.keys()).collect();
            // Of directories that were only copied up for mount points, ours has none.
            let copied_up = |name: &String| !one.contains_key(name) && MOUNTED.contains(&name.as_str());
            let names = names.into_iter().filter(|name| one.get(*name) != two.get(*name));
            for name in names.filter(|name| !copied_up(name) && !name.contains(".wh.")) {
                found.push(format!(
                    "layer {number} {name}: ours {:?} theirs {:?}",
                    one.get(name),
                    two.get(name)
                ));
            }
        }
        let counts = (ours.layers.len(), theirs.layers.len());
        if counts.0 != counts.1 {
            found.push(format!("layers: {counts:?}"));
        }
    }
    found
}

#[test]
fn images_are_those_of_buildkit() {
    let Ok(peer) = std::env::var("WHARF_TEST_BUILDKIT") else { return };
    let d = daemon!();
    let work = tempfile::tempdir().unwrap();
    let base = work.path().join("busybox.tar");
    let peer_command = || {
        let config = work.path().join("config/cli-plugins");
        std::fs::create_dir_all(&config).unwrap();
        let plugin = client::clients().join("sid/usr/libexec/docker/cli-plugins/docker-buildx");
        let _ = std::os::unix::fs::symlink(&plugin, config.join("docker-buildx"));
        client::command(client::program("docker"), &peer, &work.path().join("config"))
    };
    let ask = |command: &mut Command, args: &[&str]| {
        client::run(std::mem::replace(command.args(args), Command::new("true")), b"")
    };
    ask(&mut peer_command(), &["save", "-o", &base.to_string_lossy(), "busybox"]).ok();
    d.docker(&["load", "-i", &base.to_string_lossy()]).ok();
    let only = std::env::var("WHARF_TEST_FEATURE").unwrap_or_default();
    let mut wrong = Vec::new();
    for (name, dockerfile) in DOCKERFILES.iter().filter(|(name, _)| name.contains(&only)) {
        let context = context(dockerfile);
        let tag = format!("b1-conformance-{name}");
        let run = context.build(&d, &["-q", "-t", &tag]);
        if run.code != 0 {
            wrong.push(format!("{name}: {}", run.stderr));
            continue;
        }
        let path = context.path().to_string_lossy().into_owned();
        let there = ["buildx", "build", "-q", "--provenance=false", "-t", &tag, &path];
        ask(&mut peer_command(), &there).ok();
        let images = [work.path().join(format!("{name}.ours")), work.path().join(format!("{name}.theirs"))];
        d.docker(&["save", "-o", &images[0].to_string_lossy(), &tag]).ok();
        ask(&mut peer_command(), &["save", "-o", &images[1].to_string_lossy(), &tag]).ok();
        ask(&mut peer_command(), &["rmi", &tag]).ok();
        let [ours, theirs] = images.each_ref().map(|archive| {
            let place =
                archive.with_extension(format!("{}.d", archive.extension().unwrap().to_string_lossy()));
            std::fs::create_dir(&place).unwrap();
            saved(archive, &place)
        });
        wrong.extend(differences(&ours, &theirs).into_iter().map(|line| format!("{name}: {line}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let _: &Daemon = &d;
}

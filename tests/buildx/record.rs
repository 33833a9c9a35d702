//! Builds that were: what is known of them later.

use std::time::Duration;

use serde_json::Value;
use wharf_testkit::client::eventually;

use crate::{Project, project};

/// What an archive of a record has: the record as its config, and all that is named in it.
fn check_archive(path: &std::path::Path, image: &str) {
    let listed = |args: &[&str]| {
        let output = std::process::Command::new("tar").args(args).arg(path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let names = String::from_utf8(listed(&["-tzf"])).unwrap();
    let text = String::from_utf8_lossy(&listed(&["-xzOf"])).into_owned();
    assert!(names.lines().any(|name| name == "index.json"), "{names}");
    assert!(text.contains("application/vnd.buildkit.historyrecord.v0"), "{text}");
    assert!(text.contains("https://slsa.dev/provenance/"), "{text}");
    assert!(text.contains(image), "{image} is not in {text}");
}

#[test]
fn a_record_is_exported_with_what_goes_with_it() {
    let p = project(&[("Dockerfile", "FROM busybox\nRUN echo said\n")]);
    p.build(&["-t", "x"]).ok();
    p.build(&["-t", "x"]).ok();
    eventually(Duration::from_secs(10), || (known(&p).len() == 2).then_some(())).expect("both are known");
    let id = p.inspect("x")["Id"].as_str().unwrap().to_owned();
    // One of two that made the same image goes, and the image too.
    let all = known(&p);
    p.docker(&["buildx", "history", "rm", &name(&all[1])]).ok();
    p.docker(&["rmi", "-f", "x"]).ok();
    let path = p.top.join("x.dockerbuild");
    p.docker(&["buildx", "history", "export", "-o", path.to_str().unwrap(), &name(&all[0])]).ok();
    check_archive(&path, &id);
}

/// The builds that are known, the newest first.
fn known(p: &Project) -> Vec<Value> {
    let text = p.docker(&["buildx", "history", "ls", "--no-trunc", "--format", "json"]).ok();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn name(build: &Value) -> String {
    build["ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn builds_are_remembered_with_what_they_said() {
    let mut p = project(&[("Dockerfile", "FROM busybox\nRUN echo said-$((40 + 2))\n")]);
    p.build(&["-t", "x"]).ok();
    p.write("Dockerfile", "FROM busybox\nRUN echo wrong-$((40 + 3)); false\n");
    p.build(&[]).fails(1, "did not complete successfully");
    // A record is written when its client is gone.
    eventually(Duration::from_secs(10), || (known(&p).len() == 2).then_some(()))
        .expect("both builds are known");
    let check = |p: &Project| {
        let all = known(p);
        let states: Vec<&str> = all.iter().map(|build| build["status"].as_str().unwrap()).collect();
        assert!(states.contains(&"Completed") && states.contains(&"Error"), "{all:?}");
        for build in &all {
            let said = p.docker(&["buildx", "history", "logs", &name(build)]);
            let word = if build["status"] == "Error" { "wrong-43" } else { "said-42" };
            assert!(format!("{}{}", said.stdout, said.stderr).contains(word), "{said:?}");
            let told = p.docker(&["buildx", "history", "inspect", &name(build)]).ok();
            assert!(told.contains("Build Steps:"), "{told}");
            if build["status"] == "Completed" {
                assert!(told.contains("pkg:docker/busybox"), "{told}");
                let attachment = ["buildx", "history", "inspect", "attachment", "--type", "provenance"];
                let document = p.docker(&[&attachment[..], &[name(build).as_str()]].concat()).ok();
                let document: Value = serde_json::from_str(&document).unwrap();
                assert_eq!(document["invocation"]["parameters"]["frontend"], "dockerfile.v0");
            }
        }
    };
    check(&p);
    p.d.kill();
    p.d.launch();
    check(&p);
    let gone = name(&known(&p)[0]);
    p.docker(&["buildx", "history", "rm", &gone]).ok();
    p.d.stop();
    p.d.launch();
    let left = known(&p);
    assert!(left.len() == 1 && name(&left[0]) != gone, "{left:?}");
}

//! Frontends that are images: what one asks of the builder, and what comes of it.

use std::fs;

use super::program;
use crate::{Project, project};

/// What the image runs: the harness of this program speaks to nobody, the frontend on the streams it was given.
const ENTRY: &str = "exec /frontend --exact buildx::frontend::the_program --ignored --nocapture 3<&0 4>&1 >/dev/null </dev/null";

#[test]
#[ignore = "what the image of the other tests runs"]
fn the_program() {
    if std::env::var_os("BUILDKIT_SESSION_ID").is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(program::run());
    }
}

/// A project with the frontend's image, `frontend:1`, there already.
fn with_frontend(files: &[(&str, &str)]) -> Project {
    let p = project(files);
    let dockerfile = format!(
        "FROM busybox\nCOPY frontend /frontend\nENV MINE=1\nENTRYPOINT [\"/bin/sh\", \"-c\", \"{ENTRY}\"]\n\
         LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts\n\
         LABEL moby.buildkit.frontend.network.none=true\n"
    );
    p.write("image/Dockerfile", &dockerfile);
    fs::copy(std::env::current_exe().unwrap(), p.top.join("image/frontend")).unwrap();
    p.docker(&["buildx", "build", "-q", "-t", "frontend:1", p.path("image").as_str()]).ok();
    fs::remove_dir_all(p.top.join("image")).unwrap();
    p
}

fn dockerfile(steps: &str) -> String {
    format!("# syntax=frontend:1 and more\n{steps}")
}

#[test]
fn an_image_reads_the_file_and_what_it_asks_for_is_made() {
    let steps = "from busybox\nwrite /text some words\noption build-arg:WHO /who\noption cmdline /line\n\
                 link text /link\ncopy /src/ **/*.c other\ntry echo ran > /ran; exit 7\nrun cat /text > /copied\n\
                 nested in a file\nwarn mind the gap\n";
    let p = with_frontend(&[
        ("Dockerfile", &dockerfile(steps)),
        ("a.c", "1"),
        ("b.h", "2"),
        ("deep/er/c.c", "3"),
        ("deep/left/d.c", "4"),
        ("other/all", "5"),
    ]);
    let first = p.build(&["-t", "x", "--build-arg", "WHO=me"]);
    first.ok();
    assert!(first.stderr.contains("frontend says hello to "), "{}", first.stderr);
    assert!(first.stderr.contains("mind the gap"), "{}", first.stderr);
    let said = p.run(
        "x",
        &["sh", "-c", "cat /text /who /line /link /copied /ran /nested; cd /src; find . -type f | sort"],
    );
    assert_eq!(
        said,
        "some wordsmefrontend:1 and moresome wordssome wordsran\nin a file./a.c\n./deep/er/c.c\n./other/all"
    );
    assert_eq!(p.inspect("x")["Config"]["Cmd"][0], "sh");

    let again = p.build(&["-t", "x", "--build-arg", "WHO=me"]);
    again.ok();
    assert!(again.stderr.matches(" CACHED").count() > 5, "{}", again.stderr);

    // The same, called by the argument that counts before the file's first line.
    p.write("Dockerfile", "from busybox\noption cmdline /line\n");
    p.build(&["-t", "y", "--build-arg", "BUILDKIT_SYNTAX=frontend:1"]).ok();
    assert_eq!(p.run("y", &["cat", "/line"]), "frontend:1");
}

#[test]
fn processes_run_beside_the_build() {
    let steps = "from busybox\nwrite /text words\ninside cat /text; echo left > /left-by-second; exit 5\n";
    let p = with_frontend(&[("Dockerfile", &dockerfile(steps))]);
    p.build(&["-t", "x"]).ok();
    assert_eq!(p.run("x", &["cat", "/inside"]), "words5left\nleft\n5left-by-second3");
    // What was done in the container is not in the tree that it began with.
    assert_eq!(p.docker(&["run", "--rm", "x", "ls", "/left-by-second"]).code, 1);
}

#[test]
fn what_goes_wrong_in_one_is_told() {
    let p = with_frontend(&[("Dockerfile", &dockerfile("fail it says no\n"))]);
    p.build(&[]).fails(1, "failed to solve: it says no");
    p.write("Dockerfile", &dockerfile("exit 9\n"));
    p.build(&[]).fails(1, "failed to solve: exit code: 9");
    p.write("Dockerfile", &dockerfile("silent\n"));
    p.build(&[]).fails(1, "no result for incomplete build");
    p.write("Dockerfile", &dockerfile("from busybox\nrun false\n"));
    p.build(&[]).fails(1, "process \"/bin/sh -c false\" did not complete successfully: exit code: 1");
    p.write("Dockerfile", &dockerfile("from busybox\ntry exit 8\n"));
    p.build(&[]).fails(1, "did not complete successfully: exit code: 8");
    // No frontend at all.
    p.write("Dockerfile", "# syntax=busybox\nanything\n");
    p.build(&[]).fails(1, "failed to solve: ");
    p.write("Dockerfile", "# syntax=127.0.0.1:1/nobody:1\nanything\n");
    p.build(&[]).fails(1, "127.0.0.1:1/nobody:1");
    // The classic interface has no frontends.
    let classic = p.classic();
    classic.fails(1, "the frontend 127.0.0.1:1/nobody:1 cannot be run");
}

//! What a build says, and what its steps do.

use serde_json::json;
use wharf_testkit::daemon;

use super::context::{Context, plain};

#[test]
fn steps_are_told_in_their_order_and_the_cache_spares_them() {
    let d = daemon!();
    let text = "FROM busybox AS base\nENV A=1\nRUN echo hello \\\n && echo two\nFROM base\nCOPY a /a\nWORKDIR /w\nCMD [\"x\"]\n";
    let context = Context::new(text);
    context.put("a", "a");
    let first = context.build(&d, &["-t", "told:1"]);
    first.ok();
    let told = plain(&first);
    for line in [
        "Step 1/7 : FROM busybox AS base\n ---> ID\n",
        "Step 2/7 : ENV A=1\n",
        "Step 3/7 : RUN echo hello  && echo two\n ---> Running in ID\nhello\ntwo\n",
        " ---> Removed intermediate container ID\n ---> ID\nStep 4/7 : FROM base\n ---> ID\n",
        "Step 5/7 : COPY a /a\n",
        "Step 7/7 : CMD [\"x\"]\n",
        "Successfully built ID\nSuccessfully tagged told:1\n",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    let again = plain(&context.build(&d, &["-t", "told:1"]));
    assert!(
        again.contains("Step 3/7 : RUN echo hello  && echo two\n ---> Using cache\n ---> ID\n"),
        "{again}"
    );
    assert!(again.contains("Step 5/7 : COPY a /a\n ---> Using cache\n"), "{again}");
    let id = d.docker(&["image", "inspect", "-f", "{{.Id}}", "told:1"]).ok();
    assert_eq!(context.build(&d, &["-q"]).ok(), id);
    // A file's time is no change, its content is.
    context.put("a", "a");
    assert_eq!(context.build(&d, &["-q"]).ok(), id);
    context.put("a", "b");
    let changed = plain(&context.build(&d, &["-t", "told:2"]));
    assert!(
        changed.contains(" && echo two\n ---> Using cache\n") && !changed.contains("COPY a /a\n ---> Using"),
        "{changed}"
    );
    let fresh = plain(&context.build(&d, &["--no-cache"]));
    assert!(!fresh.contains("Using cache"), "{fresh}");
}

#[test]
fn triggers_empty_builds_and_anothers_network() {
    let d = daemon!();
    let parent = Context::new("FROM busybox\nONBUILD RUN echo one\nONBUILD ENV A=b\nCMD []\nENTRYPOINT []\n");
    parent.build(&d, &["-q", "-t", "parent"]).ok();
    let command = "{{json .Config.Cmd}} {{json .Config.Entrypoint}}";
    assert_eq!(d.docker(&["image", "inspect", "-f", command, "parent"]).ok(), "null null");
    let told = plain(&Context::new("FROM parent\nENV C=d\n").build(&d, &[]));
    let head = "Step 1/2 : FROM parent\n# Executing 2 build triggers\n ---> Running in ID\none\n";
    assert!(told.contains(head), "{told}");
    let empty = Context::new("FROM scratch\n").build(&d, &[]);
    empty.fails(1, "No image was generated. Is your Dockerfile empty?");
    let plainly = plain(&Context::new("FROM scratch\nENV A=b\n").build(&d, &[]));
    assert!(plainly.contains("Step 1/2 : FROM scratch\n ---> \nStep 2/2"), "{plainly}");
    let other = d.docker(&["run", "-d", "--hostname", "other", "busybox", "sleep", "1000"]).ok();
    let network = format!("container:{other}");
    let joined = Context::new("FROM busybox\nRUN readlink /proc/self/ns/net\n");
    let said = joined.build(&d, &["--network", &network]).ok();
    let theirs = d.docker(&["exec", &other, "readlink", "/proc/self/ns/net"]).ok();
    assert!(said.contains(&theirs), "{theirs} is not in {said}");
    d.docker(&["rm", "-f", &other]).ok();
}

#[test]
fn what_goes_wrong_is_said_as_dockerd_says_it() {
    let d = daemon!();
    let failed = |text: &str, flags: &[&str]| {
        let context = Context::new(text);
        context.put("x", "x").put(".dockerignore", "hidden\n").put("hidden", "");
        context.build(&d, flags)
    };
    failed("FROM busybox\nRUN exit 3\n", &[])
        .fails(3, "The command '/bin/sh -c exit 3' returned a non-zero code: 3");
    let missing = "file not found in build context or excluded by .dockerignore: stat";
    failed("FROM busybox\nCOPY nosuch /\n", &[])
        .fails(1, &format!("COPY failed: {missing} nosuch: file does not exist"));
    failed("FROM busybox\nADD hidden /\n", &[])
        .fails(1, &format!("ADD failed: {missing} hidden: file does not exist"));
    failed("FROM busybox\nFOO 1\n", &[])
        .fails(1, "dockerfile parse error on line 2: unknown instruction: FOO");
    failed("FROM busybox\n", &["--target", "zz"]).fails(1, "target stage \"zz\" could not be found");
    let reply = d.post("/build?dockerfile=nosuch", &json!(null));
    assert_eq!((reply.status, reply.message().as_str()), (500, "Cannot locate specified Dockerfile: nosuch"));
    let reply = d.post("/build?squash=1", &json!(null));
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (400, "squash is only supported with experimental mode")
    );
    let reply = d.post("/build?securityopt=x", &json!(null));
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (400, "security options are not supported on linux")
    );
    let reply = d.post("/build/cancel", &json!(null));
    assert_eq!((reply.status, reply.message().as_str()), (400, "build ID not provided"));
    assert_eq!(d.docker(&["images", "-q"]).ok().lines().count(), 1, "a failed build leaves no image");
}

#[test]
fn flags_reach_the_steps() {
    let d = daemon!();
    let context = Context::new(
        "ARG BASE=nosuch\nFROM $BASE AS one\nARG WHO\nRUN echo \"$WHO\" > /who; cat /etc/hosts > /hosts; ulimit -n > /n\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes > /m; df -k /dev/shm | tail -1 > /shm\nRUN ls /sys/class/net > /net\nFROM one AS two\nRUN exit 9\n",
    );
    let flags = [
        "--build-arg",
        "BASE=busybox",
        "--build-arg",
        "WHO=me",
        "--target",
        "one",
        "--add-host",
        "there:10.1.2.3",
        "--ulimit",
        "nofile=77:99",
        "--memory",
        "64m",
        "--shm-size",
        "1m",
        "--network",
        "none",
        "--label",
        "l=v",
    ];
    let told = context.shell(&d, &flags, "cat /who /hosts /n /m /shm /net");
    assert!(told.starts_with("me\n"), "{told}");
    for part in ["10.1.2.3\tthere", "\n77\n", "\n67108864\n", " 1024 ", "\nlo"] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(!told.contains("eth0"), "{told}");
    let tag = format!("shell-{}", d.instance());
    assert_eq!(d.docker(&["image", "inspect", "-f", "{{.Config.Labels.l}}", &tag]).ok(), "v");
    let unused = Context::new("FROM busybox\n").build(&d, &["--build-arg", "NOBODY=1"]);
    assert!(plain(&unused).contains("[Warning] One or more build-args [NOBODY] were not consumed\n"));
}

#[test]
fn mounts_of_steps_are_in_no_layer() {
    let d = daemon!();
    let context = Context::new(
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=shared echo x >> /c/f && wc -l < /c/f > /count\nRUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 > /tmpfs\nRUN --mount=type=bind,source=a,target=/mnt/a cat /mnt/a > /bound && ! echo x > /mnt/a\nRUN --mount=type=bind,from=busybox,source=/bin,target=/b,rw touch /b/new && ls /b | grep -c new > /written\n",
    );
    context.put("a", "from the context");
    let script =
        "cat /count /bound /written; cat /tmpfs; ls -d /c /t /mnt /b /run/secrets 2>/dev/null; ls /bin/new";
    let told = context.shell(&d, &[], &format!("{script}; true"));
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("1"));
    assert_eq!(lines.next(), Some("from the context1"));
    assert!(lines.next().is_some_and(|line| line.contains(" 1024 ")), "{told}");
    assert_eq!(lines.next(), None, "{told}");
    // The cache's content outlives the build.
    let told = context.shell(&d, &["--no-cache"], "cat /count");
    assert_eq!(told, "2");
}

#[test]
fn nothing_of_the_steps_mount_points_is_in_the_image() {
    let d = daemon!();
    let context = Context::new(
        "FROM busybox AS tools\nFROM scratch\nCOPY --from=tools /bin /bin\nRUN [\"/bin/touch\", \"/made\"]\n",
    );
    context.build(&d, &["-q", "-t", "bare"]).ok();
    let id = d.docker(&["create", "bare", "x"]).ok();
    let tar = d.path("bare.tar");
    d.docker(&["export", "-o", &tar.to_string_lossy(), &id]).ok();
    d.docker(&["rm", &id]).ok();
    let d2 = d.docker(&["save", "-o", &tar.to_string_lossy(), "bare"]);
    d2.ok();
    let out = d.path("saved");
    std::fs::create_dir(&out).unwrap();
    let status = std::process::Command::new("tar").arg("xf").arg(&tar).arg("-C").arg(&out).status().unwrap();
    assert!(status.success());
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let last = manifest[0]["Layers"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let listed = std::process::Command::new("tar").arg("tf").arg(out.join(last)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "made\n");
}

//! The same input gives the same image: on two machines, at two times, with files of other ages.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use wharf_testkit::{Daemon, daemon};

/// The bound on times in these builds: 2023-11-14.
const EPOCH: u64 = 1_700_000_000;

const DOCKERFILE: &str = "\
FROM busybox AS made
WORKDIR /work/deep
RUN mkdir a b && echo x > b/z && echo y > a/y && ln b/z b/hard && ln -s ../b a/link && chmod 4755 b/z
FROM busybox
ENV A=b
COPY --from=made /work /work
COPY . /app/
RUN rm /app/gone && touch /app/touched
LABEL said=so
CMD [\"sh\"]
";

/// A context whose files are as old as `age` says, in seconds since 1970.
fn context(d: &Daemon, name: &str, dockerfile: &str, age: u64) -> PathBuf {
    let top = d.path(name);
    for (path, text) in
        [("Dockerfile", dockerfile), ("src/main", "main\n"), ("src/more/file", "more\n"), ("gone", "gone\n")]
    {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(age)).unwrap();
    }
    top
}

/// Builds, and returns what was told of the result.
#[track_caller]
fn built(d: &Daemon, context: &Path, flags: &[&str]) -> Value {
    let told = d.path("told.json");
    let mut args = vec!["build", "--progress", "plain", "--metadata-file", told.to_str().unwrap()];
    args.extend_from_slice(flags);
    args.push(context.to_str().unwrap());
    d.wharf(&args).ok();
    serde_json::from_slice(&fs::read(told).unwrap()).unwrap()
}

fn bound() -> String {
    format!("SOURCE_DATE_EPOCH={EPOCH}")
}

#[test]
fn two_machines_give_the_same_digests() {
    let bound = bound();
    let flags = ["--build-arg", &bound, "-t", "same:1", "--provenance", "mode=max"];
    let first = daemon!();
    let one = built(&first, &context(&first, "context", DOCKERFILE, EPOCH + 5), &flags);
    std::thread::sleep(Duration::from_millis(1100));
    let second = daemon!();
    let two = built(&second, &context(&second, "elsewhere", DOCKERFILE, EPOCH + 99_999), &flags);
    assert_eq!(one["containerimage.config.digest"], two["containerimage.config.digest"]);
    assert_eq!(one["containerimage.digest"], two["containerimage.digest"], "provenance and all");
    let again = built(&second, &second.path("elsewhere"), &[&flags[..], &["--no-cache"]].concat());
    assert_eq!(again["containerimage.config.digest"], two["containerimage.config.digest"]);
    // The compressed form as well.
    let archives = [&first, &second].map(|d| {
        let archive = d.path("out.tar");
        let output = format!("type=oci,dest={}", archive.display());
        let place = if d.path("context").exists() { "context" } else { "elsewhere" };
        built(d, &d.path(place), &["--build-arg", &bound, "-t", "same:1", "-o", &output]);
        fs::read(archive).unwrap()
    });
    assert!(archives[0] == archives[1], "the archives differ");
}

#[test]
fn times_are_bounded_in_new_layers_alone() {
    let d = daemon!();
    let top = context(&d, "context", DOCKERFILE, EPOCH + 5);
    let bound = bound();
    built(&d, &top, &["--build-arg", &bound, "-t", "bounded"]);
    let time = |image: &str, path: &str| -> u64 {
        d.docker(&["run", "--rm", "--network", "none", image, "stat", "-c", "%Y", path]).ok().parse().unwrap()
    };
    for path in ["/app/src/main", "/app/touched", "/app", "/work/deep/b/z"] {
        assert_eq!(time("bounded", path), EPOCH, "{path}");
    }
    assert_eq!(time("bounded", "/bin/busybox"), time("busybox", "/bin/busybox"));
    let image = d.get("/images/bounded/json").unwrap().json();
    assert_eq!(image["Created"], "2023-11-14T22:13:20Z");
    let base = d.get("/images/busybox/json").unwrap().json();
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().cloned().unwrap();
    assert_eq!(layers(&image)[..layers(&base).len()], layers(&base)[..]);
    // The cache is not touched by the bound: another one, and none, find the real times.
    built(&d, &top, &["--build-arg", &format!("SOURCE_DATE_EPOCH={}", EPOCH + 3), "-t", "later"]);
    assert_eq!(time("later", "/app/src/main"), EPOCH + 3);
    built(&d, &top, &["-t", "unbounded"]);
    assert_eq!(time("unbounded", "/app/src/main"), EPOCH + 5);
    assert_eq!(time("bounded", "/app/src/main"), EPOCH, "what was made stays");
}

#[test]
fn a_cached_build_is_the_same_image() {
    let d = daemon!();
    let top = context(&d, "context", DOCKERFILE, EPOCH);
    let first = built(&d, &top, &["-t", "cached", "--provenance", "mode=min"]);
    std::thread::sleep(Duration::from_millis(20));
    let second = built(&d, &top, &["-t", "cached", "--provenance", "mode=min"]);
    for name in ["containerimage.config.digest", "containerimage.digest"] {
        assert_eq!(first[name], second[name], "{name}");
    }
    let listed = d.docker(&["images", "-q", "-f", "dangling=true"]).ok();
    assert_eq!(listed, "");
}

#[test]
fn what_differs_is_named() {
    let d = daemon!();
    let verify = |dockerfile: &str| {
        let top = context(&d, "context", dockerfile, EPOCH);
        d.wharf(&["build", "--progress", "quiet", "--verify-reproducible", top.to_str().unwrap()])
    };
    let same = verify(DOCKERFILE);
    assert!(same.ok().starts_with("reproducible: both builds gave sha256:"), "{same:?}");
    let random = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /random && echo 1 > /same\n";
    let differs = verify(random);
    assert_eq!(differs.code, 1, "{differs:?}");
    assert!(differs.stdout.contains("/random: content") && !differs.stdout.contains("/same:"), "{differs:?}");
}

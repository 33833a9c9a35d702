//! Base images from a distribution's archive. What needs the archive is skipped, loudly, where it cannot be reached.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use wharf_testkit::registry::{Fault, Faulty, Registry};
use wharf_testkit::{Daemon, client};

const ARCHIVE: &str = "deb.debian.org:80";
const IN_RELEASE: &str = "/debian/dists/trixie/InRelease";

/// A file of the archive; `None`, said on standard error, where that or the tools are out of reach.
#[expect(clippy::print_stderr, reason = "what is not run is told")]
fn archive(path: &str) -> Option<Vec<u8>> {
    let skip = |why: &str| {
        eprintln!("SKIPPED: {why}: nothing is bootstrapped");
        None
    };
    for tool in ["/usr/sbin/debootstrap", "/usr/bin/gpgv", "/usr/share/keyrings/debian-archive-keyring.gpg"] {
        if !std::path::Path::new(tool).exists() {
            return skip(&format!("{tool} is not there"));
        }
    }
    let address = ARCHIVE.to_socket_addrs().ok().and_then(|mut found| found.next());
    let stream =
        address.and_then(|address| TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok());
    let Some(mut stream) = stream else { return skip(&format!("{ARCHIVE} does not answer")) };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: deb.debian.org\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    if stream.write_all(head.as_bytes()).is_err() || stream.read_to_end(&mut answer).is_err() {
        return skip(&format!("{ARCHIVE} breaks off"));
    }
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(0);
    if !answer.starts_with(b"HTTP/1.1 200") {
        return skip(&format!("{ARCHIVE} does not give {path}"));
    }
    Some(answer.split_off(end + 4))
}

/// Nothing is left of an attempt.
#[track_caller]
fn is_clean(d: &Daemon) {
    let left = |folder: &str| std::fs::read_dir(d.path("data").join(folder)).unwrap().count();
    let gone = client::eventually(Duration::from_secs(20), || (left("ingest") == 0).then_some(()));
    assert!(gone.is_some(), "something is left in ingest");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let inside = d.path("data").display().to_string();
    assert!(!mounts.contains(&format!("{inside}/ingest")), "{mounts}");
}

#[test]
fn what_cannot_be_made_is_said_at_once() {
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    for (arguments, message) in [
        (vec!["alpine:3"], "alpine is not a distribution that can be made: there are debian and ubuntu"),
        (vec!["debian"], "name a distribution and its suite, such as debian:trixie"),
        (vec!["--snapshot", "yesterday", "--keyring", "/proc/self/exe", "debian:trixie"], "is not a moment"),
        (
            vec!["--mirror", "file:///etc", "--keyring", "/proc/self/exe", "debian:trixie"],
            "http:// or https://",
        ),
        (vec!["--keyring", "/none", "debian:trixie"], "install debian-archive-keyring there"),
    ] {
        let words: Vec<&str> = ["image", "bootstrap"].into_iter().chain(arguments).collect();
        d.wharf(&words).fails(1, message);
    }
    is_clean(&d);
}

#[test]
fn a_missing_tool_is_named() {
    let mut d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    d.stop();
    let folder = tempfile::tempdir().unwrap();
    assert!(d.try_launch(&[("PATH", folder.path().to_str().unwrap())]));
    let run = d.wharf(&["image", "bootstrap", "--keyring", "/proc/self/exe", "debian:trixie"]);
    run.fails(
        1,
        "needs debootstrap, wget, gpgv, which the daemon's machine does not have: install the packages",
    );
    is_clean(&d);
}

#[test]
fn what_is_not_signed_is_refused_and_nothing_stays() {
    let Some(mut document) = archive(IN_RELEASE) else { return };
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let behind = Registry::start();
    let mirror = Faulty::before(&behind);
    let place = document.windows(6).position(|bytes| bytes == b"Origin").unwrap();
    document[place + 8] ^= 1;
    mirror.every("GET", "InRelease", Fault::document("text/plain", document));
    let address = format!("http://{}/debian", mirror.host());
    let run = d.wharf(&["image", "bootstrap", "--mirror", &address, "debian:trixie"]);
    run.fails(1, "debootstrap: Invalid Release signature");
    assert!(mirror.count("GET", "Packages") == 0, "nothing is believed of it");
    assert_eq!(d.get("/images/json").unwrap().text().trim(), "[]");
    is_clean(&d);
}

#[test]
fn the_same_archive_gives_the_same_image() {
    if archive(IN_RELEASE).is_none() {
        return;
    }
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let id = || d.docker(&["images", "-q", "--no-trunc", "debian:trixie"]).ok();
    let make = || {
        // As long as it takes: an archive may be far away.
        let mut command = client::command(env!("CARGO_BIN_EXE_wharf"), &d.host(), &d.path(""));
        let output = command.args(["image", "bootstrap", "debian:trixie"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("Valid Release signature") && said.ends_with("debian:trixie\n"), "{said}");
        id()
    };
    let first = make();
    assert!(first.starts_with("sha256:"), "{first}");
    let document = d.get("/images/debian:trixie/json").unwrap().json();
    let labels = &document["Config"]["Labels"];
    assert!(labels["io.wharf.bootstrap.release.digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(labels["io.wharf.bootstrap.release.date"], document["Created"]);
    let script = "grep -c trixie /etc/os-release /etc/apt/sources.list; dpkg --audit; cat /etc/hostname; ls /dev/console";
    let run =
        d.docker(&["run", "--rm", "--network", "none", "-h", "inside", "debian:trixie", "sh", "-c", script]);
    assert!(run.stdout.contains("inside"), "{run:?}");
    d.docker(&["rmi", "debian:trixie"]).ok();
    assert_eq!(make(), first);
    is_clean(&d);
}

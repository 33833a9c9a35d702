//! Base images from a distribution's archive. What needs the archive is skipped, loudly, where it cannot be reached.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
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
        (
            vec!["--snapshot", "20260912", "--keyring", "/proc/self/exe", "debian:trixie"],
            "write it as 20260912T000000Z",
        ),
        (
            vec!["--include", "less,--foreign", "--keyring", "/proc/self/exe", "debian:trixie"],
            "--foreign is not the name of a package",
        ),
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

/// Makes `debian:trixie`, as long as it takes: an archive may be far away. What was said; `None` where the archive
/// broke off again and again.
fn made(d: &Daemon, flags: &[&str]) -> Option<String> {
    let mut last = None;
    for _ in 0..3 {
        let mut command = client::command(env!("CARGO_BIN_EXE_wharf"), &d.host(), &d.path(""));
        let output = command.args(["image", "bootstrap"]).args(flags).arg("debian:trixie").output().unwrap();
        if output.status.success() {
            return Some(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        last = Some(output);
    }
    assert!(archive(IN_RELEASE).is_none(), "{last:?}");
    None
}

#[test]
fn the_same_archive_gives_the_same_image() {
    if archive(IN_RELEASE).is_none() {
        return;
    }
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let id = || d.docker(&["images", "-q", "--no-trunc", "debian:trixie"]).ok();
    let labels = || d.get("/images/debian:trixie/json").unwrap().json()["Config"]["Labels"].clone();
    let Some(said) = made(&d, &[]) else { return };
    assert!(said.contains("Valid Release signature") && said.ends_with("debian:trixie\n"), "{said}");
    let (first, of) = (id(), labels());
    assert!(first.starts_with("sha256:"), "{first}");
    assert!(of["io.wharf.bootstrap.release.digest"].as_str().unwrap().starts_with("sha256:"));
    let document = d.get("/images/debian:trixie/json").unwrap().json();
    assert_eq!(of["io.wharf.bootstrap.release.date"], document["Created"]);
    let script = "grep -c trixie /etc/os-release /etc/apt/sources.list; dpkg --audit; cat /etc/hostname; ls /dev/console";
    let run =
        d.docker(&["run", "--rm", "--network", "none", "-h", "inside", "debian:trixie", "sh", "-c", script]);
    assert!(run.stdout.contains("inside"), "{run:?}");
    d.docker(&["rmi", "debian:trixie"]).ok();
    if made(&d, &[]).is_none() {
        return;
    }
    // An archive that was brought up to date in between is another one.
    assert!(id() == first || labels() != of, "{first} {}", id());
    is_clean(&d);
}

/// An archive that has a folder for each moment, of which there is one: that of the distribution itself, now.
struct Moments {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Moments {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let moments = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&moments.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || drop(relay(stream, &asked)));
            }
        });
        moments
    }
}

/// Passes one request on.
fn relay(mut client: TcpStream, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let here = path.strip_prefix("/archive/20260912T000000Z/").map(|rest| format!("/debian/{rest}"));
    asked.lock().unwrap().push(path);
    let Some(here) = here else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut archive = TcpStream::connect(ARCHIVE)?;
    let head = format!("GET {here} HTTP/1.1\r\nHost: deb.debian.org\r\nConnection: close\r\n\r\n");
    archive.write_all(head.as_bytes())?;
    std::io::copy(&mut archive, &mut client).map(drop)
}

#[test]
fn a_moment_of_an_archive_and_more_packages() {
    if archive(IN_RELEASE).is_none() {
        return;
    }
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let moments = Moments::start();
    let mirror = format!("http://{}/archive", moments.address);
    let flags = ["--snapshot", "20260912T000000Z", "--mirror", &mirror, "--include", "less"];
    if made(&d, &flags).is_none() {
        return;
    }
    let asked = moments.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|path| path.starts_with("/archive/20260912T000000Z/")), "{asked:?}");
    let script = "less --version | head -1; cat /etc/apt/sources.list; dpkg --audit";
    let said = d.docker(&["run", "--rm", "--network", "none", "debian:trixie", "sh", "-c", script]).ok();
    assert!(said.starts_with("less "), "{said}");
    let source = format!("deb [check-valid-until=no] {mirror}/20260912T000000Z trixie main");
    assert!(said.ends_with(&source), "{said}");
    let unknown = d.wharf(&["image", "bootstrap", "--include", "no-such-package", "debian:trixie"]);
    unknown.fails(1, "no-such-package");
    is_clean(&d);
}

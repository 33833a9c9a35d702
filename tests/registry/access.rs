//! Who is let in, and what nobody may do.

use rustix::process::Signal;

use crate::{OCI_MANIFEST, WHARF, code, image, put_blob, put_manifest, registry_with};
use wharf_testkit::client::eventually;
use wharf_testkit::registry::{Served, digest};

/// `ada:secret` as bcrypt hashes it.
pub(crate) const ADA: &str = "ada:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

fn basic(text: &str) -> String {
    use std::process::{Command, Stdio};
    let mut child = Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    format!("Basic {}", String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).trim())
}

#[test]
fn only_who_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("{ADA}\n")).unwrap();
    let registry = Served::start(
        WHARF,
        &folder.path().join("root"),
        &["--htpasswd", file.to_str().unwrap(), "--delete"],
    );
    for (who, status) in [("ada:secret", 200), ("ada:wrong", 401), ("bob:secret", 401), ("", 401)] {
        let reply = registry.ask("GET", "/v2/", &[("authorization", &basic(who))], b"");
        assert_eq!(reply.status, status, "{who}");
    }
    let reply = registry.ask("GET", "/v2/", &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (401, "UNAUTHORIZED"));
    assert!(reply.header("www-authenticate").unwrap().starts_with("Basic realm="));
    assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    for (method, path) in
        [("POST", "/v2/app/blobs/uploads/"), ("GET", "/v2/_catalog"), ("PUT", "/v2/app/manifests/x")]
    {
        assert_eq!(registry.ask(method, path, &[], b"").status, 401, "{method} {path}");
    }
    assert!(
        eventually(std::time::Duration::from_secs(5), || registry
            .said()
            .contains(" ada \"GET")
            .then_some(()))
        .is_some()
    );
    assert!(!registry.said().contains("secret"));

    // A file that cannot be used changes nothing; a good one does.
    std::fs::write(&file, "ada:plain\n").unwrap();
    registry.signal(Signal::HUP);
    let told = |text: &str| {
        eventually(std::time::Duration::from_secs(5), || registry.said().contains(text).then_some(()))
    };
    assert!(
        told("nothing changed: line 1: the hash of ada is not bcrypt's").is_some(),
        "{}",
        registry.said()
    );
    assert_eq!(registry.ask("GET", "/v2/", &[("authorization", &basic("ada:secret"))], b"").status, 200);
    std::fs::write(&file, "# nobody\n").unwrap();
    registry.signal(Signal::HUP);
    assert!(told("were read again").is_some());
    assert_eq!(registry.ask("GET", "/v2/", &[("authorization", &basic("ada:secret"))], b"").status, 401);
    registry.signal(Signal::TERM);
    assert_eq!(registry.wait(), Some(0));
}

#[test]
fn read_only_means_read_only() {
    let (registry, folder) = registry_with(&["--delete"]);
    let manifest = image(&registry, "app", &[b"layer"]);
    let (manifest_digest, _) = put_manifest(&registry, "app", "latest", &manifest);
    drop(registry);
    let registry = Served::start(WHARF, folder.path(), &["--read-only", "--delete"]);
    let blob = digest(b"layer");
    for (method, path) in [
        ("POST", "/v2/app/blobs/uploads/".to_owned()),
        ("PUT", "/v2/app/manifests/x".to_owned()),
        ("DELETE", format!("/v2/app/manifests/{manifest_digest}")),
        ("DELETE", format!("/v2/app/blobs/{blob}")),
    ] {
        let reply = registry.ask(method, &path, &[("content-type", OCI_MANIFEST)], b"");
        assert_eq!((reply.status, code(&reply).as_str()), (405, "UNSUPPORTED"), "{method} {path}");
    }
    assert_eq!(registry.ask("GET", "/v2/app/manifests/latest", &[], b"").status, 200);
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{blob}"), &[], b"").body, b"layer");
}

/// A certificate for 127.0.0.1 that signs itself; its file and its key's.
pub(crate) fn certificate(folder: &std::path::Path, name: &str) -> (String, String) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate.display().to_string(), key.display().to_string())
}

fn curl(arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(arguments)
        .output()
        .expect("curl");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn certificates_are_read_again_and_clients_must_have_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key) = certificate(folder.path(), "first");
    let (client, client_key) = certificate(folder.path(), "client");
    let flags = ["--tls-cert", &certificate_file, "--tls-key", &key, "--client-ca", &client];
    let registry = Served::start(WHARF, &folder.path().join("root"), &flags);
    let url = format!("https://{}/v2/", registry.host());
    let with_client =
        |authority: &str| curl(&["--cacert", authority, "--cert", &client, "--key", &client_key, &url]);
    assert_eq!(with_client(&certificate_file), (true, "{}".to_owned()));
    assert!(!curl(&["--cacert", &certificate_file, &url]).0, "without a client's certificate");
    assert!(!curl(&[&format!("http://{}/v2/", registry.host())]).0, "without TLS");

    let (second, second_key) = certificate(folder.path(), "second");
    std::fs::copy(&second, &certificate_file).unwrap();
    std::fs::copy(&second_key, &key).unwrap();
    registry.signal(Signal::HUP);
    let changed = eventually(std::time::Duration::from_secs(10), || with_client(&second).0.then_some(()));
    assert!(changed.is_some(), "{}", registry.said());
}

#[test]
fn a_stop_lets_a_download_end() {
    use std::io::{Read, Write};
    let (registry, _folder) = registry_with(&[]);
    let blob = crate::bytes(8 << 20, 9);
    let digest = put_blob(&registry, "app", &blob);
    let mut stream = std::net::TcpStream::connect(registry.address()).unwrap();
    write!(stream, "GET /v2/app/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    registry.signal(Signal::TERM);
    let refuses = || std::net::TcpStream::connect(registry.address()).is_err().then_some(());
    eventually(std::time::Duration::from_secs(20), refuses).expect("nobody new is served");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&blob[blob.len() - 1000..]));
    assert_eq!(registry.wait(), Some(0));
}

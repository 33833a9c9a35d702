//! How the daemon and the clients reach registries: mirrors, proxies, certificates, credentials kept by programs.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use wharf_testkit::registry::{Fault, Faulty, Registry, Served};
use wharf_testkit::{Daemon, client};

use super::access::certificate;
use crate::WHARF;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn with_image(path: &str) -> Registry {
    let registry = Registry::start();
    let tar = wharf_testkit::image::layer(&[wharf_testkit::image::Entry::File("f", 0o644, b"f")]).unwrap();
    registry.put_image(path, "v1", LAYER, &[&tar], &[&tar]);
    registry
}

#[test]
fn a_mirror_stands_in_for_the_hub() {
    let registry = with_image("library/mirrored");
    let broken = Faulty::before(&registry);
    broken.every("GET", "/v2/", Fault::status(500, None));
    let (first, second) = (format!("http://{}", broken.host()), format!("http://{}", registry.host()));
    let d = Daemon::start_empty(WHARF, &["--registry-mirror", &first, "--registry-mirror", &second]);
    d.docker(&["pull", "-q", "mirrored:v1"]).ok();
    assert!(broken.count("GET", "/v2/") > 0, "the first one is asked first");
    let names = d.docker(&["images", "--digests", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    assert_eq!(names, "mirrored:v1");
}

#[test]
fn a_proxy_reaches_what_has_no_address_here() {
    let registry = with_image("app");
    let proxy = Faulty::before(&registry);
    let address = format!("http://{}", proxy.host());
    let name = "registry.invalid:5000/app:v1";
    let flags = ["--http-proxy", &address, "--insecure-registry", "registry.invalid:5000"];
    let d = Daemon::start_empty(WHARF, &flags);
    d.docker(&["pull", "-q", name]).ok();
    assert!(proxy.seen().iter().any(|seen| seen.header("host") == Some("registry.invalid:5000")));
    let flags = [&flags[..], &["--no-proxy", "registry.invalid"]].concat();
    let without = Daemon::start_empty(WHARF, &flags);
    without.docker(&["pull", "-q", name]).fails(1, "registry.invalid");
}

#[test]
fn certificates_lie_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = certificate(folder.path(), "server");
    let (own, own_key) = certificate(folder.path(), "own");
    let flags = ["--tls-cert", &server, "--tls-key", &key, "--client-ca", &own];
    let registry = Served::start(WHARF, &folder.path().join("root"), &flags);
    let d = Daemon::start(WHARF, &[]);
    let name = format!("{}/app:v1", registry.host());
    d.docker(&["tag", "busybox", &name]).ok();
    assert_eq!(d.docker(&["push", "-q", &name]).code, 1, "without a certificate of one's own");
    let place = d.path("certs.d").join(registry.host());
    std::fs::create_dir_all(&place).unwrap();
    for (from, to) in [(&server, "ca.crt"), (&own, "client.cert"), (&own_key, "client.key")] {
        std::fs::copy(from, place.join(to)).unwrap();
    }
    d.docker(&["push", "-q", &name]).ok();
    d.docker(&["rmi", &name]).ok();
    d.docker(&["pull", "-q", &name]).ok();
}

/// A program that keeps credentials, in a folder to put into the path.
fn helper(folder: &std::path::Path) {
    let path = folder.join("docker-credential-testkit");
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase $1 in\n\
        store) cat > kept;;\n\
        get) read -r _; test -s kept && cat kept || { echo 'credentials not found in native keychain'; exit 1; };;\n\
        erase) rm -f kept;;\n\
        esac\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn programs_keep_credentials_for_both_clients() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("htpasswd");
    std::fs::write(&passwords, format!("{}\n", super::access::ADA)).unwrap();
    let registry = Registry::with(|config| config.htpasswd = Some(passwords));
    let (host, d) = (registry.host(), Daemon::start(WHARF, &[]));
    helper(folder.path());
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let name = format!("{host}/app:v1");
    d.docker(&["tag", "busybox", &name]).ok();
    let config = |text: String| std::fs::write(d.path("config.json"), text).unwrap();
    let wharf: &dyn Fn() -> Command = &|| client::command(WHARF, &d.host(), &d.path(""));
    let docker: &dyn Fn() -> Command = &|| d.command("docker");
    for settings in
        [format!(r#"{{"credHelpers": {{"{host}": "testkit"}}}}"#), r#"{"credsStore": "testkit"}"#.to_owned()]
    {
        for (who, other) in [(docker, wharf), (wharf, docker)] {
            config(settings.clone());
            let run = |make: &dyn Fn() -> Command, words: &[&str], input: &[u8]| {
                let mut command = make();
                command.args(words).env("PATH", &path);
                client::run(command, input)
            };
            run(who, &["login", "-u", "ada", "--password-stdin", &host], b"secret").ok();
            let kept = std::fs::read_to_string(folder.path().join("kept")).unwrap();
            assert!(kept.contains("secret"), "{kept}");
            let file = std::fs::read_to_string(d.path("config.json")).unwrap();
            assert!(!file.contains("secret") && !file.contains("YWRhOnNlY3JldA"), "{file}");
            // What one client keeps, the other finds.
            run(other, &["push", "-q", &name], b"").ok();
            run(who, &["push", "-q", &name], b"").ok();
            run(other, &["logout", &host], b"").ok();
            assert!(!folder.path().join("kept").exists());
            assert_eq!(run(who, &["push", "-q", &name], b"").code, 1);
        }
    }
}

#[test]
fn a_registry_that_wants_too_long_a_pause_is_an_error_now() {
    let registry = with_image("app");
    let busy = Faulty::before(&registry);
    let headers = [("retry-after", "3600"), ("content-type", "application/json")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back in an hour"}]}"#.to_vec();
    busy.rule(move |seen| {
        let answer = Fault::Answer { status: 429, headers: headers.clone(), body: body.clone() };
        seen.target.contains("/manifests/").then_some(answer)
    });
    let d = Daemon::start_empty(WHARF, &[]);
    let name = format!("{}/app:v1", busy.host());
    d.docker(&["pull", &name]).fails(1, "toomanyrequests: come back in an hour");
    assert_eq!((busy.count("HEAD", "/manifests/"), busy.count("GET", "/manifests/")), (1, 1));
    busy.behave();
    busy.first(2, "GET", "/manifests/", Fault::status(429, Some(1)));
    busy.first(2, "HEAD", "/manifests/", Fault::status(429, Some(1)));
    d.docker(&["pull", "-q", &name]).ok();
}

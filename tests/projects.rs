//! Five projects, each as someone would ship it, built whole from what package registries have and run once. They take
//! minutes and hundreds of megabytes from the network: `cargo test -p wharf --test projects -- --ignored`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_testkit::client::{self, eventually};
use wharf_testkit::{Daemon, Run};

/// The certificate authorities of this host, which a build behind a proxy of its own needs.
const AUTHORITIES: &str = "id=authorities,src=/etc/ssl/certs/ca-certificates.crt";

/// A daemon with a base image that it made from the distribution's archive.
fn daemon() -> Daemon {
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    fs::create_dir_all(d.path("cli-plugins")).unwrap();
    let plugin = client::clients().join("sid/usr/libexec/docker/cli-plugins/docker-buildx");
    symlink(plugin, d.path("cli-plugins/docker-buildx")).unwrap();
    d.wharf(&["image", "bootstrap", "debian:trixie"]).ok();
    d
}

fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects").join(name)
}

/// Builds a project; returns what was said.
#[track_caller]
fn build(d: &Daemon, name: &str, more: &[&str]) -> Run {
    let mut command = client::command(client::program("docker"), &d.host(), &d.path(""));
    command
        .args(["build", "--progress", "plain", "--secret", AUTHORITIES, "-t", name])
        .args(more)
        .arg(project(name));
    let run = client::run(command, b"");
    run.ok();
    run
}

/// What a container answers by HTTP on a port of its own address.
#[track_caller]
fn answer(d: &Daemon, container: &str, port: u16, path: &str) -> String {
    let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    let address = d.docker(&["inspect", "-f", format, container]).ok();
    let ask = || {
        let run = std::process::Command::new("curl")
            .args(["-fsS", "--noproxy", "*", &format!("http://{address}:{port}{path}")])
            .output()
            .unwrap();
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).into_owned())
    };
    eventually(Duration::from_secs(30), ask).unwrap_or_else(|| panic!("{container} does not answer"))
}

#[test]
#[ignore = "takes minutes and hundreds of megabytes of packages"]
fn five_projects_are_built_and_run() {
    let d = daemon();

    build(&d, "c", &[]);
    build(&d, "c", &["--target", "test"]);
    let packed =
        d.docker_with(&["run", "--rm", "-i", "--entrypoint", "sh", "c", "-c", "pack | pack -d"], b"text");
    assert_eq!(packed.ok(), "text");
    let again = build(&d, "c", &[]);
    assert!(!again.stderr.contains("gcc-14"), "packages come from the cache: {}", again.stderr);

    build(&d, "rust", &[]);
    let sum = d.docker_with(&["run", "--rm", "-i", "rust"], b"abc").ok();
    assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    build(&d, "python", &[]);
    d.docker(&["run", "-d", "--name", "python", "python"]).ok();
    assert_eq!(answer(&d, "python", 5000, "/").trim(), r#"{"user":900}"#);
    let healthy = || {
        let state = d.docker(&["inspect", "-f", "{{.State.Health.Status}}", "python"]).ok();
        (state == "healthy").then_some(())
    };
    assert!(eventually(Duration::from_secs(30), healthy).is_some(), "the probe succeeds");

    build(&d, "node", &[]);
    d.docker(&["run", "-d", "--name", "node", "node"]).ok();
    assert_eq!(answer(&d, "node", 3000, "/?name=you"), r#"{"hello":"you"}"#);
    d.docker(&["stop", "node"]).ok();
    assert_eq!(d.docker(&["inspect", "-f", "{{.State.ExitCode}}", "node"]).ok(), "0");

    build(&d, "service", &[]);
    d.docker(&["run", "-d", "--name", "service", "service"]).ok();
    assert!(answer(&d, "service", 8080, "/").contains("Served from a container"));
    d.docker(&["stop", "service"]).ok();
    assert_eq!(d.docker(&["inspect", "-f", "{{.State.ExitCode}}", "service"]).ok(), "0");
}

//! A container's directory, a supervisor in a process of its own, and what a daemon would do with it.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_oci::runtime::{Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec};
use wharf_shim::protocol::{Attach, Event, Exit, Framing, LogConfig, RestartPolicy, SupervisorConfig};
use wharf_shim::{Events, Handle};
use wharf_sys::mount::Recipe;

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub config: SupervisorConfig,
    executable: OwnedFd,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Fixture {
    /// A container that runs `script` in a shell on the host's files.
    pub fn new(script: &str) -> Self {
        Self::with(shell(script))
    }

    pub fn with(process: Process) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().to_owned();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number:x}", std::process::id());
        let kinds = [NamespaceKind::Mount, NamespaceKind::Pid];
        let spec = Spec {
            oci_version: "1.2.0".into(),
            process: Some(process),
            root: Some(Root { path: "rootfs".into(), readonly: false }),
            mounts: vec![
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["mode=755"]),
                mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
            ],
            linux: Some(Linux {
                cgroups_path: format!("/wharf-test-supervisor-{id}"),
                namespaces: kinds.map(Namespace::new).to_vec(),
                ..Linux::default()
            }),
            ..Spec::default()
        };
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        let config = SupervisorConfig {
            id,
            socket: bundle.join("socket"),
            rootfs: Recipe::Bind { source: "/".into() },
            log: LogConfig::JsonFile {
                path: bundle.join("json.log"),
                max_size: None,
                max_file: 1,
                attrs: BTreeMap::new(),
            },
            bundle,
            open_stdin: false,
            stdin_once: false,
            restart: RestartPolicy::No,
            runtime: None,
        };
        let executable = File::open(supervisor()).unwrap().into();
        Self { directory, config, executable }
    }

    pub fn spawn(&self) -> (Handle, Events) {
        Handle::spawn(self.executable.as_fd(), &self.config, &[]).unwrap()
    }

    pub fn executable(&self) -> std::os::fd::BorrowedFd<'_> {
        self.executable.as_fd()
    }

    /// The texts in the log, of one stream.
    pub fn logged(&self, stream: &str) -> String {
        let log = fs::read_to_string(self.directory.path().join("json.log")).unwrap();
        let entries = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        entries
            .filter(|entry| entry["stream"] == stream)
            .map(|entry| entry["log"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn journal(&self) -> Vec<Event> {
        let text = fs::read_to_string(self.directory.path().join("journal")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: kind.into(),
        options: options.iter().map(|&option| option.into()).collect(),
        ..Mount::default()
    }
}

pub fn shell(script: &str) -> Process {
    Process {
        args: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/".into(),
        ..Process::default()
    }
}

/// The example that cargo builds beside the tests.
fn supervisor() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/supervisor")
}

pub fn attach(stdin: bool) -> Attach {
    Attach {
        stdin,
        stdout: true,
        stderr: true,
        replay: false,
        stream: true,
        framing: Framing::Multiplexed,
        detach_keys: Vec::new(),
        read_ahead: Vec::new(),
    }
}

/// A client's side of an attachment.
pub struct Client(pub tokio::net::UnixStream);

impl Client {
    pub async fn attach(handle: &Handle, attach: Attach) -> Self {
        let (client, theirs) = Self::pair();
        handle.attach(attach, theirs).await.unwrap();
        client
    }

    pub fn pair() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Self(tokio::net::UnixStream::from_std(ours).unwrap()), theirs.into())
    }

    pub async fn say(&mut self, text: &[u8]) {
        self.0.write_all(text).await.unwrap();
    }

    pub async fn say_no_more(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// All that comes until the other side ends.
    pub async fn all(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon(self.0.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    /// Raw bytes until `text` has come.
    pub async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut bytes = [0; 1024];
            let count = soon(self.0.read(&mut bytes)).await.unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// Takes the frames of a multiplexed stream apart.
pub fn streams(mut bytes: &[u8]) -> (String, String) {
    let mut texts = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        texts[usize::from(header[0])].extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty() && texts[3].is_empty());
    let [_, out, error, _] = texts.map(|text| String::from_utf8(text).unwrap());
    (out, error)
}

/// The wait that a test gives up after.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("took too long")
}

/// The next event; panics when the supervisor is gone.
pub async fn next(events: &mut Events) -> Event {
    soon(events.recv()).await.expect("supervisor is gone")
}

/// Waits for the end for good.
pub async fn end(events: &mut Events) -> Exit {
    loop {
        if let Event::Exited { exit, restart_in_ms: None, .. } = next(events).await {
            return exit;
        }
    }
}

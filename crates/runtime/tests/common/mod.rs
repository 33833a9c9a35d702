//! Containers made on the spot: a root of Debian's `busybox-static`, Docker's default spec, our runtime.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use wharf_oci::runtime::{Process, Spec};
use wharf_runtime::{ExecRequest, LaunchError, LaunchRequest, Launched, RootSource, Stdio};
use wharf_sys::{cgroup::Cgroup, mount::Recipe, process, socket};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Directories and spec of a container to be.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub spec: Spec,
    pub recipe: Recipe,
    cgroup: String,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub warnings: Vec<String>,
}

/// A process that runs.
pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub console: Option<OwnedFd>,
    pub output: File,
    pub warnings: Vec<String>,
}

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Fixture {
    /// Runs `script` in a shell.
    pub fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        for name in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox")).expect("busybox-static is installed");
        for name in
            ["sh", "cat", "id", "ls", "sleep", "true", "mount", "stat", "tty", "touch", "grep", "hostname"]
        {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:\n")
            .unwrap();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let recipe = Recipe::Overlay { lower: vec![lower], upper, work, volatile: false };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/wharf-test-runtime-{}/{number}", std::process::id());
        Self { spec: default_spec(script, &cgroup), dir, recipe, cgroup }
    }

    pub fn lower(&self) -> std::path::PathBuf {
        self.dir.path().join("lower")
    }

    pub fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    pub fn start(&self) -> Result<Running, LaunchError> {
        let mount = self.recipe.mount().unwrap();
        let root = RootSource { mount: Some(mount.as_fd()), recipe: &self.recipe };
        let terminal = self.spec.process.as_ref().is_some_and(|process| process.terminal);
        in_child(terminal, |stdio| {
            let subject = wharf_runtime::hooks::Subject { id: "fixture", bundle: self.dir.path() };
            let (spec, seccomp) = (&self.spec, self.seccomp());
            wharf_runtime::launch(&LaunchRequest { spec, seccomp, root, network: None, stdio, subject })
        })
    }

    fn seccomp(&self) -> Option<&wharf_oci::runtime::LinuxSeccomp> {
        self.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref())
    }

    pub fn run(&self) -> Ended {
        self.start().unwrap().wait()
    }

    pub fn fails(&self) -> LaunchError {
        match self.start() {
            Ok(running) => panic!("started: {:?}", running.wait()),
            Err(error) => {
                collect_failed();
                error
            }
        }
    }

    pub fn exec(&self, running: &Running, process: &Process) -> Result<Running, LaunchError> {
        let init = running.pidfd.as_fd();
        in_child(process.terminal, |stdio| {
            let (spec, seccomp) = (&self.spec, self.seccomp());
            wharf_runtime::exec(&ExecRequest { spec, seccomp, init, process, stdio })
        })
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let group = Cgroup::open(&self.cgroup).unwrap();
        group.kill_all().unwrap();
        group.remove().unwrap();
        // The last test removes the parent.
        let _ = Command::new("sh")
            .args([
                "-c",
                &format!("rmdir /sys/fs/cgroup/*{p} /sys/fs/cgroup{p} 2>/dev/null", p = parent(&self.cgroup)),
            ])
            .status();
    }
}

fn parent(cgroup: &str) -> &str {
    Path::new(cgroup).parent().unwrap().to_str().unwrap()
}

impl Running {
    pub fn kill(&self) {
        rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL).unwrap();
    }

    pub fn wait(mut self) -> Ended {
        let mut output = String::new();
        match self.console.take() {
            // A terminal whose last user is gone answers EIO.
            Some(master) => drop(File::from(master).read_to_string(&mut output)),
            None => drop(self.output.read_to_string(&mut output).unwrap()),
        }
        Ended { code: process::wait(self.pid).unwrap(), output, warnings: self.warnings }
    }
}

/// Calls the runtime as a supervisor does: from a forked child that then ends.
fn in_child(
    terminal: bool,
    work: impl FnOnce(Stdio<'_>) -> Result<Launched, LaunchError>,
) -> Result<Running, LaunchError> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (ours, theirs) = socket::pair(socket::Kind::Messages).unwrap();
    let null = File::open("/dev/null").unwrap();
    let child = process::fork_child(|| {
        let streams = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        let stdio = if terminal { Stdio::Terminal } else { Stdio::Streams(streams) };
        match work(stdio) {
            Ok(launched) => {
                let facts = serde_json::to_vec(&(launched.pid, launched.warnings)).unwrap();
                let fds = [Some(launched.pidfd.as_fd()), launched.console.as_ref().map(AsFd::as_fd)];
                let fds: Vec<_> = fds.into_iter().flatten().collect();
                socket::send_message(&theirs, &facts, &fds).unwrap();
                0
            }
            Err(error) => {
                socket::send_message(&theirs, &serde_json::to_vec(&error).unwrap(), &[]).unwrap();
                1
            }
        }
    })
    .unwrap();
    drop((writer, theirs));
    let mut buffer = vec![0; 65536];
    let (length, fds) = socket::wait_message(&ours, &mut buffer).unwrap();
    process::wait(child).unwrap();
    if fds.is_empty() {
        return Err(serde_json::from_slice(&buffer[..length]).unwrap_or_else(LaunchError::other));
    }
    let (pid, warnings) = serde_json::from_slice(&buffer[..length]).unwrap();
    let mut fds = fds.into_iter();
    let pidfd = fds.next().unwrap();
    Ok(Running { pid, pidfd, console: fds.next(), output: File::from(reader), warnings })
}

/// Collects the process of a failed launch or exec of this test: until then its pid namespace cannot end. It still has the
/// name of the thread that forked it, and may not have ended yet when its failure is told.
pub fn collect_failed() {
    let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let parent = format!("PPid:\t{}\n", std::process::id());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let is_ours = read("status").contains(&parent) && read("comm") == name;
        if let (true, Some(pid)) = (is_ours, entry.file_name().to_str()) {
            process::wait(pid.parse().unwrap()).unwrap();
        }
    }
}

pub fn shell(script: &str) -> Process {
    default_spec(script, "/unused").process.unwrap()
}

/// What the engine asks for without any option.
fn default_spec(script: &str, cgroup: &str) -> Spec {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let standard = ["nosuid", "noexec", "nodev"];
    let device = |allow: bool, access: &str| json!({"allow": allow, "access": access});
    let capabilities =
        json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES});
    let namespaces: Vec<_> =
        ["mount", "network", "uts", "pid", "ipc", "cgroup"].map(|kind| json!({"type": kind})).into();
    let profile = wharf_oci::seccomp::docker_default(&CAPABILITIES.map(str::to_owned), (6, 1));
    let mut spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": capabilities,
        },
        "root": {"path": "rootfs"},
        "hostname": "container",
        "mounts": [
            mount("/proc", "proc", "proc", &standard),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &standard),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "resources": {"devices": [device(false, "rwm")]},
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }))
    .unwrap();
    spec.linux.as_mut().unwrap().seccomp = Some(profile);
    spec
}

//! A foreign OCI runtime (runc, crun, …), driven through its command line.
//!
//! It runs in the set-up child, which has a mount namespace of its own: the root file system is mounted there
//! at the bundle's `rootfs`, where the runtime finds it, and nowhere on the host. What the runtime starts
//! becomes the supervisor's child when the runtime's own process ends, since the supervisor is a subreaper.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use wharf_oci::runtime::{NamespaceKind, Process, Spec};
use wharf_runtime::{FailureKind, LaunchError, Launched, RootSource, Stdio};
use wharf_shim::protocol::{ForeignRuntime, SupervisorConfig};
use wharf_sys::mount::{Attributes, Propagation, set_attributes};
use wharf_sys::namespace::{self, flags};
use wharf_sys::pidfd::PidFd;
use wharf_sys::pipe::null;
use wharf_sys::process;
use wharf_sys::socket::{self, Kind};

/// Where in the bundle the runtime expects the root file system.
const ROOTFS: &str = "rootfs";
/// Where in the bundle the runtime leaves the id of a process it has started.
const PID_FILE: &str = "runtime.pid";
/// Where in the bundle the runtime says what went wrong.
const LOG_FILE: &str = "runtime.log";
/// Where in the bundle a process to be added is described.
const PROCESS_FILE: &str = "runtime-process.json";

/// One container of a foreign runtime.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    runtime: ForeignRuntime,
    id: String,
    bundle: PathBuf,
    /// Below the run-time directory, where it is short enough for a socket's address.
    console: PathBuf,
}

impl Foreign {
    /// The foreign runtime that a container was given, if any.
    pub(crate) fn of(config: &SupervisorConfig) -> Option<Self> {
        let mut console = config.socket.clone().into_os_string();
        console.push(".tty");
        Some(Self {
            runtime: config.runtime.clone()?,
            id: config.id.clone(),
            bundle: config.bundle.clone(),
            console: console.into(),
        })
    }

    /// Creates and starts the container.
    ///
    /// # Errors
    /// What the runtime said, after its words for what it was doing.
    pub(crate) fn launch(
        &self,
        root: &RootSource<'_>,
        network: Option<BorrowedFd<'_>>,
        stdio: Stdio<'_>,
    ) -> Result<Launched, LaunchError> {
        if let Some(network) = network {
            self.name_network(network)?;
        }
        self.show_root(root)?;
        if self.runtime.root.join(&self.id).exists() {
            self.delete();
        }
        let bundle = self.bundle.as_os_str().to_owned();
        let launched = self.start_process("create", &["--bundle".into(), bundle], stdio)?;
        let nothing = null().map_err(LaunchError::other)?;
        if let Err(why) = self.run("start", &[self.id.clone().into()], [nothing.as_fd(); 3]) {
            self.delete();
            return Err(failure("start", &why));
        }
        Ok(launched)
    }

    /// Runs one more process in the container.
    ///
    /// # Errors
    /// What the runtime said.
    pub(crate) fn exec(&self, process: &Process, stdio: Stdio<'_>) -> Result<Launched, LaunchError> {
        let description = self.bundle.join(PROCESS_FILE);
        let text = serde_json::to_vec(process).map_err(LaunchError::other)?;
        fs::write(&description, text).map_err(|error| self.failed("write", &description, &error))?;
        let options = ["--detach".into(), "--process".into(), description.clone().into_os_string()];
        let launched = self.start_process("exec", &options, stdio);
        let _left_over = fs::remove_file(&description);
        launched
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// What the runtime said.
    pub(crate) fn kill(&self, signal: i32) -> Result<(), String> {
        let nothing = null().map_err(|error| error.to_string())?;
        let words = [self.id.clone().into(), signal.to_string().into()];
        self.run("kill", &words, [nothing.as_fd(); 3])
    }

    /// Lets the runtime forget the container; what it does not take away, the supervisor does.
    pub(crate) fn delete(&self) {
        if let Ok(nothing) = null() {
            let words = ["--force".into(), self.id.clone().into()];
            let _nothing_was_made = self.run("delete", &words, [nothing.as_fd(); 3]);
        }
        let _not_there = fs::remove_dir(self.bundle.join(ROOTFS));
        for file in [PID_FILE, LOG_FILE] {
            let _not_there = fs::remove_file(self.bundle.join(file));
        }
    }

    /// Writes the network namespace into the bundle as a path: a descriptor of this process's parent, which lasts.
    fn name_network(&self, network: BorrowedFd<'_>) -> Result<(), LaunchError> {
        let config = self.bundle.join("config.json");
        let text = fs::read(&config).map_err(|error| self.failed("read", &config, &error))?;
        let mut spec: Spec = serde_json::from_slice(&text).map_err(LaunchError::other)?;
        let supervisor = rustix::process::Pid::as_raw(rustix::process::getppid());
        let namespaces = spec.linux.iter_mut().flat_map(|linux| &mut linux.namespaces);
        let own = |path: &str| path.is_empty() || path.starts_with("/proc/");
        for one in namespaces.filter(|one| one.kind == NamespaceKind::Network && own(&one.path)) {
            one.path = format!("/proc/{supervisor}/fd/{}", network.as_raw_fd());
        }
        let text = serde_json::to_vec(&spec).map_err(LaunchError::other)?;
        fs::write(&config, text).map_err(|error| self.failed("write", &config, &error))
    }

    /// Mounts the root file system at the bundle's `rootfs`, for this process and its children only.
    fn show_root(&self, root: &RootSource<'_>) -> Result<(), LaunchError> {
        namespace::unshare(flags::MOUNT)?;
        let bundle =
            fs::canonicalize(&self.bundle).map_err(|error| self.failed("find", &self.bundle, &error))?;
        // Only the mount that holds the bundle stops to tell the host of mounts on it: a bind of another one
        // may have to.
        let keep_to_ourselves = Attributes::new().propagation(Propagation::Slave);
        let holder = bundle.ancestors().find_map(|directory| {
            let directory = openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            set_attributes(directory.as_fd(), &keep_to_ourselves, false).ok()
        });
        if holder.is_none() {
            return Err(LaunchError::other(format!("no mount holds {}", bundle.display())));
        }
        let place = bundle.join(ROOTFS);
        if let Err(error) = fs::create_dir(&place)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(self.failed("mkdir", &place, &error));
        }
        let target = openat(CWD, &place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| self.failed("open", &place, &error.into()))?;
        Ok(wharf_runtime::root_mount(root)?.attach(target.as_fd())?)
    }

    /// `create` and `exec`: a process is started and named in the pid file, its terminal comes over a socket.
    fn start_process(
        &self,
        verb: &str,
        options: &[OsString],
        stdio: Stdio<'_>,
    ) -> Result<Launched, LaunchError> {
        let pid_file = self.bundle.join(PID_FILE);
        let _not_there = fs::remove_file(&pid_file);
        let mut words = options.to_vec();
        words.extend(["--pid-file".into(), pid_file.clone().into_os_string()]);
        let nothing = null().map_err(LaunchError::other)?;
        let (streams, console) = match stdio {
            Stdio::Streams(streams) => (streams, None),
            Stdio::Terminal => {
                words.extend(["--console-socket".into(), self.console.clone().into_os_string()]);
                ([nothing.as_fd(); 3], Some(Console::listen(&self.console)?))
            }
        };
        words.push(self.id.clone().into());
        self.run(verb, &words, streams).map_err(|why| failure(verb, &why))?;
        let pid = fs::read_to_string(&pid_file).map_err(|error| self.failed("read", &pid_file, &error))?;
        let pid = pid.trim().parse().map_err(LaunchError::other)?;
        let pidfd = PidFd::open(pid).map_err(LaunchError::other)?;
        let console = console.map(|console| console.receive()).transpose()?;
        Ok(Launched { pid, pidfd: pidfd.into(), console, warnings: Vec::new() })
    }

    /// Runs the runtime to its end.
    ///
    /// # Errors
    /// What it wrote into its log, or why it could not be run.
    fn run(&self, verb: &str, words: &[OsString], streams: [BorrowedFd<'_>; 3]) -> Result<(), String> {
        let log = self.bundle.join(LOG_FILE);
        let _not_there = fs::remove_file(&log);
        let program = &self.runtime.program;
        let mut all = vec![program.clone().into_os_string()];
        all.extend(self.runtime.arguments.iter().map(OsString::from));
        all.extend(["--root".into(), self.runtime.root.clone().into_os_string()]);
        all.extend(["--log".into(), log.clone().into_os_string(), "--log-format".into(), "json".into()]);
        all.push(verb.into());
        all.extend(words.iter().cloned());
        let ended = process::spawn(find(program).as_os_str(), &all, &streams)
            .and_then(|child| process::wait(child.pid));
        match ended {
            Ok(0) => Ok(()),
            Ok(code) => {
                Err(last_error(&log).unwrap_or_else(|| format!("{} ended with {code}", program.display())))
            }
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    }

    fn failed(&self, doing: &str, path: &Path, error: &io::Error) -> LaunchError {
        LaunchError::other(format!("{doing} {}: {error}", path.display()))
    }
}

/// Receives the master side of a terminal that the runtime has made.
struct Console<'a> {
    path: &'a Path,
    listener: OwnedFd,
}

impl<'a> Console<'a> {
    fn listen(path: &'a Path) -> Result<Self, LaunchError> {
        let listener = socket::listen(path, Kind::Stream)
            .map_err(|error| LaunchError::other(format!("listen on {}: {error}", path.display())))?;
        Ok(Self { path, listener })
    }

    /// The runtime has ended well, so it has sent the terminal.
    fn receive(&self) -> Result<OwnedFd, LaunchError> {
        let sent = || -> io::Result<Option<OwnedFd>> {
            let Some(connection) = socket::accept(&self.listener)? else { return Ok(None) };
            let (_, mut descriptors) = socket::wait_message(&connection, &mut [0; 4096])?;
            Ok(descriptors.pop())
        };
        let terminal = sent().map_err(|error| LaunchError::other(format!("receive terminal: {error}")))?;
        terminal.ok_or_else(|| LaunchError::other("the runtime sent no terminal"))
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        let _not_there = socket::remove(self.path);
    }
}

/// A program without a slash is looked for in `PATH`.
fn find(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| program.to_owned())
}

/// The last error in a runtime's JSON log.
fn last_error(log: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.rfind(|line| line.level == "error").map(|line| line.msg.trim().to_owned())
}

/// Sorted as Docker sorts it: by the words of the message.
fn failure(verb: &str, why: &str) -> LaunchError {
    let missing = ["executable file not found", "no such file or directory", "executable file `"];
    let kind = if missing.iter().any(|words| why.to_lowercase().contains(words)) {
        FailureKind::NotFound
    } else if why.to_lowercase().contains("permission denied") {
        FailureKind::NotExecutable
    } else {
        FailureKind::Other
    };
    // What the engine itself says before an exec's error.
    let why = match verb {
        "exec" => why.strip_prefix("exec failed: unable to start container process: ").unwrap_or(why),
        _ => why,
    };
    LaunchError::new(
        kind,
        if verb == "exec" { why.to_owned() } else { format!("OCI runtime {verb} failed: {why}") },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted_as_docker_sorts_them() {
        let kind = |why: &str| failure("create", why).kind();
        let runc = "runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH";
        assert_eq!(kind(runc), FailureKind::NotFound);
        assert_eq!(kind("executable file `x` not found in $PATH"), FailureKind::NotFound);
        assert_eq!(kind("open `/x`: Permission denied"), FailureKind::NotExecutable);
        assert_eq!(kind("no space left on device"), FailureKind::Other);
        let exec = failure("exec", "exec failed: unable to start container process: exec: \"x\": gone");
        assert_eq!(exec.to_string(), "exec: \"x\": gone");
    }

    #[test]
    fn the_last_error_of_a_log_counts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "{\"level\":\"error\",\"msg\":\"a\",\"time\":\"t\"}\n{\"level\":\"warning\",\"msg\":\"b\"}\nnonsense\n").unwrap();
        assert_eq!(last_error(&log).as_deref(), Some("a"));
        assert_eq!(last_error(&dir.path().join("none")), None);
    }

    #[test]
    fn programs_are_looked_for_in_path() {
        assert_eq!(find(Path::new("/x/y")), PathBuf::from("/x/y"));
        assert!(find(Path::new("sh")).is_absolute());
    }
}

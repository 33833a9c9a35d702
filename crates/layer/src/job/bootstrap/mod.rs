//! A base image's tree, made by `debootstrap` straight from a distribution's archive.
//!
//! ```text
//! fetch    the host's debootstrap, seeing the host read-only: verify the archive's signature, fetch, unpack
//! install  the tree's own programs, seeing nothing but the tree, without network: configure the packages
//! tidy     what differs from one run to the next goes; times end at the archive's date
//! ```
//!
//! No program of the archive runs before `install`, and none with more than a container's capabilities.

mod confine;
mod release;
mod tidy;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use wharf_sys::namespace::flags;
use wharf_sys::root::Root;

use super::{Answer, Answers, Failure};
use confine::Stage;
pub use release::Release;

/// The program search path of the second stage.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What unpacking needs: owners, modes, device nodes.
const FETCH: &[&str] = &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD"];
/// What configuring packages needs beside it.
const INSTALL: &[&str] = &["CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_KILL", "CAP_SYS_CHROOT"];
/// `dpkg` need not wait for the disk at each file: nothing is kept of a tree that is cut short.
const UNSAFE_IO: &str = "etc/dpkg/dpkg.cfg.d/wharf-bootstrap";

/// What to make a tree of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The `debootstrap` to run.
    pub tool: PathBuf,
    /// Its environment: the search path, proxies.
    pub environment: Vec<(String, String)>,
    /// The suite: `trixie`.
    pub suite: String,
    /// Where the archive is.
    pub mirror: String,
    /// The keys that may sign it.
    pub keyring: PathBuf,
    /// The script for a suite that the tool does not know by name.
    pub script: Option<PathBuf>,
    /// Packages beside the smallest set.
    pub include: Vec<String>,
    /// What `/etc/apt/sources.list` shall say.
    pub sources: String,
    /// An empty directory to make it in.
    pub tree: PathBuf,
}

/// Makes the tree; says each step.
pub(super) fn run(job: &Bootstrap, answers: &mut Answers) -> Result<Root, Failure> {
    let mut say = |line: &str| answers.send(&Answer::Progress(line.to_owned()));
    let shared = flags::MOUNT | flags::PID | flags::IPC | flags::UTS | flags::CGROUP;
    Stage {
        tree: &job.tree,
        enter: false,
        needed: &[Path::new("/etc/resolv.conf"), &job.keyring],
        namespaces: shared,
        program: &job.tool,
        arguments: &fetch_arguments(job),
        environment: &job
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>(),
        capabilities: FETCH,
    }
    .run(&mut say)
    .map_err(|failure| with_log(&job.tree, failure))?;
    let root = Root::open(&job.tree)?;
    let release = Release::find(&root)?;
    write(&root, UNSAFE_IO, b"force-unsafe-io\n")?;
    own_proc(&root)?;
    Stage {
        tree: &job.tree,
        enter: true,
        needed: &[],
        namespaces: shared | flags::NETWORK,
        program: Path::new("/debootstrap/debootstrap"),
        arguments: &["--second-stage".to_owned()],
        environment: &[
            PATH.to_owned(),
            "LC_ALL=C.UTF-8".to_owned(),
            "HOME=/root".to_owned(),
            "DEBIAN_FRONTEND=noninteractive".to_owned(),
            format!("SOURCE_DATE_EPOCH={}", release.date),
        ],
        capabilities: &[FETCH, INSTALL].concat(),
    }
    .run(&mut say)
    .map_err(|failure| with_log(&job.tree, failure))?;
    tidy::tidy(&root, &job.sources, release.date)?;
    answers.send(&Answer::Archive(release))?;
    Ok(root)
}

fn fetch_arguments(job: &Bootstrap) -> Vec<String> {
    let mut arguments = vec![
        "--foreign".to_owned(),
        "--variant=minbase".to_owned(),
        "--force-check-gpg".to_owned(),
        format!("--keyring={}", job.keyring.display()),
    ];
    if !job.include.is_empty() {
        arguments.push(format!("--include={}", job.include.join(",")));
    }
    arguments.extend([job.suite.clone(), job.tree.display().to_string(), job.mirror.clone()]);
    arguments.extend(job.script.iter().map(|script| script.display().to_string()));
    arguments
}

/// The last lines of what the tool wrote for itself say more than its message.
fn with_log(tree: &Path, failure: Failure) -> Failure {
    const LINES: usize = 5;
    let log = Root::open(tree).ok().and_then(|root| root.read("debootstrap/debootstrap.log", 4 << 20).ok());
    let log = log.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    if last.is_empty() {
        failure
    } else {
        Failure { message: format!("{}\n{last}", failure.message), ..failure }
    }
}

/// In a container the tool makes `/proc` a link, which nothing can be mounted on.
fn own_proc(root: &Root) -> Result<(), Failure> {
    let (top, name) = (root.top()?, OsStr::new("proc"));
    match top.unlink(name) {
        Ok(()) => Ok(top.mkdir(name, 0o755)?),
        // A directory, as it should be.
        Err(error) if matches!(error.errno(), Errno::ISDIR | Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Replaces a file of the tree; its directory is there.
fn write(root: &Root, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let Some((dir, name)) = root.parent(path)? else { return Ok(()) };
    match dir.unlink(&name) {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        _ => {}
    }
    Ok(dir.create_file(&name, 0o644)?.write_all(bytes)?)
}

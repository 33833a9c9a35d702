//! Git repositories, through the host's `git`.
//!
//! A repository is hostile: nothing that it brings is run (no hooks, no settings of its own, no filters), addresses of
//! other kinds than the four that make sense are refused, also for submodules, and a subdirectory is looked up inside.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use wharf_sys::root::Root;

use super::git_address::Address;
use crate::build::{Build, Material, SshSocket, Step};

/// The largest part of what git says that is passed on, bytes.
const SAID: u64 = 64 << 10;
/// How often somebody who waits looks whether the build was ended.
const LOOK: std::time::Duration = std::time::Duration::from_millis(10);

impl Build {
    /// A directory with a repository's files; fetched once in a build.
    pub(in crate::build) fn git(
        &self,
        address: &str,
        keep_git_dir: bool,
        step: &Step,
    ) -> Result<PathBuf, String> {
        let address = Address::parse(address)?;
        let keep = keep_git_dir || address.keep_git_dir;
        let key = format!("git {} {:?} {keep}", address.url, address.reference);
        let whole = self.once(&key, |directory| {
            let place = directory.join("tree");
            std::fs::create_dir(&place).map_err(|error| format!("mkdir {}: {error}", place.display()))?;
            let git = Git { build: self, place: &place, home: directory, address: &address, step };
            let commit = git.check_out(keep)?;
            let uri = format!("{}{}", address.url, address.fragment());
            self.used(Material { uri, algorithm: "sha1".to_owned(), digest: commit });
            Ok(())
        })?;
        let whole = whole.join("tree");
        if address.directory.is_empty() {
            return Ok(whole);
        }
        let missing = |error: &dyn std::fmt::Display| format!("subdirectory {}: {error}", address.directory);
        let root = Root::open(&whole).map_err(|error| missing(&error))?;
        root.dir(&address.directory).map_err(|error| missing(&error))?;
        let inside = root.canonicalize(&address.directory).map_err(|error| missing(&error))?;
        Ok(whole.join(inside.strip_prefix("/").unwrap_or(&inside)))
    }
}

struct Git<'a> {
    build: &'a Build,
    /// The work tree.
    place: &'a Path,
    /// A home without settings.
    home: &'a Path,
    address: &'a Address,
    step: &'a Step,
}

impl Git<'_> {
    /// Fetches and checks out; returns the commit.
    fn check_out(&self, keep: bool) -> Result<String, String> {
        self.run(&["init", "--quiet", "--template=", "--initial-branch=main", "."])?;
        self.run(&["remote", "add", "origin", &self.address.url])?;
        let reference = self.address.reference.as_deref().unwrap_or("HEAD");
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "--update-head-ok", "origin"];
        let mut fetched = self.run(&[&shallow[..], &[reference]].concat());
        let is_commit = reference.len() >= 7 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut wanted = "FETCH_HEAD";
        if fetched.is_err() && is_commit && !self.build.cancel().is_set() {
            // Servers need not give single commits.
            fetched =
                self.run(&["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"]);
            wanted = reference;
        }
        fetched?;
        self.run(&["checkout", "--quiet", "--detach", wanted])?;
        let commit = self.run(&["rev-parse", "HEAD"])?.trim().to_owned();
        if let Some(checksum) = self.address.checksum.as_deref().filter(|sum| !commit.starts_with(sum)) {
            return Err(format!("expected checksum to match {checksum}, got {commit}"));
        }
        if self.place.join(".gitmodules").is_file() {
            self.run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        if !keep {
            let root = Root::open(self.place).and_then(|root| root.top());
            let cleaned = root.and_then(|top| without_git(&top));
            cleaned.map_err(|error| error.to_string())?;
        }
        Ok(commit)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        command
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.askPass="])
            .args(["-c", "protocol.allow=never", "-c", "protocol.https.allow=always"])
            .args(["-c", "protocol.http.allow=always", "-c", "protocol.ssh.allow=always"])
            .args(["-c", "protocol.git.allow=always", "-c", "advice.detachedHead=false"])
            .args(["-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(arguments)
            .current_dir(self.place)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for name in [
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "GIT_SSL_CAINFO",
            "GIT_SSL_CAPATH",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let _agent = self.authorize(&mut command)?;
        let child = command.spawn();
        let child = child.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                "git is not installed on this host: git repositories cannot be fetched".to_owned()
            }
            _ => format!("start git: {error}"),
        })?;
        self.wait(child, arguments[0])
    }

    /// Gives git what the client has for this repository, out of others' sight: in the environment, not in arguments.
    fn authorize(&self, command: &mut Command) -> Result<Option<SshSocket>, String> {
        if self.address.url.starts_with("http") {
            let host = self.address.host();
            let secret = |name: &str| -> Result<Option<String>, String> {
                let own = self.build.client().secret(&format!("{name}.{host}"))?;
                let found = match own {
                    Some(own) => Some(own),
                    None => self.build.client().secret(name)?,
                };
                Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
            };
            let header = match secret("GIT_AUTH_HEADER")? {
                Some(header) => Some(header),
                None => secret("GIT_AUTH_TOKEN")?
                    .map(|token| format!("basic {}", STANDARD.encode(format!("x-access-token:{token}")))),
            };
            if let Some(header) = header {
                let scheme = self.address.url.split("://").next().unwrap_or("https");
                command
                    .env("GIT_CONFIG_COUNT", "1")
                    .env("GIT_CONFIG_KEY_0", format!("http.{scheme}://{host}/.extraheader"))
                    .env("GIT_CONFIG_VALUE_0", format!("Authorization: {header}"));
            }
            return Ok(None);
        }
        let known = self.home.join("known_hosts");
        let checked = "-o StrictHostKeyChecking=accept-new";
        command.env(
            "GIT_SSH_COMMAND",
            format!("ssh -F /dev/null -o BatchMode=yes {checked} -o UserKnownHostsFile={}", known.display()),
        );
        let agent = self.build.client().ssh("default", 0, 0, 0o600)?;
        if let Some(agent) = &agent {
            command.env("SSH_AUTH_SOCK", &agent.path);
        }
        Ok(agent)
    }

    /// Waits for the end, which comes early with that of the build.
    fn wait(&self, mut child: Child, verb: &str) -> Result<String, String> {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                let Some(mut pipe) = pipe else { return all };
                // What breaks off was said until then; the rest is read away, so that git does not wait.
                drop(Read::take(&mut pipe, SAID).read_to_end(&mut all));
                drop(std::io::copy(&mut pipe, &mut std::io::sink()));
                all
            })
        };
        let out = read(out.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let err = read(err.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        let status = loop {
            match child.try_wait().map_err(|error| format!("wait for git: {error}"))? {
                Some(status) => break status,
                None if self.build.cancel().wait(LOOK) => {
                    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                        // One that is gone meanwhile is what is wanted.
                        let _gone = kill_process_group(group, Signal::KILL);
                    }
                    drop(child.wait());
                    return Err("context canceled".to_owned());
                }
                None => {}
            }
        };
        let out = out.join().unwrap_or_default();
        let err = err.join().unwrap_or_default();
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said = String::from_utf8_lossy(&err).trim().to_owned();
        self.step.log(2, bytes::Bytes::from(format!("{said}\n")));
        Err(format!("failed to fetch remote {}: git {verb}: {said}", self.address.url))
    }
}

/// Removes what git keeps, of submodules too.
fn without_git(dir: &wharf_sys::root::Dir) -> wharf_sys::root::Result<()> {
    for entry in dir.entries()? {
        if entry.name == ".git" {
            dir.remove_all(&entry.name)?;
            continue;
        }
        let stat = dir.stat(&entry.name)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            without_git(&dir.dir(&entry.name)?)?;
        }
    }
    Ok(())
}

//! A build context, and building it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf_testkit::Daemon;
use wharf_testkit::client::{self, Run};

/// A directory to build.
pub struct Context(tempfile::TempDir);

impl Context {
    /// With this Dockerfile.
    pub fn new(dockerfile: &str) -> Self {
        let context = Self(tempfile::tempdir().unwrap());
        context.put("Dockerfile", dockerfile);
        context
    }

    /// Writes a file, and the directories above it.
    pub fn put(&self, name: &str, content: &str) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub fn mode(&self, name: &str, mode: u32) -> &Self {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path().join(name), permissions).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The client's command, classic.
    pub fn command(&self, d: &Daemon, flags: &[&str]) -> Command {
        let mut command = d.command("docker");
        command.env("DOCKER_BUILDKIT", "0").arg("build").args(flags).arg(self.path());
        command
    }

    /// Builds it by the classic API.
    #[track_caller]
    pub fn build(&self, d: &Daemon, flags: &[&str]) -> Run {
        client::run(self.command(d, flags), b"")
    }

    /// Builds it and runs what came out with a shell.
    #[track_caller]
    pub fn shell(&self, d: &Daemon, flags: &[&str], script: &str) -> String {
        let tag = format!("shell-{}", d.instance());
        self.build(d, &[&["-q", "-t", &tag], flags].concat()).ok();
        d.docker(&["run", "--rm", "--network", "none", &tag, "sh", "-c", script]).ok()
    }
}

/// The output of a build, ids made alike.
pub fn plain(run: &Run) -> String {
    let text = run.stdout.clone();
    let mut plain = String::new();
    for line in text.lines().filter(|line| !line.starts_with("Sending build context")) {
        let words: Vec<&str> = line.split(' ').collect();
        let same = |word: &&str| {
            let hex = word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex { "ID".to_owned() } else { (*word).to_owned() }
        };
        plain.push_str(&words.iter().map(same).collect::<Vec<_>>().join(" "));
        plain.push('\n');
    }
    plain
}

/// Paths below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

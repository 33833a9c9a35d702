//! Foreign clients: the stock `docker` command as the test scripts unpacked it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest any client command may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// `usual`, times `WHARF_TEST_PATIENCE` where that is set: an emulated machine is many times slower.
pub fn patience(usual: Duration) -> Duration {
    let factor = std::env::var("WHARF_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok());
    usual * factor.unwrap_or(1)
}

/// What a finished client command left.
#[derive(Debug, Clone)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Standard output without the last newline; panics with everything said unless the exit code is 0.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, 0, "exit code {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Asserts the exit code and that standard error contains `text`.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) {
        assert!(
            self.code == code && self.stderr.contains(text),
            "wanted exit code {code} and {text:?}; got {}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout,
            self.stderr
        );
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What stands for the stock client, by `WHARF_TEST_CLIENT`.
pub fn replacement() -> Option<String> {
    std::env::var("WHARF_TEST_CLIENT").ok().filter(|name| !matches!(name.as_str(), "" | "docker"))
}

/// Whether the client of Debian 12 stands for the stock one.
pub fn is_20_10() -> bool {
    replacement().as_deref() == Some("docker-20")
}

/// What the stock client says where that of Debian 12 says `of_20_10`.
pub fn words<'a>(stock: &'a str, of_20_10: &'a str) -> &'a str {
    if is_20_10() { of_20_10 } else { stock }
}

/// Whether the client of Debian 12 stands for the stock one, which is no use for a test; says so, and `why`.
#[expect(clippy::print_stderr, reason = "what is not run is told")]
pub fn skipped_with_20_10(why: &str) -> bool {
    if is_20_10() {
        eprintln!("NOT RUN with the 20.10 client: {why}");
    }
    is_20_10()
}

/// The flag or command that a client said it does not know.
pub fn lacking(run: &Run) -> Option<String> {
    let after = |words: &str| {
        let (_, rest) = run.stderr.split_once(words)?;
        Some(rest.split_whitespace().next()?.trim_matches(['\'', '"', '.']).to_owned())
    };
    if run.code == 0 {
        return None;
    }
    after("unknown flag: ")
        .or_else(|| after("unknown shorthand flag: ").map(|letter| format!("-{letter}")))
        .or_else(|| after("flag: unexpected key "))
}

/// Says that a call is made with the newer client.
///
/// # Panics
/// Unless the list of what the old client lacks has `lacking`.
#[track_caller]
#[expect(clippy::print_stderr, reason = "what is not run is told")]
pub fn expect_lack(lacking: &str, args: &[&str]) {
    let list = include_str!("../../../tests/client-20.10.txt");
    let known = list.lines().any(|line| line == lacking);
    assert!(
        known,
        "tests/client-20.10.txt does not have {lacking:?}, which the 20.10 client lacks: {args:?}"
    );
    eprintln!("NOT RUN with the 20.10 client, which lacks {lacking}: docker {}", args.join(" "));
}

/// The folder of unpacked clients (`scripts/clients.sh` fills it).
pub fn clients() -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/testkit is two folders down");
    root.join("build/clients")
}

/// A client program by its name in that folder; panics with what to do when it is missing.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = clients().join(name);
    assert!(path.exists(), "{} is missing: run scripts/clients.sh first", path.display());
    path
}

/// Runs `command` to its end with `stdin`, giving up (and killing it) after [`PATIENCE`].
#[track_caller]
pub fn run(mut command: Command, stdin: &[u8]) -> Run {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {shown}: {error}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    let bytes = stdin.to_vec();
    // The command may end without reading its input: a broken pipe is its right.
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let pid = i32::try_from(child.id()).expect("a pid fits");
    let (done, watchdog_sees) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late =
            watchdog_sees.recv_timeout(patience(PATIENCE)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late && let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        late
    });
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("wait for {shown}: {error}"));
    drop(done);
    let late = watchdog.join().expect("the watchdog does not panic");
    writer.join().expect("the writer does not panic");
    assert!(!late, "{shown} did not end within {:?}: {output:?}", patience(PATIENCE));
    output.into()
}

/// A command with the client's environment cleared of what would point it elsewhere.
pub fn command(program: impl AsRef<OsStr>, host: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    for name in [
        "DOCKER_CONTEXT",
        "DOCKER_API_VERSION",
        "DOCKER_TLS",
        "DOCKER_TLS_VERIFY",
        "DOCKER_CERT_PATH",
        "WHARF_HOST",
    ] {
        command.env_remove(name);
    }
    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", config).env("DOCKER_CLI_HINTS", "false");
    command
}

/// Tries `probe` until it gives something or [`patience`] with it has ended.
pub fn eventually<T>(usual: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() > patience(usual) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

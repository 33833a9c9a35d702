//! `wharf registry serve` as a process of its own, which can be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::Reply;

/// A running `wharf registry serve`; killed when dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Served {
    /// Starts one on a port of the kernel's choice, with `flags` besides; panics with what it said when it does not serve.
    #[must_use]
    #[track_caller]
    pub fn start(executable: &str, root: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(executable);
        command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]).arg(root).args(flags);
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the registry starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut address = None;
        let mut before = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            address = line.split("://").nth(1).filter(|_| line.starts_with("serving ")).map(str::to_owned);
            if address.is_some() {
                break;
            }
            before += &format!("{line}\n");
        }
        let Some(address) = address.and_then(|text| text.parse().ok()) else {
            panic!("the registry does not serve: {before}");
        };
        let said = Arc::new(Mutex::new(before));
        let log = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = log.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, address, said }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in references.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends one request.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        super::ask(self.address, method, target, headers, body)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the registry runs");
    }

    /// Waits for its end; the exit code.
    #[must_use]
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Served {
    /// As a power cut would: no farewell.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

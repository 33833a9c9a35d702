//! What an exec is and how it went; the size of its terminal.

use std::time::Duration;

use wharf_api::{ExecInspect, ProcessConfig};

use super::{Exec, Execs, Phase};
use crate::error::{Error, Result};

/// How long the news of an end may lag behind the end.
const LAG: Duration = Duration::from_secs(2);
/// How long a resize waits for the start, as in Docker.
const START: Duration = Duration::from_secs(10);

impl Execs {
    /// Describes an exec.
    pub async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        let exec = self.find(id)?;
        if exec.container.view().state().name() == "removing" {
            return Err(Error::not_found(format!("No such exec instance: {id}")));
        }
        exec.settle().await;
        Ok(exec.document())
    }

    /// Sets the size of an exec's terminal, in characters; waits for one that is about to start.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.find(id)?;
        if exec.container.view().state().process().is_none() {
            return Err(Error::conflict(format!("container {} is not running", exec.container.id())));
        }
        let mut phase = exec.phase.subscribe();
        let started = phase.wait_for(|phase| !matches!(phase, Phase::Created | Phase::Starting));
        let phase = match tokio::time::timeout(START, started).await {
            Ok(Ok(phase)) => *phase,
            Ok(Err(_)) | Err(_) => return Err(Error::internal("timeout waiting for exec session ready")),
        };
        let gone = || Error::not_found(format!("NotFound: process does not exist {id}: not found"));
        let (Phase::Running { .. }, Some(handle)) = (phase, exec.container.handle()) else {
            return Err(gone());
        };
        if exec.asked.tty {
            let resized = handle.resize(Some(id.to_owned()), height, width).await;
            resized.map_err(|error| Error::internal(error.to_string()))?;
        }
        Ok(())
    }
}

impl Exec {
    /// A client asks for the exit code the moment the streams end. Where the answer to the start, or the end of a
    /// process that is gone, was not heard of yet, that is waited for, so that nobody takes "running" for success.
    async fn settle(&self) {
        let mut phase = self.phase.subscribe();
        let unsettled = |phase: &Phase| match *phase {
            Phase::Starting => true,
            Phase::Running { pid } => !is_alive(pid),
            Phase::Created | Phase::Ended { .. } => false,
        };
        // In vain: it is shown as it is known, which a supervisor in trouble may mean.
        let _ = tokio::time::timeout(LAG, phase.wait_for(|phase| !unsettled(phase))).await;
    }

    fn document(&self) -> ExecInspect {
        let (running, exit_code, pid) = match *self.phase.borrow() {
            Phase::Created | Phase::Starting => (false, None, 0),
            Phase::Running { pid } => (true, None, pid),
            Phase::Ended { pid, code, .. } => (false, Some(i64::from(code)), pid),
        };
        let (program, arguments) = self.command();
        ExecInspect {
            id: self.id.clone(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: self.asked.tty,
                entrypoint: program.to_owned(),
                arguments: arguments.to_vec(),
                privileged: Some(self.asked.privileged),
                user: self.asked.user.clone(),
            },
            open_stdin: self.asked.attach_stdin,
            open_stderr: self.asked.attach_stderr,
            open_stdout: self.asked.attach_stdout,
            can_remove: false,
            container_id: self.container.id().to_owned(),
            detach_keys: base64(&self.detach_keys),
            pid: i64::from(pid),
        }
    }
}

/// Whether a process runs and is no zombie.
fn is_alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name, in parentheses, may itself hold some.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Go's way to show bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_go_shows_them() {
        for (bytes, text) in
            [(&b""[..], ""), (&[1], "AQ=="), (&[16, 17], "EBE="), (b"abc", "YWJj"), (b"abcd", "YWJjZA==")]
        {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn zombies_and_strangers_are_not_alive() {
        assert!(is_alive(1));
        assert!(!is_alive(i32::MAX));
    }
}

//! Starting an exec: detached, or with a client connected to its streams.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use wharf_api::ExecStartRequest;
use wharf_oci::runtime::ConsoleSize;
use wharf_shim::HandleError;
use wharf_shim::protocol::{Attach, Failure, FailureKind, Framing};
use wharf_sys::socket;
use wharf_sys::time::Instant;

use super::{Exec, Execs, Phase};
use crate::container::Request;
use crate::container::attach::{HEAD_PATIENCE, detach_keys};
use crate::error::{Error, Result};

/// What the runtime's own words are told after.
const PREFIX: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";
/// Docker's id of the stream that says why there are no others.
const STDOUT: u8 = 1;

/// An exec that may be started with a client; all that is refused before the client's connection is taken
/// over has been.
#[derive(Debug)]
pub struct ExecTicket {
    execs: Arc<Execs>,
    exec: Arc<Exec>,
    start: ExecStartRequest,
}

impl Execs {
    /// Starts an exec that nobody is connected to.
    pub async fn start_detached(&self, id: &str, start: &ExecStartRequest) -> Result<()> {
        let exec = self.startable(id)?;
        self.launch(&exec, start, None).await
    }

    /// Checks whether an exec can be started with a client.
    pub fn start(self: &Arc<Self>, id: &str, start: ExecStartRequest) -> Result<ExecTicket> {
        Ok(ExecTicket { execs: self.clone(), exec: self.startable(id)?, start })
    }

    fn startable(&self, id: &str) -> Result<Arc<Exec>> {
        let exec = self.find(id)?;
        exec.container.check(Request::Exec, exec.container.id())?;
        Ok(exec)
    }

    pub(super) async fn launch(
        &self,
        exec: &Arc<Exec>,
        start: &ExecStartRequest,
        attach: Option<(Attach, OwnedFd)>,
    ) -> Result<()> {
        exec.claim()?;
        self.emit(exec, &exec.action("exec_start"), &[]);
        let mut process = exec.process.clone();
        if let Some([height, width]) = start.console_size {
            let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
            process.console_size = Some(ConsoleSize { height: side(height), width: side(width) });
        }
        let Some(handle) = exec.container.handle() else {
            exec.fail(128);
            return Err(Error::conflict(format!("container {} is not running", exec.container.id())));
        };
        match handle.exec(exec.id.clone(), process, exec.asked.attach_stdin, attach).await {
            Ok(launched) => {
                exec.phase.send_if_modified(|phase| {
                    // The news of a short life can overtake this answer.
                    let first = *phase == Phase::Starting;
                    if first {
                        *phase = Phase::Running { pid: launched.pid };
                    } else if let Phase::Ended { pid, .. } = phase {
                        *pid = launched.pid;
                    }
                    first
                });
                Ok(())
            }
            Err(error) => {
                let (code, error) = explain(error);
                exec.fail(code);
                Err(error)
            }
        }
    }
}

impl ExecTicket {
    /// Whether the bytes carry no frames: the client has asked for a terminal.
    pub fn tty(&self) -> bool {
        self.start.tty
    }

    /// Starts the exec with the client's connection. `read_ahead`: what was read from it beyond the request.
    /// Why it does not start is said in the stream, as Docker does.
    pub async fn hand_over(self, connection: OwnedFd, read_ahead: Vec<u8>) -> Result<()> {
        let to_tell =
            connection.try_clone().map_err(|error| Error::io("keep the client's connection", &error))?;
        let attach = self.exec.attach(self.start.tty, read_ahead)?;
        let started = self.execs.launch(&self.exec, &self.start, Some((attach, connection))).await;
        if let Err(error) = &started {
            let text = format!("{error}\r\n");
            let told = tokio::task::spawn_blocking({
                let framed = !self.start.tty;
                move || tell(to_tell, framed, text.as_bytes())
            });
            // The client may be gone already, and the error goes to the caller anyway.
            let _ = told.await;
        }
        started
    }
}

fn tell(connection: OwnedFd, framed: bool, text: &[u8]) -> std::io::Result<()> {
    let mut message = Vec::with_capacity(text.len() + 8);
    if framed {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        message.extend_from_slice(&[STDOUT, 0, 0, 0]);
        message.extend_from_slice(&length.to_be_bytes());
    }
    message.extend_from_slice(text);
    socket::wait_until_read(&connection, HEAD_PATIENCE);
    std::fs::File::from(connection).write_all(&message)
}

impl Exec {
    /// Takes the one chance to start it.
    fn claim(&self) -> Result<()> {
        let mut refused = Ok(());
        self.phase.send_if_modified(|phase| match *phase {
            Phase::Created => {
                *phase = Phase::Starting;
                true
            }
            Phase::Starting | Phase::Running { .. } => {
                refused = Err(Error::conflict(format!("exec command {} is already running", self.id)));
                false
            }
            Phase::Ended { .. } => {
                refused = Err(Error::conflict(format!("exec command {} has already run", self.id)));
                false
            }
        });
        refused
    }

    fn fail(&self, code: i32) {
        self.phase.send_replace(Phase::Ended { pid: 0, code, at: Instant::now() });
        self.forget_in_container();
    }

    fn attach(&self, tty: bool, read_ahead: Vec<u8>) -> Result<Attach> {
        let keys = if self.detach_keys.is_empty() { detach_keys(None)? } else { self.detach_keys.clone() };
        Ok(Attach {
            stdin: self.asked.attach_stdin,
            stdout: self.asked.attach_stdout,
            stderr: self.asked.attach_stderr && !self.asked.tty,
            replay: false,
            stream: true,
            framing: if tty { Framing::Raw } else { Framing::Multiplexed },
            detach_keys: if self.asked.tty { keys } else { Vec::new() },
            read_ahead,
        })
    }
}

/// The exit code that a failed start leaves, and Docker's words for it.
fn explain(error: HandleError) -> (i32, Error) {
    let HandleError::Failed(Failure { kind, message }) = error else {
        return (128, Error::internal(format!("exec failed: {error}")));
    };
    // Docker goes by the text, which makes a missing working directory a missing program.
    let missing = kind == FailureKind::NotFound || message.contains("no such file or directory");
    let code = match kind {
        FailureKind::Conflict => return (128, Error::conflict(message)),
        _ if missing => 127,
        FailureKind::NotExecutable => 126,
        _ if message.contains("permission denied") => 126,
        _ if message.contains("not a directory") => {
            let hint = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                        specified host path exists and is the expected type";
            return (127, Error::invalid(format!("{PREFIX}{message}{hint}")));
        }
        _ if message == "Cwd must be an absolute path" => {
            return (128, Error::internal(format!("OCI runtime exec failed: exec failed: {message}")));
        }
        _ => return (128, Error::internal(format!("{PREFIX}{message}"))),
    };
    (code, Error::invalid(format!("{PREFIX}{message}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn failed(kind: FailureKind, message: &str) -> (i32, ErrorKind, String) {
        let (code, error) = explain(HandleError::Failed(Failure { kind, message: message.to_owned() }));
        (code, error.kind(), error.message().to_owned())
    }

    #[test]
    fn failures_read_as_recorded_from_docker() {
        let text = "exec: \"nope\": executable file not found in $PATH";
        assert_eq!(
            failed(FailureKind::NotFound, text),
            (
                127,
                ErrorKind::Invalid,
                format!("OCI runtime exec failed: exec failed: unable to start container process: {text}")
            )
        );
        let text = "exec: \"/etc\": is a directory: permission denied";
        assert_eq!(failed(FailureKind::NotExecutable, text).0, 126);
        let text = "chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory";
        assert_eq!(failed(FailureKind::Other, text).0, 127);
        let (code, kind, message) = failed(FailureKind::Other, "Cwd must be an absolute path");
        assert_eq!((code, kind), (128, ErrorKind::Internal));
        assert_eq!(message, "OCI runtime exec failed: exec failed: Cwd must be an absolute path");
    }

    #[test]
    fn errors_are_told_in_the_stream() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        tell(ours.into(), true, b"no\r\n").unwrap();
        assert_eq!(std::io::read_to_string(theirs).unwrap(), "\x01\0\0\0\0\0\0\x04no\r\n");
    }
}

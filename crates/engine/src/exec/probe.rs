//! Execs that the engine runs itself and whose output it collects: health probes.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use wharf_api::{ExecCreateRequest, ExecStartRequest};
use wharf_shim::protocol::{Attach, Framing};

use super::{Exec, Execs, KILLED, Phase};
use crate::container::Container;
use crate::error::{Error, Result};

/// A running probe.
#[derive(Debug)]
pub(crate) struct Probe {
    exec: Arc<Exec>,
}

impl Execs {
    /// Runs `command` in a container as its own user; gives back where its output is read, both streams in
    /// one.
    pub(crate) async fn probe(
        &self,
        container: &Arc<Container>,
        command: Vec<String>,
    ) -> Result<(Probe, UnixStream)> {
        let request = ExecCreateRequest {
            cmd: Some(command),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecCreateRequest::default()
        };
        let exec = self.make(container.clone(), request).await?;
        self.emit(&exec, &exec.action("exec_create"), &[]);
        let probe = Probe { exec };
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Error::io("make a probe's stream", &error))?;
        let attach = Attach {
            stdin: false,
            stdout: true,
            stderr: true,
            replay: false,
            stream: true,
            framing: Framing::Raw,
            detach_keys: Vec::new(),
            read_ahead: Vec::new(),
        };
        let launched =
            self.launch(&probe.exec, &ExecStartRequest::default(), Some((attach, theirs.into()))).await;
        if launched.is_err() {
            self.forget(&probe);
        }
        launched.map(|()| (probe, ours))
    }

    /// Nobody inspects a probe after its end.
    pub(crate) fn forget(&self, probe: &Probe) {
        self.lock().remove(&probe.exec.id);
        probe.exec.forget_in_container();
    }
}

impl Probe {
    /// Its exit code, once it has ended.
    pub(crate) async fn ended(&self) -> i32 {
        let mut phase = self.exec.phase.subscribe();
        match phase.wait_for(|phase| matches!(phase, Phase::Ended { .. })).await.as_deref() {
            Ok(Phase::Ended { code, .. }) => *code,
            _ => KILLED,
        }
    }

    /// Kills it.
    pub(crate) async fn kill(&self) {
        if let Some(handle) = self.exec.container.handle() {
            // One that ended meanwhile is what is wanted.
            let _ = handle.signal(Some(self.exec.id.clone()), rustix::process::Signal::KILL.as_raw()).await;
        }
    }
}

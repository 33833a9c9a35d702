//! Making an exec: everything that can be refused is refused here.

use std::sync::Arc;

use tokio::sync::watch;
use wharf_api::ExecCreateRequest;
use wharf_oci::runtime::Process;
use wharf_sys::root::Root;

use super::{Exec, Execs, Phase};
use crate::container::attach::detach_keys;
use crate::container::spec::process;
use crate::container::{Container, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::pools::Class;

impl Execs {
    /// Makes an exec in the container that `asked` names; its id.
    pub async fn create(&self, asked: &str, request: ExecCreateRequest) -> Result<String> {
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.containers.find(asked)?;
        container.check(Request::Exec, asked)?;
        let exec = self.make(container, request).await?;
        self.emit(&exec, &exec.action("exec_create"), &[]);
        Ok(exec.id.clone())
    }

    pub(super) async fn make(
        &self,
        container: Arc<Container>,
        request: ExecCreateRequest,
    ) -> Result<Arc<Exec>> {
        let keys = match request.detach_keys.as_str() {
            "" => Vec::new(),
            // Docker has no class for this one.
            keys => detach_keys(Some(keys))
                .map_err(|_| Error::internal(format!("Invalid escape keys ({keys}) provided")))?,
        };
        let process = self.process(&container, &request).await?;
        let exec = Arc::new(Exec {
            id: new_id()?,
            container,
            asked: request,
            detach_keys: keys,
            process,
            phase: watch::channel(Phase::Created).0,
        });
        self.add(exec.clone());
        Ok(exec)
    }

    /// What will be executed, by the users and groups that the container has now.
    async fn process(&self, container: &Arc<Container>, request: &ExecCreateRequest) -> Result<Process> {
        let view = container.view();
        let not_running = || Error::conflict(format!("container {} is not running", container.id()));
        let pid = view.state().process().ok_or_else(not_running)?.pid;
        let (engine, request) = (self.containers.config.clone(), request.clone());
        let linked = self.containers.linked_env(&view.record);
        let making = move || {
            let root = Root::open(format!("/proc/{pid}/root"))
                .map_err(|error| Error::internal(format!("open the container's root: {error}")))?;
            process::exec(&engine, &view.record.config, &view.record.host_config, &root, &linked, &request)
        };
        self.containers.pools.run(Class::Host, making).await.map_err(unknown_user)
    }
}

/// An unknown user is the engine's failure at a start and the client's at an exec.
fn unknown_user(error: Error) -> Error {
    if error.message().starts_with("unable to find ") {
        return Error::new(ErrorKind::Invalid, error.message());
    }
    error
}

/// 64 random hex digits.
fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)
            .map_err(|error| Error::io("make an exec's id", &error.into()))?;
    }
    Ok(hex::encode(bytes))
}

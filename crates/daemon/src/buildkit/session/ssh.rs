//! A client's SSH agent, as a socket of this host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use wharf_engine::build::SshSocket;

use super::Session;
use wharf_api::rpc::Caller;

/// Whom the socket belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

/// Whether the client forwards an agent of this name.
pub(super) async fn is_forwarded(session: &Session, id: &str) -> Result<bool, String> {
    let mut client = SshClient::new(session.caller());
    match client.check_agent(CheckAgentRequest { id: id.to_owned() }).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::Unimplemented => Ok(false),
        // The client words this one itself: `unset ssh forward key default`.
        Err(status) if status.message().contains("unset ssh forward key") => Ok(false),
        Err(status) => Err(status.message().to_owned()),
    }
}

/// Answers on a socket below `top` for as long as the result is kept.
pub(super) fn forward(session: &Session, id: &str, top: &Path, owner: Owner) -> Result<SshSocket, String> {
    let failed = |what: &str, error: &std::io::Error| format!("{what}: {error}");
    fs::create_dir_all(top).map_err(|error| failed("prepare the agent's socket", &error))?;
    let path = top.join(&wharf_engine::names::new_id()[..16]);
    let listener = UnixListener::bind(&path).map_err(|error| failed("bind the agent's socket", &error))?;
    let forwarded = Forwarded {
        path: path.clone(),
        task: tokio::spawn(accept(listener, session.caller(), id.to_owned())),
    };
    std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(owner.mode)))
        .map_err(|error| failed("own the agent's socket", &error))?;
    Ok(SshSocket { path, held: Box::new(forwarded) })
}

/// A socket that goes when this is dropped.
struct Forwarded {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("remove {}: {error}", self.path.display());
        }
    }
}

async fn accept(listener: UnixListener, caller: Caller, id: String) {
    let mut served = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let (caller, id) = (caller.clone(), id.clone());
                served.spawn(async move {
                    if let Err(error) = connect(socket, caller, &id).await {
                        tracing::debug!("forward an agent: {error}");
                    }
                });
                while served.try_join_next().is_some() {}
            }
            Err(error) => {
                tracing::debug!("accept on an agent's socket: {error}");
                return;
            }
        }
    }
}

/// Copies between a connection to the socket and the client's agent.
async fn connect(mut socket: UnixStream, caller: Caller, id: &str) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel(4);
    let mut call = Request::new(ReceiverStream::new(receiver));
    let id = MetadataValue::try_from(id).map_err(|error| error.to_string())?;
    call.metadata_mut().insert("buildkit.ssh.id", id);
    let answer = SshClient::new(caller).forward_agent(call).await;
    let mut incoming = answer.map_err(|status| status.message().to_owned())?.into_inner();
    let (mut read, mut write) = socket.split();
    let outgoing = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = read.read(&mut buffer).await.map_err(|error| error.to_string())?;
            let message = BytesMessage { data: buffer[..length].to_vec() };
            if length == 0 || sender.send(message).await.is_err() {
                return Ok::<_, String>(());
            }
        }
    };
    let incoming = async {
        while let Some(message) = incoming.message().await.map_err(|status| status.message().to_owned())? {
            write.write_all(&message.data).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    };
    tokio::select! {
        done = outgoing => done,
        done = incoming => done,
    }
}

//! The user's SSH agent: its socket's bytes go over the session, its keys stay.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The name of the agent that is meant where none is said.
const DEFAULT: &str = "default";

/// An agent's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Agent(pub(in super::super) PathBuf);

/// All agents of a build, by id.
#[derive(Debug, Clone)]
pub(in super::super) struct Agents(Arc<BTreeMap<String, Agent>>);

impl Agents {
    pub(in super::super) fn new(by_id: BTreeMap<String, Agent>) -> Self {
        Self(Arc::new(by_id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    type ForwardAgentStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.find(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok());
        let Agent(path) = self.find(id.unwrap_or_default())?;
        let failed = |error: std::io::Error| {
            Status::unavailable(format!(
                "failed to connect to {}: {}",
                path.display(),
                crate::error::reason(&error)
            ))
        };
        let (mut read, mut write) = UnixStream::connect(path).await.map_err(failed)?.into_split();
        let (sender, receiver) = mpsc::channel(4);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if write.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(length) = read.read(&mut buffer).await {
                let message = BytesMessage { data: buffer[..length].to_vec() };
                if length == 0 || sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

//! An archive from standard input, sent as the build's context.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::Upload as Service;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The host in the address of what is sent over a session.
pub(in super::super) const HOST: &str = "buildkit-session";

/// Content in one message, bytes.
const PIECE: usize = 256 << 10;

type Source = Box<dyn Read + Send>;

/// What is sent, once.
#[derive(Clone, Default)]
pub(in super::super) struct Upload {
    id: String,
    source: Arc<Mutex<Option<Source>>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upload").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Upload {
    /// Sends `source` to whoever asks for `id`.
    pub(in super::super) fn new(id: String, source: Source) -> Self {
        Self { id, source: Arc::new(Mutex::new(Some(source))) }
    }
}

#[tonic::async_trait]
impl Service for Upload {
    type PullStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get("urlpath").and_then(|path| path.to_str().ok()).unwrap_or_default();
        let source = match path.trim_start_matches('/') == self.id {
            true => self.source.lock().unwrap_or_else(PoisonError::into_inner).take(),
            false => None,
        };
        let mut source = source.ok_or_else(|| Status::not_found(format!("no http response for {path}")))?;
        let (sender, receiver) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut data = Vec::new();
                let message = match (&mut source).take(PIECE as u64).read_to_end(&mut data) {
                    Ok(0) => return,
                    Ok(_) => Ok(BytesMessage { data }),
                    Err(error) => Err(Status::unknown(crate::error::reason(&error))),
                };
                let failed = message.is_err();
                if sender.blocking_send(message).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

//! The Control service: builds, their progress, what is kept.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{
    self as wire, BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
    UsageRecord,
};
use hyper::HeaderMap;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::session::About;
use super::{BuildKit, error, run, tunnel, usage, worker};

/// The service.
#[derive(Debug)]
pub(super) struct Control {
    state: Arc<BuildKit>,
}

impl Control {
    pub(super) fn new(state: Arc<BuildKit>) -> Self {
        Self { state }
    }
}

/// Messages for a client.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The messages for a client that wait to be sent.
const WAITING: usize = 16;

#[async_trait]
impl wire::control_server::Control for Control {
    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let wanted = self.state.solves.begin(&self.state, request.into_inner()).await?;
        super::export::announce(&wanted.solving);
        let done = run::run(&self.state, &wanted.solving).await;
        wanted.ended(&done);
        done.map(|exporter_response| Response::new(SolveResponse { exporter_response }))
    }

    type StatusStream = Messages<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let name = request.into_inner().r#ref;
        // One that was, and was not begun anew.
        let over = if self.state.solves.is_known(&name) { None } else { self.state.history.said(&name) };
        if let Some(said) = over {
            return Ok(Response::new(Box::pin(tokio_stream::iter(said.into_iter().map(Ok)))));
        }
        let progress = self.state.solves.progress(&name).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut seen = 0;
            while let Some(message) = progress.next(&mut seen).await {
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type SessionStream = tunnel::Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let headers: HeaderMap = request.metadata().clone().into_headers();
        let about = About::from_headers(&headers).map_err(|error| error::plain(&error))?;
        let (stream, outgoing) = tunnel::open(request.into_inner());
        let state = self.state.clone();
        tokio::spawn(async move { state.sessions.run(about, stream).await });
        Ok(Response::new(outgoing))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse { record: vec![worker::record(&self.state.engine)] }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(worker::version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let record = usage::records(&self.state, &request.into_inner().filter).await?;
        Ok(Response::new(DiskUsageResponse { record }))
    }

    type PruneStream = Messages<UsageRecord>;

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let removed = usage::prune(&self.state, request.into_inner()).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(removed.into_iter().map(Ok)))))
    }

    type ListenBuildHistoryStream = Messages<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let request = request.into_inner();
        let (mut known, mut news) = self.state.history.listen(&request);
        if request.early_exit {
            return Ok(Response::new(Box::pin(tokio_stream::iter(known.into_iter().map(Ok)))));
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                for event in known.drain(..) {
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                // Who lags behind misses events, and gets those that come.
                match news.recv().await {
                    Ok(event)
                        if request.r#ref.is_empty() || super::history::is_of(&event, &request.r#ref) =>
                    {
                        known.push(event);
                    }
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        self.state.history.update(&request.into_inner())?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}

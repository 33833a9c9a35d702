//! The gateway: what a client that leads its build itself asks for on the way.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::Stat as WireStat;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{self as wire};
use bollard_buildkit_proto::pb;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming, async_trait};
use wharf_build::ignore::Ignore;
use wharf_engine::build::mirror::{Entry, Root, list_directory, stat};

use super::foreign::Running;
use super::frontend::call;
use super::session::send;
use super::solve::{Outcome, Solving};
use super::{BuildKit, cache, capability, container, error, llb, run, worker};

/// The largest file that is read for a client, in bytes.
const LARGEST: u64 = 15 << 20;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Bridge {
    state: Arc<BuildKit>,
    /// The frontend that it is for; `None`: clients, who name their builds.
    frontend: Option<Arc<Running>>,
}

impl Bridge {
    /// For clients.
    pub(super) fn new(state: Arc<BuildKit>) -> Self {
        Self { state, frontend: None }
    }

    /// For a frontend.
    pub(super) fn of(state: Arc<BuildKit>, frontend: Arc<Running>) -> Self {
        Self { state, frontend: Some(frontend) }
    }

    /// The build that a call is of.
    async fn solving(&self, metadata: &MetadataMap) -> Result<Arc<Solving>, Status> {
        if let Some(frontend) = &self.frontend {
            return Ok(frontend.solving.clone());
        }
        let name = metadata.get("buildkit-controlapi-buildid").and_then(|value| value.to_str().ok());
        let name = name.ok_or_else(|| Status::unknown("no buildid found in context"))?;
        self.state.solves.find(name).await
    }

    /// Looks an image up.
    async fn image(
        &self,
        solving: &Arc<Solving>,
        reference: &str,
        platform: Option<&pb::Platform>,
        mode: &str,
    ) -> Result<wharf_engine::build::ResolvedImage, Status> {
        let found =
            solving.build.resolve(reference.to_owned(), llb::platform(platform), mode == "pull").await;
        found.map_err(|failure| error::status(&failure))
    }

    /// Does something with a result's files.
    async fn with_files<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(&Root) -> wharf_engine::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let outcome: Arc<Outcome> = self.state.solves.result(id)?;
        let done = tokio::task::spawn_blocking(move || {
            let tree = outcome.tree().ok_or_else(|| Status::unknown("the result is empty"))?;
            let root = outcome.build.open(tree).map_err(|failure| error::status(&failure))?;
            work(&root).map_err(|error| Status::unknown(error.message()))
        });
        done.await.map_err(|error| Status::internal(error.to_string()))?
    }
}

type Exec = Pin<Box<dyn Stream<Item = Result<wire::ExecMessage, Status>> + Send>>;

/// The messages for a caller that wait to be sent.
const WAITING: usize = 16;

/// Looks into files, which may take long.
async fn looked<T: Send + 'static>(
    work: impl FnOnce() -> wharf_engine::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| Status::unknown(error.message()))
}

/// Reads a file, or the part of it that is asked for.
fn read(root: &Root, path: &str, range: Option<wire::FileRange>) -> wharf_engine::Result<Vec<u8>> {
    let data = root.read(path, LARGEST).map_err(|error| wharf_engine::Error::invalid(error.to_string()))?;
    let Some(range) = range else { return Ok(data) };
    let number = |value: i64| usize::try_from(value).unwrap_or(0);
    let begin = number(range.offset).min(data.len());
    let end = match number(range.length) {
        0 => data.len(),
        length => begin.saturating_add(length).min(data.len()),
    };
    Ok(data[begin..end].to_vec())
}

/// The entries whose names a pattern takes; an empty one takes all.
fn included(entries: &[Entry], pattern: &str) -> Result<Vec<WireStat>, Status> {
    let included = Ignore::new([pattern]).map_err(|error| Status::unknown(error.to_string()))?;
    let wanted = |entry: &&Entry| pattern.is_empty() || included.excludes(&entry.path);
    Ok(entries.iter().filter(wanted).map(send::stat).collect())
}

#[async_trait]
impl wire::llb_bridge_server::LlbBridge for Bridge {
    async fn ping(
        &self,
        request: Request<wire::PingRequest>,
    ) -> Result<Response<wire::PongResponse>, Status> {
        self.solving(request.metadata()).await?;
        Ok(Response::new(wire::PongResponse {
            frontend_api_caps: capability::gateway(),
            llb_caps: capability::definition(),
            workers: vec![worker::record(&self.state.engine)],
        }))
    }

    async fn solve(
        &self,
        request: Request<wire::SolveRequest>,
    ) -> Result<Response<wire::SolveResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        cache::called(&solving, &request.cache_imports);
        let answer = if !request.frontend.is_empty() {
            let depth = self.frontend.as_ref().map_or(0, |frontend| frontend.depth);
            let (options, inputs) = (&request.frontend_opt, &request.frontend_inputs);
            call(&self.state, &solving, &request.frontend, options, inputs, depth).await?
        } else {
            let definition = request.definition.unwrap_or_default();
            run::defined(&self.state, &solving, &definition).await?
        };
        let first = answer.results.first().map(|(_, outcome)| outcome.id.clone());
        Ok(Response::new(wire::SolveResponse {
            r#ref: if request.allow_result_return { String::new() } else { first.unwrap_or_default() },
            result: Some(run::as_result(answer, request.allow_result_array_ref)),
        }))
    }

    async fn r#return(
        &self,
        request: Request<wire::ReturnRequest>,
    ) -> Result<Response<wire::ReturnResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        match &self.frontend {
            Some(frontend) => frontend.give_back(request.into_inner())?,
            None => solving.give_back(request.into_inner()),
        }
        Ok(Response::new(wire::ReturnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        request: Request<wire::ResolveImageConfigRequest>,
    ) -> Result<Response<wire::ResolveImageConfigResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let platform = request.platform.as_ref();
        let found = self.image(&solving, &request.r#ref, platform, &request.resolve_mode).await?;
        Ok(Response::new(wire::ResolveImageConfigResponse {
            digest: found.target.to_string(),
            config: found.config,
            r#ref: found.reference,
        }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<wire::ResolveSourceMetaRequest>,
    ) -> Result<Response<wire::ResolveSourceMetaResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let mut source = request.source.unwrap_or_default();
        let mut answer = wire::ResolveSourceMetaResponse::default();
        if let Some(reference) = source.identifier.strip_prefix("docker-image://") {
            let platform = request.platform.as_ref();
            let found = self.image(&solving, reference, platform, &request.resolve_mode).await?;
            let digest = found.target.to_string();
            answer.image = Some(wire::ResolveSourceImageResponse {
                digest,
                config: found.config,
                ..wire::ResolveSourceImageResponse::default()
            });
            source.identifier = format!("docker-image://{}", found.reference);
        }
        answer.source = Some(source);
        Ok(Response::new(answer))
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::ReadFileResponse>, Status> {
        self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let (path, range) = (request.file_path, request.range);
        let data = self.with_files(&request.r#ref, move |root| read(root, &path, range)).await?;
        Ok(Response::new(wire::ReadFileResponse { data }))
    }

    async fn read_dir(
        &self,
        request: Request<wire::ReadDirRequest>,
    ) -> Result<Response<wire::ReadDirResponse>, Status> {
        self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let path = request.dir_path;
        let entries = self.with_files(&request.r#ref, move |root| list_directory(root, &path)).await?;
        Ok(Response::new(wire::ReadDirResponse { entries: included(&entries, &request.include_pattern)? }))
    }

    async fn stat_file(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let path = request.path;
        let entry = self.with_files(&request.r#ref, move |root| stat(root, &path)).await?;
        Ok(Response::new(wire::StatFileResponse { stat: Some(send::stat(&entry)) }))
    }

    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        self.solving(request.metadata()).await?;
        // What was solved is made already.
        self.state.solves.result(&request.into_inner().r#ref)?;
        Ok(Response::new(wire::EvaluateResponse {}))
    }

    async fn inputs(
        &self,
        request: Request<wire::InputsRequest>,
    ) -> Result<Response<wire::InputsResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let inputs = self.frontend.as_ref().map_or(&solving.request.frontend_inputs, |one| &one.inputs);
        Ok(Response::new(wire::InputsResponse { definitions: inputs.clone() }))
    }

    async fn warn(
        &self,
        request: Request<wire::WarnRequest>,
    ) -> Result<Response<wire::WarnResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        solving.progress.warn(request.into_inner());
        Ok(Response::new(wire::WarnResponse {}))
    }

    async fn new_container(
        &self,
        request: Request<wire::NewContainerRequest>,
    ) -> Result<Response<wire::NewContainerResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        solving.containers.add(&self.state, &solving, request.into_inner())?;
        Ok(Response::new(wire::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<wire::ReleaseContainerRequest>,
    ) -> Result<Response<wire::ReleaseContainerResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        solving.containers.release(&request.into_inner().container_id).await;
        Ok(Response::new(wire::ReleaseContainerResponse {}))
    }

    type ExecProcessStream = Exec;

    async fn exec_process(
        &self,
        request: Request<Streaming<wire::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(container::serve(solving, request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read_file_container(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::ReadFileResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let root = solving.containers.files(&request.r#ref, request.mount_index).await?;
        let data = looked(move || read(&root, &request.file_path, request.range)).await?;
        Ok(Response::new(wire::ReadFileResponse { data }))
    }

    async fn read_dir_container(
        &self,
        request: Request<wire::ReadDirRequest>,
    ) -> Result<Response<wire::ReadDirResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let root = solving.containers.files(&request.r#ref, request.mount_index).await?;
        let entries = looked(move || list_directory(&root, &request.dir_path)).await?;
        Ok(Response::new(wire::ReadDirResponse { entries: included(&entries, &request.include_pattern)? }))
    }

    async fn stat_file_container(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        let solving = self.solving(request.metadata()).await?;
        let request = request.into_inner();
        let root = solving.containers.files(&request.r#ref, request.mount_index).await?;
        let entry = looked(move || stat(&root, &request.path)).await?;
        Ok(Response::new(wire::StatFileResponse { stat: Some(send::stat(&entry)) }))
    }
}

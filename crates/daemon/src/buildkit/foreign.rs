//! Frontends that are images of their own: each runs in a container, and calls the gateway over its standard streams.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use bollard_buildkit_proto::pb;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt;
use tonic::Status;
use tonic::body::Body;
use wharf_api::rpc::{self, Health, LARGEST, answer};
use wharf_build::dockerfile::NetworkMode;
use wharf_build::graph::{Edge, Graph, Mount, MountType, Node, Operation, Source};
use wharf_engine::ErrorKind;
use wharf_engine::build::{
    BuildContainer, BuildFailure, ContainerRequest, ProcessOutput, ProcessRequest, RunningProcess, Step,
};
use wharf_oci::{ImageConfig, Platform};

use super::attributes::Attributes;
use super::frontend::Answer;
use super::gateway::Bridge;
use super::solve::Solving;
use super::{BuildKit, error, export, run, worker};

/// How many frontends may have called one another.
const DEEPEST: usize = 8;
/// How long a frontend that hung up may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// What a frontend may have said and nobody read, in bytes.
const BUFFER: usize = 256 << 10;
/// What runs in an image that says nothing.
const USUAL: &str = "/run";

/// A frontend that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) solving: Arc<Solving>,
    /// What stands for its contexts.
    pub(super) inputs: HashMap<String, pb::Definition>,
    /// How many frontends wait for its result.
    pub(super) depth: usize,
    returned: Mutex<Option<frontend::ReturnRequest>>,
}

impl Running {
    /// Its result, which it gives once.
    pub(super) fn give_back(&self, given: frontend::ReturnRequest) -> Result<(), Status> {
        // Assigned whole.
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        if returned.is_some() {
            return Err(Status::unknown("gateway result is already set"));
        }
        *returned = Some(given);
        Ok(())
    }
}

/// Calls the frontend that the image `name` is.
pub(super) fn call<'a>(
    state: &'a Arc<BuildKit>,
    solving: &'a Arc<Solving>,
    name: &'a str,
    given: &'a Attributes,
    inputs: &'a HashMap<String, pb::Definition>,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send + 'a>> {
    Box::pin(async move {
        if depth >= DEEPEST {
            return Err(Status::unknown(format!("more than {DEEPEST} frontends call one another")));
        }
        let image = image(solving, name).await?;
        check_capabilities(&image.config, given, inputs)?;
        let process = process(state, solving, &image.config, given);
        let network = match label(&image.config, "moby.buildkit.frontend.network.none") {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => NetworkMode::None,
            _ => NetworkMode::Default,
        };
        let container = solving.build.container(ContainerRequest {
            mounts: vec![(root(), Some(image.tree))],
            network,
            platform: Platform::host(),
            hostname: String::new(),
            hosts: Vec::new(),
            entitlements: wharf_engine::build::Entitlements::default(),
        });
        let running = Arc::new(Running {
            solving: solving.clone(),
            inputs: inputs.clone(),
            depth: depth + 1,
            returned: Mutex::default(),
        });
        let bridge = Bridge::of(state.clone(), running.clone());
        let (build, runtime) = (solving.build.clone(), tokio::runtime::Handle::current());
        let title = format!("[internal] run frontend {name}");
        let ran = export::sleeping(move || {
            build.step(&title, |step| runtime.block_on(converse(container, process, bridge, step)))
        });
        let ran = ran.await;
        let returned = running.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What it says of itself counts before how it ended.
        if let Some(status) = returned.as_ref().and_then(|given| given.error.clone()) {
            return Err(error::given(status));
        }
        ran.map_err(|failure| error::status(&failure))?;
        let given = returned.ok_or_else(|| Status::unknown("no result for incomplete build"))?;
        run::returned(state, given)
    })
}

/// A frontend's image.
struct Image {
    config: ImageConfig,
    tree: wharf_build::solve::Tree,
}

async fn image(solving: &Arc<Solving>, name: &str) -> Result<Image, Status> {
    let reference = wharf_oci::Reference::parse(name)
        .map_err(|error| Status::unknown(format!("failed to parse frontend {name}: {error}")))?;
    let reference = reference.with_default_tag().to_string();
    let found = solving.build.resolve(reference, Platform::host(), false).await;
    let found = found.map_err(|failure| error::status(&failure))?;
    let config = serde_json::from_slice(&found.config)
        .map_err(|error| Status::unknown(format!("read config of frontend {name}: {error}")))?;
    let mut graph = Graph::default();
    let node = graph.add(Node {
        operation: Operation::Source(Source::Image {
            reference: found.reference.clone(),
            id: found.id.to_string(),
        }),
        inputs: Vec::new(),
        name: format!("docker-image://{}", found.reference),
        lines: None,
        platform: Platform::host(),
        ignore_cache: false,
    });
    let result = Some(Edge { node, output: 0 });
    let made = solving.build.graph(graph, result, String::new(), solving.entitlements()).await;
    let tree = made.map_err(|failure| error::status(&failure))?;
    let tree = tree.ok_or_else(|| Status::unknown(format!("frontend {name} is empty")))?;
    Ok(Image { config, tree })
}

fn label<'a>(config: &'a ImageConfig, name: &str) -> Option<&'a str> {
    config.config.labels.get(name).map(String::as_str)
}

/// Refuses a frontend that says nothing of being able to do what it is asked.
fn check_capabilities(
    config: &ImageConfig,
    given: &Attributes,
    inputs: &HashMap<String, pb::Definition>,
) -> Result<(), Status> {
    let list = |text: &str| -> BTreeSet<String> {
        let name = |word: &str| word.split('+').next().unwrap_or_default().to_owned();
        text.split(',').map(name).filter(|name| !name.is_empty()).collect()
    };
    let can = list(label(config, "moby.buildkit.frontend.caps").unwrap_or_default());
    let mut must = list(given.get("frontend.caps").map_or("", String::as_str));
    if !inputs.is_empty() {
        must.insert("moby.buildkit.frontend.inputs".to_owned());
    }
    match must.difference(&can).next() {
        Some(missing) => Err(Status::unimplemented(format!("unsupported frontend capability {missing}"))),
        None => Ok(()),
    }
}

fn root() -> Mount {
    Mount {
        input: None,
        selector: String::new(),
        destination: "/".to_owned(),
        read_only: false,
        output: None,
        kind: MountType::Bind,
    }
}

/// What is run: the image's entry point, told by its environment what is asked of it.
fn process(state: &BuildKit, solving: &Solving, config: &ImageConfig, given: &Attributes) -> ProcessRequest {
    let config = &config.config;
    let mut environment = config.env.clone();
    let mut options: Vec<_> = given.iter().collect();
    options.sort_unstable();
    let options = options.into_iter().enumerate();
    environment
        .extend(options.map(|(at, (name, value))| format!("BUILDKIT_FRONTEND_OPT_{at}={name}={value}")));
    environment.push(format!("BUILDKIT_SESSION_ID={}", solving.request.session));
    environment.push(format!("BUILDKIT_WORKERS={}", worker::document(&state.engine)));
    environment.push("BUILDKIT_EXPORTEDPRODUCT=".to_owned());
    let entry = config.entrypoint.clone().unwrap_or_default();
    ProcessRequest {
        arguments: if entry.is_empty() { vec![USUAL.to_owned()] } else { entry },
        environment,
        directory: config.working_dir.clone(),
        stdin: true,
        ..ProcessRequest::default()
    }
}

/// Runs a frontend to its end, and answers what it asks.
async fn converse(
    container: BuildContainer,
    process: ProcessRequest,
    bridge: Bridge,
    step: &Step,
) -> Result<(), BuildFailure> {
    let RunningProcess { input, output, exit, .. } = container.start(process).await?;
    let (spoken, heard) = tokio::io::duplex(BUFFER);
    let serving = rpc::serve(tokio::io::join(heard, input), move |request| dispatch(request, bridge.clone()));
    let serving = async {
        if let Err(error) = serving.await {
            tracing::debug!("serve a frontend: {error}");
        }
    };
    let talk = async { tokio::join!(serving, listen(output, spoken, step)) };
    let mut exit = std::pin::pin!(exit);
    let code = tokio::select! {
        code = &mut exit => code,
        _ = talk => match tokio::time::timeout(GRACE, &mut exit).await {
            Ok(code) => code,
            Err(_) => {
                container.release().await;
                return Err(BuildFailure::new(ErrorKind::Internal, "frontend grpc server closed unexpectedly"));
            }
        },
    };
    container.release().await;
    match code {
        Ok(0) => Ok(()),
        Ok(code) => Err(BuildFailure {
            code: Some(code),
            ..BuildFailure::new(ErrorKind::Internal, format!("exit code: {code}"))
        }),
        Err(_) => Err(BuildFailure::new(ErrorKind::Internal, "the frontend was killed")),
    }
}

/// What it says to the gateway, and what it says to people.
async fn listen(mut output: ProcessOutput, mut spoken: tokio::io::DuplexStream, step: &Step) {
    while let Some((stream, data)) = output.next().await {
        if stream != 1 {
            step.log(stream, data);
        } else if spoken.write_all(&data).await.is_err() {
            // The gateway hung up; what else it says is still told.
        }
    }
}

async fn dispatch(request: Request<Incoming>, bridge: Bridge) -> Response<Body> {
    match rpc::service_of(&request) {
        "moby.buildkit.v1.frontend.LLBBridge" => {
            answer(LlbBridgeServer::new(bridge).max_decoding_message_size(LARGEST), request).await
        }
        "grpc.health.v1.Health" => answer(HealthServer::new(Health), request).await,
        other => rpc::unknown(other),
    }
}

//! `wharf build`: BuildKit's API as `buildx` speaks it. A session stands beside the call, over which the daemon asks for
//! files, secrets and credentials.

mod context;
mod failure;
mod gateway;
mod options;
mod progress;
mod reproducible;
mod request;
mod result;
mod session;
pub(super) mod usage;
mod wire;

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, SolveResponse, StatusRequest};
use tokio::sync::mpsc;
use tonic::{Request, Status};
use wharf_api::client::Client;
use wharf_api::rpc::{Caller, LARGEST};

use self::context::Context;
use self::progress::{Mode, State};
use self::session::{Auth, Directories, Offer, Outputs, Secrets, Stores};
use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Build {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "STRING")]
    add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "STRING")]
    allow: Vec<String>,
    /// Add annotation to the image
    #[arg(long, value_name = "STRING")]
    annotation: Vec<String>,
    /// Attestation parameters (format: "type=sbom,generator=image")
    #[arg(long, value_name = "STRING")]
    attest: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "STRING")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "STRING")]
    build_context: Vec<String>,
    /// External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")
    #[arg(long, value_name = "STRING")]
    cache_from: Vec<String>,
    /// Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")
    #[arg(long, value_name = "STRING")]
    cache_to: Vec<String>,
    /// Set method for evaluating build ("check", "outline", "targets")
    #[arg(long, value_name = "STRING", default_value = "build")]
    call: String,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "STRING")]
    cgroup_parent: Option<String>,
    /// Shorthand for "--call=check"
    #[arg(long)]
    check: bool,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "STRING")]
    file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "STRING")]
    iidfile: Option<String>,
    /// Set metadata for an image
    #[arg(long, value_name = "STRING")]
    label: Vec<String>,
    /// Shorthand for "--output=type=docker"
    #[arg(long)]
    load: bool,
    /// Write build result metadata to a file
    #[arg(long, value_name = "STRING")]
    metadata_file: Option<String>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STRING")]
    no_cache_filter: Vec<String>,
    /// Output destination (format: "type=local,dest=path")
    #[arg(short, long, value_name = "STRING")]
    output: Vec<String>,
    /// Set target platform for build
    #[arg(long, value_name = "STRING")]
    platform: Vec<String>,
    /// Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty")
    #[arg(long, value_name = "STRING", default_value = "auto")]
    progress: String,
    /// Shorthand for "--attest=type=provenance"
    #[arg(long, value_name = "STRING")]
    provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Shorthand for "--output=type=registry"
    #[arg(long)]
    push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Shorthand for "--attest=type=sbom"
    #[arg(long, value_name = "STRING")]
    sbom: Option<String>,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "STRING")]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")
    #[arg(long, value_name = "STRING")]
    ssh: Vec<String>,
    /// Image identifier (format: "[registry/]repository[:tag]")
    #[arg(short, long, value_name = "STRING")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "STRING")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ULIMIT")]
    ulimit: Vec<String>,
    /// Build twice without the cache, and say what differs
    #[arg(long)]
    verify_reproducible: bool,
    #[arg(value_name = "PATH | URL | -")]
    path: String,
}

impl Build {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let mode = Mode::parse(&self.progress, self.quiet)?;
        if self.verify_reproducible {
            return reproducible::verify(&self, target, mode).await;
        }
        let client = target.connect().await?;
        let call = if self.check { "check" } else { self.call.as_str() };
        if call != "build" {
            return gateway::call(&self, &client, target, call).await;
        }
        let done = self.once(&client, target, mode, &BTreeMap::new()).await?;
        result::write(&self, &done)?;
        if mode == Mode::Terminal || mode == Mode::Plain {
            result::warnings(&done.state.warnings);
        }
        Ok(0)
    }

    /// Builds once; `more` attributes of the frontend count before the flags.
    async fn once(
        &self,
        client: &Client,
        target: &Target,
        mode: Mode,
        more: &BTreeMap<String, String>,
    ) -> Result<Done, CliError> {
        let id = random(13);
        let (mut request, offer, shared_key) = self.prepare(target, &id)?;
        request.frontend_attrs.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        let opened = tokio::join!(session::open(client, &request.session, &shared_key, offer), dial(client));
        let ((), control) = (opened.0?, opened.1?);
        solve(control, request, mode).await
    }

    /// What is asked of the daemon, and what it may ask for.
    fn prepare(&self, target: &Target, id: &str) -> Result<(SolveRequest, Offer, String), CliError> {
        let mut context = Context::find(&self.path, self.file.as_deref(), id)?;
        self.build_context.iter().try_for_each(|named| context.named(named))?;
        let (exporters, destinations) = self.exporters()?;
        let secrets = self.secret.iter().map(|text| options::secret(text)).collect::<Result<_, _>>()?;
        let agents = self.ssh.iter().map(|text| options::agent(text)).collect::<Result<_, _>>()?;
        let shared_key = context.shared_key();
        let request = SolveRequest {
            r#ref: id.to_owned(),
            session: random(13),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: self.attributes(&context)?.into_iter().collect(),
            exporters,
            entitlements: self.allow.clone(),
            cache: self.caches()?,
            ..SolveRequest::default()
        };
        let offer = Offer {
            directories: Directories::new(std::mem::take(&mut context.directories), context.scratch.take()),
            secrets: Secrets::new(secrets),
            agents: session::Agents::new(agents),
            auth: Auth::new(target.config_folder()),
            outputs: Outputs::new(destinations),
            upload: std::mem::take(&mut context.upload),
            stores: Stores::new(std::mem::take(&mut context.stores)),
        };
        Ok((request, offer, shared_key))
    }
}

/// A build that came to its end.
#[derive(Debug)]
struct Done {
    name: String,
    response: SolveResponse,
    state: State,
}

/// The daemon's build service.
async fn dial(client: &Client) -> Result<ControlClient<Caller>, CliError> {
    let caller = wire::caller(wire::upgrade(client, "/grpc", &[]).await?).await?;
    Ok(ControlClient::new(caller).max_decoding_message_size(LARGEST))
}

/// Builds, and shows how it goes.
async fn solve(control: ControlClient<Caller>, request: SolveRequest, mode: Mode) -> Result<Done, CliError> {
    let name = request.r#ref.clone();
    let (sender, updates) = mpsc::unbounded_channel();
    let mut solver = control.clone();
    let solved = async { solver.solve(Request::new(request)).await.map(tonic::Response::into_inner) };
    let followed = follow(control, name.clone(), sender);
    let (solved, _, state) = tokio::join!(solved, followed, progress::show(mode, updates));
    match solved {
        Ok(response) => Ok(Done { name, response, state }),
        Err(status) => Err(failure::told(&status, &state, mode)),
    }
}

/// Passes on what is told of a build until it ends.
async fn follow(
    mut control: ControlClient<Caller>,
    name: String,
    sender: mpsc::UnboundedSender<bollard_buildkit_proto::moby::buildkit::v1::StatusResponse>,
) -> Result<(), Status> {
    let mut updates = control.status(StatusRequest { r#ref: name }).await?.into_inner();
    while let Some(update) = updates.message().await? {
        // Whoever shows them lives as long as this.
        let _ = sender.send(update);
    }
    Ok(())
}

/// Hex digits of as many random bytes.
fn random(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    let filled = rustix::rand::getrandom(&mut buffer, rustix::rand::GetRandomFlags::empty());
    if filled.is_err() {
        // Only a kernel without the call comes here: time and process are as good a name.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return format!("{:x}{:x}", now.as_nanos(), std::process::id());
    }
    hex::encode(buffer)
}

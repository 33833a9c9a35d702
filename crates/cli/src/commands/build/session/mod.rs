//! The session of a build: the daemon calls back over it for files, secrets and credentials, and sends what comes out.

mod auth;
mod files;
mod receive;
mod secrets;
mod ssh;
mod stores;
mod tree;
mod upload;
mod walk;

use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::packet::file_send_server::FileSendServer as TreeServer;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use bollard_buildkit_proto::moby::upload::v1::upload_server::UploadServer;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tonic::body::Body;
use wharf_api::client::Client;
use wharf_api::content;
use wharf_api::rpc::{self, Health, LARGEST, answer};

use super::wire::upgrade;
use crate::error::CliError;

pub(super) use auth::Auth;
pub(super) use files::Directories;
pub(super) use receive::{Destination, Outputs};
pub(super) use secrets::{Secret, Secrets};
pub(super) use ssh::{Agent, Agents};
pub(super) use stores::Stores;
pub(super) use upload::{HOST as UPLOAD_HOST, Upload};

/// What every session answers.
const METHODS: [&str; 7] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.upload.v1.Upload/Pull",
];

/// What only a client with an agent answers.
const OF_AGENTS: [&str; 2] = ["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"];

/// What only a client with stores of blobs answers.
const OF_STORES: [&str; 2] =
    ["/containerd.services.content.v1.Content/Info", "/containerd.services.content.v1.Content/Read"];

/// All that the daemon may ask for.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) directories: Directories,
    pub(super) secrets: Secrets,
    pub(super) agents: Agents,
    pub(super) auth: Auth,
    pub(super) outputs: Outputs,
    pub(super) upload: Upload,
    pub(super) stores: Stores,
}

/// Opens the session `id` and serves it in the background. `shared_key` names the directories over several sessions.
///
/// # Errors
/// When the daemon cannot be reached or has no sessions.
pub(super) async fn open(client: &Client, id: &str, shared_key: &str, offer: Offer) -> Result<(), CliError> {
    let mut headers = vec![
        ("X-Docker-Expose-Session-Uuid", id),
        ("X-Docker-Expose-Session-Name", ""),
        ("X-Docker-Expose-Session-Sharedkey", shared_key),
    ];
    let agents: &[&str] = if offer.agents.is_empty() { &[] } else { &OF_AGENTS };
    let stores: &[&str] = if offer.stores.is_empty() { &[] } else { &OF_STORES };
    let methods = METHODS.iter().chain(agents).chain(stores);
    headers.extend(methods.map(|method| ("X-Docker-Expose-Session-Grpc-Method", *method)));
    let stream = upgrade(client, "/session", &headers).await?;
    let offer = Arc::new(offer);
    let serving = rpc::serve(stream, move |request| dispatch(request, offer.clone()));
    // It ends with the build; what goes wrong in it the build tells.
    tokio::spawn(async move { drop(serving.await) });
    Ok(())
}

async fn dispatch(request: Request<Incoming>, offer: Arc<Offer>) -> Response<Body> {
    match rpc::service_of(&request) {
        "moby.filesync.v1.FileSync" => answer(FileSyncServer::new(offer.directories.clone()), request).await,
        "moby.filesync.v1.FileSend" if offer.outputs.is_tree(request.headers()) => {
            let server = TreeServer::new(offer.outputs.clone()).max_decoding_message_size(LARGEST);
            answer(server, request).await
        }
        "moby.filesync.v1.FileSend" => {
            let server = FileSendServer::new(offer.outputs.clone()).max_decoding_message_size(LARGEST);
            answer(server, request).await
        }
        "moby.filesync.v1.Auth" => answer(AuthServer::new(offer.auth.clone()), request).await,
        "moby.buildkit.secrets.v1.Secrets" => {
            answer(SecretsServer::new(offer.secrets.clone()), request).await
        }
        "moby.sshforward.v1.SSH" => answer(SshServer::new(offer.agents.clone()), request).await,
        "moby.upload.v1.Upload" => answer(UploadServer::new(offer.upload.clone()), request).await,
        content::SERVICE => offer.stores.answer(request).await,
        "grpc.health.v1.Health" => answer(HealthServer::new(Health), request).await,
        other => rpc::unknown(other),
    }
}

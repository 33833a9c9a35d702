//! Credentials for the registries that a build pulls from and pushes to.

use std::path::PathBuf;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth as Service;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tonic::{Request, Response, Status};

use crate::credentials::{Credentials, HUB};

/// What Docker Hub's registry is called, which keeps its credentials under an older name.
const HUB_HOSTS: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];

/// The user's credentials, as Docker's client keeps them.
#[derive(Debug, Clone)]
pub(in super::super) struct Auth {
    folder: PathBuf,
}

impl Auth {
    pub(in super::super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

#[tonic::async_trait]
impl Service for Auth {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let server = if HUB_HOSTS.contains(&host.as_str()) { HUB.to_owned() } else { host };
        let folder = self.folder.clone();
        // A helper is a program that may ask the user.
        let found = tokio::task::spawn_blocking(move || Credentials::open(&folder)?.get(&server)).await;
        let auth = found
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::unknown(error.message()))?;
        let token = !auth.identitytoken.is_empty();
        let answer = CredentialsResponse {
            username: if token { String::new() } else { auth.username },
            secret: if token { auth.identitytoken } else { auth.password },
        };
        Ok(Response::new(answer))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the daemon"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the daemon"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by the daemon"))
    }
}

//! Secrets: read when they are asked for, never kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets as Service;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

/// The longest secret, bytes; BuildKit's own limit.
const LONGEST: u64 = 500 << 10;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Secret {
    File(PathBuf),
    Variable(String),
}

/// All secrets of a build, by id.
#[derive(Debug, Clone)]
pub(in super::super) struct Secrets(Arc<BTreeMap<String, Secret>>);

impl Secrets {
    pub(in super::super) fn new(by_id: BTreeMap<String, Secret>) -> Self {
        Self(Arc::new(by_id))
    }
}

#[tonic::async_trait]
impl Service for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let missing = || Status::not_found(format!("secret {id} not found"));
        let data = match self.0.get(&id).ok_or_else(missing)? {
            Secret::Variable(name) => {
                let value = std::env::var_os(name).ok_or_else(missing)?;
                std::os::unix::ffi::OsStringExt::into_vec(value)
            }
            Secret::File(path) => {
                let failed = |error: std::io::Error| {
                    Status::unknown(format!("failed to read secret {id}: {}", crate::error::reason(&error)))
                };
                if std::fs::metadata(path).map_err(failed)?.len() > LONGEST {
                    return Err(Status::invalid_argument(format!(
                        "secret {id} is larger than {LONGEST} bytes"
                    )));
                }
                std::fs::read(path).map_err(failed)?
            }
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}

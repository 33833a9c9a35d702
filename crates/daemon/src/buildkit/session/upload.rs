//! Archives that a client sends as its build context.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use tonic::Request;
use tonic::metadata::MetadataValue;
use wharf_engine::build::Transfer;
use wharf_engine::build::mirror::{Mirror, Mirrors};

use super::Session;
use wharf_api::rpc::LARGEST;

/// The host in the address of what a client sends.
pub(in crate::buildkit) const HOST: &str = "buildkit-session";

/// The largest archive, in bytes.
const LARGEST_ARCHIVE: u64 = 64 << 30;

/// The files of the archive that the client sends under `id`.
///
/// # Errors
/// In words for the user.
pub(super) async fn receive(
    session: &Session,
    id: &str,
    mirrors: &Arc<Mirrors>,
    progress: &dyn Fn(Transfer),
) -> Result<Mirror, String> {
    let failed = |error: std::io::Error| format!("keep the build context: {error}");
    let mut call = Request::new(tokio_stream::pending::<BytesMessage>());
    let path = MetadataValue::try_from(format!("/{id}")).map_err(|error| error.to_string())?;
    call.metadata_mut().insert("urlpath", path);
    call.metadata_mut().insert("urlhost", MetadataValue::from_static(HOST));
    let mut client = UploadClient::new(session.caller()).max_decoding_message_size(LARGEST);
    let answer = client.pull(call).await.map_err(|status| status.message().to_owned())?;
    let mut pieces = answer.into_inner();
    let packed = mirrors.scratch().map_err(|error| error.to_string())?;
    let mut file = File::create(packed.path().join("archive")).map_err(failed)?;
    let mut bytes = 0_u64;
    while let Some(piece) = pieces.message().await.map_err(|status| status.message().to_owned())? {
        bytes += piece.data.len() as u64;
        if bytes > LARGEST_ARCHIVE {
            return Err(format!("the build context is larger than {LARGEST_ARCHIVE} bytes"));
        }
        file.write_all(&piece.data).map_err(failed)?;
        progress(Transfer { bytes, done: false });
    }
    progress(Transfer { bytes, done: true });
    mirrors.unpack(&packed).map_err(|error| error.to_string())
}

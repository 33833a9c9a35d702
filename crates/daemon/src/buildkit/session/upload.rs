//! Archives that a client sends as its build context.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use tokio::sync::oneshot;
use tonic::Request;
use tonic::metadata::MetadataValue;
use wharf_engine::ByteStream;
use wharf_engine::build::Transfer;
use wharf_engine::build::mirror::{Mirror, Mirrors};

use super::Session;
use wharf_api::rpc::LARGEST;

/// The host in the address of what a client sends.
pub(in crate::buildkit) const HOST: &str = "buildkit-session";

/// The largest archive, in bytes.
const LARGEST_ARCHIVE: u64 = 64 << 30;

/// An archive that came with a request.
#[derive(Debug)]
pub(in crate::buildkit) struct Given {
    pub(in crate::buildkit) body: ByteStream,
    /// Goes when all of it was read, or nobody will.
    pub(in crate::buildkit) read: Option<oneshot::Sender<()>>,
}

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
    let mut call = Request::new(tokio_stream::pending::<BytesMessage>());
    let path = MetadataValue::try_from(format!("/{id}")).map_err(|error| error.to_string())?;
    call.metadata_mut().insert("urlpath", path);
    call.metadata_mut().insert("urlhost", MetadataValue::from_static(HOST));
    let mut client = UploadClient::new(session.caller()).max_decoding_message_size(LARGEST);
    let answer = client.pull(call).await.map_err(|status| status.message().to_owned())?;
    let mut pieces = answer.into_inner();
    let mut archive = Archive::new(mirrors)?;
    while let Some(piece) = pieces.message().await.map_err(|status| status.message().to_owned())? {
        archive.add(&piece.data, progress)?;
    }
    archive.unpack(mirrors, progress)
}

/// The files of an archive that came with a request.
///
/// # Errors
/// In words for the user.
pub(super) async fn read(
    given: Given,
    mirrors: &Arc<Mirrors>,
    progress: &dyn Fn(Transfer),
) -> Result<Mirror, String> {
    let Given { mut body, read } = given;
    let mut archive = Archive::new(mirrors)?;
    while let Some(piece) = body.next().await {
        archive.add(&piece.map_err(|error| error.message().to_owned())?, progress)?;
    }
    drop(read);
    archive.unpack(mirrors, progress)
}

/// An archive on its way.
struct Archive {
    packed: Mirror,
    file: File,
    bytes: u64,
}

impl Archive {
    fn new(mirrors: &Arc<Mirrors>) -> Result<Self, String> {
        let packed = mirrors.scratch().map_err(|error| error.to_string())?;
        let file = File::create(packed.path().join("archive")).map_err(|error| not_kept(&error))?;
        Ok(Self { packed, file, bytes: 0 })
    }

    fn add(&mut self, piece: &[u8], progress: &dyn Fn(Transfer)) -> Result<(), String> {
        self.bytes += piece.len() as u64;
        if self.bytes > LARGEST_ARCHIVE {
            return Err(format!("the build context is larger than {LARGEST_ARCHIVE} bytes"));
        }
        self.file.write_all(piece).map_err(|error| not_kept(&error))?;
        progress(Transfer { bytes: self.bytes, done: false });
        Ok(())
    }

    fn unpack(self, mirrors: &Arc<Mirrors>, progress: &dyn Fn(Transfer)) -> Result<Mirror, String> {
        progress(Transfer { bytes: self.bytes, done: true });
        mirrors.unpack(&self.packed).map_err(|error| error.to_string())
    }
}

fn not_kept(error: &std::io::Error) -> String {
    format!("keep the build context: {error}")
}

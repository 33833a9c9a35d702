//! Images that the client has as OCI layouts: the daemon reads their blobs by containerd's content service.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;
use wharf_api::content::{Info, InfoAnswer, InfoRequest, PIECE, ReadAnswer, ReadRequest, STORE};
use wharf_oci::Digest;

/// What the daemon puts before the name of a store of this kind.
const KIND: &str = "oci:";
/// How many messages wait, at most.
const DEPTH: usize = 4;

/// The layouts that a build may read, by name.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Stores(Arc<BTreeMap<String, PathBuf>>);

impl Stores {
    pub(in super::super) fn new(by_name: BTreeMap<String, PathBuf>) -> Self {
        Self(Arc::new(by_name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers a call of the service.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path().rsplit('/').next() {
            Some("Info") => Grpc::new(ProstCodec::default()).unary(self.clone(), request).await,
            Some("Read") => Grpc::new(ProstCodec::default()).server_streaming(self.clone(), request).await,
            _ => Status::unimplemented("nothing is written here").into_http(),
        }
    }
}

impl Stores {
    /// Opens a blob; with its size.
    fn open<T>(&self, request: &tonic::Request<T>, digest: &str) -> Result<(File, u64), Status> {
        let digest: Digest =
            digest.parse().map_err(|_| Status::invalid_argument(format!("invalid digest {digest:?}")))?;
        let name = request.metadata().get(STORE).and_then(|name| name.to_str().ok()).unwrap_or_default();
        let directory = name.strip_prefix(KIND).and_then(|name| self.0.get(name));
        let directory = directory.ok_or_else(|| Status::not_found(format!("no store {name:?}")))?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Status::not_found(format!("content {digest}: not found")),
            _ => Status::unknown(format!("read blob {digest}: {}", crate::error::reason(&error))),
        };
        let file = File::open(directory.join("blobs/sha256").join(digest.hex())).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok((file, size))
    }
}

impl UnaryService<InfoRequest> for Stores {
    type Response = InfoAnswer;
    type Future = std::future::Ready<Result<tonic::Response<InfoAnswer>, Status>>;

    fn call(&mut self, request: tonic::Request<InfoRequest>) -> Self::Future {
        let digest = request.get_ref().digest.clone();
        std::future::ready(self.open(&request, &digest).map(|(_, size)| {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            tonic::Response::new(InfoAnswer { info: Some(Info { digest, size }) })
        }))
    }
}

impl ServerStreamingService<ReadRequest> for Stores {
    type Response = ReadAnswer;
    type ResponseStream = ReceiverStream<Result<ReadAnswer, Status>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<ReadRequest>) -> Self::Future {
        let asked = request.get_ref().clone();
        let opened = self.open(&request, &asked.digest);
        std::future::ready(opened.map(|(file, _)| {
            let (sender, receiver) = mpsc::channel(DEPTH);
            tokio::task::spawn_blocking(move || send(file, &asked, &sender));
            tonic::Response::new(ReceiverStream::new(receiver))
        }))
    }
}

/// Sends a piece of a blob, until the daemon has it or is gone.
fn send(mut file: File, asked: &ReadRequest, out: &mpsc::Sender<Result<ReadAnswer, Status>>) {
    let mut offset = asked.offset.max(0);
    let size = u64::try_from(asked.size).ok().filter(|size| *size > 0).unwrap_or(u64::MAX);
    let found = file.seek(SeekFrom::Start(offset.unsigned_abs()));
    let mut rest = file.take(size);
    let mut failed = found.err();
    loop {
        let mut data = Vec::new();
        let read = match failed.take() {
            Some(error) => Err(error),
            None => (&mut rest).take(PIECE as u64).read_to_end(&mut data),
        };
        let message = match read {
            Ok(0) => return,
            Ok(count) => {
                let piece = ReadAnswer { offset, data };
                offset += i64::try_from(count).unwrap_or(0);
                Ok(piece)
            }
            Err(error) => {
                Err(Status::unknown(format!("read blob {}: {}", asked.digest, crate::error::reason(&error))))
            }
        };
        let last = message.is_err();
        if out.blocking_send(message).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn about<T>(store: &'static str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(STORE, tonic::metadata::MetadataValue::from_static(store));
        request
    }

    #[tokio::test]
    async fn blobs_are_read_whole_and_in_part_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let digest = Digest::of(&bytes);
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(dir.path().join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        let mut stores = Stores::new(BTreeMap::from([("one".to_owned(), dir.path().to_owned())]));
        for (offset, size, part) in
            [(0, 0, &bytes[..]), (5, 0, &bytes[5..]), (7, 1_500_000, &bytes[7..1_500_007])]
        {
            let request = ReadRequest { digest: digest.to_string(), offset, size };
            let answer = ServerStreamingService::call(&mut stores, about("oci:one", request)).await.unwrap();
            let mut read = Vec::new();
            let mut pieces = answer.into_inner();
            while let Some(piece) = pieces.next().await {
                let piece = piece.unwrap();
                assert_eq!(piece.offset, offset + i64::try_from(read.len()).unwrap());
                read.extend(piece.data);
            }
            assert!(read == part);
        }
        let info = InfoRequest { digest: digest.to_string() };
        let answer = UnaryService::call(&mut stores, about("oci:one", info.clone())).await.unwrap();
        assert_eq!(answer.into_inner().info.unwrap().size, 3_000_000);
        for (store, digest) in
            [("oci:two", digest.to_string()), ("one", digest.to_string()), ("oci:one", "../x".to_owned())]
        {
            assert!(UnaryService::call(&mut stores, about(store, InfoRequest { digest })).await.is_err());
        }
    }
}

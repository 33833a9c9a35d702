//! What goes with the record of a build: how its results came about. Clients read it through containerd's content service.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{BuildHistoryRecord, BuildResultInfo, Descriptor};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio_stream::Iter;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;
use wharf_api::content::{Info, InfoAnswer, InfoRequest, PIECE, ReadAnswer, ReadRequest};
use wharf_engine::build::export::Product;
use wharf_oci::Digest;

use super::BuildKit;
use super::export::Response as Told;
use super::frontend::{Answer, sorted};
use super::solve::Solving;

/// How a statement is read.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What kind of statement it is.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// How one result came about.
#[derive(Debug)]
pub(super) struct Account {
    /// The platform that tells it from others; `None`: the only one.
    platform: Option<String>,
    kind: String,
    pub(super) document: Vec<u8>,
}

impl Account {
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.document)
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: STATEMENT.to_owned(),
            digest: self.digest().to_string(),
            size: i64::try_from(self.document.len()).unwrap_or(i64::MAX),
            annotations: HashMap::from([(PREDICATE_TYPE.to_owned(), self.kind.clone())]),
        }
    }
}

/// How the results of a build came about.
pub(super) fn accounts(solving: &Solving, answer: &Answer, products: &[Product]) -> Vec<Account> {
    let frontend = sorted(&solving.attributes());
    let account = |product: &Product| {
        let (kind, document) = solving.build.account(product, &frontend);
        Account { platform: answer.by_platform.then(|| product.platform.to_string()), kind, document }
    };
    products.iter().map(account).collect()
}

/// What a record says of the results: of the only one, and of those for several platforms.
pub(super) fn results(
    accounts: &[Account],
    exported: Option<&Descriptor>,
) -> (Option<BuildResultInfo>, HashMap<String, BuildResultInfo>) {
    let info = |account: &Account| BuildResultInfo {
        result_deprecated: exported.cloned(),
        attestations: vec![account.descriptor()],
        results: exported.iter().map(|descriptor| (0, (*descriptor).clone())).collect(),
    };
    let only = accounts.iter().find(|account| account.platform.is_none()).map(info);
    let several = accounts.iter().filter_map(|account| Some((account.platform.clone()?, info(account))));
    (only, several.collect())
}

/// The image that came out, as its client was told, and its manifest, where that is kept here.
pub(super) fn exported(solving: &Solving, told: &Told) -> Option<(Descriptor, (Digest, Vec<u8>))> {
    let text = told.get("containerimage.descriptor")?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).ok()?;
    let image: wharf_oci::Descriptor = serde_json::from_slice(&bytes).ok()?;
    let document = solving.build.document(&image.digest)?;
    let descriptor = Descriptor {
        media_type: image.media_type,
        digest: image.digest.to_string(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    };
    Some((descriptor, (image.digest, document)))
}

/// What goes with a record.
pub(super) fn of(record: &BuildHistoryRecord) -> impl Iterator<Item = Digest> {
    let infos = record.result.iter().chain(record.results.values());
    let named = infos.flat_map(|info| info.attestations.iter().chain(info.results.values()));
    named.filter_map(|attached| attached.digest.parse().ok())
}

/// Answers a call of the service.
pub(super) async fn answer(state: &Arc<BuildKit>, request: Request<Incoming>) -> Response<Body> {
    let calls = Calls(state.clone());
    match request.uri().path().rsplit('/').next() {
        Some("Info") => Grpc::new(ProstCodec::default()).unary(calls, request).await,
        Some("Read") => Grpc::new(ProstCodec::default()).server_streaming(calls, request).await,
        _ => Status::unimplemented("nothing is written here").into_http(),
    }
}

struct Calls(Arc<BuildKit>);

impl Calls {
    fn find(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let found = digest.parse().ok().and_then(|digest| self.0.history.attachment(&digest));
        found.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }
}

impl UnaryService<InfoRequest> for Calls {
    type Response = InfoAnswer;
    type Future = Ready<Result<tonic::Response<InfoAnswer>, Status>>;

    fn call(&mut self, request: tonic::Request<InfoRequest>) -> Self::Future {
        let digest = request.into_inner().digest;
        ready(self.find(&digest).map(|document| {
            let size = i64::try_from(document.len()).unwrap_or(i64::MAX);
            tonic::Response::new(InfoAnswer { info: Some(Info { digest, size }) })
        }))
    }
}

impl ServerStreamingService<ReadRequest> for Calls {
    type Response = ReadAnswer;
    type ResponseStream = Iter<std::vec::IntoIter<Result<ReadAnswer, Status>>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<ReadRequest>) -> Self::Future {
        let request = request.into_inner();
        ready(self.find(&request.digest).map(|document| {
            let begin = usize::try_from(request.offset).unwrap_or(0).min(document.len());
            let size = usize::try_from(request.size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
            let end = begin.saturating_add(size).min(document.len());
            let mut offset = request.offset.max(0);
            let piece = |data: &[u8]| {
                let piece = ReadAnswer { offset, data: data.to_vec() };
                offset += i64::try_from(data.len()).unwrap_or(0);
                Ok(piece)
            };
            let pieces: Vec<_> = document[begin..end].chunks(PIECE).map(piece).collect();
            tonic::Response::new(tokio_stream::iter(pieces))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(platform: Option<&str>) -> Account {
        let document = platform.unwrap_or("only").as_bytes().to_vec();
        Account { platform: platform.map(str::to_owned), kind: "https://example.com/x".to_owned(), document }
    }

    #[test]
    fn results_are_told_apart_by_platform() {
        let (only, several) = results(&[account(None)], None);
        let attached = &only.unwrap().attestations[0];
        assert_eq!(
            (attached.size, attached.annotations[PREDICATE_TYPE].as_str()),
            (4, "https://example.com/x")
        );
        assert!(several.is_empty());
        let both = [account(Some("linux/amd64")), account(Some("linux/arm64"))];
        let (only, several) = results(&both, None);
        assert!(only.is_none() && several.len() == 2);
        let record = BuildHistoryRecord { results: several, ..BuildHistoryRecord::default() };
        assert!(of(&record).any(|digest| digest == both[1].digest()));
    }
}

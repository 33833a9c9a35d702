//! A client's stores of blobs: caches in its directories, images that it has as OCI layouts.
//!
//! The service is containerd's; of its messages, what is written here has a name.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use wharf_api::content::{PIECE, ReadAnswer, ReadRequest, STORE};
use wharf_api::rpc::LARGEST;
use wharf_engine::build::{BlobSink, BlobSource};
use wharf_oci::Digest;

use super::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
enum Action {
    Stat = 0,
    Write = 1,
    Commit = 2,
}

#[derive(Clone, PartialEq, ::prost::Message)]
struct WriteRequest {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    r#ref: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
struct WriteAnswer {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(string, tag = "6")]
    digest: String,
}

fn said(status: &Status) -> String {
    status.message().to_owned()
}

/// A call of a store.
fn call<T>(store: &str, message: T) -> Result<Request<T>, String> {
    let mut request = Request::new(message);
    let store = MetadataValue::try_from(store).map_err(|_| format!("invalid name of a store: {store:?}"))?;
    request.metadata_mut().insert(STORE, store);
    Ok(request)
}

fn client(session: &Session) -> Result<tonic::client::Grpc<wharf_api::rpc::Caller>, String> {
    if !session.about.answers("/containerd.services.content.v1.Content/Read") {
        return Err("the client has no store of blobs".to_owned());
    }
    Ok(tonic::client::Grpc::new(session.caller()).max_decoding_message_size(LARGEST))
}

/// Reads a blob.
///
/// # Errors
/// In words for the user.
pub(super) async fn read(
    session: &Session,
    store: &str,
    digest: &Digest,
    into: &mut dyn BlobSink,
) -> Result<(), String> {
    let mut client = client(session)?;
    client.ready().await.map_err(|error| error.to_string())?;
    let request = call(store, ReadRequest { digest: digest.to_string(), offset: 0, size: 0 })?;
    let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
    let codec = tonic_prost::ProstCodec::<ReadRequest, ReadAnswer>::default();
    let answer = client.server_streaming(request, path, codec).await.map_err(|status| said(&status))?;
    let mut pieces = answer.into_inner();
    let mut offset = 0;
    while let Some(piece) = pieces.message().await.map_err(|status| said(&status))? {
        if piece.offset != offset {
            return Err(format!("the client gave another part of {digest} than the next"));
        }
        offset += i64::try_from(piece.data.len()).unwrap_or(i64::MAX);
        into.take(&piece.data)?;
    }
    Ok(())
}

/// Writes a blob.
///
/// # Errors
/// In words for the user.
pub(super) async fn write(
    session: &Session,
    store: &str,
    digest: &Digest,
    size: u64,
    from: &mut dyn BlobSource,
) -> Result<(), String> {
    let mut client = client(session)?;
    client.ready().await.map_err(|error| error.to_string())?;
    let (sender, receiver) = mpsc::channel(1);
    let total = i64::try_from(size).map_err(|_| format!("blob {digest} is too large"))?;
    let message = |action: Action, offset: i64, data: Vec<u8>| WriteRequest {
        action: action.into(),
        r#ref: format!("wharf-{}", digest.hex()),
        total,
        expected: digest.to_string(),
        offset,
        data,
        labels: HashMap::new(),
    };
    let gone = || "the client ended the transfer of a blob".to_owned();
    // The call is answered when its first message is.
    sender.send(message(Action::Stat, 0, Vec::new())).await.map_err(|_| gone())?;
    let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
    let codec = tonic_prost::ProstCodec::<WriteRequest, WriteAnswer>::default();
    let request = call(store, ReceiverStream::new(receiver))?;
    let mut answers = match client.streaming(request, path, codec).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
        Err(status) => return Err(said(&status)),
    };
    let mut offset = match answers.message().await {
        Ok(Some(answer)) => answer.offset,
        Ok(None) => return Err(gone()),
        Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
        Err(status) => return Err(said(&status)),
    };
    skip(from, u64::try_from(offset).unwrap_or(0))?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = from.give(&mut buffer)?;
        let action = if count == 0 { Action::Commit } else { Action::Write };
        let sent = sender.send(message(action, offset, buffer[..count].to_vec())).await;
        sent.map_err(|_| gone())?;
        offset += i64::try_from(count).unwrap_or(i64::MAX);
        match answers.message().await {
            Ok(Some(_)) if count == 0 => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => return Err(gone()),
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status) => return Err(said(&status)),
        }
    }
}

/// Leaves out what a store has from an earlier attempt.
fn skip(from: &mut dyn BlobSource, mut count: u64) -> Result<(), String> {
    let mut buffer = vec![0; PIECE];
    while count > 0 {
        let most = usize::try_from(count).unwrap_or(PIECE).min(PIECE);
        match from.give(&mut buffer[..most])? {
            0 => return Err("the client has more of a blob than there is".to_owned()),
            read => count -= read as u64,
        }
    }
    Ok(())
}

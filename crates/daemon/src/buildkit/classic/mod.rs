//! `POST /build?version=2`: how clients ask for BuildKit that do not know `/grpc`, such as `docker build` without the
//! `buildx` plugin. Such a build is one of the Dockerfile's frontend; its context comes over the client's session, with the
//! request or with another one; what happens is told in lines of JSON.

mod request;
mod uploads;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use hyper::StatusCode;
use prost::Message;
use tonic::Status;
use wharf_api::JsonMessage;
use wharf_engine::build::ClassicOptions;
use wharf_engine::{ByteSender, ByteStream, Error, Result};

use super::export::{self, Response};
use super::progress::Progress;
use super::session::Given;
use super::solve::Wanted;
use super::{BuildKit, run, session_stands};
use crate::http::answer::{self, Answer, JSON};
use crate::http::body::AnswerBody;

pub(crate) use request::Output;
pub(super) use uploads::Uploads;

/// The remote context of a build whose archive comes with another request.
const UPLOAD: &str = "upload-request";

/// What such a request says.
#[derive(Debug)]
pub(crate) struct Classic {
    pub(crate) options: ClassicOptions,
    /// The session of its client; empty: it has none.
    pub(crate) session: String,
    /// What comes out instead of an image.
    pub(crate) outputs: Vec<Output>,
}

/// Builds as a request asks, or hands its body to the build that waits for it.
///
/// # Errors
/// What can be said before the build begins; later it is told in the answer.
pub(crate) async fn classic(state: Arc<BuildKit>, asked: Classic, body: ByteStream) -> Result<Answer> {
    let id = asked.options.build_id.clone();
    if let Some(id) = id.strip_prefix(UPLOAD).and_then(|rest| rest.strip_prefix(':')) {
        state.uploads.give(id, body).await?;
        return Ok(answer::typed(StatusCode::OK, JSON, AnswerBody::Empty));
    }
    let request = request::solve(&asked)?;
    let given = match asked.options.remote.as_str() {
        "" => Some(Given { body, read: None }),
        UPLOAD => Some(state.uploads.take(&id).await?),
        _ => None,
    };
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(build(state, request, given, id, asked.options.quiet, sender));
    answer::checked_stream(JSON, stream).await
}

/// Builds and tells; who does not listen any more gives up.
async fn build(
    state: Arc<BuildKit>,
    request: SolveRequest,
    given: Option<Given>,
    id: String,
    quiet: bool,
    sender: ByteSender,
) {
    if !request.session.is_empty() {
        // A client that hears of the end before it serves its session never ends.
        session_stands(&state, &request.session).await;
    }
    let wanted = match state.solves.begin(&state, request).await {
        Ok(wanted) => wanted,
        Err(status) => return sender.fail(Error::internal(status.message())).await,
    };
    let solving = wanted.solving.clone();
    if let Some(given) = given {
        solving.asked.give(&solving.request.r#ref, given);
    }
    let _cancelable = state.engine.builds.cancelable(&id, &solving.cancel);
    let ended = async {
        let built = made(&state, wanted);
        if quiet { built.await } else { tokio::join!(built, tell(&solving.progress, &sender)).0 }
    };
    let done = tokio::select! {
        done = ended => done,
        // What builds is dropped, which ends it.
        () = sender.closed() => return,
    };
    if quiet && done.is_err() {
        tell(&solving.progress, &sender).await;
    }
    if let Some(last) = last_word(&done, quiet) {
        // Nobody is left to tell when the reader went away.
        let _gone = sender.message(&last).await;
    }
}

async fn made(state: &Arc<BuildKit>, wanted: Wanted) -> Result<Response, Status> {
    export::announce(&wanted.solving);
    let done = run::run(state, &wanted.solving).await;
    wanted.ended(&done);
    done
}

/// Tells what happens in a build, from its beginning to its end.
async fn tell(progress: &Progress, sender: &ByteSender) {
    let mut seen = 0;
    while let Some(message) = progress.next(&mut seen).await {
        let trace = STANDARD.encode(message.encode_to_vec());
        let trace = JsonMessage { id: "moby.buildkit.trace".to_owned(), ..JsonMessage::aux(trace.into()) };
        if sender.message(&trace).await.is_err() {
            return;
        }
    }
}

/// What ends the answer: the image, if there is one, or why there is none.
fn last_word(done: &Result<Response, Status>, quiet: bool) -> Option<JsonMessage> {
    let response = match done {
        Ok(response) => response,
        Err(status) => return Some(JsonMessage::error(status.message())),
    };
    let image = response.get("containerimage.config.digest").or(response.get("containerimage.digest"));
    if quiet {
        let image = image.map_or("", String::as_str);
        return Some(JsonMessage::stream(format!("{image}\n")));
    }
    let aux = JsonMessage::aux(serde_json::json!({ "ID": image? }));
    Some(JsonMessage { id: "moby.image.id".to_owned(), ..aux })
}

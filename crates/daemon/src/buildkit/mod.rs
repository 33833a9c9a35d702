//! BuildKit's API: what `buildx` and Compose speak on `/grpc` and `/session`.
//!
//! A client opens `/grpc` and calls [`control`]: `Solve` names a build, `Status` follows it. Beside it stands a session,
//! over which this side calls the client: for its files, secrets, credentials. A client that leads its build itself, as
//! `buildx` does, sends an empty `Solve` and goes through [`gateway`] until it returns a result, which is then exported.
//!
//! invariant: nothing here knows how a build is run; that is `wharf_engine::build`.

mod attachment;
mod attributes;
mod cache;
mod capability;
mod classic;
mod container;
mod control;
mod error;
mod export;
mod foreign;
mod frontend;
mod gateway;
mod history;
mod llb;
mod progress;
mod run;
mod serve;
mod session;
mod solve;
mod subrequest;
mod tunnel;
mod usage;
mod wire;
mod worker;

use std::sync::Arc;

use wharf_engine::build::mirror::Mirrors;
use wharf_engine::{Engine, Error, Result};

use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::http::hijack::Takeover;

pub(crate) use classic::{Classic, classic};

/// What all clients of the API share.
#[derive(Debug)]
pub(crate) struct BuildKit {
    engine: Arc<Engine>,
    mirrors: Arc<Mirrors>,
    sessions: session::Sessions,
    solves: solve::Solves,
    uploads: classic::Uploads,
    history: history::History,
}

impl BuildKit {
    /// The API in front of `engine`.
    ///
    /// # Errors
    /// When the records of earlier builds cannot be read.
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Self> {
        let mirrors = engine.builds.mirrors().clone();
        let history = history::History::open(engine.config.data_root.join("build").join("history"))?;
        Ok(Self {
            engine,
            mirrors,
            sessions: session::Sessions::default(),
            solves: solve::Solves::default(),
            uploads: classic::Uploads::default(),
            history,
        })
    }
}

/// `POST /grpc`.
pub(crate) async fn grpc(call: Call) -> Result<Answer> {
    check(&call)?;
    let state = call.app.buildkit.clone();
    let takeover = Takeover::raw(wire::head("h2c"), |client| serve::serve(wire::Ahead::from(client), state));
    match call.take_over(takeover).await {}
}

/// Waits until a client serves its session, for a while at most.
pub(crate) async fn session_stands(state: &BuildKit, id: &str) {
    if let Some(session) = state.sessions.find(id).await {
        session.answers().await;
    }
}

/// `POST /session`.
pub(crate) async fn session(call: Call) -> Result<Answer> {
    check(&call)?;
    let state = call.app.buildkit.clone();
    let about = session::About::from_headers(&call.headers)?;
    let takeover = Takeover::raw(wire::head("h2c"), |client| async move {
        state.sessions.run(about, wire::Ahead::from(client)).await;
    });
    match call.take_over(takeover).await {}
}

fn check(call: &Call) -> Result<()> {
    if !call.wants_upgrade() {
        return Err(Error::invalid("no upgrade proto in request"));
    }
    match call.header("upgrade") {
        "h2c" => Ok(()),
        other => Err(Error::invalid(format!("protocol {other} not supported"))),
    }
}

/// Reads bytes as a definition and makes a graph of it, with an image for whatever it names.
///
/// # Errors
/// In words for the user.
pub fn fuzz_definition(bytes: &[u8]) -> std::result::Result<usize, String> {
    llb::fuzz(bytes)
}

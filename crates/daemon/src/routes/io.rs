//! Connections handed to a container's streams: attach, exec start, and attach over a WebSocket.

use std::os::fd::OwnedFd;

use wharf_api::ExecStartRequest;
use wharf_engine::container::attach::{AttachOptions, AttachTicket};
use wharf_engine::{Error, Result};

use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::hijack::{Client, Head, Takeover};
use crate::http::websocket;

/// The longest body that is read and forgotten before an attach, in bytes. Some clients send their options there.
const IGNORED: usize = 64 * 1024;

pub(crate) async fn attach(mut call: Call) -> Result<Answer> {
    if call.body_length() != Some(0) {
        call.bytes(IGNORED).await?;
    }
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: detach_keys(&call),
        raw: false,
    };
    let takeover = match call.engine().containers.attach(call.id(), &options) {
        Ok(ticket) => {
            let head = Head {
                upgrade: call.wants_upgrade(),
                multiplexed: !ticket.tty() && call.version.at_least(42),
            };
            Takeover::stream(head, "", move |client| connect(client, |fd, ahead| ticket.hand_over(fd, ahead)))
        }
        Err(error) => Takeover::failure(&error),
    };
    match call.take_over(takeover).await {}
}

pub(crate) async fn attach_websocket(call: Call) -> Result<Answer> {
    let key = call.header("sec-websocket-key").to_owned();
    let query = &call.query;
    // Before 1.42 there were no flags, and all streams were meant.
    let chosen = |name: &str| if call.version.at_least(42) { query.flag(name) } else { true };
    let options = AttachOptions {
        stdin: chosen("stdin"),
        stdout: chosen("stdout"),
        stderr: chosen("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: detach_keys(&call),
        raw: true,
    };
    let engine = call.engine();
    engine.containers.find(call.id())?;
    if key.is_empty() || !call.header("upgrade").eq_ignore_ascii_case("websocket") {
        return Err(Error::invalid("not a WebSocket handshake"));
    }
    let ticket = engine.containers.attach(call.id(), &options)?;
    let binary = call.version.at_least(28);
    let takeover =
        Takeover::raw(websocket::head(&key), move |client| serve_websocket(client, ticket, binary));
    match call.take_over(takeover).await {}
}

pub(crate) async fn start_exec(mut call: Call) -> Result<Answer> {
    let mut start: ExecStartRequest = call.json().await?;
    if !call.version.at_least(42) || !start.tty {
        start.console_size = None;
    }
    let execs = call.engine().execs.clone();
    if start.detach {
        let id = call.id().to_owned();
        let started = tokio::spawn(async move { execs.start_detached(&id, &start).await }).await;
        started.unwrap_or_else(|error| Err(Error::internal(format!("start an exec: {error}"))))?;
        return Ok(answer::empty(hyper::StatusCode::OK));
    }
    let ticket = execs.start(call.id(), start)?;
    let head =
        Head { upgrade: call.wants_upgrade(), multiplexed: !ticket.tty() && call.version.at_least(42) };
    let takeover = Takeover::stream(head, &call.app.header_lines(), move |client| {
        connect(client, |fd, ahead| ticket.hand_over(fd, ahead))
    });
    match call.take_over(takeover).await {}
}

fn detach_keys(call: &Call) -> Option<String> {
    Some(call.query.get("detachKeys").to_owned()).filter(|keys| !keys.is_empty())
}

/// Gives a connection to the engine. The head is out, so that a failure can only be logged; where the engine has
/// something to tell the client, it does so in the stream.
async fn connect<F>(client: Client, hand_over: impl FnOnce(OwnedFd, Vec<u8>) -> F)
where
    F: Future<Output = Result<()>>,
{
    let handed = match client.into_fd() {
        Ok((fd, ahead)) => hand_over(fd, ahead).await,
        Err(error) => Err(Error::io("hand over a connection", &error)),
    };
    if let Err(error) = handed {
        tracing::warn!("{error}");
    }
}

async fn serve_websocket(client: Client, ticket: AttachTicket, binary: bool) {
    let pair = || -> std::io::Result<_> {
        let (ours, theirs) = tokio::net::UnixStream::pair()?;
        Ok((ours, OwnedFd::from(theirs.into_std()?)))
    };
    let (ours, theirs) = match pair() {
        Ok(pair) => pair,
        Err(error) => return tracing::warn!("serve a WebSocket: {error}"),
    };
    match ticket.hand_over(theirs, Vec::new()).await {
        Ok(()) => websocket::bridge(client, ours, binary).await,
        Err(error) => tracing::warn!("{error}"),
    }
}

//! Connections to the daemon that turn from HTTP/1.1 into gRPC.

use std::pin::Pin;

use hyper_util::rt::TokioIo;
use wharf_api::client::{Client, Connection};
use wharf_api::rpc::Caller;

use crate::error::CliError;

/// Turns a connection to the daemon into gRPC at `path`, where `headers` say for what.
///
/// # Errors
/// When the daemon cannot be reached or does not build in this way.
pub(super) async fn upgrade(
    client: &Client,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Pin<Box<dyn Connection>>, CliError> {
    let mut all = vec![("Connection", "Upgrade"), ("Upgrade", "h2c")];
    all.extend(headers);
    let answer = client.send(hyper::Method::POST, path, wharf_api::client::Body::Empty, &all).await?;
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Err(CliError::new(format!(
            "unable to upgrade to h2c, received {}",
            answer.status().as_u16()
        )));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| CliError::new(error.to_string()))?;
    Ok(Box::pin(TokioIo::new(upgraded)))
}

/// Begins to call the daemon over such a connection.
///
/// # Errors
/// When the daemon does not speak HTTP/2 there.
pub(super) async fn caller(stream: Pin<Box<dyn Connection>>) -> Result<Caller, CliError> {
    let (caller, connection) =
        Caller::connect(stream).await.map_err(|error| CliError::new(error.to_string()))?;
    // Its end is seen by the calls over it.
    tokio::spawn(connection);
    Ok(caller)
}

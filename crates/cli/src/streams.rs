//! An attached connection and the caller's standard streams: both ways, frames taken apart, half-close.

use std::io::Write;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use wharf_api::client::Connection;

use crate::detach::Keys;
use crate::error::CliError;

type Hijacked = Pin<Box<dyn Connection>>;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The daemon ended it.
    Streams,
    /// The caller typed the detach sequence.
    Detached,
}

/// Carries the streams until the daemon ends the connection or the caller detaches. `input` says whether standard
/// input is sent; `tty` whether it is a terminal's, whose detach sequence is looked for, and whose output has no frames.
pub(crate) async fn carry(
    connection: Hijacked,
    input: bool,
    tty: bool,
    keys: Keys,
) -> Result<Ended, CliError> {
    let (reader, writer) = tokio::io::split(connection);
    let (detach, mut detached) = tokio::sync::oneshot::channel();
    // Standard input must not hold the end back: the process may be over while the caller types nothing.
    let sender = tokio::spawn(async move {
        match (input, tty) {
            (true, true) => type_in(writer, keys, detach).await,
            (true, false) => send(writer).await,
            _ => hold(writer).await,
        }
    });
    let output = async { if tty { copy(reader).await } else { unframe(reader).await } };
    let outcome = tokio::select! {
        outcome = output => outcome.map(|()| Ended::Streams),
        Ok(()) = &mut detached => Ok(Ended::Detached),
    };
    sender.abort();
    outcome
}

/// Standard input to the daemon, then the half-close that tells it is over.
async fn send(mut writer: WriteHalf<Hijacked>) {
    let mut input = tokio::io::stdin();
    let _ = tokio::io::copy(&mut input, &mut writer).await;
    let _ = writer.shutdown().await;
    hold(writer).await;
}

/// What is typed to the daemon, until the detach sequence.
async fn type_in(mut writer: WriteHalf<Hijacked>, mut keys: Keys, detach: tokio::sync::oneshot::Sender<()>) {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = input.read(&mut buffer).await {
        let (typed, complete) = keys.feed(&buffer[..count]);
        if writer.write_all(&typed).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        if complete {
            let _ = detach.send(());
            return hold(writer).await;
        }
    }
    let _ = writer.shutdown().await;
    hold(writer).await;
}

/// Keeps the connection's other half open.
async fn hold(writer: WriteHalf<Hijacked>) {
    std::future::pending::<()>().await;
    drop(writer);
}

async fn copy(mut reader: ReadHalf<Hijacked>) -> Result<(), CliError> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut out = std::io::stdout();
        out.write_all(&buffer[..count])?;
        out.flush()?;
    }
}

/// Takes Docker's frames apart: an eight-byte header (stream, three zeros, length) and the payload.
pub(crate) async fn unframe(mut reader: impl AsyncRead + Unpin) -> Result<(), CliError> {
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 8];
        if reader.read_exact(&mut header).await.is_err() {
            return Ok(());
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        payload.resize(length, 0);
        reader.read_exact(&mut payload).await?;
        match header[0] {
            2 => {
                let mut err = std::io::stderr();
                err.write_all(&payload)?;
            }
            3 => {
                return Err(CliError::new(format!(
                    "error from daemon in stream: {}",
                    String::from_utf8_lossy(&payload)
                )));
            }
            _ => {
                let mut out = std::io::stdout();
                out.write_all(&payload)?;
                out.flush()?;
            }
        }
    }
}

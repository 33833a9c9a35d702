//! An attached connection and the caller's standard streams: both ways, frames taken apart, half-close.

use std::io::Write;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use wharf_api::client::Connection;

use crate::error::CliError;

type Hijacked = Pin<Box<dyn Connection>>;

/// Carries the streams until the daemon ends the connection. `input` says whether standard input is sent;
/// `framed` whether the daemon's bytes are in frames (no terminal).
pub(crate) async fn carry(connection: Hijacked, input: bool, framed: bool) -> Result<(), CliError> {
    let (reader, writer) = tokio::io::split(connection);
    // Standard input must not hold the end back: the process may be over while the caller types nothing.
    let sender = tokio::spawn(async move { if input { send(writer).await } else { hold(writer).await } });
    let outcome = if framed { unframe(reader).await } else { copy(reader).await };
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
            3 => return Err(CliError::new(format!("error from daemon in stream: {}", String::from_utf8_lossy(&payload)))),
            _ => {
                let mut out = std::io::stdout();
                out.write_all(&payload)?;
                out.flush()?;
            }
        }
    }
}

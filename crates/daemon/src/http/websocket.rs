//! The WebSocket end of an attach (RFC 6455): frames on the client's side, bytes on the engine's.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http::hijack::Client;
use crate::listen::Socket;

/// The longest message taken from a client, in bytes.
const LIMIT: u64 = 1 << 20;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The head that accepts a client's `Sec-WebSocket-Key`.
pub(crate) fn head(key: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
    .into_bytes()
}

/// Copies between a client and the engine's end of a pair. `binary`: messages are binary, else text.
pub(crate) async fn bridge(client: Client, engine: UnixStream, binary: bool) {
    let (client_read, client_write) = tokio::io::split(client.socket);
    let (engine_read, engine_write) = tokio::io::split(engine);
    let (controls, pending) = tokio::sync::mpsc::channel(8);
    let inward = inward(client_read, BytesMut::from(&client.read_ahead[..]), engine_write, controls);
    let outward = outward(engine_read, client_write, pending, if binary { BINARY } else { TEXT });
    let ended = tokio::select! {
        ended = outward => ended,
        Err(error) = inward => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!("serve a WebSocket: {error}");
    }
}

/// From the client to the engine, until the client closes. Then nothing more: the other half ends the connection.
async fn inward(
    mut client: ReadHalf<Socket>,
    mut buffer: BytesMut,
    mut engine: WriteHalf<UnixStream>,
    controls: tokio::sync::mpsc::Sender<(u8, Vec<u8>)>,
) -> io::Result<()> {
    loop {
        let Some((opcode, payload)) = next_frame(&mut client, &mut buffer).await? else {
            engine.shutdown().await?;
            return Ok(());
        };
        match opcode {
            CLOSE => {
                // The other half answers the close; it ends when the engine's end does.
                let _ = controls.send((CLOSE, payload)).await;
                engine.shutdown().await?;
                return Ok(());
            }
            PING => drop(controls.send((PONG, payload)).await),
            PONG => {}
            _ => engine.write_all(&payload).await?,
        }
    }
}

/// From the engine to the client, with answers to its control frames in between.
async fn outward(
    mut engine: ReadHalf<UnixStream>,
    mut client: WriteHalf<Socket>,
    mut controls: tokio::sync::mpsc::Receiver<(u8, Vec<u8>)>,
    opcode: u8,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    let mut listening = true;
    loop {
        tokio::select! {
            control = controls.recv(), if listening => match control {
                Some((kind, payload)) => client.write_all(&frame(kind, &payload)).await?,
                None => listening = false,
            },
            read = engine.read(&mut buffer) => {
                let length = read?;
                if length == 0 {
                    client.write_all(&frame(CLOSE, &1000_u16.to_be_bytes())).await?;
                    return client.shutdown().await;
                }
                client.write_all(&frame(opcode, &buffer[..length])).await?;
            }
        }
    }
}

/// A frame as servers send it: whole and not masked.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..65536 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// The next frame of a client; `None` at the end of its side.
async fn next_frame(
    client: &mut ReadHalf<Socket>,
    buffer: &mut BytesMut,
) -> io::Result<Option<(u8, Vec<u8>)>> {
    loop {
        if let Some(frame) = take_frame(buffer)? {
            return Ok(Some(frame));
        }
        if client.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Takes one whole frame off the front of what was read; `None` while it is not all there.
fn take_frame(buffer: &mut BytesMut) -> io::Result<Option<(u8, Vec<u8>)>> {
    let [first, second, rest @ ..] = &buffer[..] else { return Ok(None) };
    let (opcode, masked) = (first & 0x0f, second & 0x80 != 0);
    let (length, skip) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
        (126 | 127, _) => return Ok(None),
        (length, _) => (u64::from(length), 2),
    };
    if !masked || length > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a WebSocket frame that is too long or not masked",
        ));
    }
    // Not more than LIMIT.
    let length = length as usize;
    if buffer.len() < skip + 4 + length {
        return Ok(None);
    }
    buffer.advance(skip);
    let mask = [buffer[0], buffer[1], buffer[2], buffer[3]];
    buffer.advance(4);
    let masked = buffer.split_to(length);
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some((opcode, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_is_read_however_it_is_cut() {
        // The example of RFC 6455, section 5.7: "Hello", masked.
        let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert_eq!(take_frame(&mut buffer).unwrap(), None);
            buffer.extend_from_slice(&bytes[cut..]);
            assert_eq!(take_frame(&mut buffer).unwrap(), Some((TEXT, b"Hello".to_vec())));
            assert!(buffer.is_empty());
        }
        assert!(take_frame(&mut BytesMut::from(&[0x81, 0x01, b'x'][..])).is_err());
    }

    #[test]
    fn frames_carry_their_length() {
        assert_eq!(frame(BINARY, b"ab"), [0x82, 2, b'a', b'b']);
        assert_eq!(frame(BINARY, &[0; 300])[..4], [0x82, 126, 1, 44]);
        assert_eq!(frame(BINARY, &[0; 70_000])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn the_key_is_accepted_as_the_rfc_says() {
        let head = String::from_utf8(head("dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    }
}

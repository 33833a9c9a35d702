//! Connections that stop being HTTP: attach, exec start and WebSockets.
//!
//! Docker answers these on the bare connection, both when the client asked for an upgrade (101) and when it did
//! not (a 200 that no HTTP library would send: neither length nor chunks). So the connection is taken out of the
//! HTTP library's hands and the head is written here, byte for byte.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use wharf_engine::Error;

use crate::http::answer::RAW;
use crate::http::status;
use crate::listen::Socket;

type Then = Box<dyn FnOnce(Client) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What becomes of a connection that leaves HTTP.
pub(crate) struct Takeover {
    head: Vec<u8>,
    then: Option<Then>,
}

impl fmt::Debug for Takeover {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Takeover")
            .field("head", &String::from_utf8_lossy(&self.head))
            .finish_non_exhaustive()
    }
}

/// A connection that left HTTP.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: Socket,
    /// What the client sent behind its request already.
    pub(crate) read_ahead: Bytes,
}

/// Which head a stream begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The client asked for an upgrade.
    pub(crate) upgrade: bool,
    /// The streams are framed, and the client knows to ask for that by content type.
    pub(crate) multiplexed: bool,
}

impl Head {
    /// The bytes; `headers` are those that every answer carries.
    fn bytes(self, headers: &str) -> Vec<u8> {
        let content_type =
            if self.multiplexed && self.upgrade { crate::http::answer::MULTIPLEXED } else { RAW };
        let head = if self.upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n")
        };
        format!("{head}{headers}\r\n").into_bytes()
    }
}

impl Takeover {
    /// Sends a head, then gives the connection to `then`.
    pub(crate) fn stream<F>(
        head: Head,
        headers: &str,
        then: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::raw(head.bytes(headers), then)
    }

    /// Sends `head` as it is, then gives the connection to `then`.
    pub(crate) fn raw<F>(head: Vec<u8>, then: impl FnOnce(Client) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { head, then: Some(Box::new(|client| Box::pin(then(client)))) }
    }

    /// Answers an attach that failed, as Docker does: on the bare connection, as plain text.
    pub(crate) fn failure(error: &Error) -> Self {
        let code: StatusCode = status::of(error.kind());
        let reason = code.canonical_reason().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {RAW}\r\n\r\n{}\r\n",
            code.as_u16(),
            error.message()
        );
        Self { head: head.into_bytes(), then: None }
    }

    /// Takes the connection.
    pub(crate) async fn run(self, mut client: Client) {
        if let Err(error) = client.socket.write_all(&self.head).await {
            tracing::debug!("answer a hijacked connection: {error}");
            return;
        }
        match self.then {
            Some(then) => then(client).await,
            // Closing tells the client that this is all; nothing more can be done about one that is gone.
            None => drop(client.socket.shutdown().await),
        }
    }
}

impl Client {
    /// The connection as a socket of the kernel's and what was read ahead from it. TLS ends here: its plain side
    /// is one end of a pair, between which and the client bytes are copied.
    pub(crate) fn into_fd(self) -> std::io::Result<(OwnedFd, Vec<u8>)> {
        let ahead = self.read_ahead.to_vec();
        let fd = match self.socket {
            Socket::Unix(socket) => OwnedFd::from(socket.into_std()?),
            Socket::Tcp(socket) => OwnedFd::from(socket.into_std()?),
            Socket::Tls(mut socket) => {
                let (ours, theirs) = tokio::net::UnixStream::pair()?;
                tokio::spawn(async move {
                    let mut ours = ours;
                    if let Err(error) = tokio::io::copy_bidirectional(&mut *socket, &mut ours).await {
                        tracing::debug!("copy a hijacked TLS connection: {error}");
                    }
                });
                OwnedFd::from(theirs.into_std()?)
            }
        };
        Ok((fd, ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_dockers_byte_for_byte() {
        let head = |upgrade, multiplexed| {
            String::from_utf8(Head { upgrade, multiplexed }.bytes("A: b\r\n")).unwrap()
        };
        assert_eq!(
            head(true, true),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\n\
             Upgrade: tcp\r\nA: b\r\n\r\n"
        );
        assert_eq!(
            head(false, true),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nA: b\r\n\r\n"
        );
        let failure = Takeover::failure(&Error::not_found("No such container: x"));
        assert_eq!(
            String::from_utf8(failure.head).unwrap(),
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nNo such container: x\r\n"
        );
    }
}

//! Where clients come in: sockets of the file system, TCP with and without TLS, sockets handed over by systemd.

mod activation;
mod address;
mod bind;
mod tls;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) use activation::notify;
pub(crate) use address::Address;
pub(crate) use bind::{Access, bind};
pub(crate) use tls::{Tls, acceptor};

/// A socket that clients connect to.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(listener) => listener.fmt(out),
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.fmt(out),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The user and group of who connected; not known of other machines.
    pub(crate) fn caller(&self) -> Option<(u32, u32)> {
        match self {
            Self::Unix(socket) => socket.peer_cred().ok().map(|peer| (peer.uid(), peer.gid())),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }
}

/// A connection whose TLS handshake has still to be made, which must not hold up others.
pub(crate) enum Incoming {
    Plain(Socket),
    Tls(TcpStream, TlsAcceptor),
}

impl Incoming {
    /// The connection, once its handshake is made.
    pub(crate) async fn established(self) -> io::Result<Socket> {
        match self {
            Self::Plain(socket) => Ok(socket),
            Self::Tls(stream, acceptor) => {
                let handshake =
                    tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream));
                handshake.await?.map(|stream| Socket::Tls(Box::new(stream)))
            }
        }
    }
}

impl Listener {
    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Unix(listener) => Ok(Incoming::Plain(Socket::Unix(listener.accept().await?.0))),
            Self::Tcp(listener) => Ok(Incoming::Plain(Socket::Tcp(no_delay(listener.accept().await?.0)?))),
            Self::Tls(listener, acceptor) => {
                Ok(Incoming::Tls(no_delay(listener.accept().await?.0)?, acceptor.clone()))
            }
        }
    }
}

fn no_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

macro_rules! delegate {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Socket::Unix(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Tcp(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Tls(socket) => Pin::new(&mut **socket).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(context))
    }
}

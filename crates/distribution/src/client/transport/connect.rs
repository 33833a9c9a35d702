//! One connection: address by address, through a proxy or not, with TLS or not.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::proxy::{Proxies, Proxy};
use super::resolve::Resolver;
use super::tls::{Tls, Trust};
use super::url::{Origin, Scheme};
use super::words;
use crate::client::config::Patience;
use crate::client::error::TransportError;

/// How long an address may take before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
/// A proxy's answer to CONNECT is a few lines.
const PROXY_HEAD_LIMIT: usize = 16 << 10;

/// A connection's bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection on which requests can be sent.
pub(crate) struct Connected {
    pub(crate) io: Box<dyn Io>,
    /// The proxy that wants to see whole addresses: plain HTTP through one.
    pub(crate) forwarder: Option<Proxy>,
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) resolver: Resolver,
    pub(crate) proxies: Proxies,
    pub(crate) tls: Tls,
    pub(crate) patience: Patience,
    pub(crate) user_agent: String,
}

impl Connector {
    /// Connects to `origin`. Unless `local`, addresses of this host and its links are not gone to: a registry elsewhere has
    /// no business to send anybody there.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        trust: &Trust,
        local: bool,
    ) -> Result<Connected, TransportError> {
        let Some(proxy) = self.proxies.for_origin(origin) else {
            let io: Box<dyn Io> = Box::new(self.dial(origin, local).await?);
            let io = if origin.scheme == Scheme::Https { self.secure(io, origin, trust).await? } else { io };
            return Ok(Connected { io, forwarder: None });
        };
        if origin.ip().is_some_and(|ip| !local && is_local(ip)) {
            return Err(forbidden(origin));
        }
        let io = self.reach_proxy(proxy).await?;
        match origin.scheme {
            Scheme::Http => Ok(Connected { io, forwarder: Some(proxy.clone()) }),
            Scheme::Https => {
                let io = timeout(self.patience.answer, self.tunnel(io, origin, proxy))
                    .await
                    .map_err(|_| TransportError::Proxy("i/o timeout".to_owned()))??;
                Ok(Connected { io: self.secure(io, origin, trust).await?, forwarder: None })
            }
        }
    }

    async fn reach_proxy(&self, proxy: &Proxy) -> Result<Box<dyn Io>, TransportError> {
        let origin = &proxy.url.origin;
        let failed = |error: TransportError| TransportError::Proxy(error.to_string());
        let io: Box<dyn Io> = Box::new(self.dial(origin, true).await.map_err(failed)?);
        if origin.scheme == Scheme::Http {
            return Ok(io);
        }
        let trust = Trust { registry: origin.authority(), insecure: false, identify: true };
        self.secure(io, origin, &trust).await.map_err(failed)
    }

    /// Asks a proxy for a tunnel (RFC 9110, 9.3.6).
    async fn tunnel(
        &self,
        mut io: Box<dyn Io>,
        origin: &Origin,
        proxy: &Proxy,
    ) -> Result<Box<dyn Io>, TransportError> {
        let address = origin.address();
        let mut request = format!(
            "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {}\r\n",
            self.user_agent.replace(['\r', '\n'], " ")
        );
        if let Some(authorization) = &proxy.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        io.write_all(request.as_bytes()).await.map_err(|error| words::of_io(&error))?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head belongs to the session.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > PROXY_HEAD_LIMIT {
                return Err(TransportError::Proxy("answer to CONNECT is too long".to_owned()));
            }
            head.push(io.read_u8().await.map_err(|error| words::of_io(&error))?);
        }
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let (version, status) = line.split_once(' ').unwrap_or((&line, ""));
        if version.starts_with("HTTP/1.") && status.starts_with("200") {
            return Ok(io);
        }
        Err(TransportError::Proxy(status.trim().to_owned()))
    }

    async fn dial(&self, origin: &Origin, local: bool) -> Result<TcpStream, TransportError> {
        let mut addresses = self.resolver.lookup(&origin.host).await?;
        if !local {
            addresses.retain(|address| !is_local(*address));
            if addresses.is_empty() {
                return Err(forbidden(origin));
            }
        }
        let addresses = interleave(addresses).into_iter().map(|ip| SocketAddr::new(ip, origin.port));
        match timeout(self.patience.connect, race(addresses.collect())).await {
            Ok(connected) => connected,
            Err(_) => Err(TransportError::Dial { address: origin.address(), text: "i/o timeout".to_owned() }),
        }
    }

    async fn secure(
        &self,
        io: Box<dyn Io>,
        origin: &Origin,
        trust: &Trust,
    ) -> Result<Box<dyn Io>, TransportError> {
        let config = self.tls.config(trust).await.map_err(TransportError::Tls)?;
        let name = ServerName::try_from(origin.host.trim_end_matches('.').to_owned())
            .map_err(|_| TransportError::Tls(format!("tls: invalid server name {:?}", origin.host)))?;
        let first = FirstBytes { io, seen: Vec::new() };
        let session = TlsConnector::from(config).connect(name, first).into_fallible();
        match timeout(self.patience.handshake, session).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err((_, first))) if first.seen == b"HTTP/" => Err(TransportError::PlainAnswer),
            Ok(Err((error, _))) => Err(words::of_io(&error)),
            Err(_) => Err(TransportError::Timeout("net/http: TLS handshake timeout")),
        }
    }
}

fn forbidden(origin: &Origin) -> TransportError {
    TransportError::Forbidden(format!(
        "the registry pointed to {}, an address of this host or its links, which is not gone to",
        origin.address()
    ))
}

/// Addresses that mean this host or something on its links: never a registry's to name from afar.
pub(crate) fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
    }
}

/// The families by turns, beginning with that of the first address.
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let leading = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| ip.is_ipv4() == leading);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

/// The first connection that stands; each address gets a head start before the next. The error is the first one's.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, TransportError> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut failure = None;
    loop {
        let more = match waiting.next() {
            Some(address) => {
                attempts.spawn(
                    async move { TcpStream::connect(address).await.map_err(|error| (address, error)) },
                );
                waiting.len() > 0
            }
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| TransportError::Lookup("no address".to_owned())));
            }
            None => false,
        };
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(stream)) => {
                    // Requests are small and wait for answers; without it each would wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err((address, error))) => {
                    let text = format!("connect: {}", words::kernel(&error));
                    failure.get_or_insert(TransportError::Dial { address: address.to_string(), text });
                }
                Err(_) => {}
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

/// Remembers how an answer begins, to tell plain HTTP from a broken session.
struct FirstBytes {
    io: Box<dyn Io>,
    seen: Vec<u8>,
}

const FIRST: usize = 5;

impl AsyncRead for FirstBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.io).poll_read(context, buffer);
        let missing = FIRST - self.seen.len();
        if missing > 0 {
            let new = &buffer.filled()[before..];
            self.seen.extend_from_slice(&new[..new.len().min(missing)]);
        }
        done
    }
}

impl AsyncWrite for FirstBytes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mixed = interleave(vec![ip("1.1.1.1"), ip("1.1.1.2"), ip("::1"), ip("1.1.1.3")]);
        assert_eq!(mixed, [ip("1.1.1.1"), ip("::1"), ip("1.1.1.2"), ip("1.1.1.3")]);
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn this_host_has_many_addresses() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "169.254.169.254",
            "0.0.0.0",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_local(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(!is_local(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn the_address_that_answers_wins() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Discard's port, where nothing listens.
        let closed = SocketAddr::from(([127, 0, 0, 1], 9));
        let stream = race(vec![closed, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = race(vec![closed]).await.unwrap_err();
        assert_eq!(error.to_string(), "dial tcp 127.0.0.1:9: connect: connection refused");
    }
}

//! Connections that can be used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};

use super::body::Outgoing;
use super::connect::Connector;
use super::proxy::Proxy;
use super::tls::Trust;
use super::url::Origin;
use super::words;
use crate::client::error::TransportError;

/// Long enough for the requests of one pull, short enough that an idle engine holds nothing.
const IDLE_TIME: Duration = Duration::from_secs(2);
const IDLE_LIMIT: usize = 8;
/// Heads are a few hundred bytes; what CDNs add is a few thousand.
const HEADER_LIMIT: usize = 128;
const HEAD_LIMIT: usize = 64 << 10;

/// Connections are used again only for the very same purpose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Via {
    pub(crate) origin: Origin,
    pub(crate) trust: Trust,
    /// Whether addresses of this host may be gone to.
    pub(crate) local: bool,
}

struct Idle {
    sender: SendRequest<Outgoing>,
    forwarder: Option<Arc<Proxy>>,
    since: Instant,
}

/// Connections and how to make more.
pub(crate) struct Pool {
    connector: Connector,
    idle: Mutex<HashMap<Via, Vec<Idle>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.connector.fmt(f)
    }
}

/// A connection in use. Given back with [`Lease::release`], else closed.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Outgoing>,
    pub(crate) forwarder: Option<Arc<Proxy>>,
    /// Whether it was used before: it may be closed by now, and nobody is to blame.
    pub(crate) reused: bool,
    via: Via,
    pool: Weak<Pool>,
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self { connector, idle: Mutex::default() })
    }

    pub(crate) const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A connection for `via`; a new one when `fresh`.
    pub(crate) async fn lease(self: &Arc<Self>, via: &Via, fresh: bool) -> Result<Lease, TransportError> {
        while let Some(mut idle) = (!fresh).then(|| self.take(via)).flatten() {
            if matches!(timeout(Duration::from_secs(1), idle.sender.ready()).await, Ok(Ok(()))) {
                return Ok(self.leased(via, idle.sender, idle.forwarder, true));
            }
        }
        let connected = self.connector.connect(&via.origin, &via.trust, via.local).await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADER_LIMIT).max_header_size(HEAD_LIMIT);
        let (sender, connection) =
            builder.handshake(TokioIo::new(connected.io)).await.map_err(|error| words::of_hyper(&error))?;
        tokio::spawn(async move {
            // Whoever waits for an answer gets the error too.
            let _ = connection.await;
        });
        Ok(self.leased(via, sender, connected.forwarder.map(Arc::new), false))
    }

    fn leased(
        self: &Arc<Self>,
        via: &Via,
        sender: SendRequest<Outgoing>,
        forwarder: Option<Arc<Proxy>>,
        reused: bool,
    ) -> Lease {
        Lease { sender, forwarder, reused, via: via.clone(), pool: Arc::downgrade(self) }
    }

    fn take(&self, via: &Via) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(via)?;
        let taken = list.pop();
        if list.is_empty() {
            idle.remove(via);
        }
        taken
    }

    fn give(self: &Arc<Self>, via: Via, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let first = idle.is_empty();
        let list = idle.entry(via).or_default();
        if list.len() < IDLE_LIMIT {
            list.push(connection);
        }
        if first {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    /// Closes what was not used for long; tells whether anything is left.
    fn expire(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, list| {
            list.retain(|idle| idle.since.elapsed() < IDLE_TIME && !idle.sender.is_closed());
            !list.is_empty()
        });
        !idle.is_empty()
    }
}

/// Lives as long as there are idle connections.
async fn reap(pool: Weak<Pool>) {
    loop {
        sleep(IDLE_TIME / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.expire()) {
            return;
        }
    }
}

impl Lease {
    /// Gives the connection back, its last answer having been read to the end.
    pub(crate) fn release(self) {
        if let Some(pool) = self.pool.upgrade()
            && !self.sender.is_closed()
        {
            let idle = Idle { sender: self.sender, forwarder: self.forwarder, since: Instant::now() };
            pool.give(self.via, idle);
        }
    }
}

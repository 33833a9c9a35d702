//! One request and its answer, along redirects.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use tokio::time::sleep;

use super::body::{Answer, Outgoing};
use super::connect::{Connector, is_local};
use super::pool::{Lease, Pool, Via};
use super::tls::Trust;
use super::url::{Origin, Scheme, Url};
use super::words;
use crate::client::config::Patience;
use crate::client::error::{Error, TransportError};

const REDIRECT_LIMIT: usize = 10;

/// Sends requests.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pool: Arc<Pool>,
    user_agent: HeaderValue,
}

/// How long the head of an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The registry only reads.
    Answer,
    /// The registry stores something first.
    Store,
}

/// What a request says.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) wait: Wait,
}

impl Head {
    pub(crate) const fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), wait: Wait::Answer }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request on behalf of a registry.
pub(crate) struct Exchange<'a> {
    pub(crate) head: Head,
    /// The registry: what of the request is secret is for it alone.
    pub(crate) home: &'a Origin,
    /// Whose request it is when it goes elsewhere from the start: a token server gets what is meant for it.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) insecure: bool,
    /// Whose `certs.d` counts.
    pub(crate) registry: &'a str,
    /// Whether the registry is on this host, and may name addresses of it.
    pub(crate) local: bool,
}

impl Transport {
    pub(crate) fn new(connector: Connector) -> Result<Self, String> {
        let user_agent = HeaderValue::from_str(&connector.user_agent)
            .map_err(|_| format!("user agent {:?} cannot be sent", connector.user_agent))?;
        Ok(Self { pool: Pool::new(connector), user_agent })
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.pool.connector().patience
    }

    /// The addresses of a registry's host; none when a proxy is asked for it or nobody knows.
    pub(crate) async fn addresses(&self, origin: &Origin) -> Vec<std::net::IpAddr> {
        let connector = self.pool.connector();
        if let Some(ip) = origin.ip() {
            return vec![ip];
        }
        if connector.proxies.for_origin(origin).is_some() {
            return Vec::new();
        }
        connector.resolver.lookup(&origin.host).await.unwrap_or_default()
    }

    /// Sends the request; follows redirects where no body would have to be sent again.
    ///
    /// # Errors
    /// [`Error::Request`] when there is no answer. An answer of any status is none.
    pub(crate) async fn send(&self, exchange: Exchange<'_>, body: Outgoing) -> Result<Answer, Error> {
        let asked = exchange.head.url.origin.clone();
        let mut head = exchange.head.clone();
        let mut body = body;
        for _ in 0..=REDIRECT_LIMIT {
            let again = body.again();
            // Secrets go to whom they are meant for, and stay behind at the first step elsewhere.
            let authorization = exchange.authorization.as_ref().filter(|_| head.url.origin == asked);
            let failed = |source| failure(&head, exchange.home, source);
            let answer = self.once(&exchange, &head, authorization, body).await.map_err(failed)?;
            let Some(method) = redirected(answer.status, &head.method, again.is_some()) else {
                return Ok(answer);
            };
            let Some(location) = answer.header(LOCATION) else { return Ok(answer) };
            let url = head.url.join(location).map_err(|error| {
                failed(TransportError::Malformed(format!("failed to parse Location header: {error}")))
            })?;
            if head.url.origin.scheme == Scheme::Https && url.origin.scheme == Scheme::Http {
                let text = format!("redirect from https to http://{} refused", url.origin.address());
                return Err(failed(TransportError::Forbidden(text)));
            }
            body = if method == head.method { again.unwrap_or(Outgoing::Empty) } else { Outgoing::Empty };
            head = Head { method, url, ..head };
        }
        let text = format!("stopped after {REDIRECT_LIMIT} redirects");
        Err(failure(&head, exchange.home, TransportError::Forbidden(text)))
    }

    async fn once(
        &self,
        exchange: &Exchange<'_>,
        head: &Head,
        authorization: Option<&HeaderValue>,
        body: Outgoing,
    ) -> Result<Answer, TransportError> {
        let home = head.url.origin == *exchange.home;
        let via = Via {
            origin: head.url.origin.clone(),
            trust: Trust {
                registry: exchange.registry.to_owned(),
                insecure: exchange.insecure,
                identify: home,
            },
            local: home || exchange.local,
        };
        let again = body.again();
        let lease = self.pool.lease(&via, false).await?;
        let reused = lease.reused;
        match self.on(lease, head, authorization, body).await {
            // A registry may close an idle connection at the moment it is used.
            Err(TransportError::Closed | TransportError::Io(_)) if reused && again.is_some() => {
                let lease = self.pool.lease(&via, true).await?;
                self.on(lease, head, authorization, again.unwrap_or(Outgoing::Empty)).await
            }
            answer => answer,
        }
    }

    async fn on(
        &self,
        mut lease: Lease,
        head: &Head,
        authorization: Option<&HeaderValue>,
        body: Outgoing,
    ) -> Result<Answer, TransportError> {
        let length = body.length();
        let sent = body.sent();
        let request = self.request(&lease, head, authorization, body)?;
        let response = tokio::select! {
            response = lease.sender.send_request(request) => response.map_err(|error| words::of_hyper(&error))?,
            text = self.overdue(&sent, length, head.wait) => return Err(TransportError::Timeout(text)),
        };
        // An answer before the end of the request leaves a connection that nothing can be sent on.
        let whole = sent.load(Ordering::Relaxed) == length;
        Ok(Answer::new(response, whole.then_some(lease), head.url.clone(), self.patience()))
    }

    fn request(
        &self,
        lease: &Lease,
        head: &Head,
        authorization: Option<&HeaderValue>,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, TransportError> {
        let target = if lease.forwarder.is_some() { head.url.to_string() } else { head.url.path.clone() };
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(target)
            .header(HOST, head.url.origin.authority())
            .header(USER_AGENT, &self.user_agent);
        if body.length() == 0 && !matches!(head.method, Method::GET | Method::HEAD) {
            request = request.header(CONTENT_LENGTH, "0");
        }
        if let Some(authorization) = lease.forwarder.as_ref().and_then(|proxy| proxy.authorization.as_deref())
        {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in &head.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(body).map_err(|error| TransportError::Malformed(error.to_string()))
    }

    /// Ends when a request has waited too long: its body for being taken, then its answer.
    async fn overdue(&self, sent: &AtomicU64, length: u64, wait: Wait) -> &'static str {
        let patience = self.patience();
        let mut before = sent.load(Ordering::Relaxed);
        while before < length {
            sleep(patience.stall).await;
            let now = sent.load(Ordering::Relaxed);
            if now < length && now - before < patience.stall_bytes {
                return "the registry takes the body too slowly";
            }
            before = now;
        }
        let limit = match wait {
            Wait::Answer => patience.answer,
            Wait::Store => patience.store,
        };
        if limit == Duration::MAX {
            pending::<()>().await;
        }
        sleep(limit).await;
        "net/http: timeout awaiting response headers"
    }

    /// Whether `origin`'s host is known to be this one.
    pub(crate) fn all_local(addresses: &[std::net::IpAddr]) -> bool {
        addresses.iter().any(|address| is_local(*address))
    }
}

/// The method to go on with after a redirect; `None` when the answer is no redirect or cannot be followed.
fn redirected(status: StatusCode, method: &Method, repeatable: bool) -> Option<Method> {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    match status.as_u16() {
        301..=303 if reading => Some(method.clone()),
        307 | 308 if reading || repeatable => Some(method.clone()),
        _ => None,
    }
}

/// The error of a request, its method written as Go does. What a foreign address's query holds may be a secret.
fn failure(head: &Head, home: &Origin, source: TransportError) -> Error {
    let (first, rest) = head.method.as_str().split_at(1);
    let mut url = head.url.to_string();
    if head.url.origin != *home {
        url.truncate(url.find('?').unwrap_or(url.len()));
    }
    Error::Request { verb: format!("{first}{}", rest.to_lowercase()), url, source }
}

//! What all transfers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use hyper::header::WWW_AUTHENTICATE;
use tokio::time::{Instant, timeout};
use wharf_oci::reference::Reference;

use super::challenge::{self, Challenge};
use super::config::Config;
use super::credentials::Credentials;
use super::endpoint::{self, Contact, Endpoint};
use super::error::{Error, TransportError};
use super::repository::Repository;
use super::session::{Access, Session};
use super::token::Tokens;
use super::transport::{Answer, Exchange, Head, Insecure, Outgoing, Transport, Url, connector};

/// How long it is believed which server answers for a registry, and what it wants to see.
const CONTACT_TIME: Duration = Duration::from_secs(300);
const CONTACT_LIMIT: usize = 256;
/// The first question to a registry is a small one (dockerd, `PingV2Registry`).
const PING_TIME: Duration = Duration::from_secs(15);

/// A client of registries; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    transport: Transport,
    insecure: Insecure,
    mirrors: Vec<Url>,
    hub: Url,
    tokens: Tokens,
    contacts: Mutex<HashMap<String, (Contact, Instant)>>,
}

impl Client {
    /// A client with `config`. Nothing is read or asked before it is needed.
    ///
    /// # Errors
    /// [`Error::Setting`] for a mirror, proxy or insecure registry that cannot be understood.
    pub fn new(config: Config) -> Result<Self, Error> {
        let mirrors = config.mirrors.iter().map(|mirror| endpoint::parse_base(mirror));
        Ok(Self(Arc::new(Inner {
            transport: Transport::new(connector(&config).map_err(Error::Setting)?).map_err(Error::Setting)?,
            insecure: Insecure::parse(&config.insecure).map_err(Error::Setting)?,
            mirrors: mirrors.collect::<Result<_, _>>()?,
            hub: endpoint::parse_base(&config.hub)?,
            tokens: Tokens::default(),
            contacts: Mutex::default(),
            config,
        })))
    }

    /// The repository of `reference`, for reading (mirrors of docker.io are asked first).
    #[must_use]
    pub fn repository(&self, reference: &Reference, credentials: Credentials) -> Repository {
        let session = Session::new(self.clone(), reference.domain(), credentials, Access::Pull);
        Repository::new(session, reference.path())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(crate) fn insecure(&self) -> &Insecure {
        &self.0.insecure
    }

    pub(crate) fn mirrors(&self) -> &[Url] {
        &self.0.mirrors
    }

    pub(crate) fn hub(&self) -> &Url {
        &self.0.hub
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Asks a server for nothing, to learn whether it is there and what it wants to see.
    ///
    /// # Errors
    /// [`Error::Request`] when it is not there.
    pub(crate) async fn contact(&self, endpoint: &Arc<Endpoint>) -> Result<Contact, Error> {
        let key = endpoint.base.to_string();
        if let Some(contact) = self.known(&key) {
            return Ok(contact);
        }
        let head = Head::new(Method::GET, endpoint.url(""));
        let url = head.url.to_string();
        let ping = self.transport().send(self.exchange(endpoint, head), Outgoing::Empty);
        let mut answer = timeout(PING_TIME, ping).await.map_err(|_| Error::Request {
            verb: "Get".to_owned(),
            url,
            source: TransportError::Timeout(
                "net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            ),
        })??;
        answer.body.beginning().await;
        let contact = Contact { endpoint: Arc::clone(endpoint), challenges: challenges(&answer).into() };
        self.learn(key, contact.clone());
        Ok(contact)
    }

    /// Whether `endpoint` has answered lately.
    pub(crate) fn is_known(&self, endpoint: &Endpoint) -> bool {
        self.known(&endpoint.base.to_string()).is_some()
    }

    fn known(&self, key: &str) -> Option<Contact> {
        let contacts = self.0.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        let (contact, since) = contacts.get(key)?;
        (since.elapsed() < CONTACT_TIME).then(|| contact.clone())
    }

    fn learn(&self, key: String, contact: Contact) {
        let mut contacts = self.0.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        if contacts.len() >= CONTACT_LIMIT {
            contacts.clear();
        }
        contacts.insert(key, (contact, Instant::now()));
    }

    /// What a server turned out to want to see after all.
    pub(crate) fn correct(&self, endpoint: &Arc<Endpoint>, challenges: Vec<Challenge>) -> Contact {
        let contact = Contact { endpoint: Arc::clone(endpoint), challenges: challenges.into() };
        self.learn(endpoint.base.to_string(), contact.clone());
        contact
    }

    /// Forgets a server that does not answer: it may be back in another way.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        let mut contacts = self.0.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.remove(&endpoint.base.to_string());
    }

    /// A request on behalf of `endpoint`, without credentials.
    pub(crate) fn exchange<'a>(&self, endpoint: &'a Endpoint, head: Head) -> Exchange<'a> {
        Exchange {
            head,
            home: endpoint.origin(),
            authorization: None,
            insecure: endpoint.insecure,
            registry: &endpoint.name,
            local: endpoint.local,
        }
    }
}

/// The challenges of an answer that was refused for want of credentials.
pub(crate) fn challenges(answer: &Answer) -> Vec<Challenge> {
    if answer.status != hyper::StatusCode::UNAUTHORIZED {
        return Vec::new();
    }
    let values = answer.headers.get_all(WWW_AUTHENTICATE).iter().take(8);
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

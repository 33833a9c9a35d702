//! Requests to a registry by somebody: which server, with what authorization, how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::attempts::Attempts;
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::endpoint::{self, Contact, Endpoint};
use super::error::{Error, TransportError};
use super::refusal::refusal_of;
use super::shared::{Client, challenges};
use super::token::{self, Key, Wanted};
use super::transport::{Answer, Exchange, Head, Outgoing, Url, Wait};

/// What tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Whatever the credentials give: a login, the catalog.
    Registry,
}

/// One server, and whether it was given up on.
#[derive(Debug)]
struct Candidate {
    endpoint: Arc<Endpoint>,
    given_up: AtomicBool,
}

/// A registry, as somebody.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    client: Client,
    host: Arc<str>,
    credentials: Arc<Credentials>,
    access: Access,
    candidates: Arc<OnceCell<Vec<Candidate>>>,
}

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Below `/v2/`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    pub(crate) wait: Wait,
    /// What a token must allow.
    pub(crate) scopes: Vec<String>,
}

impl Ask {
    pub(crate) fn new(method: Method, path: String, scopes: Vec<String>) -> Self {
        Self { method, path, headers: Vec::new(), body: Bytes::new(), wait: Wait::Answer, scopes }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self, url: Url) -> Head {
        Head { method: self.method.clone(), url, headers: self.headers.clone(), wait: self.wait }
    }

    fn body(&self) -> Outgoing {
        if self.body.is_empty() { Outgoing::Empty } else { Outgoing::Full(self.body.clone()) }
    }
}

/// Leaves servers alone that come before one that answers.
fn settle(before: &[Candidate]) {
    for candidate in before.iter().filter(|candidate| !candidate.endpoint.mirror) {
        candidate.given_up.store(true, Ordering::Relaxed);
    }
}

/// An answer and who gave it.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Session {
    pub(crate) fn new(client: Client, host: &str, credentials: Credentials, access: Access) -> Self {
        Self {
            client,
            host: host.into(),
            credentials: Arc::new(credentials),
            access,
            candidates: Arc::default(),
        }
    }

    /// The same for writing.
    pub(crate) fn for_push(self) -> Self {
        Self { access: Access::Push, candidates: Arc::default(), ..self }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The scope of repository `path`.
    pub(crate) fn scopes(&self, path: &str) -> Vec<String> {
        match self.access {
            Access::Pull => vec![format!("repository:{path}:pull")],
            Access::Push => vec![format!("repository:{path}:pull,push")],
            Access::Registry => Vec::new(),
        }
    }

    async fn candidates(&self) -> Result<&[Candidate], Error> {
        let find = || async {
            let reading = self.access == Access::Pull;
            let mut found = endpoint::candidates(&self.client, &self.host, reading).await?;
            // Once a registry answered without TLS, it is not asked for TLS before every request.
            if let [.., plain] = found.as_slice()
                && plain.insecure
                && self.client.is_known(plain)
            {
                found.drain(..found.len() - 1);
            }
            let candidate =
                |endpoint| Candidate { endpoint: Arc::new(endpoint), given_up: AtomicBool::new(false) };
            Ok(found.into_iter().map(candidate).collect())
        };
        self.candidates.get_or_try_init(find).await.map(Vec::as_slice)
    }

    /// The server that answers, for what cannot be moved to another one: an upload.
    ///
    /// # Errors
    /// [`Error::Request`] of the last one when none does.
    pub(crate) async fn home(&self) -> Result<Contact, Error> {
        let mut failure = None;
        let candidates = self.candidates().await?;
        for (place, candidate) in candidates.iter().enumerate() {
            if candidate.endpoint.mirror || candidate.given_up.load(Ordering::Relaxed) {
                continue;
            }
            match self.client.contact(&candidate.endpoint).await {
                Ok(contact) => {
                    settle(&candidates[..place]);
                    return Ok(contact);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Setting(format!("no server for {}", self.host))))
    }

    /// Sends `ask` to the servers of the registry in turn until one answers well; more than once while it is the network
    /// or the server's load that is in the way.
    ///
    /// # Errors
    /// The last server's error, any refusal among them.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answered, Error> {
        let mut attempts = Attempts::new(self.client.config());
        loop {
            let error = match self.ask_once(ask).await {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let Some(pause) = attempts.next(&error) else { return Err(error) };
            tracing::debug!(%error, ?pause, "a request to a registry is repeated");
            sleep(pause).await;
        }
    }

    /// Sends `ask` to the servers of the registry in turn until one answers well.
    ///
    /// # Errors
    /// The last server's error, any refusal among them.
    pub(crate) async fn ask_once(&self, ask: &Ask) -> Result<Answered, Error> {
        let mut failure = None;
        let candidates = self.candidates().await?;
        for (place, candidate) in candidates.iter().enumerate() {
            if candidate.given_up.load(Ordering::Relaxed) {
                continue;
            }
            let endpoint = &candidate.endpoint;
            let contact = match self.client.contact(endpoint).await {
                Ok(contact) => {
                    settle(&candidates[..place]);
                    contact
                }
                Err(error) => {
                    candidate.given_up.store(endpoint.mirror, Ordering::Relaxed);
                    failure = Some(error);
                    continue;
                }
            };
            match self.ask_server(&contact, ask).await {
                Ok(answer) => return Ok(Answered { answer, endpoint: Arc::clone(endpoint) }),
                Err(error) if endpoint.mirror => {
                    tracing::debug!(%error, mirror = %endpoint.base, "a mirror cannot help");
                    self.give_up(endpoint);
                    failure = Some(error);
                }
                Err(error) => {
                    if matches!(&error, Error::Request { source: TransportError::Dial { .. }, .. }) {
                        self.client.forget(endpoint);
                    }
                    return Err(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Setting(format!("no server for {}", self.host))))
    }

    /// Asks a mirror no more.
    pub(crate) fn give_up(&self, endpoint: &Endpoint) {
        let candidates = self.candidates.get().map(Vec::as_slice).unwrap_or_default();
        for candidate in candidates {
            if candidate.endpoint.mirror && candidate.endpoint.base == endpoint.base {
                candidate.given_up.store(true, Ordering::Relaxed);
            }
        }
    }

    async fn ask_server(&self, contact: &Contact, ask: &Ask) -> Result<Answer, Error> {
        let head = ask.head(contact.endpoint.url(&ask.path));
        let mut answer = self.send(contact, head, ask.body(), &ask.scopes).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(refusal_of(&mut answer).await)
    }

    /// Sends one request with authorization; once more when the registry wants to see something else than it said.
    pub(crate) async fn send(
        &self,
        contact: &Contact,
        head: Head,
        body: Outgoing,
        scopes: &[String],
    ) -> Result<Answer, Error> {
        let again = body.again();
        let (authorization, key) = self.authorize(contact, &head, scopes).await?;
        let answer = self.authorized(contact, head.clone(), authorization, body).await?;
        if answer.status != StatusCode::UNAUTHORIZED || head.url.origin != *contact.endpoint.origin() {
            return Ok(answer);
        }
        if let Some(key) = &key {
            self.client.tokens().forget(key);
        }
        let asked = challenges(&answer);
        let (Some(body), false) = (again, asked.is_empty()) else { return Ok(answer) };
        if key.is_none() && *asked == *contact.challenges {
            return Ok(answer);
        }
        let contact = self.client.correct(&contact.endpoint, asked);
        let (authorization, _) = self.authorize(&contact, &head, scopes).await?;
        self.authorized(&contact, head, authorization, body).await
    }

    async fn authorized(
        &self,
        contact: &Contact,
        head: Head,
        authorization: Option<HeaderValue>,
        body: Outgoing,
    ) -> Result<Answer, Error> {
        let home = head.url.origin == *contact.endpoint.origin();
        let exchange = Exchange {
            authorization: authorization.filter(|_| home),
            ..self.client.exchange(&contact.endpoint, head)
        };
        self.client.transport().send(exchange, body).await
    }

    /// What to show the registry.
    async fn authorize(
        &self,
        contact: &Contact,
        head: &Head,
        scopes: &[String],
    ) -> Result<(Option<HeaderValue>, Option<Key>), Error> {
        let endpoint = &*contact.endpoint;
        // Credentials are the registry's, not its mirrors'.
        let credentials = if endpoint.mirror { &Credentials::Anonymous } else { &*self.credentials };
        let find = |scheme: &str| contact.challenges.iter().find(|challenge| challenge.scheme == scheme);
        let failed = |source| {
            let (first, rest) = head.method.as_str().split_at(1);
            Error::Request {
                verb: format!("{first}{}", rest.to_lowercase()),
                url: head.url.to_string(),
                source,
            }
        };
        if let Some(challenge) = find("bearer") {
            if let Credentials::Bearer(token) = credentials {
                return Ok((token::bearer(token), None));
            }
            let wanted = self.wanted(endpoint, challenge, scopes, credentials);
            let got = self.client.tokens().get(self.client.transport(), &wanted).await;
            let (value, key) = got.map_err(|error| failed(TransportError::Token(Box::new(error))))?;
            return Ok((Some(value), Some(key)));
        }
        if find("basic").is_some() {
            return match credentials {
                Credentials::Password { username, password } => {
                    Ok((Some(token::basic(username, password)), None))
                }
                _ => Err(failed(TransportError::NoCredentials)),
            };
        }
        Ok((None, None))
    }

    fn wanted<'a>(
        &self,
        endpoint: &'a Endpoint,
        challenge: &'a Challenge,
        scopes: &[String],
        credentials: &'a Credentials,
    ) -> Wanted<'a> {
        let mut scopes = scopes.to_vec();
        if self.access == Access::Registry
            && let Some(scope) = challenge.get("scope")
        {
            scopes.push(scope.to_owned());
        }
        Wanted { endpoint, challenge, scopes, credentials, offline: false }
    }
}

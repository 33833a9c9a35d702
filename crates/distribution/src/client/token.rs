//! Bearer tokens: fetched from the server that a registry names, kept as long as they are good.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;
use wharf_oci::digest::Digest;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::{Error, TransportError};
use super::refusal::refusal_of;
use super::transport::{Exchange, Head, Outgoing, Scheme, Transport, Url, escape};

/// Who one is to token servers; they show it to users in lists of sessions.
const CLIENT_ID: &str = "docker";
const ANSWER_LIMIT: u64 = 256 << 10;
const TOKEN_LIMIT: usize = 256;
/// Tokens that say nothing are good for this long, and none is taken for shorter (distribution, `expires_in`).
const LEAST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is not used in the last moments of its life: it has to arrive too.
const MARGIN: Duration = Duration::from_secs(10);

/// What a token is good for; the same for nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    realm: String,
    service: String,
    scopes: Vec<String>,
    who: Digest,
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    expires: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Tokens at hand.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Slot>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// A token server's answer.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// What was fetched.
pub(crate) struct Fetched {
    value: HeaderValue,
    life: Duration,
    /// An identity token, when one was asked for and given.
    pub(crate) refresh: Option<String>,
}

impl Fetched {
    /// `Authorization` with the token.
    pub(crate) fn into_value(self) -> HeaderValue {
        self.value
    }
}

/// A request for a token.
pub(crate) struct Wanted<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) challenge: &'a Challenge,
    pub(crate) scopes: Vec<String>,
    pub(crate) credentials: &'a Credentials,
    /// Whether an identity token is wanted too: at a login.
    pub(crate) offline: bool,
}

impl Wanted<'_> {
    fn key(&self) -> Key {
        let who = match self.credentials {
            Credentials::Anonymous => Digest::of(b""),
            Credentials::Password { username, password } => {
                Digest::of(format!("p{}:{username}{password}", username.len()).as_bytes())
            }
            Credentials::Identity { username, token } => {
                Digest::of(format!("i{}:{username}{token}", username.len()).as_bytes())
            }
            Credentials::Bearer(token) => Digest::of(format!("b{token}").as_bytes()),
        };
        let mut scopes = self.scopes.clone();
        scopes.sort();
        let parameter = |name| self.challenge.get(name).unwrap_or_default().to_owned();
        Key { realm: parameter("realm"), service: parameter("service"), scopes, who }
    }

    /// Where tokens are got.
    fn realm(&self) -> Result<Url, Error> {
        let realm = self.challenge.get("realm").unwrap_or_default();
        let refused = |text: String| Error::Request {
            verb: "Get".to_owned(),
            url: realm.chars().take(200).collect(),
            source: TransportError::Forbidden(text),
        };
        let url = Url::parse(realm)
            .map_err(|error| refused(format!("invalid token auth challenge realm: {error}")))?;
        if url.origin.scheme == Scheme::Http
            && self.endpoint.origin().scheme == Scheme::Https
            && !self.endpoint.insecure
        {
            return Err(refused("a secure registry's token server must be asked by https".to_owned()));
        }
        Ok(url)
    }
}

impl Tokens {
    /// A token for `wanted`, fetched when there is none that lives. Whoever wants the same waits for the same.
    ///
    /// # Errors
    /// What the token server said.
    pub(crate) async fn get(
        &self,
        transport: &Transport,
        wanted: &Wanted<'_>,
    ) -> Result<(HeaderValue, Key), Error> {
        let key = wanted.key();
        let slot = self.slot(&key);
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.expires > Instant::now()) {
            return Ok((token.value.clone(), key));
        }
        let fetched = fetch(transport, wanted).await?;
        let expires = Instant::now() + fetched.life.saturating_sub(MARGIN);
        *slot = Some(Token { value: fetched.value.clone(), expires });
        Ok((fetched.value, key))
    }

    /// Forgets a token that was not taken.
    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= TOKEN_LIMIT && !slots.contains_key(key) {
            let now = Instant::now();
            slots.retain(|_, slot| {
                slot.try_lock().map_or(true, |token| token.as_ref().is_some_and(|token| token.expires > now))
            });
            if slots.len() >= TOKEN_LIMIT {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

/// Asks a token server: by form with an identity token (distribution, "OAuth2"), else by query.
///
/// # Errors
/// What the token server said.
pub(crate) async fn fetch(transport: &Transport, wanted: &Wanted<'_>) -> Result<Fetched, Error> {
    let realm = wanted.realm()?;
    let (head, body) = match wanted.credentials {
        Credentials::Identity { token, .. } => by_form(realm, wanted, token),
        _ => (by_query(realm, wanted), Outgoing::Empty),
    };
    let url = head.url.to_string();
    let verb = if head.method == Method::POST { "Post" } else { "Get" };
    let failed = |source| Error::Request { verb: verb.to_owned(), url: url.clone(), source };
    let exchange = Exchange {
        home: wanted.endpoint.origin(),
        authorization: match wanted.credentials {
            Credentials::Password { username, password } => Some(basic(username, password)),
            _ => None,
        },
        insecure: wanted.endpoint.insecure,
        registry: &wanted.endpoint.name,
        local: wanted.endpoint.local,
        head,
    };
    let mut answer = transport.send(exchange, body).await?;
    if !answer.status.is_success() {
        return Err(refusal_of(&mut answer).await);
    }
    let text = answer.body.collect(ANSWER_LIMIT).await.map_err(failed)?;
    let read = text.and_then(|text| serde_json::from_slice::<TokenAnswer>(&text).ok());
    let malformed = |text: &str| failed(TransportError::Malformed(text.to_owned()));
    let read = read.ok_or_else(|| malformed("unable to decode token response"))?;
    let token = [read.access_token, read.token].into_iter().flatten().find(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| malformed("authorization server did not include a token in the response"))?;
    let life = Duration::from_secs(read.expires_in.unwrap_or(0)).clamp(LEAST_LIFE, LONGEST_LIFE);
    let value = bearer(&token).ok_or_else(|| malformed("the token cannot be sent in a header"))?;
    Ok(Fetched { value, life, refresh: read.refresh_token.filter(|token| !token.is_empty()) })
}

fn by_query(realm: Url, wanted: &Wanted<'_>) -> Head {
    let mut url = realm;
    if let Credentials::Password { username, .. } = wanted.credentials {
        url = url.with_query("account", username);
    }
    if wanted.offline {
        url = url.with_query("client_id", CLIENT_ID).with_query("offline_token", "true");
    }
    for scope in &wanted.scopes {
        url = url.with_query("scope", scope);
    }
    if let Some(service) = wanted.challenge.get("service") {
        url = url.with_query("service", service);
    }
    Head::new(Method::GET, url)
}

fn by_form(realm: Url, wanted: &Wanted<'_>, token: &str) -> (Head, Outgoing) {
    let mut form = format!(
        "client_id={CLIENT_ID}&grant_type=refresh_token&refresh_token={}&scope={}&service={}",
        escape(token),
        escape(&wanted.scopes.join(" ")),
        escape(wanted.challenge.get("service").unwrap_or_default())
    );
    if wanted.offline {
        form.push_str("&access_type=offline");
    }
    let head = Head::new(Method::POST, realm)
        .with(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    (head, Outgoing::Full(form.into()))
}

/// `Authorization` with name and password.
pub(crate) fn basic(username: &str, password: &str) -> HeaderValue {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    // Base64 is visible ASCII; an empty value is what cannot happen.
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// `Authorization` with a token; `None` for one that no header can carry.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

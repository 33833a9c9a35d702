//! Logins: whether a registry takes somebody's credentials.

use std::sync::Arc;

use hyper::Method;

use super::credentials::Credentials;
use super::endpoint;
use super::error::{Error, Kind, TransportError};
use super::shared::Client;
use super::token::{self, Wanted};
use super::transport::{Exchange, Head, Outgoing};

/// A login that succeeded ("Login Succeeded").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Token to be kept instead of the password; empty where the registry gives none.
    pub identity_token: String,
}

impl Client {
    /// Tries `credentials` at registry `host` (`docker.io`, `host:port`).
    ///
    /// # Errors
    /// [`Error::Login`] when the registry, and [`Kind::Unauthorized`] when its token server does not take them.
    pub async fn login(&self, host: &str, credentials: &Credentials) -> Result<Login, Error> {
        let mut failure = None;
        for server in endpoint::candidates(self, host, false).await? {
            match self.login_at(&Arc::new(server), credentials).await {
                Ok(login) => return Ok(login),
                Err(error) if error.kind() == Kind::Unauthorized || matches!(error, Error::Login { .. }) => {
                    return Err(error);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Setting(format!("no server for {host}"))))
    }

    async fn login_at(
        &self,
        server: &Arc<endpoint::Endpoint>,
        credentials: &Credentials,
    ) -> Result<Login, Error> {
        let contact = self.contact(server).await?;
        let head = Head::new(Method::GET, server.url(""));
        let url = head.url.to_string();
        let failed = |source| Error::Request { verb: "Get".to_owned(), url: url.clone(), source };
        let find = |scheme: &str| contact.challenges.iter().find(|challenge| challenge.scheme == scheme);
        let mut identity_token = String::new();
        let authorization = if let Some(challenge) = find("bearer") {
            let wanted = Wanted {
                endpoint: server,
                challenge,
                scopes: challenge.get("scope").map(str::to_owned).into_iter().collect(),
                credentials,
                offline: true,
            };
            let fetched = token::fetch(self.transport(), &wanted).await;
            let fetched = fetched.map_err(|error| failed(TransportError::Token(Box::new(error))))?;
            identity_token = fetched.refresh.clone().unwrap_or_default();
            Some(fetched.into_value())
        } else if find("basic").is_some() {
            let Credentials::Password { username, password } = credentials else {
                return Err(failed(TransportError::NoCredentials));
            };
            Some(token::basic(username, password))
        } else {
            None
        };
        let exchange = Exchange { authorization, ..self.exchange(server, head) };
        let mut answer = self.transport().send(exchange, Outgoing::Empty).await?;
        answer.body.beginning().await;
        if answer.status.is_success() {
            return Ok(Login { identity_token });
        }
        Err(Error::Login { url, status: answer.status.to_string() })
    }
}

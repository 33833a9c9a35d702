//! Files by their address: what a build adds from somewhere that is no registry.

use bytes::Bytes;
use hyper::header::{
    CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED,
};
use hyper::{Method, StatusCode};

use super::error::{Error, TransportError};
use super::shared::Client;
use super::transport::{Answer, Exchange, Head, Outgoing, Url};

/// A file that is coming in.
pub struct Remote {
    answer: Answer,
    url: String,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Asks for the file at an `http` or `https` address, along redirects; proxies and timeouts are those of registries.
    /// With `known`, the entity tag of a copy, the answer may be that it is still the same.
    ///
    /// # Errors
    /// When the address cannot be read, or nobody answers.
    pub async fn fetch(&self, address: &str, known: Option<&str>) -> Result<Remote, Error> {
        let url = Url::parse(address).map_err(Error::Setting)?;
        let home = url.origin.clone();
        let mut head = Head::new(Method::GET, url);
        if let Some(tag) = known.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            head = head.with(IF_NONE_MATCH, tag);
        }
        let exchange = Exchange {
            head,
            home: &home,
            authorization: None,
            insecure: false,
            registry: &home.host,
            local: false,
        };
        let answer = self.transport().send(exchange, Outgoing::Empty).await?;
        Ok(Remote { answer, url: address.to_owned() })
    }
}

impl Remote {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer.status
    }

    /// Its entity tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.text(ETAG)
    }

    /// When it was last changed, in the form of HTTP.
    #[must_use]
    pub fn modified(&self) -> Option<&str> {
        self.text(LAST_MODIFIED)
    }

    /// What kind of file it says to be.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.text(CONTENT_TYPE)
    }

    /// Under which name to keep it.
    #[must_use]
    pub fn disposition(&self) -> Option<&str> {
        self.text(CONTENT_DISPOSITION)
    }

    /// Its length, where that is said.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.answer.length()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let failed =
            |source: TransportError| Error::Request { verb: "Get".to_owned(), url: self.url.clone(), source };
        self.answer.body.chunk().await.map_err(failed)
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.answer.header(name)
    }
}

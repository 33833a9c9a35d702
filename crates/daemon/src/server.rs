//! The server: what all requests share, and the loops that take clients in.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::watch;
use wharf_api::ApiVersion;
use wharf_engine::{Engine, Result};

use crate::buildkit::BuildKit;
use crate::http::answer::Answer;
use crate::http::connection;
use crate::listen::Listener;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) buildkit: Arc<BuildKit>,
    /// The oldest version served.
    pub(crate) oldest: ApiVersion,
    headers: HeaderMap,
}

impl App {
    /// Answers with `engine`.
    ///
    /// # Errors
    /// When what builds keep of their clients cannot be made.
    pub(crate) fn new(engine: Arc<Engine>, oldest: ApiVersion) -> Result<Self> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: String| {
            // Digits, dots and letters only.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        add("api-version", ApiVersion::MAX.to_string());
        add("docker-experimental", "false".to_owned());
        add("ostype", "linux".to_owned());
        // Clients take the operating system out of this form.
        add("server", format!("Docker/{} (linux)", env!("CARGO_PKG_VERSION")));
        let buildkit = Arc::new(BuildKit::new(engine.clone())?);
        Ok(Self { engine, buildkit, oldest, headers })
    }

    /// Adds what every answer says.
    pub(crate) fn dress(&self, mut answer: Answer) -> Answer {
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    /// The same for an answer about versions, which says less.
    pub(crate) fn dress_plainly(&self, answer: Answer) -> Answer {
        let mut answer = self.dress(answer);
        answer.headers_mut().remove("docker-experimental");
        answer
    }

    /// The same headers as lines, for heads written by hand.
    pub(crate) fn header_lines(&self) -> String {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{}: {}\r\n", title(name.as_str()), value.to_str().unwrap_or_default())
        };
        self.headers.iter().map(line).collect()
    }
}

/// `api-version` as `Api-Version`.
fn title(name: &str) -> String {
    let part = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

/// Takes clients in until `closing` turns true. Each is served by a task of its own.
pub(crate) async fn listen(listener: Listener, app: Arc<App>, mut closing: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok(incoming) => {
                let (app, closing) = (app.clone(), closing.clone());
                tokio::spawn(async move {
                    match incoming.established().await {
                        Ok(socket) => connection::serve(socket, app, closing).await,
                        Err(error) => tracing::debug!("TLS handshake: {error}"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, as a rule: others must end before more can come.
                tracing::warn!("accept a client: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

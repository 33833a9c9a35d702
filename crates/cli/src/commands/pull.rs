//! `wharf pull`, and the progress that pull, load and import show.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;
use wharf_api::client::{Body, Client, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print, say};
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "STRING")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Pull {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let name = if self.all_tags { self.name.clone() } else { tagged(&self.name) };
        if name != self.name && !self.all_tags && !self.quiet {
            print("Using default tag: latest")?;
        }
        pull(&client, &name, self.platform.as_deref(), self.quiet, false).await?;
        if self.quiet {
            print(&name)?;
        }
        Ok(0)
    }
}

/// The reference with `:latest` if it names neither tag nor digest.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

/// Has the daemon fetch an image; progress goes to standard error when it is not what was asked for.
pub(super) async fn pull(
    client: &Client,
    name: &str,
    platform: Option<&str>,
    quiet: bool,
    aside: bool,
) -> Result<(), CliError> {
    let platform = platform.map(escape).unwrap_or_default();
    let target = path("/images/create", &[("fromImage", &escape(&tagged(name))), ("platform", &platform)]);
    let answer = client.send(Method::POST, &target, Body::Empty, &[]).await?;
    progress(answer.into_body(), quiet, aside).await
}

/// Shows what a pull or push says, on standard error if `aside`.
pub(super) async fn progress(body: Incoming, quiet: bool, aside: bool) -> Result<(), CliError> {
    let mut failed = None;
    messages(body, |message| {
        if let Some(error) = message["error"].as_str() {
            failed = Some(error.to_owned());
        } else if let Some(status) =
            message["status"].as_str().filter(|_| !quiet && message["progressDetail"]["total"].is_null())
        {
            let line =
                message["id"].as_str().map_or_else(|| status.to_owned(), |id| format!("{id}: {status}"));
            if aside { say(&line) } else { drop(print(&line)) }
        }
    })
    .await?;
    failed.map_or(Ok(()), |message| Err(CliError::new(message)))
}

/// Gives each JSON document of a stream to `show`.
pub(super) async fn messages(mut body: Incoming, mut show: impl FnMut(&Value)) -> Result<(), CliError> {
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CliError::new(error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        pending.extend_from_slice(&bytes);
        let mut documents = serde_json::Deserializer::from_slice(&pending).into_iter::<Value>();
        let mut read = 0;
        while let Some(Ok(document)) = documents.next() {
            show(&document);
            read = documents.byte_offset();
        }
        pending.drain(..read);
    }
    Ok(())
}

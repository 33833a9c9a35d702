//! `wharf pull`, and the stream of messages that long requests answer.

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;
use wharf_api::client::{Body, Client, escape};
use wharf_oci::Reference;

use super::Outcome;
use crate::connect::Target;
use crate::credentials;
use crate::error::{CliError, print};
use crate::filters::path;
use crate::progress;

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
        let given = Reference::parse(&self.name).map_err(|error| CliError::new(error.to_string()))?;
        if self.all_tags && !given.is_name_only() {
            return Err(CliError::new("tag can't be used with --all-tags/-a"));
        }
        let reference = if self.all_tags { given.clone() } else { given.clone().with_default_tag() };
        if reference != given && !self.quiet {
            print("Using default tag: latest")?;
        }
        let client = target.connect().await?;
        Fetch {
            target,
            client: &client,
            platform: self.platform.as_deref(),
            quiet: self.quiet,
            aside: false,
        }
        .run(&reference)
        .await?;
        print(&reference.to_string())?;
        Ok(0)
    }
}

/// The reference with `:latest` if it names neither tag nor digest.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

/// Having the daemon fetch an image.
pub(super) struct Fetch<'a> {
    pub(super) target: &'a Target,
    pub(super) client: &'a Client,
    pub(super) platform: Option<&'a str>,
    pub(super) quiet: bool,
    /// Progress goes to standard error: it is not what was asked for.
    pub(super) aside: bool,
}

impl Fetch<'_> {
    /// The image that a user names.
    pub(super) async fn named(&self, name: &str) -> Result<(), CliError> {
        let reference = Reference::parse(name).map_err(|error| CliError::new(error.to_string()))?;
        self.run(&reference.with_default_tag()).await
    }

    async fn run(&self, reference: &Reference) -> Result<(), CliError> {
        let digest = reference.digest().map(|digest| digest.to_string());
        let tag = digest.as_deref().or(reference.tag()).unwrap_or_default();
        let name = reference.without_suffix().to_string();
        let platform = self.platform.map(escape).unwrap_or_default();
        let query = [("fromImage", &*escape(&name)), ("tag", &escape(tag)), ("platform", &platform)];
        let auth = credentials::header(&self.target.config_folder(), reference);
        let answer = self
            .client
            .send(Method::POST, &path("/images/create", &query), Body::Empty, &[("X-Registry-Auth", &auth)])
            .await?;
        progress::show(answer.into_body(), self.quiet, self.aside, |_| {}).await
    }
}

/// Gives each JSON document of a stream to `show`.
pub(crate) async fn messages(mut body: Incoming, mut show: impl FnMut(&Value)) -> Result<(), CliError> {
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

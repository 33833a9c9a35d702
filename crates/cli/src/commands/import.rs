//! `wharf import`.

use std::path::Path;

use hyper::Method;
use wharf_api::client::{Body, escape};

use super::{Outcome, load, pull, tag};
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "LIST")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    platform: String,
    #[arg(value_name = "file|URL|-")]
    source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Import {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let remote = self.source.contains("://");
        let body = match &*self.source {
            "-" => load::send(None)?,
            _ if remote => Body::Empty,
            file => load::send(Some(Path::new(file)))?,
        };
        let (repository, tag) = self.reference.as_deref().map(tag::split).transpose()?.unwrap_or_default();
        let mut path = format!("/images/create?fromSrc={}", escape(if remote { &self.source } else { "-" }));
        for (name, value) in
            [("repo", &repository), ("tag", &tag), ("message", &self.message), ("platform", &self.platform)]
        {
            if !value.is_empty() {
                path += &format!("&{name}={}", escape(value));
            }
        }
        for change in &self.change {
            path += &format!("&changes={}", escape(change));
        }
        let client = target.connect().await?;
        let answer = client.send(Method::POST, &path, body, &[]).await?;
        let mut failed = None;
        pull::messages(answer.into_body(), |message| {
            if let Some(error) = message["error"].as_str() {
                failed = Some(CliError::new(error));
            } else if let Some(status) =
                message["status"].as_str().filter(|_| message["progressDetail"]["total"].is_null())
            {
                drop(print(status));
            }
        })
        .await?;
        failed.map_or(Ok(0), Err)
    }
}

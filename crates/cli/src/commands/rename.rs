//! `wharf rename`.

use hyper::Method;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    container: String,
    new_name: String,
}

impl Rename {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let path = format!("/containers/{}/rename?name={}", escape(&self.container), escape(&self.new_name));
        client.call(Method::POST, &path).await.map_err(|error| {
            say(&error.to_string());
            CliError::new(format!("Error: failed to rename container named {}", self.container))
        })?;
        Ok(0)
    }
}

//! `wharf tag`.

use hyper::Method;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    source_image: String,
    target_image: String,
}

impl Tag {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let (repository, tag) = split(&self.target_image)?;
        let client = target.connect().await?;
        let path = format!(
            "/images/{}/tag?repo={}&tag={}",
            escape(&self.source_image),
            escape(&repository),
            escape(&tag)
        );
        client.call(Method::POST, &path).await?;
        Ok(0)
    }
}

/// A reference as repository and tag.
pub(super) fn split(text: &str) -> Result<(String, String), CliError> {
    let wrong = |error: &dyn std::fmt::Display| {
        CliError::new(format!("Error parsing reference: \"{text}\" is not a valid repository/tag: {error}"))
    };
    let _: wharf_oci::Reference = text.parse().map_err(|error| wrong(&error))?;
    let at = text.rfind(':').filter(|at| !text[*at..].contains('/'));
    Ok(at.map_or_else(
        || (text.to_owned(), String::new()),
        |at| (text[..at].to_owned(), text[at + 1..].to_owned()),
    ))
}

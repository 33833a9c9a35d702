//! `wharf push`.

use hyper::Method;
use serde_json::Value;
use wharf_api::client::{Body, escape};
use wharf_oci::Reference;

use super::Outcome;
use crate::connect::Target;
use crate::credentials;
use crate::error::{CliError, print};
use crate::filters::path;
use crate::progress;

#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "STRING")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Push {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let given = Reference::parse(&self.name).map_err(|error| CliError::new(error.to_string()))?;
        if self.all_tags && !given.is_name_only() {
            return Err(CliError::new("tag can't be used with --all-tags/-a"));
        }
        if given.digest().is_some() {
            return Err(CliError::new("cannot push a digest reference"));
        }
        let reference = if self.all_tags { given.clone() } else { given.clone().with_default_tag() };
        if reference != given && !self.quiet {
            print("Using default tag: latest")?;
        }
        let client = target.connect().await?;
        let platform = crate::platform::query(self.platform.as_deref().unwrap_or_default())?;
        let call = path(
            &format!("/images/{}/push", escape(&reference.familiar_name())),
            &[("tag", &escape(reference.tag().unwrap_or_default())), ("platform", &platform)],
        );
        let auth = credentials::header(&target.config_folder(), &reference);
        let answer = client.send(Method::POST, &call, Body::Empty, &[("X-Registry-Auth", &auth)]).await?;
        let mut instead = None;
        progress::show(answer.into_body(), self.quiet, false, |aux| note(aux, &mut instead)).await?;
        if self.quiet {
            print(&reference.to_string())?;
        }
        if let Some(text) = instead.filter(|_| !self.quiet) {
            print(&text)?;
        }
        Ok(0)
    }
}

/// That one platform went out where the name means several.
fn note(aux: &Value, into: &mut Option<String>) {
    if aux["manifestPushedInsteadOfIndex"] == true {
        let digest = |key: &str| aux[key]["digest"].as_str().unwrap_or_default().to_owned();
        *into = Some(format!(
            "\n Info -> Not all multiplatform-content is present and only the available single-platform image was pushed\n         \
             {} -> {}",
            digest("originalIndex"),
            digest("selectedManifest")
        ));
    }
}

//! `wharf inspect`, `wharf container inspect`, `wharf image inspect`.

use hyper::Method;
use wharf_api::client::{Body, Client, ClientError, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print, say};
use crate::filters::path;
use crate::{format, platform};

/// Kinds of objects, in the order in which a name is looked for.
const KINDS: [(&str, &str); 4] = [
    ("container", "/containers/{}/json"),
    ("image", "/images/{}/json"),
    ("network", "/networks/{}"),
    ("volume", "/volumes/{}"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    r#type: String,
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

impl Inspect {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let kinds: Vec<(&str, &str)> =
            KINDS.into_iter().filter(|(kind, _)| self.r#type.is_empty() || *kind == self.r#type).collect();
        if kinds.is_empty() {
            return Err(CliError::new(format!(
                "unknown type: \"{}\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
                self.r#type
            )));
        }
        inspect(target, &self.names, self.format.as_deref(), &kinds, self.size).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectContainer {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
}

impl InspectContainer {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        inspect(target, &self.names, self.format.as_deref(), &KINDS[..1], self.size).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectImage {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    platform: String,
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

impl InspectImage {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let path = path("/images/{}/json", &[("platform", &platform::query(&self.platform)?)]);
        inspect(target, &self.names, self.format.as_deref(), &[("image", &path)], false).await
    }
}

/// Shows each object; those not found are said and make the exit code 1.
pub(super) async fn inspect(
    target: &Target,
    names: &[String],
    format: Option<&str>,
    kinds: &[(&str, &str)],
    size: bool,
) -> Outcome {
    let client = target.connect().await?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match lookup(&client, name, kinds, size).await {
            Ok(document) => found.push(document),
            Err(error) => missing.push(error),
        }
    }
    let list = || format!("[{}]", found.join(","));
    match format {
        None | Some("") => print(&format::indented(&list()))?,
        Some("json") => print(&list())?,
        Some(format) => {
            for document in &found {
                print(&format::document(format, &serde_json::from_str(document)?)?)?;
            }
        }
    }
    missing.iter().for_each(|error| say(error.message()));
    Ok(i32::from(!missing.is_empty()))
}

/// The document as the daemon wrote it: its order is for people.
async fn lookup(client: &Client, name: &str, kinds: &[(&str, &str)], size: bool) -> Result<String, CliError> {
    for (kind, path) in kinds {
        let mut path = path.replace("{}", &escape(name));
        if size && *kind == "container" {
            path += "?size=1";
        }
        match client.bytes(Method::GET, &path, Body::Empty).await {
            Ok(document) => return Ok(String::from_utf8_lossy(&document).trim().to_owned()),
            Err(ClientError::Api { status: 404, .. }) if kinds.len() > 1 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CliError::new(format!("Error: No such object: {name}")))
}

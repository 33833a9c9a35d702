//! `wharf inspect`, `wharf container inspect`, `wharf image inspect`.

use serde_json::Value;
use wharf_api::client::{Client, ClientError, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print, say};
use crate::format;

/// Kinds of objects, in the order in which a name is looked for.
const KINDS: [(&str, &str); 4] =
    [("container", "/containers/{}/json"), ("image", "/images/{}/json"), ("network", "/networks/{}"), ("volume", "/volumes/{}")];

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
        let kinds: Vec<(&str, &str)> = KINDS.into_iter().filter(|(kind, _)| self.r#type.is_empty() || *kind == self.r#type).collect();
        if kinds.is_empty() {
            return Err(CliError::new(format!("unknown type: \"{}\"", self.r#type)));
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
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

impl InspectImage {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        inspect(target, &self.names, self.format.as_deref(), &KINDS[1..2], false).await
    }
}

/// Shows each object; those not found are said and make the exit code 1.
pub(super) async fn inspect(target: &Target, names: &[String], format: Option<&str>, kinds: &[(&str, &str)], size: bool) -> Outcome {
    let client = target.connect().await?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match lookup(&client, name, kinds, size).await {
            Ok(document) => found.push(document),
            Err(error) => missing.push(error),
        }
    }
    match format {
        None => print(&pretty(&Value::Array(found))?)?,
        Some(format) => found.iter().try_for_each(|document| print(&format::document(format, document)?))?,
    }
    missing.iter().for_each(|error| say(error.message()));
    Ok(i32::from(!missing.is_empty()))
}

async fn lookup(client: &Client, name: &str, kinds: &[(&str, &str)], size: bool) -> Result<Value, CliError> {
    for (kind, path) in kinds {
        let mut path = path.replace("{}", &escape(name));
        if size && *kind == "container" {
            path += "?size=1";
        }
        match client.get(&path).await {
            Ok(document) => return Ok(document),
            Err(ClientError::Api { status: 404, .. }) if kinds.len() > 1 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(CliError::new(format!("error: no such object: {name}")))
}

/// Indented by four blanks, as Docker does.
fn pretty(document: &Value) -> Result<String, CliError> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    serde::Serialize::serialize(document, &mut writer)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

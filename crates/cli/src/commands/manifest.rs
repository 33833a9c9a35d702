//! `wharf manifest inspect`: asks the registry itself, as Docker's client does.

use base64::Engine as _;
use serde::Serialize;
use serde_json::Value;
use wharf_distribution::client::{self, Client, Document, Kind, Manifests, Proxies, Repository};
use wharf_oci::{Descriptor, ImageConfig, Reference};

use super::Outcome;
use crate::connect::Target;
use crate::credentials::{self, Credentials};
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "[MANIFEST_LIST] MANIFEST", num_args = 1..=2, required = true)]
    names: Vec<String>,
}

/// A manifest with what leads to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose {
    r#ref: String,
    descriptor: Descriptor,
    raw: String,
    #[serde(skip_serializing_if = "Option::is_none", rename = "SchemaV2Manifest")]
    docker: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "OCIManifest")]
    oci: Option<Value>,
}

impl Inspect {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let name = self.names.last().map(String::as_str).unwrap_or_default();
        let reference =
            Reference::parse(name).map_err(|error| CliError::new(error.to_string()))?.with_default_tag();
        let repository = self.repository(target, &reference)?;
        let document = repository.manifest(&client::Target::of(&reference), None).await;
        let document = document.map_err(|error| missing(&reference, &error))?;
        if !self.verbose {
            print(&indented(&document.bytes))?;
            return Ok(0);
        }
        let text = match &document.manifests {
            Manifests::Image(_) => tabbed(&verbose(&repository, &reference, &document).await?),
            Manifests::Index(index) => {
                let mut all = Vec::new();
                for entry in &index.manifests {
                    let at = client::Target::Digest(entry.digest);
                    let child = repository.manifest(&at, Some(entry)).await;
                    let mut child = child.map_err(|error| missing(&reference, &error))?;
                    child.descriptor.platform.clone_from(&entry.platform);
                    all.push(verbose(&repository, &reference, &child).await?);
                }
                tabbed(&all)
            }
        };
        print(&text)?;
        Ok(0)
    }

    fn repository(&self, target: &Target, reference: &Reference) -> Result<Repository, CliError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let config = client::Config {
            insecure: if self.insecure { vec![reference.domain().to_owned()] } else { Vec::new() },
            proxies: Proxies {
                http: variable("HTTP_PROXY"),
                https: variable("HTTPS_PROXY"),
                none: variable("NO_PROXY"),
            },
            ..client::Config::default()
        };
        let client = Client::new(config).map_err(|error| CliError::new(error.to_string()))?;
        let kept = Credentials::open(&target.config_folder())?.get(credentials::server_of(reference))?;
        let credentials = match (kept.identitytoken.as_str(), kept.username.as_str()) {
            ("", "") => client::Credentials::Anonymous,
            ("", _) => client::Credentials::Password { username: kept.username, password: kept.password },
            _ => client::Credentials::Identity { username: kept.username, token: kept.identitytoken },
        };
        Ok(client.repository(reference, credentials))
    }
}

fn missing(reference: &Reference, error: &client::Error) -> CliError {
    match error.kind() {
        Kind::NotFound => CliError::new(format!("no such manifest: {}", reference.familiar())),
        _ => CliError::new(error.to_string()),
    }
}

async fn verbose(
    repository: &Repository,
    reference: &Reference,
    document: &Document,
) -> Result<Verbose, CliError> {
    let mut descriptor = document.descriptor.clone();
    if let (None, Manifests::Image(manifest)) = (&descriptor.platform, &document.manifests) {
        let config = repository.small_blob(&manifest.config, 8 << 20).await;
        let config = config.map_err(|error| CliError::new(error.to_string()))?;
        let config: ImageConfig = serde_json::from_slice(&config)?;
        descriptor.platform = Some(config.platform());
    }
    let value: Value = serde_json::from_slice(&document.bytes)?;
    let is_oci = descriptor.media_type.contains("oci");
    let named = match descriptor.platform {
        Some(_) if reference.digest().is_none() => reference.familiar(),
        _ => reference.without_suffix().with_digest(descriptor.digest).familiar(),
    };
    Ok(Verbose {
        r#ref: named,
        raw: base64::engine::general_purpose::STANDARD.encode(&document.bytes),
        docker: (!is_oci).then(|| value.clone()),
        oci: is_oci.then_some(value),
        descriptor,
    })
}

fn tabbed(document: &impl Serialize) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Documents of strings and numbers always serialise into memory.
    let _ = document.serialize(&mut serializer);
    String::from_utf8(text).unwrap_or_default()
}

/// JSON as received, in its own order, indented by tabs.
fn indented(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (mut out, mut depth) = (String::new(), 0_usize);
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n('\t', depth));
        };
        match c {
            c if c.is_whitespace() => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                if chars.peek().is_some_and(|next| !matches!(next, '}' | ']')) {
                    depth += 1;
                    line(&mut out, depth);
                } else {
                    out.extend(chars.next());
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                out.push(c);
                quoted = c == '"';
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_own_order() {
        let text = r#"{"b": [1,{"x":"a,\"b:{"}],  "a":{}, "c":[ ]}"#;
        assert_eq!(
            indented(text.as_bytes()),
            "{\n\t\"b\": [\n\t\t1,\n\t\t{\n\t\t\t\"x\": \"a,\\\"b:{\"\n\t\t}\n\t],\n\t\"a\": {},\n\t\"c\": []\n}"
        );
    }
}

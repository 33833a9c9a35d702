//! `wharf manifest …`: asks registries itself, as Docker's client does, and keeps lists that are being put together
//! where Docker's client keeps them.

mod annotate;
mod create;
mod inspect;
mod list;
mod push;
mod rm;

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use wharf_distribution::client::{self, Client, Document, Kind, Manifests, Proxies, Repository};
use wharf_oci::{Descriptor, ImageConfig, Manifest, Reference};

use super::{Outcome, commands};
use crate::connect::Target;
use crate::credentials::{self, Credentials};
use crate::error::CliError;

/// The most that is read of an image's config, bytes.
const CONFIG_LIMIT: u64 = 8 << 20;

commands! {
    /// The verbs.
    ManifestCommand {
        /// Add additional information to a local image manifest
        Annotate(annotate::Annotate),
        /// Create a local manifest list for annotating and pushing to a registry
        Create(create::Create),
        /// Display an image manifest, or manifest list
        Inspect(inspect::Inspect),
        /// Push a manifest list to a repository
        Push(push::Push),
        /// Delete one or more manifest lists from local storage
        Rm(rm::Rm),
    }
}

/// A manifest with what leads to it: what is shown, and what is kept of it in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    r#ref: String,
    descriptor: Descriptor,
    raw: String,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "SchemaV2Manifest")]
    docker: Option<Manifest>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "OCIManifest")]
    oci: Option<Manifest>,
}

impl Described {
    /// A manifest that was fetched; its platform is read from its config where nothing else says it.
    async fn of(repository: &Repository, name: String, document: &Document) -> Result<Self, CliError> {
        use base64::Engine as _;
        let mut descriptor = document.descriptor.clone();
        if let (None, Manifests::Image(manifest)) = (&descriptor.platform, &document.manifests) {
            let config = repository.small_blob(&manifest.config, CONFIG_LIMIT).await;
            let config = config.map_err(|error| CliError::new(error.to_string()))?;
            let config: ImageConfig = serde_json::from_slice(&config)?;
            descriptor.platform = Some(config.platform());
        }
        let value: Manifest = serde_json::from_slice(&document.bytes)?;
        let is_oci = descriptor.media_type.contains("oci");
        Ok(Self {
            r#ref: name,
            raw: base64::engine::general_purpose::STANDARD.encode(&document.bytes),
            docker: (!is_oci).then(|| value.clone()),
            oci: is_oci.then_some(value),
            descriptor,
        })
    }

    /// What is shown of it: the manifest in its own order.
    fn shown(&self) -> Result<String, CliError> {
        let plain = Self { docker: None, oci: None, ..self.clone() };
        let text = pretty(&plain, b"\t");
        let name = if self.oci.is_some() { "OCIManifest" } else { "SchemaV2Manifest" };
        let manifest = inspect::indented(&self.bytes()?).replace('\n', "\n\t");
        Ok(format!("{},\n\t\"{name}\": {manifest}\n}}", text.trim_end_matches("\n}")))
    }

    /// What is shown of several.
    fn shown_all(all: &[Self]) -> Result<String, CliError> {
        let shown: Vec<String> = all.iter().map(Self::shown).collect::<Result<_, _>>()?;
        Ok(format!("[\n\t{}\n]", shown.join(",\n").replace('\n', "\n\t")))
    }

    /// The manifest's very bytes.
    fn bytes(&self) -> Result<Vec<u8>, CliError> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.raw);
        bytes.map_err(|error| CliError::new(format!("manifest kept of {}: {error}", self.r#ref)))
    }
}

/// A name with its tag or digest.
fn named(name: &str) -> Result<Reference, CliError> {
    let reference = Reference::parse(name).map_err(|error| CliError::new(error.to_string()))?;
    Ok(reference.with_default_tag())
}

/// A repository, as the user's configuration reaches it.
fn repository(target: &Target, reference: &Reference, insecure: bool) -> Result<Repository, CliError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let config = client::Config {
        insecure: if insecure { vec![reference.domain().to_owned()] } else { Vec::new() },
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

/// What a registry has under a name.
async fn fetch(repository: &Repository, reference: &Reference) -> Result<Document, CliError> {
    let document = repository.manifest(&client::Target::of(reference), None).await;
    document.map_err(|error| missing(reference, &error))
}

fn missing(reference: &Reference, error: &client::Error) -> CliError {
    match error.kind() {
        Kind::NotFound => CliError::new(format!("no such manifest: {}", reference.familiar())),
        _ => CliError::new(error.to_string()),
    }
}

/// A document indented as Go's `json.MarshalIndent` does it.
fn pretty(document: &impl Serialize, indent: &[u8]) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Documents of strings and numbers always serialise into memory.
    let _ = document.serialize(&mut serializer);
    String::from_utf8(text).unwrap_or_default()
}

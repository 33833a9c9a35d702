//! `wharf create`, and the creating half of `wharf run`.

use std::io::Write;
use std::path::Path;

use wharf_api::client::{Client, ClientError, escape};
use wharf_api::{CreateRequest, CreateResponse};

use super::{Outcome, pull};
use crate::connect::Target;
use crate::container_flags::{ContainerFlags, request};
use crate::error::{CliError, print, say};
use crate::filters::path;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Create {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let document = request(&self.flags, false)?;
        let client = target.connect().await?;
        let created = create(target, &client, &self.flags, &document).await?;
        print(&created.id)?;
        Ok(0)
    }
}

/// Creates the container, fetching its image first as `--pull` says.
pub(super) async fn create(
    target: &Target,
    client: &Client,
    flags: &ContainerFlags,
    document: &CreateRequest,
) -> Result<CreateResponse, CliError> {
    let file = flags.cidfile.as_deref().map(IdFile::open).transpose()?;
    let (platform, quiet) = (flags.platform.as_deref(), flags.quiet);
    let fetch = pull::Fetch { target, client, platform, quiet, aside: true };
    match flags.pull.as_str() {
        "always" => fetch.named(&flags.image).await?,
        "missing" | "never" => {}
        other => {
            return Err(CliError::new(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            ))
            .with_code(125));
        }
    }
    let name = flags.name.as_deref().map(escape).unwrap_or_default();
    let platform = platform.map(escape).unwrap_or_default();
    let call = path("/containers/create", &[("name", &name), ("platform", &platform)]);
    let created = match client.post::<CreateResponse>(&call, document).await {
        Err(ClientError::Api { status: 404, message })
            if message.starts_with("No such image") && flags.pull == "missing" =>
        {
            if !flags.quiet {
                say(&format!("Unable to find image '{}' locally", pull::tagged(&flags.image)));
            }
            fetch.named(&flags.image).await?;
            client.post(&call, document).await?
        }
        other => other?,
    };
    for warning in &created.warnings {
        say(&format!("WARNING: {warning}"));
    }
    if let Some(mut file) = file {
        file.write(&created.id)?;
    }
    Ok(created)
}

/// `--cidfile`: must not exist before, and does not stay when nothing was created.
struct IdFile<'a> {
    path: &'a Path,
    file: std::fs::File,
    written: bool,
}

impl<'a> IdFile<'a> {
    fn open(path: &'a Path) -> Result<Self, CliError> {
        let file = std::fs::File::create_new(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => CliError::new(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            )),
            _ => {
                CliError::new(format!("failed to create the container ID file: {}: {error}", path.display()))
            }
        })?;
        Ok(Self { path, file, written: false })
    }

    fn write(&mut self, id: &str) -> Result<(), CliError> {
        self.file.write_all(id.as_bytes())?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

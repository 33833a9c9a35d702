//! `wharf save`, and writing what the daemon sends to a file.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use wharf_api::client::{Body, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform variant
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    platform: String,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Save {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        refuse_terminal(self.output.as_deref())?;
        let client = target.connect().await?;
        let mut names: Vec<String> =
            self.images.iter().map(|name| format!("names={}", escape(name))).collect();
        if !self.platform.is_empty() {
            names.push(format!("platform={}", crate::platform::query(&self.platform)?));
        }
        let answer =
            client.send(Method::GET, &format!("/images/get?{}", names.join("&")), Body::Empty, &[]).await?;
        receive(answer.into_body(), self.output.as_deref()).await?;
        Ok(0)
    }
}

/// An archive is nothing for a terminal.
pub(super) fn refuse_terminal(output: Option<&Path>) -> Result<(), CliError> {
    if output.is_none() && std::io::stdout().is_terminal() {
        return Err(CliError::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    Ok(())
}

/// Writes a body to a file, which appears whole or not at all, or to standard output.
pub(super) async fn receive(mut body: Incoming, output: Option<&Path>) -> Result<(), CliError> {
    let partial = output.map(|path| {
        path.with_file_name(format!(".{}.partial", path.file_name().unwrap_or_default().to_string_lossy()))
    });
    let mut sink: Box<dyn Write> = match &partial {
        Some(path) => Box::new(
            std::fs::File::create(path)
                .map_err(|error| CliError::new(format!("{}: {error}", path.display())))?,
        ),
        None => Box::new(std::io::stdout()),
    };
    let outcome = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CliError::new(error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                sink.write_all(&bytes)?;
            }
        }
        sink.flush()?;
        Ok::<(), CliError>(())
    }
    .await;
    if let (Some(partial), Some(path)) = (&partial, output) {
        if outcome.is_ok() {
            std::fs::rename(partial, path)?;
        } else {
            let _ = std::fs::remove_file(partial);
        }
    }
    outcome
}

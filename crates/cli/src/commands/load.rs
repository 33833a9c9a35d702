//! `wharf load`, and sending files to the daemon.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::Method;
use wharf_api::client::Body;

use super::{Outcome, pull};
use crate::connect::Target;
use crate::error::{CliError, print};
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only the given platform variant
    #[arg(long, value_name = "STRING")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if self.input.is_none() && std::io::stdin().is_terminal() {
            return Err(CliError::new("requested load from stdin, but stdin is empty"));
        }
        let body = send(self.input.as_deref())?;
        let client = target.connect().await?;
        let answer = client
            .send(
                Method::POST,
                &path(
                    "/images/load",
                    &[
                        ("quiet", if self.quiet { "1" } else { "0" }),
                        ("platform", &crate::platform::query(self.platform.as_deref().unwrap_or_default())?),
                    ],
                ),
                body,
                &[],
            )
            .await?;
        let mut failed = None;
        pull::messages(answer.into_body(), |message| {
            if let Some(error) = message["error"].as_str() {
                failed = Some(CliError::new(error));
            } else if let Some(text) = message["stream"].as_str() {
                drop(print(text.trim_end_matches('\n')));
            }
        })
        .await?;
        failed.map_or(Ok(0), Err)
    }
}

/// A file (or standard input) as the body of a request, read by a thread of its own.
pub(super) fn send(file: Option<&Path>) -> Result<Body, CliError> {
    let mut reader: Box<dyn Read + Send> = match file {
        Some(path) => Box::new(std::fs::File::open(path).map_err(|error| {
            CliError::new(format!("open {}: {}", path.display(), crate::error::reason(&error)))
        })?),
        None => Box::new(std::io::stdin()),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(count) = reader.read(&mut buffer) {
            if count == 0 || sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                return;
            }
        }
    });
    Ok(Body::Stream(receiver))
}

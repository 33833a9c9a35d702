//! `wharf export`.

use std::path::PathBuf;

use hyper::Method;
use wharf_api::client::{Body, escape};

use super::{Outcome, save};
use crate::connect::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    container: String,
}

impl Export {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        save::refuse_terminal(self.output.as_deref())?;
        let client = target.connect().await?;
        let answer = client
            .send(Method::GET, &format!("/containers/{}/export", escape(&self.container)), Body::Empty, &[])
            .await?;
        save::receive(answer.into_body(), self.output.as_deref()).await?;
        Ok(0)
    }
}

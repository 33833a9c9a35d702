//! `wharf diff`.

use wharf_api::FilesystemChange;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    container: String,
}

impl Diff {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let changes: Option<Vec<FilesystemChange>> =
            client.get(&format!("/containers/{}/changes", escape(&self.container))).await?;
        for change in changes.into_iter().flatten() {
            let kind = match change.kind {
                0 => 'C',
                1 => 'A',
                _ => 'D',
            };
            print(&format!("{kind} {}", change.path))?;
        }
        Ok(0)
    }
}

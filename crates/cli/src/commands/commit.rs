//! `wharf commit`.

use wharf_api::IdResponse;
use wharf_api::client::escape;

use super::{Outcome, tag};
use crate::connect::Target;
use crate::error::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "LIST")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Commit {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let (repository, tag) = self.reference.as_deref().map(tag::split).transpose()?.unwrap_or_default();
        let mut path =
            format!("/commit?container={}&pause={}", escape(&self.container), u8::from(self.pause));
        for (name, value) in
            [("repo", &repository), ("tag", &tag), ("comment", &self.message), ("author", &self.author)]
        {
            if !value.is_empty() {
                path += &format!("&{name}={}", escape(value));
            }
        }
        for change in &self.change {
            path += &format!("&changes={}", escape(change));
        }
        let client = target.connect().await?;
        let made: IdResponse = client.post(&path, &serde_json::json!({})).await?;
        print(&made.id)?;
        Ok(0)
    }
}

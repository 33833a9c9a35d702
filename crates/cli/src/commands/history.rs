//! `wharf history`.

use serde_json::json;
use wharf_api::HistoryItem;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::print;
use crate::{format, units};

#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

impl History {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let items: Vec<HistoryItem> = client.get(&format!("/images/{}/history", escape(&self.image))).await?;
        let id = |id: &str| if self.no_trunc { id.to_owned() } else { units::short_id(id) };
        if self.quiet {
            items.iter().try_for_each(|item| print(&id(&item.id)))?;
            return Ok(0);
        }
        let rows: Vec<format::Row> = items
            .iter()
            .map(|item| {
                let by = if self.no_trunc || item.created_by.chars().count() <= 45 { item.created_by.clone() } else { item.created_by.chars().take(44).chain(['…']).collect() };
                let size = if self.human { units::short_size(item.size) } else { item.size.to_string() };
                vec![
                    ("ID", "IMAGE", json!(id(&item.id))),
                    ("CreatedSince", "CREATED", json!(units::ago(item.created))),
                    ("CreatedAt", "CREATED AT", json!(item.created.to_string())),
                    ("CreatedBy", "CREATED BY", json!(by)),
                    ("Size", "SIZE", json!(size)),
                    ("Comment", "COMMENT", json!(item.comment)),
                ]
            })
            .collect();
        format::rows(self.format.as_deref(), &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"], &rows)?;
        Ok(0)
    }
}

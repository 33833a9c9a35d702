//! `wharf history`.

use serde_json::json;
use wharf_api::HistoryItem;
use wharf_api::client::escape;

use super::{Outcome, ps};
use crate::connect::Target;
use crate::error::print;
use crate::filters::path;
use crate::platform;
use crate::{format, units};

const COLUMNS: [format::Column; 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

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
    /// Show history for the given platform
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    platform: String,
    image: String,
}

impl History {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let items: Vec<HistoryItem> = client
            .get(&path(
                &format!("/images/{}/history", escape(&self.image)),
                &[("platform", &platform::query(&self.platform)?)],
            ))
            .await?;
        let id = |id: &str| if self.no_trunc { id.to_owned() } else { units::short_id(id) };
        if self.quiet {
            items.iter().try_for_each(|item| print(&id(&item.id)))?;
            return Ok(0);
        }
        let rows: Vec<format::Row> = items
            .iter()
            .map(|item| {
                let by = item.created_by.replace('\t', " ");
                let by = if self.no_trunc { by } else { ps::shortened(&by, 45) };
                let size = if self.human { units::short_size(item.size) } else { item.size.to_string() };
                vec![
                    ("ID", json!(id(&item.id))),
                    (
                        "CreatedSince",
                        json!(if item.created <= 0 { "N/A".to_owned() } else { units::ago(item.created) }),
                    ),
                    (
                        "CreatedAt",
                        json!(jiff::Timestamp::from_second(item.created).unwrap_or_default().to_string()),
                    ),
                    ("CreatedBy", json!(by)),
                    ("Size", json!(size)),
                    ("Comment", json!(item.comment)),
                ]
            })
            .collect();
        let created = if self.human { "CreatedSince" } else { "CreatedAt" };
        format::rows(
            self.format.as_deref(),
            &COLUMNS,
            &["ID", created, "CreatedBy", "Size", "Comment"],
            &rows,
        )?;
        Ok(0)
    }
}

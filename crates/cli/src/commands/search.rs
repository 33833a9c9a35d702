//! `wharf search`.

use serde_json::{Value, json};
use wharf_api::client::escape;

use super::{Outcome, ps};
use crate::connect::Target;
use crate::error::CliError;
use crate::{filters, format};

const COLUMNS: [format::Column; 5] = [
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "INT", default_value_t = 0)]
    limit: i64,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "TERM")]
    term: String,
}

impl Search {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if self.limit < 0 {
            return Err(CliError::new(format!("limit {} is outside the range of [1, 100]", self.limit)));
        }
        let client = target.connect().await?;
        let limit = if self.limit > 0 { self.limit.to_string() } else { String::new() };
        let query =
            [("term", &*escape(&self.term)), ("limit", &limit), ("filters", &filters::query(&self.filter)?)];
        let found: Vec<Value> = client.get(&filters::path("/images/search", &query)).await?;
        let rows: Vec<format::Row> = found.iter().map(|item| self.row(item)).collect();
        format::rows(
            self.format.as_deref(),
            &COLUMNS,
            &["Name", "Description", "StarCount", "IsOfficial"],
            &rows,
        )?;
        Ok(0)
    }

    fn row(&self, item: &Value) -> format::Row {
        let description = item["description"].as_str().unwrap_or_default().replace(['\n', '\r'], " ");
        let description = if self.no_trunc { description } else { ps::shortened(&description, 45) };
        let mark = |key: &str| json!(if item[key] == true { "[OK]" } else { "" });
        vec![
            ("Name", item["name"].clone()),
            ("Description", json!(description)),
            ("StarCount", json!(item["star_count"].to_string())),
            ("IsOfficial", mark("is_official")),
            ("IsAutomated", mark("is_automated")),
        ]
    }
}

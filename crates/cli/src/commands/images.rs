//! `wharf images`.

use serde_json::json;
use wharf_api::ImageSummary;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::filters::{path, query};
use crate::{format, units};

pub(super) const COLUMNS: [format::Column; 11] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

impl Images {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut filters = self.filter.clone();
        filters.extend(self.repository.iter().map(|name| format!("reference={name}")));
        let all = if self.all { "1" } else { "" };
        let target = path(
            "/images/json",
            &[
                ("all", all),
                ("filters", &query(&filters)?),
                ("digests", &escape(if self.digests { "1" } else { "" })),
            ],
        );
        let mut images: Vec<ImageSummary> = client.get(&target).await?;
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            columns.insert(2, "Digest");
        }
        let rows: Vec<format::Row> = images.iter().flat_map(|image| self.rows(image)).collect();
        if self.quiet && self.format.is_none() {
            // A line for each name, as the table has.
            format::rows(Some("{{.ID}}"), &COLUMNS, &[], &rows)?;
            return Ok(0);
        }
        format::rows(self.format.as_deref(), &COLUMNS, &columns, &rows)?;
        Ok(0)
    }

    /// A row for each name; one of `<none>` for an image without any.
    pub(super) fn rows(&self, image: &ImageSummary) -> Vec<format::Row> {
        let tags: Vec<&String> = image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").collect();
        let digest = |repository: &str| {
            let found =
                image.repo_digests.iter().find_map(|name| name.strip_prefix(repository)?.strip_prefix('@'));
            found.unwrap_or("<none>").to_owned()
        };
        let names: Vec<(String, String)> = if tags.is_empty() {
            let repository =
                image.repo_digests.first().and_then(|name| name.split('@').next()).unwrap_or("<none>");
            vec![(repository.to_owned(), "<none>".into())]
        } else {
            tags.iter()
                .filter_map(|tag| tag.rsplit_once(':'))
                .map(|(name, tag)| (name.to_owned(), tag.to_owned()))
                .collect()
        };
        names
            .into_iter()
            .map(|(repository, tag)| {
                vec![
                    ("Digest", json!(digest(&repository))),
                    ("Repository", json!(repository)),
                    ("Tag", json!(tag)),
                    ("ID", json!(if self.no_trunc { image.id.clone() } else { units::short_id(&image.id) })),
                    ("CreatedSince", json!(units::ago(image.created))),
                    ("CreatedAt", json!(units::date(image.created))),
                    ("Size", json!(units::short_size(image.size))),
                    ("VirtualSize", json!(units::size(image.size))),
                    ("Containers", json!(known(image.containers, image.containers.to_string()))),
                    ("SharedSize", json!(known(image.shared_size, units::size(image.shared_size)))),
                    (
                        "UniqueSize",
                        json!(known(image.shared_size, units::size(image.size - image.shared_size))),
                    ),
                ]
            })
            .collect()
    }
}

/// -1 means that nobody counted.
fn known(number: i64, text: String) -> String {
    if number < 0 { "N/A".into() } else { text }
}

//! `wharf images`.

use serde_json::json;
use wharf_api::ImageSummary;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::print;
use crate::filters::{path, query};
use crate::{format, units};

#[derive(Debug, clap::Args)]
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
        let target = path("/images/json", &[("all", all), ("filters", &query(&filters)?), ("digests", &escape(if self.digests { "1" } else { "" }))]);
        let images: Vec<ImageSummary> = client.get(&target).await?;
        if self.quiet && self.format.is_none() {
            for image in &images {
                print(&self.id(&image.id))?;
            }
            return Ok(0);
        }
        let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            columns.insert(2, "Digest");
        }
        let rows: Vec<format::Row> = images.iter().flat_map(|image| self.rows(image)).collect();
        format::rows(self.format.as_deref(), &columns, &rows)?;
        Ok(0)
    }

    fn id(&self, id: &str) -> String {
        if self.no_trunc { id.to_owned() } else { units::short_id(id) }
    }

    /// A row for each name; one of `<none>` for an image without any.
    fn rows(&self, image: &ImageSummary) -> Vec<format::Row> {
        let tags: Vec<&String> = image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").collect();
        let digest = |repository: &str| {
            let found = image.repo_digests.iter().find_map(|name| name.strip_prefix(repository)?.strip_prefix('@'));
            found.unwrap_or("<none>").to_owned()
        };
        let names: Vec<(String, String)> = if tags.is_empty() {
            let repository = image.repo_digests.first().and_then(|name| name.split('@').next()).unwrap_or("<none>");
            vec![(repository.to_owned(), "<none>".into())]
        } else {
            tags.iter().filter_map(|tag| tag.rsplit_once(':')).map(|(name, tag)| (name.to_owned(), tag.to_owned())).collect()
        };
        names
            .into_iter()
            .map(|(repository, tag)| {
                vec![
                    ("Digest", "DIGEST", json!(digest(&repository))),
                    ("Repository", "REPOSITORY", json!(repository)),
                    ("Tag", "TAG", json!(tag)),
                    ("ID", "IMAGE ID", json!(self.id(&image.id))),
                    ("CreatedSince", "CREATED", json!(units::ago(image.created))),
                    ("CreatedAt", "CREATED AT", json!(image.created.to_string())),
                    ("Size", "SIZE", json!(units::short_size(image.size))),
                    ("Containers", "CONTAINERS", json!(image.containers.to_string())),
                ]
            })
            .collect()
    }
}

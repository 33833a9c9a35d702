//! `wharf rmi`.

use hyper::Method;
use wharf_api::DeleteItem;
use wharf_api::client::{Body, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print, say};
use crate::filters::path;

#[derive(Debug, clap::Args)]
pub(crate) struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    platform: Vec<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let flag = |set: bool| if set { "1" } else { "" };
        let platforms = self.platform.iter().map(|platform| crate::platform::query(platform));
        let platforms: Vec<String> = platforms.collect::<Result<_, _>>()?;
        let mut query = vec![("force", flag(self.force)), ("noprune", flag(self.no_prune))];
        query.extend(platforms.iter().map(|platform| ("platforms", platform.as_str())));
        let mut code = 0;
        for image in &self.images {
            let target = path(&format!("/images/{}", escape(image)), &query);
            match client.bytes(Method::DELETE, &target, Body::Empty).await {
                Ok(bytes) => {
                    let items: Vec<DeleteItem> =
                        wharf_api::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))?;
                    items.iter().try_for_each(say_deleted)?;
                }
                Err(error) => {
                    say(&error.to_string());
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

/// `Untagged: …` or `Deleted: …`.
fn say_deleted(item: &DeleteItem) -> Result<(), CliError> {
    if item.untagged.is_empty() {
        print(&format!("Deleted: {}", item.deleted))
    } else {
        print(&format!("Untagged: {}", item.untagged))
    }
}

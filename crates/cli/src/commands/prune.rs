//! `wharf container|image|volume|network|system prune`.

use std::io::{BufRead, Write};

use serde_json::Value;
use wharf_api::client::Client;

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print};
use crate::filters::{path, query};
use crate::units;

/// Flags that every prune has.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Common {
    /// Asks, unless told not to; `false` means no.
    fn confirmed(&self, warning: &str) -> Result<bool, CliError> {
        if self.force {
            return Ok(true);
        }
        write!(std::io::stdout(), "WARNING! {warning}\nAre you sure you want to continue? [y/N] ")?;
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(answer.trim().eq_ignore_ascii_case("y"))
    }
}

impl Common {
    /// Prunes the build cache.
    pub(super) async fn build_cache(&self, target: &Target, warning: &str, all: bool) -> Outcome {
        if !self.confirmed(warning)? {
            return Ok(0);
        }
        let client = target.connect().await?;
        let path =
            path("/build/prune", &[("all", if all { "1" } else { "" }), ("filters", &query(&self.filter)?)]);
        let answer: Value = client.post(&path, &serde_json::json!({})).await?;
        reclaimed(answer["SpaceReclaimed"].as_i64().unwrap_or(0))
    }
}

/// Prunes one kind: says what went, and gives the bytes freed.
async fn prune(
    client: &Client,
    noun: &str,
    filters: &[String],
    header: &str,
    list: &str,
) -> Result<i64, CliError> {
    let target = path(&format!("/{noun}/prune"), &[("filters", &query(filters)?)]);
    let answer: Value = client.post(&target, &serde_json::json!({})).await?;
    let gone: Vec<String> = answer[list].as_array().into_iter().flatten().map(line).collect();
    if !gone.is_empty() {
        print(&format!("{header}:\n{}\n", gone.join("\n")))?;
    }
    Ok(answer["SpaceReclaimed"].as_i64().unwrap_or(0))
}

fn line(item: &Value) -> String {
    let word = |name: &str| item[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    word("Untagged")
        .map(|name| format!("untagged: {name}"))
        .or_else(|| word("Deleted").map(|name| format!("deleted: {name}")))
        .unwrap_or_else(|| item.as_str().unwrap_or_default().to_owned())
}

fn reclaimed(bytes: i64) -> Outcome {
    print(&format!("Total reclaimed space: {}", units::size(bytes)))?;
    Ok(0)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Containers {
    #[command(flatten)]
    common: Common,
}

impl Containers {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if !self.common.confirmed("This will remove all stopped containers.")? {
            return Ok(0);
        }
        let client = target.connect().await?;
        reclaimed(
            prune(&client, "containers", &self.common.filter, "Deleted Containers", "ContainersDeleted")
                .await?,
        )
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

impl Images {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let what = if self.all {
            "This will remove all images without at least one container associated to them."
        } else {
            "This will remove all dangling images."
        };
        if !self.common.confirmed(what)? {
            return Ok(0);
        }
        let mut filters = self.common.filter.clone();
        filters.push(format!("dangling={}", !self.all));
        let client = target.connect().await?;
        reclaimed(prune(&client, "images", &filters, "Deleted Images", "ImagesDeleted").await?)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Volumes {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

impl Volumes {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let what = if self.all {
            "This will remove all local volumes not used by at least one container."
        } else {
            "This will remove anonymous local volumes not used by at least one container."
        };
        if !self.common.confirmed(what)? {
            return Ok(0);
        }
        let mut filters = self.common.filter.clone();
        filters.extend(self.all.then(|| "all=true".to_owned()));
        let client = target.connect().await?;
        reclaimed(prune(&client, "volumes", &filters, "Deleted Volumes", "VolumesDeleted").await?)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Networks {
    #[command(flatten)]
    common: Common,
}

impl Networks {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if !self
            .common
            .confirmed("This will remove all custom networks not used by at least one container.")?
        {
            return Ok(0);
        }
        let client = target.connect().await?;
        prune(&client, "networks", &self.common.filter, "Deleted Networks", "NetworksDeleted").await?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct System {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    common: Common,
}

impl System {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if !self.common.confirmed("This will remove all stopped containers, all networks and images not used by at least one container.")? {
            return Ok(0);
        }
        let client = target.connect().await?;
        let filters = &self.common.filter;
        let mut freed =
            prune(&client, "containers", filters, "Deleted Containers", "ContainersDeleted").await?;
        prune(&client, "networks", filters, "Deleted Networks", "NetworksDeleted").await?;
        if self.volumes {
            freed += prune(&client, "volumes", filters, "Deleted Volumes", "VolumesDeleted").await?;
        }
        let mut images = filters.clone();
        images.push(format!("dangling={}", !self.all));
        freed += prune(&client, "images", &images, "Deleted Images", "ImagesDeleted").await?;
        reclaimed(freed)
    }
}

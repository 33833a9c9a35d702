//! `wharf volume …`.

use std::collections::BTreeMap;

use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use wharf_api::Volume;

use super::{Outcome, commands, each, inspect, prune, ps};
use crate::connect::Target;
use crate::error::{CliError, print};
use crate::filters::{path, query};
use crate::format;

commands! {
    /// The verbs of volumes.
    VolumeCommand {
        /// Create a volume
        Create(Create),
        /// Display detailed information on one or more volumes
        Inspect(Inspect),
        /// List volumes
        #[command(visible_alias = "list")]
        Ls(Ls),
        /// Remove unused local volumes
        Prune(prune::Volumes),
        /// Remove one or more volumes
        #[command(visible_alias = "remove")]
        Rm(Rm),
        /// Update a volume (cluster volumes only)
        Update(Update),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Specify volume driver name
    #[arg(short, long, value_name = "STRING", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "MAP")]
    opt: Vec<String>,
    #[arg(value_name = "VOLUME", default_value = "", hide_default_value = true)]
    name: String,
}

impl Create {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let pairs = |list: &[String]| -> BTreeMap<String, String> {
            list.iter()
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let request = json!({ "Name": self.name, "Driver": self.driver, "DriverOpts": pairs(&self.opt), "Labels": pairs(&self.label) });
        let made: Volume = client.post("/volumes/create", &request).await?;
        print(&made.name)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

impl Inspect {
    async fn run(self, target: &Target) -> Outcome {
        inspect::inspect(target, &self.names, self.format.as_deref(), &[("volume", "/volumes/{}")], false)
            .await
    }
}

pub(super) const COLUMNS: [format::Column; 11] = [
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Label", ""),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let list: wharf_api::VolumeList =
            client.get(&path("/volumes", &[("filters", &query(&self.filter)?)])).await?;
        let mut volumes: Vec<Volume> = list.volumes.into_iter().collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        if self.quiet && self.format.is_none() {
            volumes.iter().try_for_each(|volume| print(&volume.name))?;
            return Ok(0);
        }
        let row = |volume: &Volume| -> format::Row {
            vec![
                ("Driver", json!(volume.driver)),
                ("Name", json!(volume.name)),
                ("Scope", json!(volume.scope)),
                ("Mountpoint", json!(volume.mountpoint)),
                ("Labels", json!(ps::joined(&volume.labels.clone().unwrap_or_default()))),
                ("Label", json!(volume.labels)),
                ("Links", json!("N/A")),
                ("Size", json!("N/A")),
                ("Availability", json!("N/A")),
                ("Group", json!("N/A")),
                ("Status", json!("N/A")),
            ]
        };
        let rows: Vec<format::Row> = volumes.iter().map(row).collect();
        format::rows(self.format.as_deref(), &COLUMNS, &["Driver", "Name"], &rows)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

impl Rm {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let force = if self.force { "1" } else { "" };
        each(&client, Method::DELETE, &self.names, |name| {
            path(&format!("/volumes/{name}"), &[("force", force)])
        })
        .await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Cluster volume availability ("active", "pause", "drain")
    #[arg(long, value_name = "STRING", default_value = "active")]
    availability: String,
    #[arg(value_name = "VOLUME")]
    name: String,
}

impl Update {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let volume: Volume =
            client.get(&format!("/volumes/{}", wharf_api::client::escape(&self.name))).await?;
        Err(CliError::new(format!(
            "{}: can only update cluster volumes (asked for availability {})",
            volume.name, self.availability
        )))
    }
}

//! `wharf volume …`.

use std::collections::BTreeMap;

use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use wharf_api::Volume;

use super::{Outcome, commands, each, inspect, prune};
use crate::connect::Target;
use crate::error::print;
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
            list.iter().map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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
        inspect::inspect(target, &self.names, self.format.as_deref(), &[("volume", "/volumes/{}")], false).await
    }
}

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
        let list: wharf_api::VolumeList = client.get(&path("/volumes", &[("filters", &query(&self.filter)?)])).await?;
        let mut volumes: Vec<Volume> = list.volumes.into_iter().collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        if self.quiet {
            volumes.iter().try_for_each(|volume| print(&volume.name))?;
            return Ok(0);
        }
        let row = |volume: &Volume| -> format::Row {
            vec![
                ("Driver", "DRIVER", json!(volume.driver)),
                ("Name", "VOLUME NAME", json!(volume.name)),
                ("Scope", "SCOPE", json!(volume.scope)),
                ("Mountpoint", "MOUNTPOINT", json!(volume.mountpoint)),
            ]
        };
        let rows: Vec<format::Row> = volumes.iter().map(row).collect();
        format::rows(self.format.as_deref(), &["Driver", "Name"], &rows)?;
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
        each(&client, Method::DELETE, &self.names, |name| path(&format!("/volumes/{name}"), &[("force", force)])).await
    }
}

//! `wharf volume …`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use wharf_api::Volume;
use wharf_api::client::{Body, escape};

use super::{Outcome, commands, each, inspect, load, prune, ps, save};
use crate::connect::Target;
use crate::error::{CliError, print, say};
use crate::filters::{path, query};
use crate::format;

commands! {
    /// The verbs of volumes.
    VolumeCommand {
        /// Copy a volume into a new one, sharing contents where the file system can
        Clone(Duplicate),
        /// Create a volume
        Create(Create),
        /// Write the content of a volume as a tar archive
        Export(Export),
        /// Make a volume of a tar archive
        Import(Import),
        /// Display detailed information on one or more volumes
        Inspect(Inspect),
        /// List volumes
        #[command(visible_alias = "list")]
        Ls(Ls),
        /// Remove unused local volumes
        Prune(prune::Volumes),
        /// Give a volume another name
        Rename(Rename),
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
        let options = (!self.opt.is_empty()).then(|| pairs(&self.opt));
        let request = json!({ "Name": self.name, "Driver": self.driver, "DriverOpts": options, "Labels": pairs(&self.label) });
        let made: Volume = client.post("/volumes/create", &request).await?;
        print(&made.name)?;
        Ok(0)
    }
}

fn pairs(list: &[String]) -> BTreeMap<String, String> {
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    list.iter().map(pair).collect()
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
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "VOLUME")]
    name: String,
}

impl Export {
    async fn run(self, target: &Target) -> Outcome {
        save::refuse_terminal(self.output.as_deref())?;
        let client = target.connect().await?;
        let path = format!("/volumes/{}/export", escape(&self.name));
        let answer = client.send(Method::GET, &path, Body::Empty, &[]).await?;
        save::receive(answer.into_body(), self.output.as_deref()).await?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Set metadata for the volume
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    #[arg(value_name = "VOLUME")]
    name: String,
    /// An archive, compressed or not; "-" is standard input
    #[arg(value_name = "file|-", default_value = "-")]
    source: String,
}

impl Import {
    async fn run(self, target: &Target) -> Outcome {
        let body = load::send(Some(Path::new(&self.source)).filter(|path| *path != "-"))?;
        let client = target.connect().await?;
        let labels =
            if self.label.is_empty() { String::new() } else { json!(pairs(&self.label)).to_string() };
        let path = format!("/volumes/{}/import?labels={}", escape(&self.name), escape(&labels));
        let answer = client.send(Method::POST, &path, body, &[]).await?;
        // The answer is the volume, whose name is known.
        drop(answer);
        print(&self.name)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Duplicate {
    /// Set metadata for the new volume, instead of the original's
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    #[arg(value_name = "VOLUME")]
    name: String,
    #[arg(value_name = "NEW_VOLUME", default_value = "", hide_default_value = true)]
    new: String,
}

impl Duplicate {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut request = json!({ "Name": self.new });
        if !self.label.is_empty() {
            request["Labels"] = json!(pairs(&self.label));
        }
        let answer: serde_json::Value =
            client.post(&format!("/volumes/{}/clone", escape(&self.name)), &request).await?;
        for warning in answer["Warnings"].as_array().into_iter().flatten() {
            say(&format!("WARNING: {}", warning.as_str().unwrap_or_default()));
        }
        print(answer["Volume"]["Name"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    #[arg(value_name = "VOLUME")]
    name: String,
    #[arg(value_name = "NEW_NAME")]
    new: String,
}

impl Rename {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let path = format!("/volumes/{}/rename?name={}", escape(&self.name), escape(&self.new));
        client.call(Method::POST, &path).await?;
        Ok(0)
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
        let volume: Volume = client.get(&format!("/volumes/{}", escape(&self.name))).await?;
        Err(CliError::new(format!(
            "{}: can only update cluster volumes (asked for availability {})",
            volume.name, self.availability
        )))
    }
}

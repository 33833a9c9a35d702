//! `wharf ps`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_api::ContainerSummary;

use super::{Outcome, ports, reach};
use crate::connect::Target;
use crate::error::print;
use crate::filters::{path, query};
use crate::{format, terminal, units};

pub(super) const COLUMNS: [format::Column; 16] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Networks", "NETWORKS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Platform", "PLATFORM"),
    ("Label", ""),
];

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "INT", default_value_t = -1, allow_negative_numbers = true)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Ps {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let limit = if self.latest { 1 } else { self.last };
        let limit = if limit > 0 { limit.to_string() } else { String::new() };
        let sized = self.size
            || self
                .format
                .as_deref()
                .is_some_and(|format| format.contains(".Size") || format.contains("json ."));
        let flag = |set: bool| if set { "1" } else { "" };
        let target = path(
            "/containers/json",
            &[
                ("all", flag(self.all)),
                ("limit", &limit),
                ("size", flag(sized)),
                ("filters", &query(&self.filter)?),
            ],
        );
        let containers: Vec<ContainerSummary> = client.get(&target).await?;
        if self.quiet && self.format.is_none() {
            for container in &containers {
                print(&self.id(&container.id))?;
            }
            return Ok(0);
        }
        let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
        if self.size {
            columns.push("Size");
        }
        let rows: Vec<format::Row> = containers.iter().map(|container| self.row(container)).collect();
        format::rows(self.format.as_deref(), &COLUMNS, &columns, &rows)?;
        // For people only: whoever reads what is piped has asked for the table and nothing else.
        if self.format.is_none() && terminal::stderr_is_terminal() {
            let published = |one: &&ContainerSummary| one.ports.iter().any(|port| port.public_port != 0);
            for container in containers.iter().filter(published) {
                reach::tell(&client, &container.id).await;
            }
        }
        Ok(0)
    }

    fn id(&self, id: &str) -> String {
        if self.no_trunc { id.to_owned() } else { units::short_id(id) }
    }

    pub(super) fn row(&self, container: &ContainerSummary) -> format::Row {
        let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
        let labels = container.labels.clone().unwrap_or_default();
        let networks: Vec<String> =
            container.network_settings.networks.iter().flatten().map(|(name, _)| name.clone()).collect();
        let mounts = container
            .mounts
            .iter()
            .map(|mount| if mount.name.is_empty() { &*mount.source } else { &*mount.name });
        let mounts: Vec<String> =
            mounts.map(|mount| if self.no_trunc { mount.to_owned() } else { shortened(mount, 15) }).collect();
        let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
        let size = if container.size_root_fs > 0 {
            format!(
                "{} (virtual {})",
                units::short_size(container.size_rw),
                units::short_size(container.size_root_fs)
            )
        } else {
            units::short_size(container.size_rw)
        };
        vec![
            ("ID", json!(self.id(&container.id))),
            ("Image", json!(if container.image.is_empty() { "<no image>" } else { &container.image })),
            ("Command", json!(command(&container.command, self.no_trunc))),
            ("RunningFor", json!(units::ago(container.created))),
            ("CreatedAt", json!(units::date(container.created))),
            ("State", json!(container.state)),
            ("Status", json!(container.status)),
            ("Ports", json!(ports::shown(&container.ports))),
            ("Names", json!(names.join(","))),
            ("Size", json!(size)),
            ("Labels", json!(joined(&labels))),
            ("Networks", json!(networks.join(","))),
            ("Mounts", json!(mounts.join(","))),
            ("LocalVolumes", json!(volumes.to_string())),
            ("Platform", Value::Null),
            ("Label", json!(labels)),
        ]
    }
}

/// `name=value,…`.
pub(super) fn joined(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// At most `most` letters, the last of them an ellipsis if some are missing.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

/// The command in quotes, cut after twenty letters.
pub(super) fn command(text: &str, whole: bool) -> String {
    let text = if whole { text.to_owned() } else { shortened(text, 20) };
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t")
    )
}

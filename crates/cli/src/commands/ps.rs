//! `wharf ps`.

use serde_json::{Value, json};
use wharf_api::ContainerSummary;

use super::Outcome;
use crate::connect::Target;
use crate::error::print;
use crate::filters::{path, query};
use crate::{format, units};

#[derive(Debug, clap::Args)]
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
        let sized = self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let flag = |set: bool| if set { "1" } else { "" };
        let target = path(
            "/containers/json",
            &[("all", flag(self.all)), ("limit", &limit), ("size", flag(sized)), ("filters", &query(&self.filter)?)],
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
        format::rows(self.format.as_deref(), &columns, &rows)?;
        Ok(0)
    }

    fn id(&self, id: &str) -> String {
        if self.no_trunc { id.to_owned() } else { units::short_id(id) }
    }

    fn row(&self, container: &ContainerSummary) -> format::Row {
        let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
        let labels = container.labels.clone().unwrap_or_default();
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let networks: Vec<String> = container.network_settings.networks.iter().flatten().map(|(name, _)| name.clone()).collect();
        let mounts: Vec<&str> = container.mounts.iter().map(|mount| if mount.name.is_empty() { &*mount.source } else { &*mount.name }).collect();
        let size = if container.size_root_fs > 0 {
            format!("{} (virtual {})", units::short_size(container.size_rw), units::short_size(container.size_root_fs))
        } else {
            units::short_size(container.size_rw)
        };
        vec![
            ("ID", "CONTAINER ID", json!(self.id(&container.id))),
            ("Image", "IMAGE", json!(container.image)),
            ("Command", "COMMAND", json!(command(&container.command, self.no_trunc))),
            ("RunningFor", "CREATED", json!(units::ago(container.created))),
            ("CreatedAt", "CREATED AT", json!(container.created.to_string())),
            ("State", "STATE", json!(container.state)),
            ("Status", "STATUS", json!(container.status)),
            ("Ports", "PORTS", ports(container)),
            ("Names", "NAMES", json!(names.join(","))),
            ("Size", "SIZE", json!(size)),
            ("Labels", "LABELS", json!(labels.join(","))),
            ("Networks", "NETWORKS", json!(networks.join(","))),
            ("Mounts", "MOUNTS", json!(mounts.join(","))),
        ]
    }
}

fn command(text: &str, whole: bool) -> String {
    let text = if whole || text.chars().count() <= 20 { text.to_owned() } else { text.chars().take(19).chain(['…']).collect() };
    format!("\"{}\"", text.replace('"', "\\\""))
}

fn ports(container: &ContainerSummary) -> Value {
    let port = |port: &wharf_api::PortSummary| {
        let inside = format!("{}/{}", port.private_port, port.r#type);
        match port.public_port {
            0 => inside,
            public if port.ip.contains(':') => format!("[{}]:{public}->{inside}", port.ip),
            public => format!("{}:{public}->{inside}", port.ip),
        }
    };
    json!(container.ports.iter().map(port).collect::<Vec<_>>().join(", "))
}

//! `wharf stats`.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use wharf_api::ContainerSummary;
use wharf_api::client::{Client, escape};

use super::Outcome;
use crate::connect::Target;
use crate::error::CliError;
use crate::{format, units};

const COLUMNS: [format::Column; 9] = [
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Container", "CONTAINER"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Stats {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        loop {
            let names = self.names(&client).await?;
            // Each sample takes a second on the daemon's side: all at once, so that a screen is one second.
            let samples: Vec<_> = names
                .iter()
                .map(|name| {
                    let (client, path) =
                        (client.clone(), format!("/containers/{}/stats?stream=0", escape(name)));
                    tokio::spawn(async move { client.get::<Value>(&path).await })
                })
                .collect();
            let mut rows = Vec::new();
            for (name, sample) in names.iter().zip(samples) {
                rows.push(self.row(name, &sample.await.map_err(|error| CliError::new(error.to_string()))??));
            }
            if !self.no_stream && std::io::stdout().is_terminal() {
                write!(std::io::stdout(), "\x1b[H\x1b[J")?;
            }
            format::rows(
                self.format.as_deref(),
                &COLUMNS,
                &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
                &rows,
            )?;
            if self.no_stream {
                return Ok(0);
            }
        }
    }

    async fn names(&self, client: &Client) -> Result<Vec<String>, CliError> {
        if !self.containers.is_empty() {
            return Ok(self.containers.clone());
        }
        let path = if self.all { "/containers/json?all=1" } else { "/containers/json" };
        let list: Vec<ContainerSummary> = client.get(path).await?;
        Ok(list.into_iter().map(|container| container.id).collect())
    }

    fn row(&self, name: &str, sample: &Value) -> format::Row {
        let number = |path: &str| sample.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let used = memory_used(sample);
        let limit = number("/memory_stats/limit");
        let share = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "byte counts")]
        let binary = |bytes: f64| units::binary_size(bytes as u64);
        let (received, sent) = network(sample);
        let (read, written) = block(sample);
        let id = sample["id"].as_str().unwrap_or_default();
        vec![
            ("ID", json!(if self.no_trunc { id.to_owned() } else { units::short_id(id) })),
            ("Name", json!(sample["name"].as_str().unwrap_or_default().trim_start_matches('/'))),
            (
                "Container",
                json!(if self.containers.is_empty() { units::short_id(id) } else { name.to_owned() }),
            ),
            ("CPUPerc", json!(format!("{:.2}%", cpu_share(sample)))),
            ("MemUsage", json!(format!("{} / {}", binary(used), binary(limit)))),
            ("MemPerc", json!(format!("{share:.2}%"))),
            ("NetIO", json!(format!("{} / {}", units::short_size(received), units::short_size(sent)))),
            ("BlockIO", json!(format!("{} / {}", units::short_size(read), units::short_size(written)))),
            (
                "PIDs",
                json!(sample.pointer("/pids_stats/current").and_then(Value::as_i64).unwrap_or(0).to_string()),
            ),
        ]
    }
}

/// Docker's formula: the container's share of the whole system's time, times the processors.
fn cpu_share(sample: &Value) -> f64 {
    let number = |path: &str| sample.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let used = number("/cpu_stats/cpu_usage/total_usage") - number("/precpu_stats/cpu_usage/total_usage");
    let system = number("/cpu_stats/system_cpu_usage") - number("/precpu_stats/system_cpu_usage");
    if system > 0.0 && used > 0.0 { used / system * number("/cpu_stats/online_cpus") * 100.0 } else { 0.0 }
}

/// What is used without the page cache that can be given back.
fn memory_used(sample: &Value) -> f64 {
    let number = |path: &str| sample.pointer(path).and_then(Value::as_f64);
    let usage = number("/memory_stats/usage").unwrap_or(0.0);
    let cache = number("/memory_stats/stats/total_inactive_file")
        .or_else(|| number("/memory_stats/stats/inactive_file"));
    cache.filter(|cache| *cache < usage).map_or(usage, |cache| usage - cache)
}

fn network(sample: &Value) -> (i64, i64) {
    let sum = |name: &str| {
        sample["networks"].as_object().into_iter().flatten().filter_map(|(_, link)| link[name].as_i64()).sum()
    };
    (sum("rx_bytes"), sum("tx_bytes"))
}

fn block(sample: &Value) -> (i64, i64) {
    let entries = sample
        .pointer("/blkio_stats/io_service_bytes_recursive")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let sum = |operation: &str| {
        let matching = entries
            .iter()
            .filter(|entry| entry["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(operation)));
        matching.filter_map(|entry| entry["value"].as_i64()).sum()
    };
    (sum("read"), sum("write"))
}

//! `wharf system df` and `wharf system dial-stdio`.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Outcome;
use crate::connect::Target;
use crate::{format, units};

#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
}

impl Df {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let use_: Value = client.get("/system/df").await?;
        let list = |name: &str| use_[name].as_array().cloned().unwrap_or_default();
        let sum = |items: &[Value], size: &dyn Fn(&Value) -> i64| items.iter().map(size).sum::<i64>();
        let (images, containers, volumes, cache) = (list("Images"), list("Containers"), list("Volumes"), list("BuildCache"));
        let used_images = images.iter().filter(|image| image["Containers"].as_i64() > Some(0)).count();
        let idle = |image: &Value| if image["Containers"].as_i64() > Some(0) { 0 } else { image["Size"].as_i64().unwrap_or(0) - image["SharedSize"].as_i64().unwrap_or(0).max(0) };
        let running = |container: &Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
        let written = |container: &Value| container["SizeRw"].as_i64().unwrap_or(0);
        let volume_size = |volume: &Value| volume["UsageData"]["Size"].as_i64().unwrap_or(0).max(0);
        let referenced = |volume: &Value| volume["UsageData"]["RefCount"].as_i64() > Some(0);
        let stopped: Vec<Value> = containers.iter().filter(|container| !running(container)).cloned().collect();
        let unused: Vec<Value> = volumes.iter().filter(|volume| !referenced(volume)).cloned().collect();
        let rows = vec![
            row("Images", images.len(), used_images, use_["LayersSize"].as_i64().unwrap_or(0), sum(&images, &idle)),
            row("Containers", containers.len(), containers.len() - stopped.len(), sum(&containers, &written), sum(&stopped, &written)),
            row("Local Volumes", volumes.len(), volumes.len() - unused.len(), sum(&volumes, &volume_size), sum(&unused, &volume_size)),
            row("Build Cache", cache.len(), 0, sum(&cache, &|entry| entry["Size"].as_i64().unwrap_or(0)), 0),
        ];
        format::rows(self.format.as_deref(), &["Type", "TotalCount", "Active", "Size", "Reclaimable"], &rows)?;
        Ok(0)
    }
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> format::Row {
    let share = if size > 0 { format!(" ({}%)", reclaimable * 100 / size) } else { String::new() };
    vec![
        ("Type", "TYPE", json!(kind)),
        ("TotalCount", "TOTAL", json!(total.to_string())),
        ("Active", "ACTIVE", json!(active.to_string())),
        ("Size", "SIZE", json!(units::size(size))),
        ("Reclaimable", "RECLAIMABLE", json!(format!("{}{share}", units::size(reclaimable)))),
    ]
}

#[derive(Debug, clap::Args)]
pub(crate) struct DialStdio {}

impl DialStdio {
    /// Carries standard input and output to the daemon's socket: the far end of `ssh://`.
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let (mut reader, mut writer) = tokio::io::split(target.connect().await?.raw().await?);
        let sent = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await;
            let _ = writer.shutdown().await;
            std::future::pending::<()>().await;
        });
        tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await?;
        sent.abort();
        Ok(0)
    }
}

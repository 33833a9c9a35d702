//! `wharf system df`.

use serde_json::{Value, json};
use wharf_api::{ContainerSummary, ImageSummary, Volume};

use super::{Outcome, images, ps};
use crate::connect::Target;
use crate::error::print;
use crate::{format, units};

#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const COLUMNS: [format::Column; 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// What `/system/df` tells.
struct Use {
    layers: i64,
    images: Vec<ImageSummary>,
    containers: Vec<ContainerSummary>,
    volumes: Vec<Volume>,
    cache: Vec<Value>,
}

impl Df {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let answer: Value = client.get("/system/df").await?;
        let told = Use {
            layers: answer["LayersSize"].as_i64().unwrap_or(0),
            images: serde_json::from_value::<Option<_>>(answer["Images"].clone())?.unwrap_or_default(),
            containers: serde_json::from_value::<Option<_>>(answer["Containers"].clone())?
                .unwrap_or_default(),
            volumes: serde_json::from_value::<Option<_>>(answer["Volumes"].clone())?.unwrap_or_default(),
            cache: answer["BuildCache"].as_array().cloned().unwrap_or_default(),
        };
        if self.verbose && self.format.is_none() {
            return verbose(&told);
        }
        let shown: Vec<&str> = COLUMNS.iter().map(|(field, _)| *field).collect();
        format::rows(self.format.as_deref(), &COLUMNS, &shown, &summary(&told))?;
        Ok(0)
    }
}

fn summary(told: &Use) -> Vec<format::Row> {
    let running =
        |container: &&ContainerSummary| matches!(&*container.state, "running" | "paused" | "restarting");
    let written = |container: &ContainerSummary| container.size_rw;
    let volume_size = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |used| used.size.max(0));
    let referenced = |volume: &&Volume| volume.usage_data.as_ref().is_some_and(|used| used.ref_count > 0);
    let used_images = told.images.iter().filter(|image| image.containers > 0);
    let in_use: i64 = used_images.clone().map(|image| image.size - image.shared_size.max(0)).sum();
    let cached: i64 = told.cache.iter().map(|entry| entry["Size"].as_i64().unwrap_or(0)).sum();
    vec![
        row("Images", told.images.len(), used_images.count(), told.layers, told.layers - in_use),
        row(
            "Containers",
            told.containers.len(),
            told.containers.iter().filter(running).count(),
            told.containers.iter().map(written).sum(),
            told.containers.iter().filter(|container| !running(container)).map(written).sum(),
        ),
        row(
            "Local Volumes",
            told.volumes.len(),
            told.volumes.iter().filter(referenced).count(),
            told.volumes.iter().map(volume_size).sum(),
            told.volumes.iter().filter(|volume| !referenced(volume)).map(volume_size).sum(),
        ),
        vec![
            ("Type", json!("Build Cache")),
            ("TotalCount", json!(told.cache.len().to_string())),
            ("Active", json!("0")),
            ("Size", json!(units::size(cached))),
            ("Reclaimable", json!(units::size(cached))),
        ],
    ]
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> format::Row {
    let share = if size > 0 { format!(" ({}%)", reclaimable * 100 / size) } else { String::new() };
    vec![
        ("Type", json!(kind)),
        ("TotalCount", json!(total.to_string())),
        ("Active", json!(active.to_string())),
        ("Size", json!(units::size(size))),
        ("Reclaimable", json!(format!("{}{share}", units::size(reclaimable)))),
    ]
}

fn verbose(told: &Use) -> Outcome {
    print("Images space usage:\n")?;
    let list = images::Images::default();
    let rows: Vec<format::Row> = told.images.iter().flat_map(|image| list.rows(image)).collect();
    let shown = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
    format::rows(None, &images::COLUMNS, &shown, &rows)?;

    print("\nContainers space usage:\n")?;
    let list = ps::Ps::default();
    let rows: Vec<format::Row> =
        told.containers.iter().map(|container| list.row(container)).map(own_size).collect();
    format::rows(
        None,
        &ps::COLUMNS,
        &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
        &rows,
    )?;

    print("\nLocal Volumes space usage:\n")?;
    let rows: Vec<format::Row> = told.volumes.iter().map(volume).collect();
    format::rows(None, &super::volume::COLUMNS, &["Name", "Links", "Size"], &rows)?;

    let cached: i64 = told.cache.iter().map(|entry| entry["Size"].as_i64().unwrap_or(0)).sum();
    print(&format!("\nBuild cache usage: {}\n", units::size(cached)))?;
    crate::table::print(&["CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED".to_owned()])?;
    Ok(0)
}

/// The size without the image's beneath.
fn own_size(mut row: format::Row) -> format::Row {
    for (field, value) in &mut row {
        if *field == "Size"
            && let Some(own) = value.as_str().and_then(|text| text.split(" (").next()).map(str::to_owned)
        {
            *value = json!(own);
        }
    }
    row
}

fn volume(volume: &Volume) -> format::Row {
    let used = volume.usage_data.as_ref();
    vec![
        ("Name", json!(volume.name)),
        ("Links", json!(used.map_or(-1, |used| used.ref_count).to_string())),
        ("Size", json!(used.map_or_else(|| "N/A".to_owned(), |used| units::size(used.size)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_container_uses_can_be_reclaimed() {
        let image = |containers, size| ImageSummary { containers, size, ..ImageSummary::default() };
        let told = Use {
            layers: 3_000_000,
            images: vec![image(1, 1_000_000), image(0, 2_000_000)],
            containers: Vec::new(),
            volumes: Vec::new(),
            cache: Vec::new(),
        };
        let rows = summary(&told);
        assert_eq!(rows[0][4].1, json!("2MB (66%)"));
        assert_eq!(rows[1][4].1, json!("0B"));
    }
}

//! Containers in a list. Reads published views only and waits for no one.

mod filter;
mod row;

use std::sync::Arc;

use serde::{Serialize, Serializer};
use wharf_api::{
    ContainerSummary, Filters, HostConfigSummary, NetworkSettingsSummary, PortBinding, PortMap, PortSummary,
};
use wharf_shim::protocol::Timestamp;
use wharf_sys::time::wall_nanos;

use super::record::{Record, View};
use super::spec::Point;
use super::{Container, Containers, status};
use crate::error::{Error, Result};
use crate::pools::Class;
use filter::Selection;
pub(super) use row::Row;
use row::Told;

/// Bytes that an entry of a list takes, nearly always.
const USUAL: usize = 900;

/// Which containers, and how much of them.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, running or not; none or less than one: no limit.
    pub limit: Option<i64>,
    /// With the sizes of their file systems, which takes a walk through each.
    pub size: bool,
    pub filters: Filters,
}

/// The containers of a list, newest first. A document is made when its turn comes, so that a list of a thousand holds
/// one of them at a time.
#[derive(Debug)]
pub struct Listing {
    containers: Arc<Containers>,
    chosen: Vec<Chosen>,
    now: Timestamp,
}

/// A container of a list, as it was at one instant.
#[derive(Debug)]
struct Chosen {
    container: Arc<Container>,
    view: Arc<View>,
    /// Whether the name of its image still means that image.
    named: bool,
    /// By which links of others it is known.
    known_by: Vec<String>,
    /// What it wrote and all that it sees, in bytes, where that was asked for.
    sizes: Option<(i64, i64)>,
}

impl Containers {
    /// The containers that `options` choose, newest first.
    pub async fn list(self: &Arc<Self>, options: &ListOptions) -> Result<Listing> {
        let selection = Selection::new(self, options)?;
        let mut chosen: Vec<Chosen> = self
            .all()
            .into_iter()
            .map(|container| Chosen {
                view: container.view(),
                container,
                named: false,
                known_by: Vec::new(),
                sizes: None,
            })
            .filter(|one| selection.takes(self, &one.container, &one.view))
            .collect();
        chosen.sort_by(|one, other| {
            let (one, other) = (&one.view.record, &other.view.record);
            other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id))
        });
        if let Some(limit) = selection.limit {
            chosen.truncate(limit);
        }
        if options.size {
            chosen = self.sized(chosen).await?;
        }
        self.name_images(&mut chosen);
        let mut known_by = self.known_by();
        if !known_by.is_empty() {
            for one in &mut chosen {
                one.known_by = known_by.remove(&one.view.record.id).unwrap_or_default();
            }
        }
        Ok(Listing { containers: self.clone(), chosen, now: Timestamp(wall_nanos()) })
    }

    /// Finds out which names of images still mean them: once for containers of one image that follow each other.
    fn name_images(&self, chosen: &mut [Chosen]) {
        let mut last = None;
        for Chosen { view, named, .. } in chosen {
            let asked = (&view.record.config.image, &view.record.image_id);
            let (_, known) = last
                .filter(|(before, _)| *before == asked)
                .unwrap_or_else(|| (asked, self.still_means(asked.0, asked.1)));
            (*named, last) = (known, Some((asked, known)));
        }
    }

    async fn sized(self: &Arc<Self>, mut chosen: Vec<Chosen>) -> Result<Vec<Chosen>> {
        let containers = self.clone();
        let measure = move || {
            for one in &mut chosen {
                // What vanishes while it is measured has no size.
                one.sizes = containers.sizes(&one.view.record.id, &one.view.record.image_id).ok();
            }
            Ok(chosen)
        };
        self.pools.run(Class::Files, measure).await
    }

    /// Bytes a container has written, and bytes of all that it sees. May sleep.
    pub(crate) fn sizes(&self, id: &str, image_id: &str) -> Result<(i64, i64)> {
        let usage = self.store.usage(id).map_err(|error| crate::Error::internal(error.to_string()))?;
        let written = i64::try_from(usage.bytes).unwrap_or(i64::MAX);
        Ok((written, written.saturating_add(self.image_size(image_id))))
    }
}

impl Listing {
    /// The documents, one after another.
    pub fn documents(&self) -> impl Iterator<Item = ContainerSummary> + '_ {
        self.chosen.iter().map(|one| self.document(one))
    }

    /// All documents as one JSON array, as the newest version of the API has them.
    ///
    /// # Errors
    /// None that can happen: the documents have no keys but texts.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let failed = |error: serde_json::Error| Error::internal(error.to_string());
        let networks = self.containers.networks.fingerprint();
        let mut text = Vec::with_capacity(2 + self.chosen.len() * USUAL);
        text.push(b'[');
        for one in &self.chosen {
            if text.len() > 1 {
                text.push(b',');
            }
            self.write(one, networks, &mut text).map_err(failed)?;
        }
        text.push(b']');
        Ok(text)
    }

    fn write(&self, one: &Chosen, networks: u64, text: &mut Vec<u8>) -> serde_json::Result<()> {
        if one.sizes.is_some() || !one.known_by.is_empty() {
            return serde_json::to_writer(text, &self.document(one));
        }
        let told = Told::new(one, self.containers.networks.sandbox(one.container.id()).as_ref(), networks);
        let mut kept = one.container.row();
        let row = match kept.take().filter(|row| row.tells(&told)) {
            Some(row) => row,
            None => Row::new(told, self.document(one))?,
        };
        row.write(&self.status(one), text)?;
        *kept = Some(row);
        Ok(())
    }

    fn status(&self, one: &Chosen) -> String {
        let health = one.container.health();
        let health = health.as_ref().map(|health| health.status.as_str());
        status::text(one.view.state(), health, self.now)
    }

    fn document(&self, one: &Chosen) -> ContainerSummary {
        let Chosen { view, named, known_by, sizes, .. } = one;
        let record = &view.record;
        let host = &record.host_config;
        let shown = self.containers.shown(view, false);
        let (size_rw, size_root_fs) = sizes.unwrap_or_default();
        ContainerSummary {
            id: record.id.clone(),
            names: std::iter::once(format!("/{}", record.name)).chain(known_by.iter().cloned()).collect(),
            // By its id where the name means another image by now.
            image: if *named { &record.config.image } else { &record.image_id }.clone(),
            image_id: record.image_id.clone(),
            image_manifest_descriptor: None,
            command: command(record),
            created: record.created.0.div_euclid(1_000_000_000),
            ports: ports(&shown.ports),
            size_rw,
            size_root_fs,
            labels: Some(record.config.labels.clone().unwrap_or_default()),
            state: view.state().name().to_owned(),
            status: self.status(one),
            host_config: HostConfigSummary {
                network_mode: host.network_mode.clone(),
                annotations: host.annotations.clone(),
            },
            network_settings: NetworkSettingsSummary { networks: Some(shown.networks) },
            mounts: record.mounts.iter().map(Point::document).collect(),
        }
    }
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.documents())
    }
}

/// The command as one line, arguments with spaces in quotes.
fn command(record: &Record) -> String {
    let mut line = record.path.clone();
    for argument in &record.args {
        line.push(' ');
        if argument.contains(' ') {
            line.push('\'');
            line.push_str(argument);
            line.push('\'');
        } else {
            line.push_str(argument);
        }
    }
    line
}

/// Ports as a list has them: one entry for each place where one can be found.
fn ports(shown: &PortMap) -> Vec<PortSummary> {
    let mut all = Vec::new();
    for (port, bindings) in shown {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let Ok(private_port) = number.parse() else { continue };
        let entry = |binding: &PortBinding| PortSummary {
            ip: binding.host_ip.clone(),
            private_port,
            public_port: binding.host_port.parse().unwrap_or(0),
            r#type: protocol.to_owned(),
        };
        match bindings {
            Some(bound) if !bound.is_empty() => all.extend(bound.iter().map(entry)),
            _ => all.push(entry(&PortBinding::default())),
        }
    }
    all.sort();
    all
}

//! Containers in a list. Reads published views only and waits for no one.

mod filter;

use std::collections::HashMap;
use std::sync::Arc;

use wharf_api::{
    ContainerSummary, Filters, HostConfigSummary, NetworkSettingsSummary, PortBinding, PortMap, PortSummary,
};
use wharf_shim::protocol::Timestamp;
use wharf_sys::time::wall_nanos;

use super::record::{Record, View};
use super::spec::Point;
use super::{Container, Containers, status};
use crate::error::Result;
use crate::pools::Class;
use filter::Selection;

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

impl Containers {
    /// The containers that `options` choose, newest first.
    pub async fn list(self: &Arc<Self>, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        let selection = Selection::new(self, options)?;
        let mut chosen: Vec<(Arc<Container>, Arc<View>)> = self
            .all()
            .into_iter()
            .map(|container| {
                let view = container.view();
                (container, view)
            })
            .filter(|(container, view)| selection.takes(self, container, view))
            .collect();
        chosen.sort_by(|(_, one), (_, other)| {
            other.record.created.cmp(&one.record.created).then_with(|| one.record.id.cmp(&other.record.id))
        });
        if let Some(limit) = selection.limit {
            chosen.truncate(limit);
        }
        let now = Timestamp(wall_nanos());
        let mut named = Named::default();
        let summary = |(container, view): &(Arc<Container>, Arc<View>)| {
            let still = *named
                .entry((view.record.config.image.clone(), view.record.image_id.clone()))
                .or_insert_with(|| self.still_means(&view.record.config.image, &view.record.image_id));
            self.summary(container, view, now, still)
        };
        let mut summaries: Vec<_> = chosen.iter().map(summary).collect();
        if options.size {
            summaries = self.sized(summaries).await?;
        }
        Ok(summaries)
    }

    fn summary(&self, container: &Container, view: &View, now: Timestamp, named: bool) -> ContainerSummary {
        let record = &view.record;
        let host = &record.host_config;
        let health = container.health();
        let mut shown = self.shown(view);
        // A list leaves the names out.
        shown.networks.values_mut().for_each(|one| (one.aliases, one.dns_names) = (None, None));
        ContainerSummary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)],
            // By its id where the name means another image by now.
            image: if named { record.config.image.clone() } else { record.image_id.clone() },
            image_id: record.image_id.clone(),
            image_manifest_descriptor: None,
            command: command(record),
            created: record.created.0.div_euclid(1_000_000_000),
            ports: ports(&shown.ports),
            size_rw: 0,
            size_root_fs: 0,
            labels: Some(record.config.labels.clone().unwrap_or_default()),
            state: view.state().name().to_owned(),
            status: status::text(view.state(), health.as_ref().map(|health| health.status.as_str()), now),
            host_config: HostConfigSummary {
                network_mode: host.network_mode.clone(),
                annotations: host.annotations.clone(),
            },
            network_settings: NetworkSettingsSummary { networks: Some(shown.networks) },
            mounts: record.mounts.iter().map(Point::document).collect(),
        }
    }

    async fn sized(self: &Arc<Self>, mut summaries: Vec<ContainerSummary>) -> Result<Vec<ContainerSummary>> {
        let containers = self.clone();
        let measure = move || {
            for one in &mut summaries {
                // What vanishes while it is measured has no size.
                if let Ok((rw, root)) = containers.sizes(&one.id, &one.image_id) {
                    (one.size_rw, one.size_root_fs) = (rw, root);
                }
            }
            Ok(summaries)
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

/// Whether a name still means an image, asked once for all containers that stand on it.
type Named = HashMap<(String, String), bool>;

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

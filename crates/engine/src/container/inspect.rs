//! One container in full. Reads its published view and waits for no one but the disk, and that only for sizes.

use std::sync::{Arc, PoisonError};

use wharf_api::{ContainerInspect, ContainerState, GraphDriver, HostConfig, NEVER, Ulimit};
use wharf_shim::protocol::Timestamp;

use super::record::{Record, View};
use super::spec::Point;
use super::state::State;
use super::{Container, Containers};
use crate::error::Result;
use crate::pools::Class;

impl Containers {
    /// A container in full; with `size`, the bytes of its file system, which takes a walk through it.
    pub async fn inspect(self: &Arc<Self>, asked: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.find(asked)?;
        let view = container.view();
        let mut found = self.document(&container, &view);
        if size {
            let (containers, id, image) = (self.clone(), found.id.clone(), found.image.clone());
            let (rw, root) = self.pools.run(Class::Files, move || containers.sizes(&id, &image)).await?;
            (found.size_rw, found.size_root_fs) = (Some(rw), Some(root));
        }
        Ok(found)
    }

    fn document(&self, container: &Container, view: &View) -> ContainerInspect {
        let record = &view.record;
        let bundle = self.config.bundle(&record.id);
        // The files are written at the first start.
        let file = |name: &str| match view.state() {
            State::Created { .. } => String::new(),
            _ => bundle.join(name).to_string_lossy().into_owned(),
        };
        let log = self.config.log_path(&record.id, &record.host_config.log_config.r#type);
        let log = log.filter(|_| record.host_config.log_config.r#type == "json-file");
        // Where a plugin has mounted a volume is known once it has.
        let mount = |point: &Point| {
            let source = self.volumes.source(&record.id, point).to_string_lossy().into_owned();
            wharf_api::MountPoint { source, ..point.document() }
        };
        let execs = container.execs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ContainerInspect {
            id: record.id.clone(),
            created: time(Some(record.created)),
            path: record.path.clone(),
            args: record.args.clone(),
            state: state(container, view),
            image: record.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: log.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            name: format!("/{}", record.name),
            restart_count: i64::from(view.life.restart_count),
            driver: record.driver.clone(),
            platform: record.platform.clone(),
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: String::new(),
            exec_ids: (!execs.is_empty()).then_some(execs),
            host_config: self.shown_host_config(record),
            graph_driver: self.graph_driver(&record.id, &record.driver),
            size_rw: None,
            size_root_fs: None,
            image_manifest_descriptor: None,
            mounts: record.mounts.iter().map(mount).collect(),
            config: record.config.clone(),
            network_settings: self.network_settings(view),
        }
    }

    /// With the links as they are now, and the daemon's limits where the container has none of its own.
    fn shown_host_config(&self, record: &Record) -> HostConfig {
        let mut shown = HostConfig { links: self.shown_links(record), ..record.host_config.clone() };
        for (name, (soft, hard)) in &self.config.default_ulimits {
            let own = shown.ulimits.get_or_insert_default();
            if own.iter().all(|limit| limit.name != *name) {
                own.push(Ulimit { name: name.clone(), soft: *soft, hard: *hard });
            }
        }
        shown
    }

    fn graph_driver(&self, id: &str, driver: &str) -> GraphDriver {
        match self.store.graph_driver(id) {
            Ok(found) => GraphDriver { data: Some(found.data), name: found.name },
            // Only the name is known of what is being removed.
            Err(_) => GraphDriver { data: None, name: driver.to_owned() },
        }
    }
}

fn state(container: &Container, view: &View) -> ContainerState {
    let state = view.state();
    let run = state.last_run();
    ContainerState {
        status: state.name().to_owned(),
        running: state.is_active(),
        paused: matches!(state, State::Paused(_)),
        restarting: matches!(state, State::Restarting(_)),
        oom_killed: run.oom_killed || view.life.oom,
        dead: matches!(state, State::Dead(_)),
        pid: state.process().map_or(0, |running| i64::from(running.pid)),
        exit_code: i64::from(run.code),
        error: run.error,
        started_at: time(run.started_at),
        finished_at: time(run.finished_at),
        health: container.health().map(|health| (*health).clone()),
    }
}

/// A time as the API writes it: RFC 3339 in UTC with as many decimals as it needs.
pub(crate) fn time(at: Option<Timestamp>) -> String {
    at.and_then(|at| jiff::Timestamp::from_nanosecond(i128::from(at.0)).ok())
        .map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(time(None), "0001-01-01T00:00:00Z");
        assert_eq!(time(Some(Timestamp(1_700_000_000_120_000_000))), "2023-11-14T22:13:20.12Z");
        assert_eq!(time(Some(Timestamp(1_700_000_000_000_000_000))), "2023-11-14T22:13:20Z");
    }
}

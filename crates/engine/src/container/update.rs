//! Changing the limits and the restart policy of a container.

use std::sync::Arc;

use wharf_api::{HostConfig, PortMap, UpdateRequest, UpdateResponse};
use wharf_sys::cgroup::{BlockIo, Cgroup, Cpu, Limits, Memory};

use super::driver::{Driver, Verb};
use super::launch::restart_policy;
use super::record::Record;
use super::{Containers, Note, validate, whole};
use crate::error::{Error, ErrorKind, Result};
use crate::network::change_ports;
use crate::pools::Class;

/// So many changes of ports may stand behind a record in the log before it is written anew.
const MOST_PORT_CHANGES: u32 = 200;

impl Containers {
    /// Changes what `request` says and leaves the rest; applies to a running container at once.
    pub async fn update(self: &Arc<Self>, asked: &str, request: UpdateRequest) -> Result<UpdateResponse> {
        let view = self.find(asked)?.view();
        let warnings = if is_of_ports(&request) { Vec::new() } else { merged(&view.record, &request)?.1 };
        self.order(asked, Verb::Update(Box::new(request))).await?;
        Ok(UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
    }
}

impl Driver {
    pub(super) async fn update(&mut self, request: UpdateRequest) -> Result<()> {
        let mut record = (*self.record()).clone();
        if !is_of_ports(&request) {
            // Again, on what it has become since the request was first looked at.
            (record.host_config, _) = merged(&record, &request)?;
        }
        let none = PortMap::new();
        let add = request.publish_add.as_ref().unwrap_or(&none);
        let remove = request.publish_remove.as_ref().unwrap_or(&none);
        change_ports(&mut record, add, remove)?;
        if !is_of_ports(&request) {
            self.apply(&record, &request).await?;
        }
        let record = Arc::new(record);
        if !(add.is_empty() && remove.is_empty()) && self.life().state.process().is_some() {
            let (networks, now) = (self.containers.networks.clone(), Arc::clone(&record));
            let (add, remove) = (add.clone(), remove.clone());
            let change = move || networks.change_ports(&now, &add, &remove);
            self.containers.pools.run(Class::Network, change).await?;
        }
        self.write_down(&record, &request).await?;
        self.set_record(record);
        self.emit("update", &[]);
        Ok(())
    }

    /// Writes down what was changed: of thousands of ports only those that came and went, the whole from time to
    /// time.
    async fn write_down(&mut self, record: &Record, request: &UpdateRequest) -> Result<()> {
        if is_of_ports(request) && self.port_changes < MOST_PORT_CHANGES {
            self.port_changes += 1;
            let none = PortMap::new();
            let add = request.publish_add.as_ref().unwrap_or(&none);
            let remove = request.publish_remove.as_ref().unwrap_or(&none);
            return self.containers.log.synced(&Note::Ports { id: &record.id, add, remove }).await;
        }
        self.port_changes = 0;
        self.containers.log.synced(&whole(record, &self.life())).await
    }

    /// Brings the new settings to a container that runs.
    async fn apply(&self, record: &Record, request: &UpdateRequest) -> Result<()> {
        if self.life().state.process().is_some() {
            let path = self.containers.config.cgroup(&record.id, &record.host_config.cgroup_parent);
            let limits = limits(request);
            let failed = |error: &dyn std::fmt::Display| {
                Error::new(ErrorKind::Internal, format!("Cannot update container {}: {error}", record.id))
            };
            let apply = move || {
                let group = Cgroup::open(&path).map_err(|error| Error::internal(error.to_string()))?;
                group.apply(&limits).map_err(|error| Error::internal(error.to_string()))
            };
            self.containers.pools.run(Class::Host, apply).await.map_err(|error| failed(&error))?;
        }
        if let (false, Some(handle)) = (request.restart_policy.name.is_empty(), self.container.handle()) {
            let told = handle.update_restart(restart_policy(record)).await;
            told.map_err(|error| Error::internal(error.to_string()))?;
        }
        Ok(())
    }
}

/// Whether a request changes published ports and nothing else.
fn is_of_ports(request: &UpdateRequest) -> bool {
    let UpdateRequest { publish_add, publish_remove, .. } = request;
    let same = UpdateRequest {
        publish_add: publish_add.clone(),
        publish_remove: publish_remove.clone(),
        ..UpdateRequest::default()
    };
    *request == same
}

/// What `request` makes of a container's settings, with the warnings.
fn merged(record: &Record, request: &UpdateRequest) -> Result<(HostConfig, Vec<String>)> {
    validate::update(&record.host_config, request).map_err(|error| match error.kind() {
        // What is wrong in itself is said as it is, what does not fit this container with its name.
        ErrorKind::Conflict => error.context(format_args!("Cannot update container {}", record.id)),
        _ => error,
    })
}

/// What of `new` the kernel has to know.
fn limits(new: &UpdateRequest) -> Limits {
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let mut cpu = Cpu {
        shares: positive(new.cpu_shares),
        quota: some(new.cpu_quota),
        period: positive(new.cpu_period),
        realtime_runtime: some(new.cpu_realtime_runtime),
        realtime_period: positive(new.cpu_realtime_period),
        cpus: new.cpuset_cpus.clone(),
        mems: new.cpuset_mems.clone(),
        ..Cpu::default()
    };
    if new.nano_cpus > 0 {
        // A share of a period of 100 ms.
        (cpu.period, cpu.quota) = (Some(100_000), Some(new.nano_cpus / 10_000));
    }
    let memory = Memory {
        limit: some(new.memory),
        reservation: some(new.memory_reservation),
        swap: some(new.memory_swap),
        ..Memory::default()
    };
    let block_io =
        BlockIo { weight: (new.blkio_weight != 0).then_some(new.blkio_weight), ..BlockIo::default() };
    Limits { memory, cpu, pids: new.pids_limit, block_io, ..Limits::default() }
}

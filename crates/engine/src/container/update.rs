//! Changing the limits and the restart policy of a container.

use std::sync::Arc;

use wharf_api::{HostConfig, UpdateRequest, UpdateResponse};
use wharf_sys::cgroup::{BlockIo, Cgroup, Cpu, Limits, Memory};

use super::driver::{Driver, Verb};
use super::launch::restart_policy;
use super::record::Record;
use super::{Containers, validate, whole};
use crate::error::{Error, ErrorKind, Result};
use crate::pools::Class;

impl Containers {
    /// Changes what `request` says and leaves the rest; applies to a running container at once.
    pub async fn update(self: &Arc<Self>, asked: &str, request: UpdateRequest) -> Result<UpdateResponse> {
        let warnings = validate::update(&request)?;
        self.order(asked, Verb::Update(Box::new(request))).await?;
        Ok(UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
    }
}

impl Driver {
    pub(super) async fn update(&mut self, request: UpdateRequest) -> Result<()> {
        let mut record = (*self.record()).clone();
        let refused = |text: &str| {
            Error::conflict(format!("Cannot update container {}: {text}", self.container.id()))
        };
        merge(&mut record.host_config, &request).map_err(refused)?;
        self.apply(&record, &request).await?;
        self.containers.log.synced(&whole(&record, &self.life())).await?;
        self.set_record(record);
        self.emit("update", &[]);
        Ok(())
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

/// Writes what `new` says into `host`, or tells why it may not.
fn merge(host: &mut HostConfig, new: &UpdateRequest) -> Result<(), &'static str> {
    check(host, new)?;
    let number = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    number(&mut host.cpu_shares, new.cpu_shares);
    number(&mut host.nano_cpus, new.nano_cpus);
    number(&mut host.cpu_period, new.cpu_period);
    number(&mut host.cpu_quota, new.cpu_quota);
    number(&mut host.cpu_realtime_period, new.cpu_realtime_period);
    number(&mut host.cpu_realtime_runtime, new.cpu_realtime_runtime);
    number(&mut host.memory, new.memory);
    number(&mut host.memory_swap, new.memory_swap);
    number(&mut host.memory_reservation, new.memory_reservation);
    if new.blkio_weight != 0 {
        host.blkio_weight = new.blkio_weight;
    }
    let text = |old: &mut String, new: &str| {
        if !new.is_empty() {
            new.clone_into(old);
        }
    };
    text(&mut host.cpuset_cpus, &new.cpuset_cpus);
    text(&mut host.cpuset_mems, &new.cpuset_mems);
    if new.pids_limit.is_some() {
        host.pids_limit = new.pids_limit;
    }
    if !new.restart_policy.name.is_empty() {
        host.restart_policy = new.restart_policy.clone();
    }
    Ok(())
}

fn check(host: &HostConfig, new: &UpdateRequest) -> Result<(), &'static str> {
    if new.nano_cpus > 0 && host.cpu_period > 0 {
        return Err("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if new.nano_cpus > 0 && host.cpu_quota > 0 {
        return Err("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if new.cpu_period > 0 && host.nano_cpus > 0 {
        return Err("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if new.cpu_quota > 0 && host.nano_cpus > 0 {
        return Err("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    if new.memory != 0 && new.memory_swap == 0 && new.memory > host.memory_swap {
        return Err(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    if host.auto_remove && !matches!(new.restart_policy.name.as_str(), "" | "no") {
        return Err("Restart policy cannot be updated because AutoRemove is enabled for the container");
    }
    Ok(())
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
    let block_io = BlockIo { weight: (new.blkio_weight != 0).then_some(new.blkio_weight), ..BlockIo::default() };
    Limits { memory, cpu, pids: new.pids_limit, block_io, ..Limits::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_leave_things_as_they_are() {
        let mut host = HostConfig { memory: 5, cpuset_cpus: "0-1".to_owned(), ..HostConfig::default() };
        let before = host.clone();
        merge(&mut host, &UpdateRequest::default()).unwrap();
        assert_eq!(host, before);
    }

    #[test]
    fn memory_may_not_pass_swap_in_silence() {
        let mut host = HostConfig { memory: 5, memory_swap: 10, ..HostConfig::default() };
        let more = UpdateRequest { memory: 20, ..UpdateRequest::default() };
        assert!(merge(&mut host, &more).is_err());
        let both = UpdateRequest { memory: 20, memory_swap: 40, ..UpdateRequest::default() };
        merge(&mut host, &both).unwrap();
        assert_eq!((host.memory, host.memory_swap), (20, 40));
    }

    #[test]
    fn containers_that_remove_themselves_take_no_policy() {
        let mut host = HostConfig { auto_remove: true, ..HostConfig::default() };
        let mut new = UpdateRequest::default();
        new.restart_policy.name = "always".to_owned();
        assert!(merge(&mut host, &new).is_err());
        new.restart_policy.name = "no".to_owned();
        assert!(merge(&mut host, &new).is_ok());
    }
}

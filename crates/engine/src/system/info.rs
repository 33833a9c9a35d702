//! `info`: the engine, its containers and images in numbers, and its host.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_api::{
    Commit, DeviceInfo, FirewallInfo, IndexInfo, Info, PluginsInfo, RegistryConfig, Runtime, SwarmInfo,
};
use wharf_store::Driver;
use wharf_sys::time::wall_nanos;

use super::{System, VERSION, host};
use crate::container::State;
use crate::container::spec::cdi::Registry;
use crate::error::{Error, Result};
use crate::pools::Class;

/// Networks that registries in are spoken to without TLS, as in Docker.
const LOCAL_NETWORKS: [&str; 2] = ["::1/128", "127.0.0.0/8"];

impl System {
    /// Everything `docker info` shows.
    pub async fn info(self: &Arc<Self>) -> Result<Info> {
        let system = self.clone();
        self.containers.pools.run(Class::Host, move || system.gather()).await
    }

    fn gather(&self) -> Result<Info> {
        let config = &self.config;
        let limits = host::limits();
        let (operating_system, os_version) = host::distribution();
        let (driver, driver_status) = self.driver();
        let mut info = Info {
            id: self.id()?,
            images: i64::try_from(self.store.images().len()).unwrap_or(i64::MAX),
            driver,
            driver_status,
            plugins: plugins(self.containers.volumes.drivers()),
            memory_limit: limits.memory,
            swap_limit: limits.swap,
            cpu_cfs_period: limits.cpu_quota,
            cpu_cfs_quota: limits.cpu_quota,
            cpu_shares: limits.cpu_shares,
            cpu_set: limits.cpuset,
            pids_limit: limits.pids,
            oom_kill_disable: limits.oom_kill_disable,
            ipv4_forwarding: host::forwards_ipv4(),
            debug: config.live(|now| now.debug),
            n_fd: host::descriptors(),
            n_goroutines: host::threads(),
            system_time: now(),
            logging_driver: config.log_driver.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if limits.version2 { "2" } else { "1" }.to_owned(),
            n_events_listener: i64::try_from(self.containers.events.listeners()).unwrap_or(i64::MAX),
            kernel_version: host::kernel(),
            operating_system,
            os_version,
            os_type: "linux".to_owned(),
            architecture: host::architecture(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: Some(self.registries()),
            ncpu: host::cpus(),
            mem_total: host::memory(),
            docker_root_dir: config.data_root.display().to_string(),
            http_proxy: proxy("HTTP_PROXY"),
            https_proxy: proxy("HTTPS_PROXY"),
            no_proxy: proxy("NO_PROXY"),
            name: host::name(),
            labels: config.live(|now| now.labels.clone()),
            server_version: VERSION.to_owned(),
            runtimes: self.runtimes(),
            default_runtime: config.live(|now| now.default_runtime.clone()),
            swarm: SwarmInfo::default(),
            // Containers outlive the daemon, always.
            live_restore_enabled: true,
            init_binary: "docker-init".to_owned(),
            containerd_commit: Commit::default(),
            runc_commit: Commit::default(),
            init_commit: Commit::default(),
            security_options: self.security(limits.version2),
            firewall_backend: Some(FirewallInfo { driver: "nftables".to_owned(), info: None }),
            cdi_spec_dirs: config.cdi_spec_dirs.iter().map(|path| path.display().to_string()).collect(),
            discovered_devices: devices(&config.cdi_spec_dirs),
            ..Info::default()
        };
        self.count(&mut info);
        let mut warnings = warnings(limits);
        let obstacles = self.containers.networks.obstacles();
        warnings.extend(obstacles.into_iter().map(|text| format!("WARNING: {text}")));
        info.warnings = (!warnings.is_empty()).then_some(warnings);
        Ok(info)
    }

    fn count(&self, info: &mut Info) {
        for container in self.containers.all() {
            info.containers += 1;
            match container.view().state() {
                State::Running(_) | State::Restarting(_) => info.containers_running += 1,
                State::Paused(_) => info.containers_paused += 1,
                _ => info.containers_stopped += 1,
            }
        }
    }

    /// The engine's id: made at the first question, kept in the data root.
    fn id(&self) -> Result<String> {
        if let Some(id) = self.id.get() {
            return Ok(id.clone());
        }
        let id = read_or_make_id(&self.config.data_root.join("engine-id"))?;
        Ok(self.id.get_or_init(|| id).clone())
    }

    fn driver(&self) -> (String, Vec<[String; 2]>) {
        let pair = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
        match self.store.driver() {
            Driver::Overlay => {
                let below = host::file_system(&self.config.data_root);
                let status = vec![
                    pair("Backing Filesystem", &below),
                    pair("Supports d_type", "true"),
                    pair("Using metacopy", "false"),
                    pair("Native Overlay Diff", "true"),
                    pair("userxattr", "false"),
                ];
                ("overlay2".to_owned(), status)
            }
            Driver::Vfs => ("vfs".to_owned(), Vec::new()),
        }
    }

    fn registries(&self) -> RegistryConfig {
        let (mirrors, registries) =
            self.config.live(|now| (now.registry_mirrors.clone(), now.insecure_registries.clone()));
        let hub = IndexInfo {
            mirrors: mirrors.clone(),
            name: "docker.io".to_owned(),
            official: true,
            secure: true,
        };
        let (networks, hosts): (Vec<String>, Vec<String>) =
            registries.into_iter().partition(|registry| registry.contains('/'));
        let insecure =
            |name: String| (name.clone(), IndexInfo { name, secure: false, ..IndexInfo::default() });
        let index_configs = hosts.into_iter().map(insecure).chain([("docker.io".to_owned(), hub)]).collect();
        let local = LOCAL_NETWORKS.iter().map(|&network| network.to_owned());
        RegistryConfig {
            index_configs,
            insecure_registry_cidrs: local.chain(networks).collect(),
            mirrors: (!mirrors.is_empty()).then_some(mirrors),
        }
    }

    fn runtimes(&self) -> BTreeMap<String, Runtime> {
        let runtime = |path: String| Runtime { path, ..Runtime::default() };
        let own =
            crate::config::OWN_RUNTIMES.iter().map(|&name| (name.to_owned(), runtime("wharf".to_owned())));
        let foreign = |(name, runtime): (&String, &crate::config::Runtime)| {
            let arguments = (!runtime.arguments.is_empty()).then(|| runtime.arguments.clone());
            let path = runtime.path.display().to_string();
            (name.clone(), Runtime { path, runtime_args: arguments, ..Runtime::default() })
        };
        self.config.live(|now| own.chain(now.runtimes.iter().map(foreign)).collect())
    }

    fn security(&self, version2: bool) -> Vec<String> {
        let mut options = Vec::new();
        if fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y'))
        {
            options.push("name=apparmor".to_owned());
        }
        let profile = self.config.seccomp_profile.as_deref().unwrap_or("builtin");
        options.push(format!("name=seccomp,profile={profile}"));
        if version2 && self.config.default_cgroupns == "private" {
            options.push("name=cgroupns".to_owned());
        }
        if self.config.remap.is_some() {
            options.push("name=userns".to_owned());
        }
        if self.config.no_new_privileges {
            options.push("name=no-new-privileges".to_owned());
        }
        options
    }
}

fn plugins(volume: Vec<String>) -> PluginsInfo {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    PluginsInfo {
        volume,
        network: list(&["bridge", "host", "ipvlan", "macvlan", "null"]),
        authorization: None,
        log: list(&["journald", "json-file", "local", "none", "syslog"]),
    }
}

fn devices(directories: &[PathBuf]) -> Vec<DeviceInfo> {
    let named = |name: &str| DeviceInfo { source: "cdi".to_owned(), id: name.to_owned() };
    Registry::read(directories).names().map(named).collect()
}

/// What Docker warns of where the kernel cannot keep a limit.
fn warnings(limits: host::Limits) -> Vec<String> {
    let missing = [
        (limits.memory, "WARNING: No memory limit support"),
        (limits.swap || !limits.memory, "WARNING: No swap limit support"),
        (limits.cpu_quota, "WARNING: No cpu cfs quota support"),
        (limits.cpu_quota, "WARNING: No cpu cfs period support"),
        (limits.cpu_shares, "WARNING: No cpu shares support"),
        (limits.cpuset, "WARNING: No cpuset support"),
        (limits.pids, "WARNING: No pids limit support"),
    ];
    missing.iter().filter(|(there, _)| !there).map(|(_, text)| (*text).to_owned()).collect()
}

fn proxy(name: &str) -> String {
    let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default();
    without_password(&value)
}

/// A URL whose user and password are hidden.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

fn now() -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(wall_nanos())) {
        Ok(time) => time.to_string(),
        Err(_) => wharf_api::NEVER.to_owned(),
    }
}

fn read_or_make_id(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("read engine-id", &error)),
    }
    // The kernel makes good random UUIDs.
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|error| Error::io("make the engine's id", &error))?;
    fs::write(path, &id).map_err(|error| Error::io("write engine-id", &error))?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine-id");
        let id = read_or_make_id(&path).unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(read_or_make_id(&path).unwrap(), id);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("http://me:secret@proxy:3128"), "http://xxxxx:xxxxx@proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password(""), "");
    }

    #[test]
    fn missing_limits_are_warned_of() {
        let all = host::Limits {
            version2: false,
            memory: true,
            swap: true,
            cpu_quota: true,
            cpu_shares: true,
            cpuset: true,
            pids: true,
            oom_kill_disable: true,
        };
        assert!(warnings(all).is_empty());
        assert_eq!(warnings(host::Limits { swap: false, ..all }), ["WARNING: No swap limit support"]);
    }
}

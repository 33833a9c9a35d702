//! What the engine is told when it opens, and where it keeps things.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// All settings of one engine; filled by the daemon from flags and `daemon.json`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Durable state.
    pub data_root: PathBuf,
    /// Sockets and pid file; lost at a reboot.
    pub exec_root: PathBuf,
    /// The name every kernel-visible object of this engine derives from.
    pub instance: String,
    /// The program that is started as `EXECUTABLE supervisor …` (this one, as a rule).
    pub executable: PathBuf,
    /// `overlay2` or `vfs`; `None`: overlay where the data root can carry it.
    pub storage_driver: Option<String>,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Its options, for containers that give none.
    pub log_opts: BTreeMap<String, String>,
    /// The parent cgroup of containers that name none, without a leading slash.
    pub cgroup_parent: String,
    /// Whether containers that do not say get an init process.
    pub init: bool,
    /// Whether new privileges are forbidden where a container does not say.
    pub no_new_privileges: bool,
    /// `/dev/shm`'s size in bytes where a container does not say.
    pub shm_size: i64,
    /// Seconds a stop waits before it kills where a container does not say.
    pub stop_timeout: i64,
    /// Resource limits given to every container: name to (soft, hard).
    pub default_ulimits: BTreeMap<String, (i64, i64)>,
    /// `private` or `host`.
    pub default_cgroupns: String,
    /// `private` or `shareable`.
    pub default_ipc: String,
    /// Name servers written to `resolv.conf` instead of the host's.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// A seccomp profile to use instead of the built-in one: a path or `unconfined`.
    pub seccomp_profile: Option<String>,
    /// Labels of the engine, shown by `info`.
    pub labels: Vec<String>,
    /// Foreign OCI runtimes: name to program path. The engine's own are not among them.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Whether the daemon logs at debug level, shown by `info`.
    pub debug: bool,
}

/// Names that mean this engine's own runtime; clients and old containers say `runc`.
pub const OWN_RUNTIMES: [&str; 3] = ["runc", "wharf", "io.containerd.runc.v2"];

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_root: PathBuf::from("/var/lib/wharf"),
            exec_root: PathBuf::from("/run/wharf"),
            instance: "wharf".to_owned(),
            executable: PathBuf::from("/proc/self/exe"),
            storage_driver: None,
            log_driver: "json-file".to_owned(),
            log_opts: BTreeMap::new(),
            cgroup_parent: "wharf".to_owned(),
            init: false,
            no_new_privileges: false,
            shm_size: 64 << 20,
            stop_timeout: 10,
            default_ulimits: BTreeMap::new(),
            default_cgroupns: "private".to_owned(),
            default_ipc: "private".to_owned(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            seccomp_profile: None,
            labels: Vec::new(),
            runtimes: BTreeMap::new(),
            default_runtime: "runc".to_owned(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            debug: false,
        }
    }
}

impl EngineConfig {
    /// Whether containers' groups are below one that carries this instance's name, and is no one else's.
    pub(crate) fn owns_cgroup_parent(&self) -> bool {
        let own = self.cgroup_parent.strip_prefix("wharf");
        own.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-') == Some(&self.instance))
    }

    /// Where containers' directories are.
    pub fn containers(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// The directory of container `id`: the bundle, the journal, the log.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// The current log file of container `id`, where its driver keeps one.
    pub fn log_path(&self, id: &str, driver: &str) -> Option<PathBuf> {
        match driver {
            "json-file" | "journald" | "syslog" => Some(self.bundle(id).join(format!("{id}-json.log"))),
            "local" => Some(self.bundle(id).join("local-logs").join("container.log")),
            _ => None,
        }
    }

    /// The supervisor's socket of container `id`.
    pub fn socket(&self, id: &str) -> PathBuf {
        self.exec_root.join("c").join(id)
    }

    /// The cgroup of container `id`, absolute within each hierarchy.
    pub fn cgroup(&self, id: &str, parent: &str) -> String {
        let parent = if parent.is_empty() { &self.cgroup_parent } else { parent };
        format!("/{}/{id}", parent.trim_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_absolute_and_honour_the_parent() {
        let config = EngineConfig::default();
        assert_eq!(config.cgroup("abc", ""), "/wharf/abc");
        assert_eq!(config.cgroup("abc", "/jobs/nightly/"), "/jobs/nightly/abc");
    }

    #[test]
    fn only_drivers_with_a_file_have_a_path() {
        let config = EngineConfig::default();
        assert!(config.log_path("abc", "none").is_none());
        let path = config.log_path("abc", "json-file");
        assert_eq!(path, Some(PathBuf::from("/var/lib/wharf/containers/abc/abc-json.log")));
    }
}

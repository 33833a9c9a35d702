//! What the engine is told when it opens, and where it keeps things.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use wharf_shim::protocol::ForeignRuntime;
use wharf_sys::namespace::IdMap;

use crate::build::CachePolicy;
use crate::network::NetworkConfig;
use crate::registry::RegistrySettings;

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
    /// Where vendors say what their devices need (CDI); what a later one says counts.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Foreign OCI runtimes by name. The engine's own are not among them.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// What else can be set about registries.
    pub registry: RegistrySettings,
    /// Networks.
    pub network: NetworkConfig,
    /// How much builds may keep on the disk.
    pub build_cache: CachePolicy,
    /// Whether the daemon logs at debug level, shown by `info`.
    pub debug: bool,
    /// The host's ids that containers' users stand for; `None`: the same as in the container.
    pub remap: Option<IdMap>,
    /// What a reload has changed since.
    pub reloaded: Reloaded,
}

/// A foreign OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its program, a path or a name in `PATH`.
    pub path: PathBuf,
    /// Words before its commands.
    pub arguments: Vec<String>,
}

/// The settings as the last reload left them; `None` before the first.
#[derive(Debug, Default)]
pub struct Reloaded(RwLock<Option<Arc<EngineConfig>>>);

impl Clone for Reloaded {
    /// A copy of settings starts a life of its own.
    fn clone(&self) -> Self {
        Self::default()
    }
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
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            runtimes: BTreeMap::new(),
            default_runtime: "runc".to_owned(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registry: RegistrySettings::default(),
            network: NetworkConfig::default(),
            build_cache: CachePolicy::default(),
            debug: false,
            remap: None,
            reloaded: Reloaded::default(),
        }
    }
}

impl EngineConfig {
    /// Reads settings that can change while the engine runs; those that cannot read the same here and there.
    pub fn live<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        // Nothing panics while it is held.
        let now = self.reloaded.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        read(now.as_deref().unwrap_or(self))
    }

    /// Takes from `new` what can change while the engine runs: what dockerd takes on SIGHUP, and the defaults of
    /// containers to come.
    pub fn reload(&self, new: &Self) {
        let mut now = self.clone();
        now.labels.clone_from(&new.labels);
        now.runtimes.clone_from(&new.runtimes);
        now.default_runtime.clone_from(&new.default_runtime);
        now.insecure_registries.clone_from(&new.insecure_registries);
        now.registry_mirrors.clone_from(&new.registry_mirrors);
        now.registry.clone_from(&new.registry);
        now.default_ipc.clone_from(&new.default_ipc);
        now.build_cache.clone_from(&new.build_cache);
        (now.shm_size, now.debug) = (new.shm_size, new.debug);
        *self.reloaded.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(now));
    }

    /// How the processes of a container with runtime `name` are made; `None`: by the runtime that is built in, or
    /// nobody knows that name any more.
    pub fn foreign_runtime(&self, name: &str) -> Option<ForeignRuntime> {
        let runtime = self.live(|now| now.runtimes.get(name).cloned())?;
        Some(ForeignRuntime {
            program: runtime.path,
            arguments: runtime.arguments,
            root: self.exec_root.join("oci").join(name),
        })
    }

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

    /// The cgroup that supervisors live in, absolute within each hierarchy: outside of every container's and of
    /// whatever the daemon was started in.
    pub fn supervisors_cgroup(&self) -> String {
        match self.instance.as_str() {
            "wharf" => "/wharf/supervisors".to_owned(),
            instance => format!("/wharf-{instance}/supervisors"),
        }
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
    fn a_reload_changes_what_can_change() {
        let config = EngineConfig::default();
        let mut new = EngineConfig { labels: vec!["a=b".to_owned()], ..EngineConfig::default() };
        let runtime = Runtime { path: "/bin/true".into(), arguments: Vec::new() };
        (new.instance, new.runtimes) = ("other".to_owned(), [("x".to_owned(), runtime)].into());
        assert!(config.foreign_runtime("x").is_none());
        config.reload(&new);
        assert_eq!(config.live(|now| (now.labels.len(), now.instance.clone())), (1, "wharf".to_owned()));
        assert_eq!(config.foreign_runtime("x").unwrap().root, PathBuf::from("/run/wharf/oci/x"));
    }

    #[test]
    fn only_drivers_with_a_file_have_a_path() {
        let config = EngineConfig::default();
        assert!(config.log_path("abc", "none").is_none());
        let path = config.log_path("abc", "json-file");
        assert_eq!(path, Some(PathBuf::from("/var/lib/wharf/containers/abc/abc-json.log")));
    }
}

//! Flags and file together, as typed settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use wharf_api::ApiVersion;
use wharf_engine::EngineConfig;
use wharf_engine::config::{OWN_RUNTIMES, Runtime};
use wharf_engine::registry::RegistrySettings;
use wharf_engine::userns::{self, IdMap};

use super::file;
use super::flags::{self, Parsed};
use super::options::{self, Kind, OPTIONS, Use};
use crate::listen::{Access, Address, Tls};

mod builder;
mod network;

/// A configuration that cannot be used; the text names the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SettingsError(String);

/// All settings of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) engine: EngineConfig,
    pub(crate) addresses: Vec<Address>,
    pub(crate) access: Access,
    pub(crate) tls: Option<Tls>,
    pub(crate) pid_file: PathBuf,
    pub(crate) log_level: String,
    pub(crate) oldest: ApiVersion,
    /// Print the version, or say that the configuration is good, and exit.
    pub(crate) only: Option<Only>,
    /// What is set but does nothing yet.
    pub(crate) warnings: Vec<String>,
}

/// What to do instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Version,
    Validate,
}

/// What a command line comes to.
#[derive(Debug)]
pub(crate) enum Loaded {
    Run(Box<Settings>),
    Help(String),
}

/// Reads the command line and the configuration file it names.
pub(crate) fn load(arguments: &[String]) -> Result<Loaded, SettingsError> {
    match flags::parse(arguments).map_err(SettingsError)? {
        Parsed::Help(text) => Ok(Loaded::Help(text)),
        Parsed::Flags(flags) => {
            let file = read_file(&flags)?;
            Ok(Loaded::Run(Box::new(settle(flags, file)?)))
        }
    }
}

/// Reads the configuration file again, under the same command line.
pub(crate) fn reload(arguments: &[String]) -> Result<Settings, SettingsError> {
    match load(arguments)? {
        Loaded::Run(settings) => Ok(*settings),
        Loaded::Help(_) => Err(SettingsError("--help asks for nothing to reload".to_owned())),
    }
}

type Values = BTreeMap<&'static str, Value>;

fn read_file(flags: &Values) -> Result<Values, SettingsError> {
    let asked = flags.get("config-file").and_then(Value::as_str);
    let path = PathBuf::from(asked.unwrap_or("/etc/wharf/daemon.json"));
    file::read(&path, asked.is_some()).map_err(SettingsError)
}

/// Both sources by flag name. What is in both is refused, unless it gathers.
fn merge(flags: Values, file: Values) -> Result<Values, SettingsError> {
    let mut merged = flags;
    let mut conflicts = Vec::new();
    for (key, value) in file {
        let Some(option) = options::by_key(key) else { continue };
        let name = if option.flag.is_empty() { option.key } else { option.flag };
        match (merged.get_mut(name), option.kind) {
            (None, _) => drop(merged.insert(name, value)),
            (Some(Value::Array(from_flags)), Kind::Map | Kind::Any) => {
                from_flags.extend(value.as_array().cloned().unwrap_or_else(|| vec![value]));
            }
            (Some(flag), _) => conflicts.push(format!("{key}: (from flag: {flag}, from file: {value})")),
        }
    }
    if conflicts.is_empty() {
        return Ok(merged);
    }
    let text = "the following directives are specified both as a flag and in the configuration file";
    Err(SettingsError(format!("{text}: {}", conflicts.join(", "))))
}

/// Refuses what would silently not hold; tells what does nothing yet.
fn usable(values: &Values) -> Result<Vec<String>, SettingsError> {
    let mut warnings = Vec::new();
    for option in OPTIONS {
        let name = if option.flag.is_empty() { option.key } else { option.flag };
        let set = values.get(name).filter(|value| !matches!(value, Value::Bool(false)) && **value != "");
        match option.r#use {
            Use::Refused if set.is_some() => {
                return Err(SettingsError(format!("{name} is not available in this version of Wharf")));
            }
            Use::Later if set.is_some() => {
                warnings.push(format!("{name} has no effect in this version of Wharf"))
            }
            _ => {}
        }
    }
    Ok(warnings)
}

fn settle(flags: Values, file: Values) -> Result<Settings, SettingsError> {
    let values = Reader(merge(flags, file)?);
    let warnings = usable(&values.0)?;
    let only = match (values.truth("version"), values.truth("validate")) {
        (true, _) => Some(Only::Version),
        (_, true) => Some(Only::Validate),
        _ => None,
    };
    if let Some(format) = values.text("log-format").filter(|format| !matches!(*format, "" | "text")) {
        return Err(SettingsError(format!("log-format {format} is not available in this version of Wharf")));
    }
    let engine = engine(&values)?;
    let default_host = format!("unix://{}", engine.exec_root.join("wharf.sock").display());
    let hosts = values.list("host");
    let hosts = if hosts.is_empty() { vec![default_host] } else { hosts };
    let addresses = hosts.iter().map(|host| host.parse().map_err(SettingsError)).collect::<Result<_, _>>()?;
    let oldest = match values.text("min-api-version") {
        None => ApiVersion::MIN,
        Some(text) => oldest(text)?,
    };
    Ok(Settings {
        addresses,
        access: Access {
            group: values.text("group").unwrap_or("docker").to_owned(),
            required: values.text("group").is_some_and(|group| !group.is_empty()),
        },
        tls: tls(&values),
        pid_file: values.text("pidfile").map_or_else(|| engine.exec_root.join("daemon.pid"), PathBuf::from),
        log_level: log_level(&values)?,
        oldest,
        only,
        warnings,
        engine,
    })
}

fn oldest(text: &str) -> Result<ApiVersion, SettingsError> {
    let version: ApiVersion =
        text.parse().map_err(|error| SettingsError(format!("min-api-version: {error}")))?;
    if (ApiVersion::MIN..=ApiVersion::MAX).contains(&version) {
        return Ok(version);
    }
    let (min, max) = (ApiVersion::MIN, ApiVersion::MAX);
    Err(SettingsError(format!("min-api-version: {version} is not between {min} and {max}")))
}

fn log_level(values: &Reader) -> Result<String, SettingsError> {
    if values.truth("debug") {
        return Ok("debug".to_owned());
    }
    match values.text("log-level").unwrap_or("info") {
        "fatal" | "panic" => Ok("error".to_owned()),
        level @ ("trace" | "debug" | "info" | "warn" | "error") => Ok(level.to_owned()),
        other => Err(SettingsError(format!("invalid logging level: {other}"))),
    }
}

fn tls(values: &Reader) -> Option<Tls> {
    // As in dockerd, --tlsverify turns TLS on even where it is false by itself.
    let verify = values.truth("tlsverify");
    if !verify && !values.truth("tls") {
        return None;
    }
    let folder =
        std::env::var_os("DOCKER_CERT_PATH").map_or_else(|| PathBuf::from("/etc/wharf"), PathBuf::from);
    let file =
        |name: &str, default: &str| values.text(name).map_or_else(|| folder.join(default), PathBuf::from);
    Some(Tls {
        ca: file("tlscacert", "ca.pem"),
        cert: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
        verify,
    })
}

fn engine(values: &Reader) -> Result<EngineConfig, SettingsError> {
    let instance = values.text("instance").unwrap_or("wharf").to_owned();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if instance.is_empty() || instance.len() > 32 || !instance.bytes().all(legal) {
        return Err(SettingsError(format!(
            "invalid instance name {instance:?}: letters, digits, - and _ only"
        )));
    }
    let own = if instance == "wharf" { "wharf".to_owned() } else { format!("wharf-{instance}") };
    let path = |name: &str, parent: &str| {
        let path = values.text(name).map_or_else(|| PathBuf::from(parent).join(&own), PathBuf::from);
        std::path::absolute(&path).map_err(|error| SettingsError(format!("{name}: {error}")))
    };
    let default = EngineConfig::default();
    let text = |name: &str, default: &str| values.text(name).unwrap_or(default).to_owned();
    if let Some(option) =
        values.list("exec-opt").iter().find(|option| *option != "native.cgroupdriver=cgroupfs")
    {
        return Err(SettingsError(format!("exec-opt {option} is not available in this version of Wharf")));
    }
    Ok(EngineConfig {
        data_root: path("data-root", "/var/lib")?,
        exec_root: path("exec-root", "/run")?,
        cgroup_parent: text("cgroup-parent", &own).trim_matches('/').to_owned(),
        instance,
        storage_driver: values.text("storage-driver").filter(|driver| !driver.is_empty()).map(str::to_owned),
        log_driver: text("log-driver", &default.log_driver),
        log_opts: values.map("log-opt"),
        init: values.truth("init"),
        no_new_privileges: values.truth("no-new-privileges"),
        shm_size: values.size("default-shm-size")?.unwrap_or(default.shm_size),
        default_ulimits: ulimits(values)?,
        default_cgroupns: cgroupns_mode(text("default-cgroupns-mode", &default.default_cgroupns))?,
        default_ipc: ipc_mode(text("default-ipc-mode", &default.default_ipc))?,
        dns: values.list("dns"),
        dns_search: values.list("dns-search"),
        dns_options: values.list("dns-opt"),
        seccomp_profile: values
            .text("seccomp-profile")
            .filter(|path| !matches!(*path, "" | "builtin"))
            .map(str::to_owned),
        labels: values.list("label"),
        cdi_spec_dirs: match values.list("cdi-spec-dir") {
            none if none.is_empty() => default.cdi_spec_dirs.clone(),
            given => given.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
        },
        runtimes: runtimes(values)?,
        default_runtime: default_runtime(values, &default.default_runtime)?,
        insecure_registries: values.list("insecure-registry"),
        registry_mirrors: values.list("registry-mirror"),
        registry: registry(values)?,
        network: network::network(values)?,
        build_cache: builder::cache(values)?,
        debug: values.truth("debug"),
        remap: remap(values)?,
        ..default
    })
}

/// Docker's keys about registries; proxies also from the environment, as dockerd reads it.
fn registry(values: &Reader) -> Result<RegistrySettings, SettingsError> {
    let default = RegistrySettings::default();
    let number = |name: &str, default: usize| match values.number(name) {
        None => Ok(default),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| SettingsError(format!("invalid {name}: {number}"))),
    };
    let file = values.map("proxies");
    let proxy = |name: &str| {
        let variable = |name: String| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = values.text(name).map(str::to_owned).or_else(|| file.get(name).cloned());
        let upper = name.to_uppercase().replace('-', "_");
        let lower = upper.to_lowercase();
        given.or_else(|| variable(upper)).or_else(|| variable(lower)).unwrap_or_default()
    };
    let search_index = values.text("search-index").unwrap_or_default().to_owned();
    if !search_index.is_empty()
        && !search_index.starts_with("http://")
        && !search_index.starts_with("https://")
    {
        return Err(SettingsError(format!(
            "invalid search-index: {search_index}: it begins with http:// or https://"
        )));
    }
    let attempts = number("max-download-attempts", default.attempts as usize)?;
    // Beside the own configuration first, then where Docker has them.
    let folder = values.text("config-file").and_then(|path| Path::new(path).parent());
    let certificates = match folder {
        Some(folder) => vec![folder.join("certs.d"), "/etc/docker/certs.d".into()],
        None => default.certificates.clone(),
    };
    Ok(RegistrySettings {
        certificates,
        http_proxy: proxy("http-proxy"),
        https_proxy: proxy("https-proxy"),
        no_proxy: proxy("no-proxy"),
        downloads: number("max-concurrent-downloads", default.downloads)?,
        uploads: number("max-concurrent-uploads", default.uploads)?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        search_index,
    })
}

fn remap(values: &Reader) -> Result<Option<IdMap>, SettingsError> {
    match values.text("userns-remap").filter(|setting| !setting.is_empty()) {
        None => Ok(None),
        Some(setting) => match userns::parse(setting, &userns::Databases::default()) {
            Ok(ids) => Ok(Some(ids)),
            Err(error) => Err(SettingsError(format!("userns-remap: {error}"))),
        },
    }
}

/// What IPC namespaces containers have that ask for none.
fn ipc_mode(mode: String) -> Result<String, SettingsError> {
    match mode.as_str() {
        "private" | "shareable" => Ok(mode),
        _ => {
            let why = "is not supported as default value; use \"shareable\" or \"private\"";
            Err(SettingsError(format!("IPC mode {mode:?} {why}")))
        }
    }
}

/// What cgroup namespaces containers have that ask for none; empty: what the machine's version of cgroups suggests.
fn cgroupns_mode(mode: String) -> Result<String, SettingsError> {
    match mode.as_str() {
        "" | "host" | "private" => Ok(mode),
        _ => Err(SettingsError(format!(
            "invalid default cgroup namespace ({mode}): use \"host\" or \"private\""
        ))),
    }
}

/// `nofile=1024:2048` from flags, `{"nofile": {"Name": "nofile", "Soft": …, "Hard": …}}` from the file.
fn ulimits(values: &Reader) -> Result<BTreeMap<String, (i64, i64)>, SettingsError> {
    let mut limits = BTreeMap::new();
    for (name, value) in values.pairs("default-ulimit") {
        let refuse = || SettingsError(format!("default-ulimits: invalid limit {name}={value}"));
        let limit = match &value {
            Value::String(text) => {
                let (soft, hard) = text.split_once(':').unwrap_or((text, text));
                (soft.parse().map_err(|_| refuse())?, hard.parse().map_err(|_| refuse())?)
            }
            Value::Object(limit) => {
                let number = |key: &str| limit.get(key).and_then(Value::as_i64).ok_or_else(refuse);
                (number("Soft")?, number("Hard")?)
            }
            _ => return Err(refuse()),
        };
        limits.insert(name, limit);
    }
    Ok(limits)
}

/// `name=path` from flags, `{"name": {"path": …, "runtimeArgs": […]}}` from the file.
fn runtimes(values: &Reader) -> Result<BTreeMap<String, Runtime>, SettingsError> {
    let mut runtimes = BTreeMap::new();
    for (name, value) in values.pairs("add-runtime") {
        if OWN_RUNTIMES.contains(&name.as_str()) {
            return Err(SettingsError(format!("runtime name '{name}' is reserved")));
        }
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(SettingsError(format!("runtimes: invalid name {name:?}")));
        }
        let of_object = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        if !of_object("runtimeType").is_empty() || value.get("options").is_some() {
            let why = "runtimeType and options are not available in this version of Wharf: give a path";
            return Err(SettingsError(format!("runtime {name}: {why}")));
        }
        let path = value.as_str().unwrap_or_else(|| of_object("path"));
        if path.is_empty() {
            return Err(SettingsError(format!(
                "runtime {name}: either a runtimeType or a path must be configured"
            )));
        }
        let arguments = value.get("runtimeArgs").and_then(Value::as_array).into_iter().flatten();
        let arguments = arguments.filter_map(Value::as_str).map(str::to_owned).collect();
        runtimes.insert(name, Runtime { path: PathBuf::from(path), arguments });
    }
    Ok(runtimes)
}

/// The runtime of containers that name none has to be there.
fn default_runtime(values: &Reader, default: &str) -> Result<String, SettingsError> {
    let name = values.text("default-runtime").filter(|name| !name.is_empty()).unwrap_or(default);
    if OWN_RUNTIMES.contains(&name) || runtimes(values)?.contains_key(name) {
        return Ok(name.to_owned());
    }
    Err(SettingsError(format!("specified default runtime '{name}' does not exist")))
}

/// Merged values, read by flag name.
#[derive(Debug)]
struct Reader(Values);

impl Reader {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    fn truth(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Names with values, from `name=value` words and objects alike; flags come first and later ones win.
    fn pairs(&self, name: &str) -> Vec<(String, Value)> {
        let of_object =
            |object: &Map<String, Value>| object.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let of_item = |item: &Value| -> Vec<(String, Value)> {
            match item {
                Value::String(text) => {
                    let (name, value) = text.split_once('=').unwrap_or((text, ""));
                    vec![(name.to_owned(), Value::String(value.to_owned()))]
                }
                Value::Object(object) => of_object(object),
                _ => Vec::new(),
            }
        };
        match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().flat_map(of_item).collect(),
            Some(item) => of_item(item),
            None => Vec::new(),
        }
    }

    fn map(&self, name: &str) -> BTreeMap<String, String> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        self.pairs(name).into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// A number of bytes: `64m`, `1g`, `65536`.
    fn size(&self, name: &str) -> Result<Option<i64>, SettingsError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let size = bytes(text);
        size.map(Some).ok_or_else(|| SettingsError(format!("{name}: invalid size: '{text}'")))
    }
}

/// A number of bytes: `64m`, `1g`, `65536`.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches("ib").trim_end_matches(['b', 'k', 'm', 'g', 't', 'i']);
    let shift = match lower[digits.len()..].chars().next() {
        None | Some('b') => 0,
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some('t') => 40,
        Some(_) => 63,
    };
    digits.parse::<i64>().ok().and_then(|number| number.checked_mul(1_i64.checked_shl(shift)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str], file: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        std::fs::write(&path, file).unwrap();
        let mut words = vec!["--config-file".to_owned(), path.display().to_string()];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        reload(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn file_and_flags_together() {
        let file = r#"{"hosts": ["unix:///a.sock"], "log-opts": {"max-size": "1m"}, "default-shm-size": "128M",
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}}, "labels": ["a=b"]}"#;
        let read =
            settings(&["--log-opt", "max-file=3", "--instance", "t1", "--default-ulimit", "nproc=5"], file)
                .unwrap();
        assert_eq!(read.addresses, [Address::Unix("/a.sock".into())]);
        assert_eq!(read.engine.log_opts.len(), 2);
        assert_eq!(read.engine.shm_size, 128 << 20);
        assert_eq!(read.engine.default_ulimits["nofile"], (10, 20));
        assert_eq!(read.engine.default_ulimits["nproc"], (5, 5));
        assert_eq!((read.engine.cgroup_parent.as_str(), read.engine.labels.len()), ("wharf-t1", 1));
        assert_eq!(read.engine.data_root, PathBuf::from("/var/lib/wharf-t1"));
        assert_eq!(read.pid_file, PathBuf::from("/run/wharf-t1/daemon.pid"));
    }

    #[test]
    fn runtimes_have_a_name_and_a_path() {
        let file = r#"{"runtimes": {"b": {"path": "/b", "runtimeArgs": ["--x"]}}, "default-runtime": "a"}"#;
        let read = settings(&["--add-runtime", "a=/a"], file).unwrap().engine;
        assert_eq!((read.runtimes.len(), read.default_runtime.as_str()), (2, "a"));
        assert_eq!(read.runtimes["b"].arguments, ["--x"]);
        let refusal = |arguments: &[&str]| settings(arguments, "{}").unwrap_err();
        assert_eq!(refusal(&["--add-runtime", "runc=/x"]), "runtime name 'runc' is reserved");
        assert_eq!(refusal(&["--default-runtime", "x"]), "specified default runtime 'x' does not exist");
        assert!(refusal(&["--add-runtime", "x"]).contains("a path must be configured"));
        let typed = r#"{"runtimes": {"k": {"runtimeType": "io.containerd.kata.v2"}}}"#;
        assert!(settings(&[], typed).unwrap_err().contains("not available"));
    }

    #[test]
    fn the_same_setting_in_both_is_refused() {
        let error = settings(&["--log-driver", "local"], r#"{"log-driver": "none"}"#).unwrap_err();
        assert!(error.contains("log-driver: (from flag: \"local\", from file: \"none\")"), "{error}");
    }

    #[test]
    fn what_cannot_hold_is_refused_and_what_is_to_come_is_told() {
        let error = settings(&["--selinux-enabled"], "{}").unwrap_err();
        assert_eq!(error, "selinux-enabled is not available in this version of Wharf");
        let error = settings(&["--userns-remap", "no-such-user"], "{}").unwrap_err();
        assert_eq!(error, "userns-remap: error during uid/gid lookup of \"no-such-user\": no such user");
        assert!(settings(&[], r#"{"selinux-enabled": false}"#).is_ok());
        assert!(settings(&["--bip", "10.0.0.1/24"], "{}").unwrap().warnings.is_empty());
        assert!(settings(&["--min-api-version", "1.60"], "{}").is_err());
        assert!(settings(&["-l", "loud"], "{}").is_err());
        assert!(settings(&["--default-shm-size", "x"], "{}").is_err());
    }
}

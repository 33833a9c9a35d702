//! Whole specs, from requests as a client sends them.

use std::path::Path;

use wharf_api::NetworkingConfig;
use wharf_oci::runtime::{Mount, NamespaceKind};

use super::*;
use crate::container::validate;

/// An engine below a directory that goes away, and an image with a shell.
struct Ground {
    dir: tempfile::TempDir,
    engine: EngineConfig,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = EngineConfig { data_root: dir.path().join("data"), ..EngineConfig::default() };
        std::fs::create_dir_all(engine.bundle(ID)).unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        std::fs::write(dir.path().join("root/etc/passwd"), "web:x:33:33::/srv/web:\n").unwrap();
        Self { dir, engine }
    }

    /// What start makes of a request.
    fn spec(&self, mut config: ContainerConfig, mut host: HostConfig) -> Result<Spec> {
        let ask = validate::Ask { engine: &self.engine, id: ID, container_id: &|_| None, network: &|_| None };
        validate::create(&ask, &mut config, &mut host, &mut NetworkingConfig::default())?;
        let image = wharf_oci::Config { cmd: Some(vec!["sh".to_owned()]), ..wharf_oci::Config::default() };
        validate::merge_image(&mut config, &image)?;
        let volumes = crate::volume::Volumes::open(&self.engine.data_root)?;
        let registered = Register {
            id: ID,
            data_root: &self.engine.data_root,
            volumes: &volumes,
            points_of: &|_| None,
            image_id: &|_| Ok("sha256:x".to_owned()),
        };
        let (points, _) = register(&registered, &config, &host)?;
        let sources = volumes.enter(ID, &points)?;
        build(&Build {
            engine: &self.engine,
            id: ID,
            name: "one",
            config: &config,
            host: &host,
            points: &points,
            volumes: &sources,
            peers: &Peers::default(),
            net: &Net::default(),
            root: &Root::open(self.dir.path().join("root")).unwrap(),
            image_layers: &|_| Ok(vec![PathBuf::from("/layers/b"), PathBuf::from("/layers/a")]),
        })
    }
}

const ID: &str = "0123456789abcdef";

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn mount<'a>(spec: &'a Spec, destination: &str) -> Option<&'a Mount> {
    spec.mounts.iter().find(|mount| mount.destination == destination)
}

fn kinds(spec: &Spec) -> Vec<NamespaceKind> {
    spec.linux.as_ref().unwrap().namespaces.iter().map(|namespace| namespace.kind).collect()
}

#[test]
fn a_plain_container_is_dockers() {
    let ground = Ground::new();
    let spec = ground.spec(ContainerConfig::default(), HostConfig::default()).unwrap();
    let (process, linux) = (spec.process.as_ref().unwrap(), spec.linux.as_ref().unwrap());
    assert_eq!(
        (process.args.join(" "), process.cwd.as_str(), spec.hostname.as_str()),
        ("sh".to_owned(), "/", "0123456789ab")
    );
    assert_eq!(process.user.additional_gids, [0]);
    assert!(process.capabilities.as_ref().unwrap().effective.len() == 14 && !process.no_new_privileges);
    for kind in [
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Uts,
        NamespaceKind::Ipc,
        NamespaceKind::Pid,
    ] {
        assert!(kinds(&spec).contains(&kind), "{kind:?}");
    }
    assert!(linux.seccomp.is_some() && linux.masked_paths.len() >= 12 && linux.readonly_paths.len() == 5);
    assert_eq!(linux.cgroups_path, format!("/wharf/{ID}"));
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 2147483647");
    let shm = mount(&spec, "/dev/shm").unwrap();
    assert_eq!((shm.kind.as_str(), shm.options.last().unwrap().as_str()), ("tmpfs", "size=67108864"));
    for file in ["resolv.conf", "hostname", "hosts"] {
        assert!(ground.engine.bundle(ID).join(file).is_file(), "{file}");
        assert_eq!(mount(&spec, &format!("/etc/{file}")).unwrap().options, ["rbind", "rprivate"]);
    }
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
}

#[test]
fn the_hosts_namespaces_are_left_out() {
    let host = HostConfig {
        network_mode: "host".to_owned(),
        ipc_mode: "host".to_owned(),
        pid_mode: "host".to_owned(),
        uts_mode: "host".to_owned(),
        cgroupns_mode: "host".to_owned(),
        ..HostConfig::default()
    };
    let spec = Ground::new().spec(ContainerConfig::default(), host).unwrap();
    assert_eq!(kinds(&spec), [NamespaceKind::Mount]);
    assert_eq!(mount(&spec, "/dev/shm").unwrap().source, "/dev/shm");
    assert!(spec.hostname.is_empty() && spec.linux.unwrap().sysctl.is_empty());
}

#[test]
fn a_privileged_container_is_held_back_by_nothing() {
    let spec = Ground::new()
        .spec(ContainerConfig::default(), HostConfig { privileged: true, ..HostConfig::default() });
    let spec = spec.unwrap();
    let linux = spec.linux.as_ref().unwrap();
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(linux.devices.iter().any(|device| device.path == "/dev/null"));
    assert!(linux.resources.as_ref().unwrap().devices.iter().all(|rule| rule.allow && rule.major.is_none()));
    assert!(!mount(&spec, "/sys").unwrap().options.contains(&"ro".to_owned()));
}

#[test]
fn what_is_given_comes_after_what_it_is_put_into() {
    let ground = Ground::new();
    let tmpfs = Some([("/run".to_owned(), "size=1m".to_owned())].into());
    let host = HostConfig {
        binds: words(&["/etc:/run/inner:ro", "data:/data", "/etc/hosts:/etc/hosts"]),
        tmpfs,
        readonly_rootfs: true,
        init: Some(true),
        ..HostConfig::default()
    };
    let config =
        ContainerConfig { user: "web".to_owned(), cmd: words(&["id"]), ..ContainerConfig::default() };
    let spec = ground.spec(config, host).unwrap();
    let place = |path: &str| spec.mounts.iter().position(|mount| mount.destination == path).unwrap();
    assert!(place("/run") < place("/run/inner"));
    assert_eq!(mount(&spec, "/run/inner").unwrap().options, ["rbind", "rro", "rprivate"]);
    assert!(Path::new(&mount(&spec, "/data").unwrap().source).ends_with("volumes/data/_data"));
    // The container's own file hides the engine's.
    assert_eq!(spec.mounts.iter().filter(|mount| mount.destination == "/etc/hosts").count(), 1);
    assert_eq!(mount(&spec, "/etc/hosts").unwrap().source, "/etc/hosts");
    let process = spec.process.unwrap();
    assert_eq!(process.args, ["/sbin/docker-init", "init", "--", "id"]);
    assert!(process.env.contains(&"HOME=/srv/web".to_owned()) && process.user.uid == 33);
    assert!(spec.root.unwrap().readonly);
}

#[test]
fn an_image_is_mounted_as_its_layers() {
    let image = wharf_api::Mount {
        r#type: "image".to_owned(),
        source: "busybox".to_owned(),
        target: "/img".to_owned(),
        ..wharf_api::Mount::default()
    };
    let host = HostConfig { mounts: Some(vec![image]), ..HostConfig::default() };
    let spec = Ground::new().spec(ContainerConfig::default(), host).unwrap();
    assert_eq!(mount(&spec, "/img").unwrap().options, ["ro", "lowerdir=/layers/b:/layers/a"]);
}

#[test]
fn starts_are_refused_as_recorded() {
    let text = |host: HostConfig| {
        Ground::new().spec(ContainerConfig::default(), host).unwrap_err().message().to_owned()
    };
    let sysctls = Some([("foo".to_owned(), "1".to_owned())].into());
    let why = format!("{CREATE_FAILED}sysctl \"foo\" is not in a separate kernel namespace");
    assert_eq!(text(HostConfig { sysctls, ..HostConfig::default() }), why);
    let why = "bad nameserver address x: ParseAddr(\"x\"): unable to parse IP";
    assert_eq!(text(HostConfig { dns: words(&["x"]), ..HostConfig::default() }), why);
    let why = "unable to find group nogroup1: no matching entries in group file";
    assert_eq!(text(HostConfig { group_add: words(&["nogroup1"]), ..HostConfig::default() }), why);
    let why = "invalid device cgroup rule format: 'x'";
    assert_eq!(text(HostConfig { device_cgroup_rules: words(&["x"]), ..HostConfig::default() }), why);
    let config = ContainerConfig { working_dir: "/etc/passwd".to_owned(), ..ContainerConfig::default() };
    let error = Ground::new().spec(config, HostConfig::default()).unwrap_err();
    assert_eq!(error.message(), "Cannot mkdir: /etc/passwd is not a directory");
}

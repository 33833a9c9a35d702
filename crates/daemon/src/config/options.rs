//! The table of options: name as a flag, name in `daemon.json`, kind, and what becomes of them.

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--x`, `--x=false`.
    Bool,
    /// A word.
    Text,
    /// A number.
    Number,
    /// Several words; the flag is repeated.
    List,
    /// `name=value`; the flag is repeated, the file has an object.
    Map,
    /// The file has whatever Docker defines; the flag is a word and may be repeated.
    Any,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It works.
    Works,
    /// Nothing has to be done for it: it is so already, or is of no matter here.
    Idle,
    /// It belongs to something that is still to come; a warning says so.
    Later,
    /// What it asks for would silently not hold: refused by name.
    Refused,
}

/// One option.
#[derive(Debug)]
pub(super) struct Opt {
    /// The flag without dashes; empty: only in the file.
    pub(super) flag: &'static str,
    pub(super) short: Option<char>,
    /// The key in `daemon.json`; empty: only as a flag.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) r#use: Use,
    pub(super) help: &'static str,
}

const fn both(name: &'static str, kind: Kind, r#use: Use, help: &'static str) -> Opt {
    Opt { flag: name, short: None, key: name, kind, r#use, help }
}

const fn named(flag: &'static str, key: &'static str, kind: Kind, r#use: Use, help: &'static str) -> Opt {
    Opt { flag, short: None, key, kind, r#use, help }
}

use Kind::{Any, Bool, List, Map, Number, Text};
use Use::{Idle, Later, Refused, Works};

/// All options.
pub(super) static OPTIONS: &[Opt] = &[
    named("config-file", "", Text, Works, "Configuration file"),
    named("instance", "", Text, Works, "Name that everything this daemon makes derives from"),
    named("validate", "", Bool, Works, "Check the configuration and exit"),
    named("version", "", Bool, Works, "Print the version and exit"),
    Opt { flag: "host", short: Some('H'), key: "hosts", kind: List, r#use: Works, help: "Where to listen" },
    Opt {
        flag: "group",
        short: Some('G'),
        key: "group",
        kind: Text,
        r#use: Works,
        help: "Group of the unix socket",
    },
    Opt {
        flag: "debug",
        short: Some('D'),
        key: "debug",
        kind: Bool,
        r#use: Works,
        help: "Log at debug level",
    },
    Opt {
        flag: "log-level",
        short: Some('l'),
        key: "log-level",
        kind: Text,
        r#use: Works,
        help: "debug, info, warn, error or fatal",
    },
    both("log-format", Text, Works, "text is the only one"),
    both("data-root", Text, Works, "Where images, containers and volumes are kept"),
    both("exec-root", Text, Works, "Where sockets and the pid file are"),
    Opt {
        flag: "pidfile",
        short: Some('p'),
        key: "pidfile",
        kind: Text,
        r#use: Works,
        help: "The daemon's pid file",
    },
    Opt {
        flag: "storage-driver",
        short: Some('s'),
        key: "storage-driver",
        kind: Text,
        r#use: Works,
        help: "overlay2 or vfs",
    },
    both("log-driver", Text, Works, "Log driver of containers that name none"),
    named("log-opt", "log-opts", Map, Works, "Options of the default log driver"),
    both("cgroup-parent", Text, Works, "Parent cgroup of containers"),
    both("init", Bool, Works, "Run an init in containers"),
    both("no-new-privileges", Bool, Works, "Forbid new privileges in containers"),
    both("default-shm-size", Text, Works, "Size of /dev/shm in containers"),
    named("default-ulimit", "default-ulimits", Map, Works, "Limits of containers: name=soft[:hard]"),
    both("default-cgroupns-mode", Text, Works, "host or private"),
    both("default-ipc-mode", Text, Works, "shareable or private"),
    both("seccomp-profile", Text, Works, "Path of a profile, builtin or unconfined"),
    both("dns", List, Works, "Name servers of containers"),
    both("dns-search", List, Works, "Search domains of containers"),
    named("dns-opt", "dns-opts", List, Works, "Resolver options of containers"),
    named("label", "labels", List, Works, "Labels of the daemon"),
    named("add-runtime", "runtimes", Any, Works, "An OCI runtime: name=path"),
    both("default-runtime", Text, Works, "OCI runtime of containers that name none"),
    named("insecure-registry", "insecure-registries", List, Works, "Registries without TLS"),
    named("registry-mirror", "registry-mirrors", List, Works, "Mirrors of Docker Hub"),
    both("search-index", Text, Works, "Address of the index that searches ask"),
    both("min-api-version", Text, Works, "Oldest API version served"),
    both("tls", Bool, Works, "Use TLS"),
    both("tlsverify", Bool, Works, "Use TLS and verify clients"),
    both("tlscacert", Text, Works, "Certificates that sign clients' ones"),
    both("tlscert", Text, Works, "The daemon's certificate"),
    both("tlskey", Text, Works, "The daemon's key"),
    both("shutdown-timeout", Number, Idle, "Containers outlive the daemon: there is nothing to wait for"),
    both("live-restore", Bool, Idle, "Containers always outlive the daemon"),
    both("userland-proxy", Bool, Idle, "There is none"),
    both("userland-proxy-path", Text, Idle, "There is none"),
    both("raw-logs", Bool, Idle, "Logs carry no colours"),
    both("experimental", Bool, Idle, "There is no experimental mode"),
    both("containerd", Text, Idle, "Not needed"),
    both("containerd-namespace", Text, Idle, "Not needed"),
    both("containerd-plugins-namespace", Text, Idle, "Not needed"),
    both("init-path", Text, Idle, "The init is built in"),
    both("swarm-default-advertise-addr", Text, Idle, "There is no swarm"),
    both("network-control-plane-mtu", Number, Idle, "There is no swarm"),
    named("node-generic-resource", "node-generic-resources", List, Idle, "There is no swarm"),
    both("max-concurrent-downloads", Number, Works, "Layers fetched at a time"),
    both("max-concurrent-uploads", Number, Works, "Layers sent at a time"),
    both("max-download-attempts", Number, Works, "Attempts of a transfer"),
    both("oom-score-adjust", Number, Later, "oom_score_adj of the daemon"),
    both("metrics-addr", Text, Later, "Where to serve metrics"),
    Opt {
        flag: "bridge",
        short: Some('b'),
        key: "bridge",
        kind: Text,
        r#use: Works,
        help: "Bridge of the default network",
    },
    both("bip", Text, Works, "Address of the default bridge"),
    both("bip6", Text, Works, "IPv6 address of the default bridge"),
    both("fixed-cidr", Text, Works, "Addresses of containers on the default bridge"),
    both("fixed-cidr-v6", Text, Works, "IPv6 addresses of containers on the default bridge"),
    both("default-gateway", Text, Works, "Gateway of the default bridge"),
    both("default-gateway-v6", Text, Works, "IPv6 gateway of the default bridge"),
    named("default-address-pool", "default-address-pools", Any, Works, "Subnets of new networks"),
    named("default-network-opt", "default-network-opts", Any, Works, "Options of new networks"),
    named("host-gateway-ip", "host-gateway-ips", Any, Works, "What host-gateway stands for"),
    both("iptables", Bool, Works, "Write firewall rules"),
    both("ip6tables", Bool, Works, "Write IPv6 firewall rules"),
    both("firewall-backend", Text, Idle, "Rules are written to nftables"),
    both(
        "publish-policy",
        Text,
        Works,
        "host-firewall: what the host's firewall closes stays closed; or open",
    ),
    both(
        "publish-allow",
        List,
        Works,
        "Published ports to open all the same: PORT[/PROTOCOL][@CIDR|@INTERFACE]",
    ),
    both("allow-direct-routing", Bool, Later, "Let outside hosts reach containers' addresses"),
    both("bridge-accept-fwmark", Text, Later, "Packets let through the bridge's firewall"),
    both("ip-forward", Bool, Works, "Turn forwarding on"),
    both("ip-forward-no-drop", Bool, Works, "Leave the forward policy alone"),
    both("ip-masq", Bool, Works, "Masquerade the default bridge"),
    both("ip", Text, Works, "Address that ports are published on"),
    both("icc", Bool, Works, "Let containers of the default bridge talk"),
    both("ipv6", Bool, Works, "IPv6 on the default bridge"),
    both("mtu", Number, Works, "MTU of the default bridge"),
    named("http-proxy", "", Text, Works, "Proxy to http:// registries"),
    named("https-proxy", "", Text, Works, "Proxy to https:// registries"),
    named("no-proxy", "", Text, Works, "Registries that are reached without a proxy"),
    named("", "proxies", Map, Works, "Proxies to registries"),
    named("", "builder", Any, Works, "The build cache"),
    named("", "features", Any, Idle, "Switches of Docker's"),
    named("feature", "", Map, Idle, "Switches of Docker's"),
    named("cdi-spec-dir", "cdi-spec-dirs", List, Works, "Where CDI device specifications are"),
    named("exec-opt", "exec-opts", List, Works, "native.cgroupdriver=cgroupfs is the only one"),
    named("storage-opt", "storage-opts", List, Refused, "Options of the storage driver"),
    named("authorization-plugin", "authorization-plugins", List, Refused, "Authorization plugins"),
    both("selinux-enabled", Bool, Refused, "SELinux labels"),
    both("userns-remap", Text, Works, "User namespaces: default, or user[:group]"),
    both("cpu-rt-period", Number, Refused, "Real-time scheduling"),
    both("cpu-rt-runtime", Number, Refused, "Real-time scheduling"),
    both("rootless", Bool, Refused, "Running without root"),
];

/// The option of a flag.
pub(super) fn by_flag(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| !option.flag.is_empty() && option.flag == name)
}

/// The option of a one-letter flag.
pub(super) fn by_letter(letter: char) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.short == Some(letter))
}

/// The option of a key of `daemon.json`.
pub(super) fn by_key(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| !option.key.is_empty() && option.key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_there_twice() {
        for (index, option) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[..index] {
                assert!(option.flag.is_empty() || option.flag != other.flag, "{}", option.flag);
                assert!(option.key.is_empty() || option.key != other.key, "{}", option.key);
                assert!(option.short.is_none() || option.short != other.short, "{:?}", option.short);
            }
        }
    }
}

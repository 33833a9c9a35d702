//! `ExecOp`: processes.

use bollard_buildkit_proto::pb;
use wharf_build::dockerfile::{NetworkMode, Security, Sharing};
use wharf_build::graph::{Access, Edge, Execute, Mount, MountType, Operation};

use super::{Builder, Result, Shown, pick};

/// The mode of a secret or a socket where none is given.
const SECRET_MODE: u32 = 0o400;
const SOCKET_MODE: u32 = 0o600;

impl Builder<'_> {
    /// Adds a process; returns what it leaves.
    pub(super) fn execute(
        &mut self,
        exec: &pb::ExecOp,
        inputs: &[Option<Edge>],
        shown: &Shown,
    ) -> Result<Vec<Option<Edge>>> {
        let meta = exec.meta.clone().unwrap_or_default();
        if meta.args.is_empty() {
            return Err("a process has no arguments".to_owned());
        }
        // As where no device is registered by that name: this engine knows none.
        if let Some(device) = exec.cdi_devices.iter().find(|device| !device.optional) {
            return Err(format!("unresolvable device {}", device.name));
        }
        let network = self.network(exec)?;
        let security = self.security(exec)?;
        let (mounts, edges, outputs) = self.mounts(exec, inputs, shown)?;
        let proxy = meta.proxy_env.unwrap_or_default();
        let execute = Execute {
            arguments: meta.args,
            environment: meta.env,
            proxies: proxies(&proxy),
            directory: if meta.cwd.is_empty() { "/".to_owned() } else { meta.cwd },
            user: meta.user,
            mounts,
            network,
            security,
            hostname: meta.hostname,
            hosts: meta.extra_hosts.into_iter().map(|host| (host.host, host.ip)).collect(),
            secret_environment: exec
                .secretenv
                .iter()
                .map(|secret| (secret.name.clone(), secret.id.clone(), !secret.optional))
                .collect(),
            valid_exit_codes: meta.valid_exit_codes,
            ulimits: meta.ulimit.into_iter().map(|limit| (limit.name, limit.soft, limit.hard)).collect(),
            cgroup_parent: meta.cgroup_parent,
        };
        let edge = self.node(Operation::Execute(Box::new(execute)), edges, shown);
        Ok((0..outputs).map(|output| Some(Edge { output, ..edge })).collect())
    }

    fn network(&self, exec: &pb::ExecOp) -> Result<NetworkMode> {
        match exec.network() {
            pb::NetMode::Unset => Ok(NetworkMode::Default),
            pb::NetMode::None => Ok(NetworkMode::None),
            pb::NetMode::Host if self.allowed.network_host => Ok(NetworkMode::Host),
            pb::NetMode::Host => Err("network.host is not allowed".to_owned()),
        }
    }

    fn security(&self, exec: &pb::ExecOp) -> Result<Security> {
        match exec.security() {
            pb::SecurityMode::Sandbox => Ok(Security::Sandbox),
            pb::SecurityMode::Insecure if self.allowed.insecure => Ok(Security::Insecure),
            pb::SecurityMode::Insecure => Err("security.insecure is not allowed".to_owned()),
        }
    }

    /// The mounts, root first; what they are of; how many of them are results.
    fn mounts(
        &mut self,
        exec: &pb::ExecOp,
        inputs: &[Option<Edge>],
        shown: &Shown,
    ) -> Result<(Vec<Mount>, Vec<Edge>, usize)> {
        let mut given: Vec<&pb::Mount> = exec.mounts.iter().collect();
        let root = given.iter().position(|mount| mount.dest == "/");
        let root = root.ok_or_else(|| "a process has no root".to_owned())?;
        given[..=root].rotate_right(1);
        let (mut mounts, mut edges, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for mount in given {
            let kind = kind(mount)?;
            let wants_tree = kind == MountType::Bind;
            let input = match pick(inputs, mount.input)? {
                Some(edge) => Some(edge),
                None if wants_tree => Some(self.empty(shown)),
                None => None,
            };
            let output = usize::try_from(mount.output).ok().filter(|_| wants_tree && !mount.readonly);
            outputs.extend(output);
            mounts.push(Mount {
                input: input.map(|edge| {
                    edges.push(edge);
                    edges.len() - 1
                }),
                selector: mount.selector.clone(),
                destination: mount.dest.clone(),
                read_only: mount.readonly,
                output,
                kind,
            });
        }
        outputs.sort_unstable();
        if outputs.iter().enumerate().any(|(at, output)| at != *output) {
            return Err("the outputs of a process are not numbered from 0".to_owned());
        }
        Ok((mounts, edges, outputs.len()))
    }
}

/// What kind of mount it is.
pub(in crate::buildkit) fn kind(mount: &pb::Mount) -> Result<MountType> {
    Ok(match mount.mount_type() {
        pb::MountType::Bind => MountType::Bind,
        pb::MountType::Tmpfs => {
            let size = mount.tmpfs_opt.as_ref().map_or(0, |options| options.size);
            MountType::Tmpfs(u64::try_from(size).ok().filter(|size| *size > 0))
        }
        pb::MountType::Cache => {
            let cache = mount.cache_opt.clone().ok_or("a cache mount has no options")?;
            let sharing = match cache.sharing() {
                pb::CacheSharingOpt::Shared => Sharing::Shared,
                pb::CacheSharingOpt::Private => Sharing::Private,
                pb::CacheSharingOpt::Locked => Sharing::Locked,
            };
            MountType::Cache { id: cache.id, sharing }
        }
        pb::MountType::Secret => {
            let secret = mount.secret_opt.clone().ok_or("a secret mount has no options")?;
            MountType::Secret(Access {
                mode: if secret.mode == 0 { SECRET_MODE } else { secret.mode & 0o777 },
                id: secret.id,
                uid: secret.uid,
                gid: secret.gid,
                required: !secret.optional,
            })
        }
        pb::MountType::Ssh => {
            let ssh = mount.ssh_opt.clone().ok_or("an SSH mount has no options")?;
            MountType::Ssh(Access {
                mode: if ssh.mode == 0 { SOCKET_MODE } else { ssh.mode & 0o777 },
                id: ssh.id,
                uid: ssh.uid,
                gid: ssh.gid,
                required: !ssh.optional,
            })
        }
    })
}

/// Settings of proxies as variables, in both cases, as programs read either.
fn proxies(proxy: &pb::ProxyEnv) -> Vec<String> {
    let settings = [
        ("http_proxy", &proxy.http_proxy),
        ("https_proxy", &proxy.https_proxy),
        ("ftp_proxy", &proxy.ftp_proxy),
        ("no_proxy", &proxy.no_proxy),
        ("all_proxy", &proxy.all_proxy),
    ];
    let given = settings.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .flat_map(|(name, value)| [format!("{}={value}", name.to_uppercase()), format!("{name}={value}")])
        .collect()
}

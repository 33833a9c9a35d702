//! The process of a container, and further ones for exec: who, what, where, with which environment and powers.

use rustix::fs::FileType;
use wharf_api::{ContainerConfig, ExecCreateRequest, HostConfig};
use wharf_oci::runtime::{Capabilities, ConsoleSize, Process, User};
use wharf_sys::root::Root;

use super::user::{self, Identity};
use super::{Build, CREATE_FAILED, INIT_FAILED, capability, limits, security};
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// `PATH` of a process whose container names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the reaper of `--init` is mounted.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// The first process of a container.
pub(super) fn first(ask: &Build<'_>) -> Result<Process> {
    let (config, host) = (ask.config, ask.host);
    let identity = user::resolve(ask.root, &config.user, list(&host.group_add))?;
    let command: Vec<String> =
        [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().cloned().collect();
    let mut args = Vec::new();
    if wants_init(ask.engine, host) {
        args.extend([INIT_PATH, "init", "--"].map(str::to_owned));
    }
    args.extend(command);
    check_cwd(ask.root, &config.working_dir)?;
    let opts = security::Options::parse(list(&host.security_opt))?;
    let mut process = Process {
        terminal: config.tty,
        console_size: console(host.console_size),
        args,
        env: environment(config, config.tty, &identity, &ask.net.env, &[])?,
        cwd: cwd(&config.working_dir),
        rlimits: rlimits(ask.engine, host)?,
        no_new_privileges: opts.no_new_privileges.unwrap_or(ask.engine.no_new_privileges),
        apparmor_profile: opts.apparmor(host.privileged),
        selinux_label: String::new(),
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|adjust| *adjust != 0),
        user: oci_user(&identity),
        capabilities: None,
    };
    process.capabilities = Some(powers(host, host.privileged, identity.uid)?);
    Ok(process)
}

/// A process added to a running container with exec, by the container's own configuration and what the request says.
/// `linked`: the variables that tell of linked containers.
///
/// # Errors
/// As at start: an unknown user or group, a name or value with a NUL byte.
pub fn exec(
    engine: &EngineConfig,
    config: &ContainerConfig,
    host: &HostConfig,
    root: &Root,
    linked: &[String],
    ask: &ExecCreateRequest,
) -> Result<Process> {
    let user = if ask.user.is_empty() { &config.user } else { &ask.user };
    let identity = user::resolve(root, user, list(&host.group_add))?;
    let opts = security::Options::parse(list(&host.security_opt))?;
    let privileged = ask.privileged || host.privileged;
    let cwd_wanted = if ask.working_dir.is_empty() { &config.working_dir } else { &ask.working_dir };
    Ok(Process {
        terminal: ask.tty,
        console_size: ask.console_size.and_then(console),
        args: ask.cmd.clone().unwrap_or_default(),
        env: environment(config, ask.tty, &identity, linked, list(&ask.env))?,
        cwd: cwd(cwd_wanted),
        rlimits: rlimits(engine, host)?,
        no_new_privileges: opts.no_new_privileges.unwrap_or(engine.no_new_privileges),
        apparmor_profile: opts.apparmor(privileged),
        selinux_label: String::new(),
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|adjust| *adjust != 0),
        capabilities: Some(powers(host, privileged, identity.uid)?),
        user: oci_user(&identity),
    })
}

/// Whether a reaper runs as the first process.
pub fn wants_init(engine: &EngineConfig, host: &HostConfig) -> bool {
    // In a joined pid namespace the reaper would not be the first process, which is all it is for.
    host.init.unwrap_or(engine.init) && host.pid_mode.is_empty()
}

fn list(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

fn oci_user(identity: &Identity) -> User {
    User { uid: identity.uid, gid: identity.gid, umask: None, additional_gids: identity.groups.clone() }
}

fn cwd(wanted: &str) -> String {
    if wanted.is_empty() { "/".to_owned() } else { wanted.to_owned() }
}

fn console([height, width]: [u32; 2]) -> Option<ConsoleSize> {
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    (height != 0 && width != 0).then(|| ConsoleSize { height: side(height), width: side(width) })
}

/// A working directory that exists must be one; a missing one is made when the process starts.
fn check_cwd(root: &Root, cwd: &str) -> Result<()> {
    match root.stat_follow(cwd.trim_start_matches('/')) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            Err(Error::internal(format!("Cannot mkdir: {cwd} is not a directory")))
        }
        _ => Ok(()),
    }
}

fn rlimits(engine: &EngineConfig, host: &HostConfig) -> Result<Vec<wharf_oci::runtime::Rlimit>> {
    let own = host.ulimits.iter().flatten().map(|limit| (limit.name.as_str(), limit.soft, limit.hard));
    let defaults = engine.default_ulimits.iter().map(|(name, (soft, hard))| (name.as_str(), *soft, *hard));
    // The first of a name counts, so the container's own go before the engine's.
    limits::rlimits(own.chain(defaults))
}

/// Capabilities: a process that is not root has them in its bounding set only. None is ever inheritable.
fn powers(host: &HostConfig, privileged: bool, uid: u32) -> Result<Capabilities> {
    let all = capability::effective(list(&host.cap_add), list(&host.cap_drop), privileged)?;
    let own = if uid == 0 { all.clone() } else { Vec::new() };
    Ok(Capabilities { bounding: all, effective: own.clone(), permitted: own, ..Capabilities::default() })
}

/// The environment: defaults, then the container's, then `more`; a name alone takes a variable away.
fn environment(
    config: &ContainerConfig,
    tty: bool,
    identity: &Identity,
    linked: &[String],
    more: &[String],
) -> Result<Vec<String>> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for variable in linked.iter().chain(config.env.iter().flatten()).chain(more) {
        check_nul(variable)?;
        replace(&mut env, variable);
    }
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    Ok(env)
}

fn replace(env: &mut Vec<String>, variable: &str) {
    let Some((name, _)) = variable.split_once('=') else {
        env.retain(|other| other.split_once('=').is_none_or(|(name, _)| name != variable));
        return;
    };
    let same = |other: &String| other.split_once('=').is_some_and(|(other, _)| other == name);
    match env.iter_mut().find(|other| same(other)) {
        Some(old) => variable.clone_into(old),
        None => env.push(variable.to_owned()),
    }
}

fn check_nul(variable: &str) -> Result<()> {
    if !variable.contains('\0') {
        return Ok(());
    }
    let name = variable.split('=').next().unwrap_or_default().replace('\0', "\\x00");
    Err(Error::internal(format!(
        "{CREATE_FAILED}{INIT_FAILED}invalid environment variable \"{name}\": contains nul byte (\\x00)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(uid: u32) -> Identity {
        Identity { uid, gid: uid, groups: vec![uid], home: "/home/x".to_owned() }
    }

    fn config(env: &[&str]) -> ContainerConfig {
        let env = env.iter().map(|variable| (*variable).to_owned()).collect();
        ContainerConfig { hostname: "h".to_owned(), env: Some(env), ..ContainerConfig::default() }
    }

    #[test]
    fn the_environment_has_defaults_that_can_be_replaced_and_removed() {
        let path = format!("PATH={DEFAULT_PATH}");
        let env =
            environment(&config(&["A=1", "A=2", "HOSTNAME"]), true, &somebody(1), &[], &["B=x".to_owned()])
                .unwrap();
        assert_eq!(env, [path.as_str(), "TERM=xterm", "A=2", "B=x", "HOME=/home/x"]);
        let env = environment(&config(&["PATH=/p", "HOME=/h"]), false, &somebody(1), &[], &[]).unwrap();
        assert_eq!(env, ["PATH=/p", "HOSTNAME=h", "HOME=/h"]);
    }

    #[test]
    fn a_nul_byte_is_refused_as_recorded() {
        let error = environment(&config(&["A\0B=1"]), false, &somebody(1), &[], &[]).unwrap_err();
        let why = "invalid environment variable \"A\\x00B\": contains nul byte (\\x00)";
        assert_eq!(error.message(), format!("{CREATE_FAILED}{INIT_FAILED}{why}"));
    }

    #[test]
    fn only_root_has_capabilities_in_force_and_none_are_inheritable() {
        let host = HostConfig::default();
        let root = powers(&host, false, 0).unwrap();
        assert_eq!((root.effective.len(), root.bounding.len()), (14, 14));
        let other = powers(&host, false, 1000).unwrap();
        assert_eq!((other.effective.len(), other.permitted.len(), other.bounding.len()), (0, 0, 14));
        assert!(root.inheritable.is_empty() && root.ambient.is_empty());
    }

    #[test]
    fn exec_takes_the_containers_ways_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let config =
            ContainerConfig { user: "5".to_owned(), working_dir: "/w".to_owned(), ..config(&["A=1"]) };
        let ask = ExecCreateRequest { cmd: Some(vec!["id".to_owned()]), ..ExecCreateRequest::default() };
        let engine = EngineConfig::default();
        let process = exec(&engine, &config, &HostConfig::default(), &root, &[], &ask).unwrap();
        assert_eq!((process.user.uid, process.cwd.as_str(), process.terminal), (5, "/w", false));
        let ask =
            ExecCreateRequest { user: "0".to_owned(), privileged: true, working_dir: "/v".to_owned(), ..ask };
        let process = exec(&engine, &config, &HostConfig::default(), &root, &[], &ask).unwrap();
        assert_eq!((process.user.uid, process.cwd.as_str()), (0, "/v"));
        assert!(process.capabilities.unwrap().effective.len() >= 14);
    }
}

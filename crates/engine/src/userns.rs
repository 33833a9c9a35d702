//! `userns-remap`: which ids of the host containers' users stand for.
//!
//! Layers and containers' changes are kept with the ids that containers see; they are mounted with their owners
//! mapped. So the setting can be turned on and off, and one container be exempt from it, without anything on the
//! disk changing hands. Volumes and the files of a bundle belong to the mapped root, as in Docker.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use wharf_api::HostConfig;
pub use wharf_sys::namespace::IdMap;
use wharf_sys::namespace::IdRange;

use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Who stands for containers when the setting is `default`.
const DEFAULT_USER: &str = "dockremap";
/// How many ids are set aside for that one where it has none, and from where on.
const SPAN: u32 = 65_536;
const FIRST: u32 = 100_000;

/// The user and group databases that a mapping is read from.
#[derive(Debug, Clone)]
pub struct Databases {
    /// Where `passwd`, `group`, `subuid` and `subgid` are.
    pub etc: PathBuf,
}

impl Default for Databases {
    fn default() -> Self {
        Self { etc: PathBuf::from("/etc") }
    }
}

/// Which of the host's ids containers get; `setting` as dockerd takes it: `default`, `USER`, `UID`, `USER:GROUP` …
///
/// # Errors
/// Names that nobody has, and users without subordinate ids, in Docker's words.
pub fn parse(setting: &str, databases: &Databases) -> Result<IdMap> {
    let (user, group) = match setting.split_once(':') {
        _ if setting == "default" => {
            set_aside(databases)?;
            (DEFAULT_USER.to_owned(), DEFAULT_USER.to_owned())
        }
        Some((_, "")) | None => {
            let user = setting.trim_end_matches(':');
            let (name, gid) = databases.user(user)?;
            (name, databases.group(&gid.to_string())?)
        }
        Some((user, group)) => (databases.user(user)?.0, databases.group(group)?),
    };
    let users = databases.ranges("subuid", &user)?;
    if users.is_empty() {
        return Err(Error::invalid(format!("no subuid ranges found for user {user:?}")));
    }
    let groups = databases.ranges("subgid", &group)?;
    if groups.is_empty() {
        return Err(Error::invalid(format!("no subgid ranges found for group {group:?}")));
    }
    Ok(IdMap { users, groups })
}

impl Databases {
    fn lines(&self, name: &str) -> Result<Vec<Vec<String>>> {
        let path = self.etc.join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(lines.map(|line| line.split(':').map(str::to_owned).collect()).collect())
    }

    /// A user's name and group by its name or number.
    fn user(&self, asked: &str) -> Result<(String, u32)> {
        let found = self.lines("passwd")?.into_iter().find(|line| {
            line.first().is_some_and(|name| name == asked) || line.get(2).is_some_and(|uid| uid == asked)
        });
        let line = found.ok_or_else(|| {
            Error::invalid(format!("error during uid/gid lookup of {asked:?}: no such user"))
        })?;
        Ok((line[0].clone(), line.get(3).and_then(|gid| gid.parse().ok()).unwrap_or(0)))
    }

    /// A group's name by its name or number.
    fn group(&self, asked: &str) -> Result<String> {
        let found = self.lines("group")?.into_iter().find(|line| {
            line.first().is_some_and(|name| name == asked) || line.get(2).is_some_and(|gid| gid == asked)
        });
        let line = found.ok_or_else(|| {
            Error::invalid(format!("error during uid/gid lookup of {asked:?}: no such group"))
        })?;
        Ok(line[0].clone())
    }

    /// The ranges set aside for `name`, one after the other from id 0 of a container on.
    fn ranges(&self, file: &str, name: &str) -> Result<Vec<IdRange>> {
        let mut inside = 0_u32;
        let mut ranges = Vec::new();
        for line in self.lines(file)?.iter().filter(|line| line.first().is_some_and(|owner| owner == name)) {
            let number = |at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
            let (Some(outside), Some(size)) = (number(1), number(2)) else {
                let line = line.join(":");
                return Err(Error::invalid(format!("{}/{file}: invalid line {line:?}", self.etc.display())));
            };
            ranges.push(IdRange { inside, outside, size });
            inside = inside.saturating_add(size);
        }
        Ok(ranges)
    }
}

/// Gives the default user a range of ids behind all others, where it has none.
fn set_aside(databases: &Databases) -> Result<()> {
    // One daemon at a time; the lock goes with the descriptor.
    let locked = fs::File::open(&databases.etc)
        .and_then(|etc| Ok(rustix::fs::flock(&etc, FlockOperation::LockExclusive).map(|()| etc)?));
    let _lock =
        locked.map_err(|error| Error::io(format_args!("lock {}", databases.etc.display()), &error))?;
    for file in ["subuid", "subgid"] {
        if !databases.ranges(file, DEFAULT_USER)?.is_empty() {
            continue;
        }
        let end = |line: &Vec<String>| {
            let number = |at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
            number(1)?.checked_add(number(2)?)
        };
        let start = databases.lines(file)?.iter().filter_map(end).max().unwrap_or(FIRST).max(FIRST);
        let path = databases.etc.join(file);
        append(&path, &format!("{DEFAULT_USER}:{start}:{SPAN}\n"))
            .map_err(|error| Error::io(format_args!("write {}", path.display()), &error))?;
    }
    Ok(())
}

/// Adds a line to a file by replacing it whole.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    let mut draft = path.as_os_str().to_owned();
    draft.push(".wharf");
    let mut file = fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// The mapping of a container with this configuration; `None`: it has the host's ids.
pub fn of<'a>(engine: &'a EngineConfig, host: &HostConfig) -> Option<&'a IdMap> {
    engine.remap.as_ref().filter(|_| host.userns_mode != "host")
}

/// Refuses what cannot be in a user namespace of one's own.
///
/// # Errors
/// Docker's words.
pub fn check(engine: &EngineConfig, host: &HostConfig) -> Result<()> {
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid user namespace mode: {}", host.userns_mode)));
    }
    if of(engine, host).is_none() {
        return Ok(());
    }
    let why = if host.privileged {
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
         when running privileged mode"
    } else if host.network_mode == "host" {
        "cannot share the host's network namespace when user namespaces are enabled"
    } else if host.pid_mode == "host" {
        "cannot share the host PID namespace when user namespaces are enabled"
    } else {
        return Ok(());
    };
    Err(Error::invalid(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases(files: &[(&str, &str)]) -> (tempfile::TempDir, Databases) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let etc = dir.path().to_owned();
        (dir, Databases { etc })
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let (_dir, databases) = databases(&[
            ("passwd", "root:x:0:0::/:/bin/sh\nann:x:1000:2000::/:/bin/sh\n"),
            ("group", "root:x:0:\nstaff:x:2000:\nother:x:50:\n"),
            ("subuid", "# comment\nann:100000:1000\nann:300000:65536\nroot:1:1\n"),
            ("subgid", "staff:200000:65536\nother:5000:10\n"),
        ]);
        for setting in ["ann", "1000", "ann:staff", "1000:2000", "ann:"] {
            let ids = parse(setting, &databases).unwrap();
            assert_eq!(ids.root(), (100_000, 200_000), "{setting}");
            assert_eq!(ids.users[1], IdRange { inside: 1000, outside: 300_000, size: 65_536 });
        }
        assert_eq!(parse("ann:other", &databases).unwrap().root().1, 5000);
        let refusal = |setting: &str| parse(setting, &databases).unwrap_err().message().to_owned();
        assert_eq!(refusal("nobody"), "error during uid/gid lookup of \"nobody\": no such user");
        assert_eq!(refusal("root"), "no subgid ranges found for group \"root\"");
    }

    #[test]
    fn the_default_user_is_given_ids_once() {
        let (dir, databases) = databases(&[("subuid", "ann:200000:65536")]);
        let ids = parse("default", &databases).unwrap();
        assert_eq!(ids.root(), (265_536, 100_000));
        assert_eq!(parse("default", &databases).unwrap(), ids);
        let text = fs::read_to_string(dir.path().join("subuid")).unwrap();
        assert_eq!(text, "ann:200000:65536\ndockremap:265536:65536\n");
    }

    #[test]
    fn what_needs_the_hosts_ids_is_refused_unless_exempt() {
        let range = vec![IdRange { inside: 0, outside: 1, size: 1 }];
        let remap = Some(IdMap { users: range.clone(), groups: range });
        let engine = EngineConfig { remap, ..EngineConfig::default() };
        let mut host = HostConfig { privileged: true, ..HostConfig::default() };
        assert!(check(&engine, &host).unwrap_err().message().starts_with("privileged mode is incompatible"));
        host.userns_mode = "host".to_owned();
        assert!(check(&engine, &host).is_ok() && of(&engine, &host).is_none());
        host.userns_mode = "private".to_owned();
        assert!(check(&engine, &host).is_err());
    }
}

//! Leaving a login session, whose end kills what is in its group.

use std::path::PathBuf;

use super::{Layout, files};
use crate::error::{Context, Result};

/// Moves this process to the root of every hierarchy in which it belongs to a login session (`session-N.scope`,
/// `user.slice`, see `systemd-logind(8)`). Answers whether it had to.
///
/// # Errors
/// What the kernel refused; the process is then where it was, at least in part.
pub fn leave_login_session() -> Result<bool> {
    let own = std::fs::read_to_string("/proc/self/cgroup").context(|| "read /proc/self/cgroup")?;
    let roots = session_roots(&own, Layout::get()?);
    for root in &roots {
        files::write(&root.join("cgroup.procs"), "0")?;
    }
    Ok(!roots.is_empty())
}

/// The roots of the hierarchies in which a process with this `/proc/PID/cgroup` is part of a session.
fn session_roots(own: &str, layout: &Layout) -> Vec<PathBuf> {
    let root_of = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let in_session = path
            .split('/')
            .any(|part| part == "user.slice" || (part.starts_with("session-") && part.ends_with(".scope")));
        if !in_session {
            return None;
        }
        if controllers.is_empty() {
            return layout.v2.clone();
        }
        let controllers: Vec<&str> = controllers.split(',').collect();
        layout.v1.iter().find(|one| one.controllers == controllers).map(|one| one.dir.clone())
    };
    own.lines().filter_map(root_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Hierarchy, Version};

    #[test]
    fn only_sessions_are_left() {
        let hierarchy = |name: &str| Hierarchy {
            controllers: name.split(',').map(str::to_owned).collect(),
            dir: format!("/c/{name}").into(),
        };
        let v1 = vec![hierarchy("cpu,cpuacct"), hierarchy("name=systemd")];
        let layout = Layout { version: Version::V1, v1, v2: Some("/c/unified".into()) };
        let own = "4:cpu,cpuacct:/\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n0::/user.slice/user-0.slice/session-3.scope\n";
        let left = session_roots(own, &layout);
        assert_eq!(left, [PathBuf::from("/c/name=systemd"), PathBuf::from("/c/unified")]);
        let service = "1:name=systemd:/system.slice/wharf.service\n0::/system.slice/wharf.service\n";
        assert!(session_roots(service, &layout).is_empty());
    }
}

//! Control groups: version 1, version 2, and both at once (hybrid).
//!
//! A [`Cgroup`] is one name, made in every version 1 hierarchy and in the unified tree. In hybrid mode the
//! unified tree carries few controllers, but `cgroup.kill` and `cgroup.events` need none.
//! See `cgroups(7)` and the kernel's `admin-guide/cgroup-v2.rst`, `cgroup-v1/`.

mod devices;
mod files;
mod layout;
mod limits;
mod oom;
mod session;
mod stats;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

pub use self::{
    devices::{DeviceAccess, DeviceKind, DeviceRule},
    layout::{Hierarchy, Layout, Version},
    limits::{BlockIo, Cpu, Limits, Memory, Throttle, WeightOf},
    oom::OomWatch,
    session::leave_login_session,
    stats::{BlockEntry, CpuStats, MemoryStats, Stats},
};
use crate::error::{Context, Error, Result};

/// How long the kernel may take to freeze, or to let a directory go after its last process ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// One control group in all hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroup {
    version: Version,
    v1: Vec<Hierarchy>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// Names a group that may or may not exist. `path` is absolute below the hierarchies' roots.
    ///
    /// # Errors
    /// `EINVAL` for a path with `..`, or none at all.
    pub fn open(path: &str) -> Result<Self> {
        Self::in_layout(Layout::get()?, path)
    }

    fn in_layout(layout: &Layout, path: &str) -> Result<Self> {
        let relative = path.trim_matches('/');
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if relative.split('/').any(odd) || relative.contains(':') {
            return Err(Error::new(format!("cgroup path {path}"), Errno::INVAL));
        }
        let v1 = layout.v1.iter().map(|hierarchy| hierarchy.below(relative)).collect();
        Ok(Self { version: layout.version, v1, v2: layout.v2.as_ref().map(|root| root.join(relative)) })
    }

    /// Makes the group, with its parents, ready to be joined.
    ///
    /// # Errors
    /// What the kernel refused. A group that exists is no error.
    pub fn create(path: &str) -> Result<Self> {
        let layout = Layout::get()?;
        let group = Self::in_layout(layout, path)?;
        for (hierarchy, root) in group.v1.iter().zip(&layout.v1) {
            let made = make_directories(&hierarchy.dir)?;
            if hierarchy.has("cpuset") && !(made && is_cpuset_filled(&hierarchy.dir)?) {
                if !(made && copy_cpuset(&hierarchy.dir)?) {
                    fill_cpuset(&root.dir, &hierarchy.dir)?;
                }
                fill_later_cpusets(&root.dir, &hierarchy.dir);
            }
        }
        if let (Some(dir), Some(root)) = (&group.v2, &layout.v2) {
            make_directories(dir)?;
            if layout.version == Version::V2 {
                delegate_controllers(root, dir);
            }
        }
        Ok(group)
    }

    /// Which interface its limits and statistics have.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether its directory exists.
    pub fn exists(&self) -> bool {
        self.directories().any(Path::is_dir)
    }

    /// Its directory in the unified tree, for `CLONE_INTO_CGROUP`: a process born in a group needs no move,
    /// which would stop all forks of the machine for a moment.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn clone_target(&self) -> Result<Option<OwnedFd>> {
        let open = |dir: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, dir, flags, Mode::empty()).context(|| format!("open {}", dir.display()))
        };
        self.v2.as_ref().map(open).transpose()
    }

    /// Files by which a process of one thread joins the version 1 groups, writing `0` to each. They are the lists
    /// of threads: moving just oneself takes no lock on the forks of others.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.v1_directories()
            .map(|dir| {
                let file = dir.join("tasks");
                openat(CWD, &file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .context(|| format!("open {}", file.display()))
            })
            .collect()
    }

    /// Moves a process into the group.
    ///
    /// # Errors
    /// `ESRCH` where it has ended.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.directories().try_for_each(|dir| files::write(&dir.join("cgroup.procs"), &pid.to_string()))
    }

    /// All processes in it and below it, as this pid namespace numbers them.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(dir) = self.primary() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_pids(dir, &mut pids)?;
        Ok(pids)
    }

    /// Stops all processes from running, and waits until they have stopped.
    ///
    /// # Errors
    /// `ETIMEDOUT` where one would not stop; then all run again.
    pub fn freeze(&self) -> Result<()> {
        let (file, frozen) = match self.controller("freezer") {
            Some(dir) => (dir.join("freezer.state"), "FROZEN"),
            None => (self.unified()?.join("cgroup.freeze"), "1"),
        };
        files::write(&file, frozen)?;
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        while !self.is_frozen()? {
            if Instant::now() > deadline {
                self.thaw()?;
                return Err(Error::new("freeze cgroup", Errno::TIMEDOUT));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
            if frozen == "FROZEN" {
                // Version 1 gives up on a task that was busy; asking again makes it try again.
                files::write(&file, frozen)?;
            }
        }
        Ok(())
    }

    /// Lets all processes run again. A group that has gone holds none: version 2 lets a frozen process be killed.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn thaw(&self) -> Result<()> {
        let written = match self.controller("freezer") {
            Some(dir) => files::write(&dir.join("freezer.state"), "THAWED"),
            None => files::write(&self.unified()?.join("cgroup.freeze"), "0"),
        };
        match written {
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) && !self.exists() => Ok(()),
            result => result,
        }
    }

    /// Whether all its processes are stopped.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.controller("freezer") {
            Some(dir) => Ok(files::read(&dir.join("freezer.state"))?.trim() == "FROZEN"),
            None => Ok(files::read_field(&self.unified()?.join("cgroup.events"), "frozen")? == Some(1)),
        }
    }

    /// Kills every process in it and below it.
    ///
    /// # Errors
    /// What the kernel refused; none where the group does not exist.
    pub fn kill_all(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let by_kernel = self.v2.as_ref().map(|dir| files::write(&dir.join("cgroup.kill"), "1"));
        if !matches!(by_kernel, Some(Ok(()))) {
            self.kill_one_by_one()?;
        }
        // A process frozen by version 1's freezer dies only once it may run.
        if self.controller("freezer").is_some() && self.frozen_or_freezing() {
            self.thaw()?;
        }
        Ok(())
    }

    fn frozen_or_freezing(&self) -> bool {
        let Some(dir) = self.controller("freezer") else { return false };
        files::read(&dir.join("freezer.state")).is_ok_and(|state| state.trim() != "THAWED")
    }

    /// Frozen, no process can fork away from the killing. Where freezing fails, killing is repeated.
    fn kill_one_by_one(&self) -> Result<()> {
        for _ in 0..20 {
            let frozen = self.freeze().is_ok();
            let pids = match self.pids() {
                Ok(pids) => pids,
                // Whatever happens, nothing stays frozen.
                Err(error) => return self.thaw().and(Err(error)),
            };
            for pid in &pids {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    // One that has ended in between is what we want.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            self.thaw()?;
            if frozen || pids.is_empty() {
                return Ok(());
            }
        }
        Err(Error::new("kill all processes of cgroup", Errno::TIMEDOUT))
    }

    /// How often the kernel killed one of its processes for memory.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn oom_kills(&self) -> Result<u64> {
        let file = match (self.controller("memory"), &self.v2) {
            (Some(dir), _) => dir.join("memory.oom_control"),
            (None, Some(dir)) => dir.join("memory.events"),
            (None, None) => return Ok(0),
        };
        match files::read_field(&file, "oom_kill") {
            // The memory controller is not enabled here: it cannot have killed.
            Err(error) if error.errno() == Errno::NOENT && self.exists() => Ok(0),
            other => Ok(other?.unwrap_or(0)),
        }
    }

    /// Whether the kernel kills none of its processes for memory: they sleep until there is some (version 1).
    pub fn never_kills(&self) -> bool {
        let file = self.controller("memory").map(|dir| dir.join("memory.oom_control"));
        file.is_some_and(|file| {
            files::read_field(&file, "oom_kill_disable").is_ok_and(|value| value == Some(1))
        })
    }

    /// Sets limits.
    ///
    /// # Errors
    /// The file and value the kernel refused.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        limits::apply(self, limits)
    }

    /// What it uses now.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    /// Removes it and all below it. A group that does not exist is no error.
    ///
    /// # Errors
    /// `EBUSY` while a process lives in it.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        loop {
            match self.directories().try_for_each(remove_tree) {
                // A process is seen as ended a moment before it leaves its group.
                Err(error) if error.errno() == Errno::BUSY && Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    /// Removes it from every hierarchy where nobody is in it and nothing below it; elsewhere it stays.
    pub fn remove_unused(&self) {
        for dir in self.directories() {
            // The kernel knows best whether it is in use.
            let _ = std::fs::remove_dir(dir);
        }
    }

    /// Its directories in the version 1 hierarchies, in the layout's order.
    pub fn v1_directories(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|hierarchy| hierarchy.dir.as_path())
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|hierarchy| hierarchy.dir.as_path()).chain(self.v2.as_deref())
    }

    /// The directory whose list of processes is the truth. A foreign runtime may not have made the one in the unified
    /// tree.
    fn primary(&self) -> Option<&Path> {
        self.v2
            .as_deref()
            .filter(|dir| self.v1.is_empty() || dir.is_dir())
            .or_else(|| self.v1.first().map(|hierarchy| hierarchy.dir.as_path()))
    }

    /// The directory of a version 1 controller.
    fn controller(&self, name: &str) -> Option<&Path> {
        self.v1.iter().find(|hierarchy| hierarchy.has(name)).map(|hierarchy| hierarchy.dir.as_path())
    }

    fn unified(&self) -> Result<&Path> {
        self.v2.as_deref().ok_or_else(|| Error::new("find unified cgroup tree", Errno::NOENT))
    }
}

/// Makes a directory with its parents; whether it was not there before.
fn make_directories(dir: &Path) -> Result<bool> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).context(|| format!("create {}", dir.display()))?;
            Ok(true)
        }
        Err(error) => Err(error).context(|| format!("create {}", dir.display())),
    }
}

/// Whether a cpuset has processors and memory nodes, as those have whose parent passes its own on.
fn is_cpuset_filled(dir: &Path) -> Result<bool> {
    Ok(!files::read(&dir.join("cpuset.cpus"))?.trim().is_empty()
        && !files::read(&dir.join("cpuset.mems"))?.trim().is_empty())
}

/// Has the kernel fill the group's later siblings when they are made: each write to a cpuset makes it look at all of
/// them and sort out its scheduling domains again. Not below the root, which is everybody's.
fn fill_later_cpusets(root: &Path, dir: &Path) {
    if let Some(parent) = dir.parent().filter(|parent| *parent != root) {
        let _slower_without = files::write(&parent.join("cgroup.clone_children"), "1");
    }
}

/// Gives a new cpuset what its parent has. False: that has nothing either.
fn copy_cpuset(dir: &Path) -> Result<bool> {
    let Some(parent) = dir.parent() else { return Ok(false) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let value = files::read(&parent.join(name))?;
        if value.trim().is_empty() {
            return Ok(false);
        }
        files::write(&dir.join(name), value.trim())?;
    }
    Ok(true)
}

/// A version 1 cpuset starts empty and refuses processes until it has processors and memory nodes.
fn fill_cpuset(root: &Path, dir: &Path) -> Result<()> {
    let mut chain: Vec<&Path> = dir.ancestors().take_while(|ancestor| *ancestor != root).collect();
    chain.reverse();
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let last = dir.join(name);
        if !files::read(&last)?.trim().is_empty() {
            continue;
        }
        let mut value = files::read(&root.join(name))?;
        for directory in &chain {
            let own = files::read(&directory.join(name))?;
            if own.trim().is_empty() {
                files::write(&directory.join(name), value.trim())?;
            } else {
                value = own;
            }
        }
    }
    Ok(())
}

/// Enables controllers from the root down to the group's parent. What cannot be enabled shows when a
/// limit needs it.
fn delegate_controllers(root: &Path, dir: &Path) {
    const WANTED: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
    let mut parents: Vec<&Path> =
        dir.ancestors().skip(1).take_while(|parent| parent.starts_with(root)).collect();
    parents.reverse();
    for parent in parents {
        let words = |name| files::read(&parent.join(name)).unwrap_or_default();
        let (available, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
        for name in WANTED.iter().filter(|name| has(&available, name) && !has(&enabled, name)) {
            let _ = files::write(&parent.join("cgroup.subtree_control"), &format!("+{name}"));
        }
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let text = match files::read(&dir.join("cgroup.procs")) {
        // A threaded group lists its processes in its domain only.
        Err(error) if error.errno() == Errno::OPNOTSUPP => String::new(),
        text => text?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in subdirectories(dir) {
        match collect_pids(&child, pids) {
            Err(error) if error.errno() == Errno::NOENT => {}
            result => result?,
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    let result = match rustix::fs::rmdir(dir) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {
            for child in subdirectories(dir) {
                remove_tree(&child)?;
            }
            rustix::fs::rmdir(dir)
        }
        other => other,
    };
    match result {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(Error::new(format!("remove {}", dir.display()), errno)),
    }
}

#[cfg(test)]
mod tests;

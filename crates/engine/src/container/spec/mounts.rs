//! The mounts of a container, in the order they are made: the kernel's file systems, then what it was given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use wharf_api::HostConfig;
use wharf_oci::runtime::{Linux, Mount, User};
use wharf_sys::mountinfo;
use wharf_sys::root::Root;

use super::etc::Files;
use super::points::{Kind, Point, ReadOnlyReach, clean};
use super::process::{INIT_PATH, wants_init};
use super::security::Options;
use super::subpath::{below, descend};
use super::{Build, CREATE_FAILED, INIT_FAILED, idmap, tmpfs};
use crate::error::{Error, Result};

pub(super) fn mounts(ask: &Build<'_>, files: &Files, user: &User, linux: &mut Linux) -> Result<Vec<Mount>> {
    let mut given = Vec::new();
    for point in ask.points {
        let mut mount = mount_of(ask, point, linux)?;
        if let Some(owner) = point.owner {
            idmap::map(&mut mount, owner, user, linux)?;
        }
        given.push(mount);
    }
    for (destination, options) in ask.host.tmpfs.iter().flatten() {
        given.push(new(&clean(destination), "tmpfs", "tmpfs", tmpfs::merge(options)?));
    }
    let taken: BTreeSet<String> = given.iter().map(|mount| mount.destination.clone()).collect();
    for (source, destination) in files {
        if !taken.contains(*destination) {
            given.push(file(source, destination, ask.host.readonly_rootfs));
        }
    }
    // A mount below another has to come after it.
    given.sort_by_key(|mount| mount.destination.matches('/').count());
    let mut mounts = kernel_mounts(ask)?;
    mounts.retain(|mount| !taken.contains(&mount.destination));
    if wants_init(ask.engine, ask.host) {
        let options = ["bind", "ro"].map(str::to_owned).to_vec();
        mounts.push(new(INIT_PATH, "bind", &init_source(ask).to_string_lossy(), options));
    }
    adjust(ask.host, &mut mounts)?;
    mounts.extend(given);
    Ok(mounts)
}

/// The executable's path on the host. The supervisor's own `/proc/self/exe` lies on a mount without a place, which
/// kernels before 6.15 cannot copy. Where an upgrade has replaced the file, what has its place now.
fn init_source(ask: &Build<'_>) -> PathBuf {
    let link = std::fs::read_link(&ask.engine.executable).unwrap_or_default();
    let link = link.to_string_lossy();
    // proc_pid_exe(5)
    let path = Path::new(link.strip_suffix(" (deleted)").unwrap_or(&link));
    if path.is_absolute() && path.exists() { path.to_owned() } else { ask.engine.executable.clone() }
}

fn new(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options,
        ..Mount::default()
    }
}

fn words(words: &str) -> Vec<String> {
    words.split(',').map(str::to_owned).collect()
}

fn file(source: &Path, destination: &str, read_only: bool) -> Mount {
    let options = if read_only { "rbind,ro,rprivate" } else { "rbind,rprivate" };
    new(destination, "bind", &source.to_string_lossy(), words(options))
}

/// What every container has.
fn kernel_mounts(ask: &Build<'_>) -> Result<Vec<Mount>> {
    let mut mounts = vec![
        new("/proc", "proc", "proc", words("nosuid,noexec,nodev")),
        new("/dev", "tmpfs", "tmpfs", words("nosuid,strictatime,mode=755,size=65536k")),
        new("/dev/pts", "devpts", "devpts", words("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5")),
        new("/sys", "sysfs", "sysfs", words("nosuid,noexec,nodev,ro")),
        new("/sys/fs/cgroup", "cgroup", "cgroup", words("ro,nosuid,noexec,nodev")),
        new("/dev/mqueue", "mqueue", "mqueue", words("nosuid,noexec,nodev")),
    ];
    mounts.extend(shared_memory(ask)?);
    Ok(mounts)
}

/// `/dev/shm`: its own, the host's, that of the container whose IPC it joins, or none.
fn shared_memory(ask: &Build<'_>) -> Result<Option<Mount>> {
    if let Some(peer) = &ask.peers.ipc {
        let root = format!("/proc/{}/root", peer.pid.unwrap_or_default());
        check_shared_memory(&root)
            .map_err(|why| Error::internal(format!("join /dev/shm of container {}: {why}", peer.id)))?;
        return Ok(Some(new("/dev/shm", "bind", &format!("{root}/dev/shm"), words("rbind,rprivate"))));
    }
    Ok(match ask.host.ipc_mode.as_str() {
        "none" => None,
        "host" => Some(new("/dev/shm", "bind", "/dev/shm", words("rbind,rprivate"))),
        _ => {
            let options = format!("nosuid,noexec,nodev,mode=1777,size={}", ask.host.shm_size);
            Some(new("/dev/shm", "tmpfs", "shm", words(&options)))
        }
    })
}

/// The other container's processes control its tree, so its `/dev/shm` must be a directory reached without a link.
fn check_shared_memory(root: &str) -> Result<(), String> {
    let root = Root::open(root).map_err(|error| error.to_string())?;
    let dev = root.stat("dev").map_err(|error| error.to_string())?;
    let shm = root.stat("dev/shm").map_err(|error| error.to_string())?;
    let directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
    if directory(dev.st_mode) && directory(shm.st_mode) { Ok(()) } else { Err("not a directory".to_owned()) }
}

/// What read-only roots, privilege and writable cgroups change in the kernel's mounts.
fn adjust(host: &HostConfig, mounts: &mut [Mount]) -> Result<()> {
    let options = Options::parse(host.security_opt.as_deref().unwrap_or_default())?;
    for mount in mounts {
        let written =
            matches!(mount.destination.as_str(), "/proc" | "/dev" | "/dev/pts" | "/dev/shm" | "/dev/mqueue");
        if host.readonly_rootfs && !written && !mount.options.iter().any(|option| option == "ro") {
            mount.options.push("ro".to_owned());
        }
        let opened = match mount.destination.as_str() {
            "/sys" => host.privileged,
            "/sys/fs/cgroup" => options.writable_cgroups.unwrap_or(host.privileged),
            _ => false,
        };
        if opened {
            mount.options.retain(|option| option != "ro");
        }
    }
    Ok(())
}

/// One mount point as a mount of the runtime.
fn mount_of(ask: &Build<'_>, point: &Point, linux: &mut Linux) -> Result<Mount> {
    if clean(&point.destination) == "/" {
        // Only VOLUME / of an image gets here; everything else was refused at create.
        let why = format!(
            "error mounting {:?} to rootfs at \"/\": mountpoint is on the top of rootfs",
            point.source
        );
        return Err(Error::internal(format!("{CREATE_FAILED}{INIT_FAILED}{why}")));
    }
    match point.kind {
        Kind::Tmpfs => {
            Ok(new(&absolute(&point.destination), "tmpfs", "tmpfs", tmpfs::merge(&point.options)?))
        }
        Kind::Image => image(ask, point),
        Kind::Volume => {
            let no_volume = || Error::not_found(format!("get {}: no such volume", point.name));
            let place = ask.volumes.get(&point.name).ok_or_else(no_volume)?;
            bind(point, place, linux)
        }
        Kind::Bind => {
            make_source(ask, point)?;
            check_propagation(ask, point)?;
            bind(point, Path::new(&point.source), linux)
        }
    }
}

fn absolute(destination: &str) -> String {
    if destination.starts_with('/') { destination.to_owned() } else { format!("/{destination}") }
}

/// A directory or file of the host, or a place inside it.
fn bind(point: &Point, place: &Path, linux: &mut Linux) -> Result<Mount> {
    let conflict = |what: &str| Err(Error::internal(format!("mount options conflict: {what}")));
    let mut options = vec![if point.non_recursive { "bind" } else { "rbind" }.to_owned()];
    match (point.rw, point.reach) {
        (true, ReadOnlyReach::IfPossible) => {}
        (true, ReadOnlyReach::TopOnly) => return conflict("!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        (true, _) => return conflict("!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (false, ReadOnlyReach::Contradictory) => {
            return conflict("ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive");
        }
        (false, ReadOnlyReach::TopOnly) => options.push("ro".to_owned()),
        // Every kernel this engine runs on (5.15) has mount_setattr, which makes it recursive.
        (false, _) => options.push("rro".to_owned()),
    }
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    options.push(propagation.to_owned());
    let wanted = match propagation {
        "shared" | "rshared" => "shared",
        "slave" | "rslave" => "rslave",
        _ => "",
    };
    // What comes in through one mount has to come through the root as well; shared is more than slave.
    if !wanted.is_empty() && linux.rootfs_propagation != "shared" {
        wanted.clone_into(&mut linux.rootfs_propagation);
    }
    let source = below(place, &point.subpath)?;
    let mut mount = new(&absolute(&point.destination), "bind", &source.to_string_lossy(), options);
    if !point.subpath.is_empty() {
        mount.source_base = place.to_string_lossy().into_owned();
    }
    Ok(mount)
}

/// `-v` makes a missing source, as a directory; `--mount` does not.
fn make_source(ask: &Build<'_>, point: &Point) -> Result<()> {
    let source = Path::new(&point.source);
    match std::fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && point.make_source => {
            if ask.engine.exec_root.starts_with(source) {
                return Err(Error::internal(format!("refusing to make {}", source.display())));
            }
            std::fs::create_dir_all(source).map_err(|error| {
                let doing =
                    format!("error while creating mount source path '{0}': mkdir {0}", source.display());
                Error::io(doing, &error)
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = format!("bind source path does not exist: {}", source.display());
            Err(Error::invalid(format!("invalid mount config for type \"bind\": {why}")))
        }
        Err(error) => Err(Error::io(format_args!("stat {}", source.display()), &error)),
    }
}

/// A shared or slave bind needs a source on a mount that is shared (or a slave).
fn check_propagation(ask: &Build<'_>, point: &Point) -> Result<()> {
    let shared = matches!(point.propagation.as_str(), "shared" | "rshared");
    if !shared && !matches!(point.propagation.as_str(), "slave" | "rslave") {
        return Ok(());
    }
    let table = mountinfo::read().map_err(|error| Error::internal(error.to_string()))?;
    let source = std::fs::canonicalize(&point.source).unwrap_or_else(|_| PathBuf::from(&point.source));
    let mount = mountinfo::holding(&table, &source);
    if mount.is_some_and(|mount| mount.shared || (!shared && mount.slave)) {
        return Ok(());
    }
    // Docker gives sources around its own root this mode unasked, so there it must not fail.
    if !shared && (source.starts_with(&ask.engine.data_root) || ask.engine.data_root.starts_with(&source)) {
        return Ok(());
    }
    let what = if shared { "a shared mount" } else { "a shared or slave mount" };
    let mount = mount.map_or(Path::new("/"), |mount| &mount.place).display();
    Err(Error::internal(format!("path {} is mounted on {mount} but it is not {what}", point.source)))
}

/// The tree of an image: its layers once more as a read-only overlay, a bind where there is one only.
fn image(ask: &Build<'_>, point: &Point) -> Result<Mount> {
    let layers = (ask.image_layers)(&point.source)?;
    let destination = absolute(&point.destination);
    match layers.as_slice() {
        [] => Ok(new(&destination, "tmpfs", "tmpfs", words("ro,noexec,nosuid,nodev,size=4k"))),
        [layer] => {
            let source = below(layer, &point.subpath)?;
            Ok(new(&destination, "bind", &source.to_string_lossy(), words("rbind,rro,rprivate")))
        }
        layers if point.subpath.is_empty() => Ok(layered(&destination, layers)),
        layers => match descend(layers, Path::new(&point.subpath))?.as_slice() {
            [only] => Ok(new(&destination, "bind", &only.to_string_lossy(), words("rbind,rro,rprivate"))),
            several => Ok(layered(&destination, several)),
        },
    }
}

/// Directories as one, the topmost first.
fn layered(destination: &str, layers: &[PathBuf]) -> Mount {
    let lower: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy().replace(':', "\\:")).collect();
    let options = vec!["ro".to_owned(), format!("lowerdir={}", lower.join(":"))];
    new(destination, "overlay", "overlay", options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rw: bool, reach: ReadOnlyReach) -> Point {
        Point { rw, reach, source: "/s".to_owned(), ..Point::new(Kind::Bind, "/x") }
    }

    #[test]
    fn read_only_reaches_as_far_as_asked() {
        let options = |rw, reach| bind(&point(rw, reach), Path::new("/s"), &mut Linux::default());
        assert_eq!(options(true, ReadOnlyReach::IfPossible).unwrap().options, ["rbind", "rprivate"]);
        assert_eq!(options(false, ReadOnlyReach::IfPossible).unwrap().options, ["rbind", "rro", "rprivate"]);
        assert_eq!(options(false, ReadOnlyReach::TopOnly).unwrap().options, ["rbind", "ro", "rprivate"]);
        let text = |rw, reach| options(rw, reach).unwrap_err().message().to_owned();
        let conflict = "mount options conflict: ";
        assert_eq!(
            text(true, ReadOnlyReach::TopOnly),
            format!("{conflict}!ReadOnly && BindOptions.ReadOnlyNonRecursive")
        );
        assert_eq!(
            text(true, ReadOnlyReach::Forced),
            format!("{conflict}!ReadOnly && BindOptions.ReadOnlyForceRecursive")
        );
        let both = "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive";
        assert_eq!(text(false, ReadOnlyReach::Contradictory), format!("{conflict}{both}"));
    }

    #[test]
    fn propagation_reaches_the_root() {
        let mut linux = Linux::default();
        let with = |propagation: &str| Point {
            propagation: propagation.to_owned(),
            ..point(true, ReadOnlyReach::default())
        };
        bind(&with("rslave"), Path::new("/s"), &mut linux).unwrap();
        assert_eq!(linux.rootfs_propagation, "rslave");
        bind(&with("rshared"), Path::new("/s"), &mut linux).unwrap();
        bind(&with("rslave"), Path::new("/s"), &mut linux).unwrap();
        assert_eq!(linux.rootfs_propagation, "shared");
    }
}

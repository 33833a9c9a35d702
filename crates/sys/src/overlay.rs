//! Overlay mounts of any number of layers, on any kernel.
//!
//! `fsconfig(2)` takes at most 255 bytes a value, so layers are added one by one (`lowerdir+`, kernel
//! 6.7). Older kernels get mount(2) with one option string of at most a page; there each directory is
//! named by the number of a descriptor, relative to `/proc/self/fd`, so that 127 layers fit. That runs in
//! a forked child with a mount namespace of its own, which hands back a detached copy.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    io::Errno,
    mount::{FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsopen},
};

use crate::{
    error::{Context, Error, Result},
    mount::DetachedMount,
    process,
};

/// The writable part of an overlay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upper<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) volatile: bool,
}

/// Whether layers can be added one by one; asked once. Before 6.5 the kernel gathers options unseen, whatever their
/// names are, and fails when all are there: a kernel that takes an option that does not exist knows no `lowerdir+`.
fn has_lowerdir_plus() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Ok(context) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else { return false };
        let gathers = fsconfig_set_flag(&context, "no_such_option").is_ok();
        !gathers && fsconfig_set_string(&context, "lowerdir+", "/").is_ok()
    })
}

/// `lowerdir+` values are limited to 255 bytes like all others.
const VALUE_MAX: usize = 255;

pub(crate) fn mount(lower: &[PathBuf], upper: Option<Upper<'_>>) -> Result<DetachedMount> {
    let paths = || lower.iter().map(PathBuf::as_path).chain(upper.iter().flat_map(|u| [u.dir, u.work]));
    let long = paths().any(|path| path.as_os_str().len() > VALUE_MAX);
    let mounted =
        if !long && has_lowerdir_plus() { mount_modern(lower, upper) } else { mount_classic(lower, upper) };
    mounted.map_err(|error| explain(paths(), error))
}

/// A missing directory is the likeliest reason, and the kernel does not say which.
fn explain<'a>(mut paths: impl Iterator<Item = &'a Path>, error: Error) -> Error {
    match paths.find(|path| !path.is_dir()) {
        Some(path) => Error::new(format!("mount overlay: directory {}", path.display()), Errno::NOENT),
        None => error,
    }
}

/// An overlay of options as mount(8) takes them, of which one is longer than `fsconfig(2)` takes; none: none is, or some
/// are not known here.
pub(crate) fn of_long_options(options: &[&str]) -> Option<Result<DetachedMount>> {
    let value = |option: &str| option.split_once('=').map_or(0, |(_, value)| value.len());
    if options.iter().all(|option| value(option) <= VALUE_MAX) {
        return None;
    }
    let (mut lower, mut upper, mut work, mut volatile) = (Vec::new(), None, None, false);
    for option in options {
        match option.split_once('=') {
            Some(("lowerdir", list)) => lower = split_list(list),
            Some(("upperdir", dir)) => upper = Some(Path::new(dir)),
            Some(("workdir", dir)) => work = Some(Path::new(dir)),
            None if *option == "volatile" => volatile = true,
            _ => return None,
        }
    }
    let upper = upper.zip(work).map(|(dir, work)| Upper { dir, work, volatile });
    Some(mount(&lower, upper))
}

/// Directories between colons; a backslash takes its meaning from what follows it.
fn split_list(list: &str) -> Vec<PathBuf> {
    let mut dirs = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, dirs.last_mut()) {
            (':', _) => dirs.push(String::new()),
            ('\\', Some(dir)) => dir.extend(letters.next()),
            (letter, Some(dir)) => dir.push(letter),
            (_, None) => {}
        }
    }
    dirs.into_iter().map(PathBuf::from).collect()
}

fn mount_modern(lower: &[PathBuf], upper: Option<Upper<'_>>) -> Result<DetachedMount> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(|| "open file system overlay")?;
    fsconfig_set_string(&context, "source", "overlay").context(|| "set source of overlay")?;
    for layer in lower {
        fsconfig_set_string(&context, "lowerdir+", layer)
            .context(|| format!("add overlay layer {}", layer.display()))?;
    }
    if let Some(upper) = upper {
        fsconfig_set_string(&context, "upperdir", upper.dir)
            .context(|| format!("set overlay upper directory {}", upper.dir.display()))?;
        fsconfig_set_string(&context, "workdir", upper.work)
            .context(|| format!("set overlay work directory {}", upper.work.display()))?;
        if upper.volatile {
            fsconfig_set_flag(&context, "volatile").context(|| "set overlay option volatile")?;
        }
    }
    fsconfig_create(&context).context(|| "create overlay")?;
    DetachedMount::from_context(context.as_fd(), MountAttrFlags::empty()).context(|| "mount overlay")
}

/// What mount(2) takes as options, at most.
const OPTIONS_MAX: usize = 4095;

fn mount_classic(lower: &[PathBuf], upper: Option<Upper<'_>>) -> Result<DetachedMount> {
    in_private_namespace(&mut Plan::classic(lower, upper)?)
}

/// As [`mount`], of layers whose owners are mapped as `ids`, a user namespace, maps them. Directories are looked up in
/// a mount namespace where a mapped copy of each lies over itself.
pub(crate) fn mount_mapped(
    lower: &[PathBuf],
    upper: Option<Upper<'_>>,
    ids: BorrowedFd<'_>,
    owner: (u32, u32),
) -> Result<DetachedMount> {
    let mut plan = Plan::classic(lower, upper)?;
    (plan.ids, plan.owner) = (Some(ids.as_raw_fd()), owner);
    // The upper directory and its scratch directory have to lie on one mount.
    let holder = upper.and_then(|upper| upper.dir.parent());
    for dir in lower.iter().map(PathBuf::as_path).chain(holder) {
        plan.mapped.push(path_string(dir)?);
    }
    let paths = || lower.iter().map(PathBuf::as_path).chain(upper.iter().flat_map(|u| [u.dir, u.work]));
    in_private_namespace(&mut plan).map_err(|error| explain(paths(), error))
}

fn path_string(dir: &Path) -> Result<CString> {
    CString::new(dir.as_os_str().as_bytes())
        .map_err(|_| Error::new(format!("mount overlay: directory {}", dir.display()), Errno::INVAL))
}

/// All that the child needs, allocated beforehand.
struct Plan {
    /// Words of the option string, each followed by the number of a directory's descriptor.
    parts: Vec<(&'static str, CString)>,
    end: &'static str,
    opened: Vec<RawFd>,
    options: Vec<u8>,
    /// Directories that a mapped copy of themselves is to lie over, and the user namespace that maps.
    mapped: Vec<CString>,
    ids: Option<RawFd>,
    /// Who the root of that namespace is: user and group.
    owner: (u32, u32),
}

impl Plan {
    fn with_capacity(layers: usize) -> Self {
        let count = layers + 2;
        Self {
            parts: Vec::with_capacity(count),
            end: "",
            opened: Vec::with_capacity(count),
            options: Vec::with_capacity(OPTIONS_MAX + 1),
            mapped: Vec::new(),
            ids: None,
            owner: (0, 0),
        }
    }

    fn classic(lower: &[PathBuf], upper: Option<Upper<'_>>) -> Result<Self> {
        let mut plan = Self::with_capacity(lower.len());
        for (index, layer) in lower.iter().enumerate() {
            plan.add(if index == 0 { "lowerdir=" } else { ":" }, layer)?;
        }
        if let Some(upper) = upper {
            plan.add(",upperdir=", upper.dir)?;
            plan.add(",workdir=", upper.work)?;
            plan.end = if upper.volatile { ",volatile" } else { "" };
        }
        Ok(plan)
    }

    /// Maps ids, in a mount namespace of this process's own; allocates nothing.
    fn map_ids(&self) -> std::result::Result<(), Errno> {
        let Some(ids) = self.ids else { return Ok(()) };
        let check = |result: i64| if result < 0 { Err(process::errno()) } else { Ok(result) };
        /// `MOUNT_ATTR_IDMAP` of `linux/mount.h`.
        const IDMAP: u64 = 0x0010_0000;
        /// `MOVE_MOUNT_F_EMPTY_PATH`.
        const FROM_DESCRIPTOR: u32 = 4;
        // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
        let attributes: [u64; 4] = [IDMAP, 0, 0, ids.unsigned_abs().into()];
        for path in &self.mapped {
            let (path, empty) = (path.as_ptr(), c"".as_ptr());
            // SAFETY: plain system calls with terminated strings and a structure that outlive them; the descriptor is
            // closed by whoever opened it, here.
            unsafe {
                let flags = 1 | libc::O_CLOEXEC;
                let tree = check(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path, flags))?;
                let size = size_of_val(&attributes);
                let set = libc::AT_EMPTY_PATH;
                let mapped = check(libc::syscall(
                    libc::SYS_mount_setattr,
                    tree,
                    empty,
                    set,
                    &raw const attributes,
                    size,
                ));
                let moved = mapped.and_then(|_| {
                    let to = libc::AT_FDCWD;
                    check(libc::syscall(libc::SYS_move_mount, tree, empty, to, path, FROM_DESCRIPTOR))
                });
                libc::syscall(libc::SYS_close, tree);
                moved?;
            }
        }
        /// `SECBIT_NO_SETUID_FIXUP` of `linux/securebits.h`: a change of ids takes no capabilities.
        const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
        // What an overlay makes for itself belongs to whoever mounted it, which has to be someone that the mapping has.
        // SAFETY: changes credentials of this process of one thread; no memory is involved.
        unsafe {
            check(libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP).into())?;
            libc::syscall(libc::SYS_setfsgid, self.owner.1);
            libc::syscall(libc::SYS_setfsuid, self.owner.0);
        }
        Ok(())
    }

    fn add(&mut self, word: &'static str, dir: &Path) -> Result<()> {
        self.parts.push((word, path_string(dir)?));
        Ok(())
    }

    /// Opens the directories and writes the option string; allocates nothing.
    fn open(&mut self) -> std::result::Result<(), Errno> {
        for (word, path) in &self.parts {
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            // SAFETY: a terminated string that outlives the call.
            let fd = unsafe { libc::open(path.as_ptr(), flags) };
            if fd < 0 {
                return Err(process::errno());
            }
            self.opened.push(fd);
            append(&mut self.options, word.as_bytes())?;
            append_number(&mut self.options, fd)?;
        }
        append(&mut self.options, self.end.as_bytes())?;
        append(&mut self.options, b"\0")
    }
}

/// Extends a buffer within its capacity.
fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> std::result::Result<(), Errno> {
    if buffer.len() + bytes.len() > buffer.capacity().min(OPTIONS_MAX + 1) {
        return Err(Errno::TOOBIG);
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}

fn append_number(buffer: &mut Vec<u8>, number: RawFd) -> std::result::Result<(), Errno> {
    let mut digits = [0; 10];
    let (mut rest, mut start) = (number.unsigned_abs(), digits.len());
    loop {
        start -= 1;
        // A digit fits.
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return append(buffer, &digits[start..]);
        }
    }
}

/// Mounts in a child with its own mount namespace and takes the copy's descriptor from it.
///
/// The child shares the table of descriptors, so it only has to say the number; it allocates nothing,
/// because this may be a multi-threaded process.
fn in_private_namespace(plan: &mut Plan) -> Result<DetachedMount> {
    let answer = process::fork_sharing_files(|| {
        let result = mount_and_clone(plan);
        for fd in &plan.opened {
            // SAFETY: this child opened it and nobody else knows its number.
            unsafe { libc::close(*fd) };
        }
        match result {
            Ok(fd) => i64::from(fd),
            Err(errno) => -i64::from(errno.raw_os_error()),
        }
    })
    .context(|| "mount overlay: start child")?;
    if answer < 0 {
        let errno = Errno::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EIO));
        return Err(Error::new("mount overlay", errno));
    }
    let number = RawFd::try_from(answer).map_err(|_| Error::new("mount overlay", Errno::BADF))?;
    // SAFETY: the child made this descriptor in the shared table for us and has ended; nobody else
    // knows the number.
    Ok(DetachedMount::from_fd(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn mount_and_clone(plan: &mut Plan) -> std::result::Result<RawFd, Errno> {
    let check = |result: i64| if result < 0 { Err(process::errno()) } else { Ok(result) };
    // SAFETY: plain system calls with terminated strings that outlive them. `unshare` detaches the
    // namespace and the working directory of this child alone, which is a process of one thread.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS).into())?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(
            libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()).into(),
        )?;
        plan.map_ids()?;
        // Opened here, because an overlay refuses directories of another mount namespace.
        plan.open()?;
        check(libc::chdir(c"/proc/self/fd".as_ptr()).into())?;
        let kind = c"overlay".as_ptr();
        check(libc::mount(kind, c"/proc".as_ptr(), kind, 0, plan.options.as_ptr().cast()).into())?;
        let flags = 1 | libc::O_CLOEXEC;
        let tree = check(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/proc".as_ptr(), flags))?;
        RawFd::try_from(tree).map_err(|_| Errno::BADF)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd};

    use super::*;

    fn layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let layers = (0..count)
            .map(|n| {
                let layer = dir.path().join(format!("{n:064}"));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join(format!("f{n}")), n.to_string()).unwrap();
                layer
            })
            .collect();
        for name in ["upper", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        (dir, layers)
    }

    fn check(mount: &DetachedMount, count: usize) {
        let root = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        for n in [0, count - 1] {
            assert_eq!(fs::read_to_string(format!("{root}/f{n}")).unwrap(), n.to_string());
        }
        fs::write(format!("{root}/new"), "x").unwrap();
    }

    #[test]
    fn both_ways_take_127_layers() {
        for way in [mount, mount_classic] {
            let (dir, layers) = layers(127);
            let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
            let mount = way(&layers, Some(Upper { dir: &upper, work: &work, volatile: false })).unwrap();
            check(&mount, 127);
            assert!(upper.join("new").exists());
        }
    }

    #[test]
    fn owners_are_mapped_both_ways() {
        use crate::mount::Recipe;
        use crate::namespace::{IdMap, IdRange};
        use std::os::unix::fs::{MetadataExt, chown};
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "active/fs", "active/work"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let lower: Vec<PathBuf> = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        fs::write(lower[1].join("old"), "x").unwrap();
        chown(lower[1].join("old"), Some(7), Some(8)).unwrap();
        let (upper, work) = (dir.path().join("active/fs"), dir.path().join("active/work"));
        let range = |outside| vec![IdRange { inside: 0, outside, size: 1000 }];
        let ids = IdMap { users: range(100_000), groups: range(200_000) };
        assert_eq!(ids.root(), (100_000, 200_000));
        let overlay = Recipe::Overlay { lower, upper: upper.clone(), work, volatile: false };
        let mount = Recipe::Mapped { ids: ids.clone(), recipe: Box::new(overlay) }.mount().unwrap();
        let root = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        let owner = |path: String| fs::metadata(path).map(|stat| (stat.uid(), stat.gid())).unwrap();
        assert_eq!(owner(format!("{root}/old")), (100_007, 200_008));
        // Copied up with its owner; given away within the mapping.
        fs::write(format!("{root}/old"), "y").unwrap();
        assert_eq!(owner(upper.join("old").display().to_string()), (7, 8));
        chown(format!("{root}/old"), Some(100_001), Some(200_000)).unwrap();
        assert_eq!(owner(upper.join("old").display().to_string()), (1, 0));
        drop(mount);
        let bind = Recipe::Bind { source: upper.clone() };
        let mount = Recipe::Mapped { ids, recipe: Box::new(bind) }.mount().unwrap();
        let root = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        assert_eq!(owner(format!("{root}/old")), (100_001, 200_000));
    }

    #[test]
    fn options_longer_than_a_value_mount_too() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> =
            (0..3).map(|n| dir.path().join(format!("{n}:{}", "x".repeat(120)))).collect();
        for (n, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join(format!("f{n}")), n.to_string()).unwrap();
        }
        let list: Vec<String> =
            layers.iter().map(|layer| layer.to_str().unwrap().replace(':', "\\:")).collect();
        let lower = format!("lowerdir={}", list.join(":"));
        assert!(of_long_options(&["lowerdir=/a:/b"]).is_none());
        assert!(of_long_options(&[&lower, "metacopy=on"]).is_none());
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let mount = DetachedMount::new("overlay", "overlay", &[&lower], read_only).unwrap();
        let root = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        for n in 0..3 {
            assert_eq!(fs::read_to_string(format!("{root}/f{n}")).unwrap(), n.to_string());
        }
        let refused = fs::write(format!("{root}/new"), "x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    }

    #[test]
    fn a_missing_layer_is_named() {
        let error = mount(&["/nonexistent/a".into(), "/nonexistent/b".into()], None).unwrap_err();
        assert_eq!(error.to_string(), "mount overlay: directory /nonexistent/a: no such file or directory");
    }
}

//! File operations: copies, new files and directories, removals, on a tree that becomes a layer.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use wharf_layer::{CopyOptions, copy};
use wharf_store::{Chain, ChainLayer};
use wharf_sys::root::Root;

use super::Failure;
use super::chosen::Chosen;
use super::schedule::Solver;
use crate::graph::{CopyFiles, FileAction, NodeId, Owner};

/// The largest passwd or group file that names are looked up in, bytes.
const LARGEST: u64 = 4 << 20;

impl Solver<'_> {
    /// Does the actions one after another; the result is the first input with a layer more.
    pub(super) fn files(&self, id: NodeId, actions: &[FileAction]) -> Result<Chain, Failure> {
        let node = self.graph.node(id);
        let mut chain = self.chain(id, node.inputs[0])?;
        let step = self.store.begin_step(&chain).map_err(|error| self.failure(id, error.to_string()))?;
        let done = step.recipe().mount().map_err(|error| error.to_string()).and_then(|mount| {
            let root = Root::from_fd(mount.into_fd());
            let upper = Root::open(step.upper()).map_err(|error| error.to_string())?;
            actions.iter().try_for_each(|action| self.action(id, &root, &upper, action))
        });
        done.map_err(|message| self.failure(id, message))?;
        chain.push(self.hold.keep(step).map_err(|error| self.failure(id, error.to_string()))?);
        Ok(chain)
    }

    /// A host's directory as a layer of its own.
    pub(super) fn as_layer(&self, id: NodeId, path: &Path) -> Result<ChainLayer, Failure> {
        let fail = |message: String| self.failure(id, message);
        let step = self.store.begin_step(&[]).map_err(|error| fail(error.to_string()))?;
        let (source, target) = (Root::open(path), Root::open(step.upper()));
        let (source, target) = (
            source.map_err(|error| fail(error.to_string()))?,
            target.map_err(|error| fail(error.to_string()))?,
        );
        copy(&source, "/", &target, "/", &CopyOptions::default()).map_err(|error| fail(error.to_string()))?;
        self.hold.keep(step).map_err(|error| fail(error.to_string()))
    }

    fn action(&self, id: NodeId, root: &Root, upper: &Root, action: &FileAction) -> Result<(), String> {
        match action {
            FileAction::Copy(copy) => self.copy_files(id, root, upper, copy),
            FileAction::MakeFile { path, content, mode, owner } => {
                make_file(root, path, content, *mode, owner.as_ref())
            }
            FileAction::MakeDirectory { path, mode, owner } => {
                make_directories(root, path, *mode, owner.as_ref())
            }
            FileAction::Symlink { path, target, owner } => make_link(root, path, target, owner.as_ref()),
            FileAction::Remove { path, wildcard, allow_missing } => {
                remove(root, path, *wildcard, *allow_missing)
            }
        }
    }

    fn copy_files(&self, id: NodeId, root: &Root, upper: &Root, files: &CopyFiles) -> Result<(), String> {
        let edge = self.graph.node(id).inputs[files.input];
        let tree = self.tree(edge).map_err(|failure| failure.message)?;
        let source = self.root(&tree)?;
        let chosen = Chosen::of(files, || source.try_clone().map_err(|error| error.to_string()))?;
        let exclude = |path: &Path| chosen.leaves_out(path);
        let options = CopyOptions {
            owner: files.owner.as_ref().map(|owner| ids(root, owner)).transpose()?,
            mode: files
                .mode
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(|error: wharf_layer::ModeError| error.to_string())?,
            parents: files.parents,
            whole: files.keep_name,
            keep_name: files.keep_name,
            replace: files.replace,
            unpack: files.unpack,
            allow_empty: files.allow_empty,
            upper: Some(upper),
            exclude: if chosen.is_all() { None } else { Some(&exclude) },
        };
        copy(&source, &files.source, root, &files.destination, &options).map_err(|error| error.to_string())
    }
}

fn make_file(
    root: &Root,
    path: &str,
    content: &[u8],
    mode: u32,
    owner: Option<&Owner>,
) -> Result<(), String> {
    let owner = owner.map(|owner| ids(root, owner)).transpose()?;
    let (dir, name) = place(root, path)?;
    let made = (|| {
        if dir.stat(&name).is_ok() {
            dir.unlink(&name)?;
        }
        let mut file = dir.create_file(&name, 0o600)?;
        file.write_all(content).map_err(|error| {
            wharf_sys::root::RootError::new(
                "write",
                path,
                rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
            )
        })?;
        let (uid, gid) = owner.unwrap_or((0, 0));
        dir.chown(&name, uid, gid)?;
        dir.chmod(&name, mode)
    })();
    made.map_err(|error| error.to_string())
}

fn make_link(root: &Root, path: &str, target: &str, owner: Option<&Owner>) -> Result<(), String> {
    let (uid, gid) = owner.map(|owner| ids(root, owner)).transpose()?.unwrap_or((0, 0));
    let (dir, name) = place(root, path)?;
    let made = dir.symlink(&name, OsStr::new(target)).and_then(|()| dir.chown(&name, uid, gid));
    made.map_err(|error| error.to_string())
}

fn make_directories(root: &Root, path: &str, mode: u32, owner: Option<&Owner>) -> Result<(), String> {
    let (uid, gid) = owner.map(|owner| ids(root, owner)).transpose()?.unwrap_or((0, 0));
    let mut whole = PathBuf::new();
    for part in Path::new(path.trim_matches('/')).components() {
        whole.push(part);
        if root.stat_follow(&whole).is_ok() {
            continue;
        }
        let (dir, name) = place(root, &whole.to_string_lossy())?;
        let made = dir
            .mkdir(&name, 0o700)
            .and_then(|()| dir.chown(&name, uid, gid))
            .and_then(|()| dir.chmod(&name, mode));
        made.map_err(|error| error.to_string())?;
    }
    root.dir(&whole).map(drop).map_err(|error| error.to_string())
}

fn remove(root: &Root, path: &str, wildcard: bool, allow_missing: bool) -> Result<(), String> {
    let paths = if wildcard {
        wharf_layer::expand(root, path).map_err(|error| error.to_string())?
    } else {
        vec![PathBuf::from(path)]
    };
    for path in paths {
        let (dir, name) = place(root, &path.to_string_lossy())?;
        match dir.remove_all(&name) {
            Err(error) if error.is_not_found() && allow_missing => {}
            done => done.map_err(|error| error.to_string())?,
        }
    }
    Ok(())
}

fn place(root: &Root, path: &str) -> Result<(wharf_sys::root::Dir, OsString), String> {
    let found = root.parent(path.trim_end_matches('/')).map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("{path} is not a file"))
}

/// The numbers of an owner; names are looked up in the tree's own passwd and group files.
fn ids(root: &Root, owner: &Owner) -> Result<(u32, u32), String> {
    let (user, group) =
        owner.name.split_once(':').map_or((owner.name.as_str(), None), |(user, group)| (user, Some(group)));
    let (uid, own_group) = match user.parse() {
        Ok(uid) => (uid, None),
        Err(_) if user.is_empty() => (0, None),
        Err(_) => {
            let line = line_of(root, "/etc/passwd", user)
                .ok_or_else(|| format!("failed to look up user \"{user}\": user: unknown user {user}"))?;
            let number = |at: usize| line.get(at).and_then(|field| field.parse().ok());
            (number(2).ok_or_else(|| format!("/etc/passwd gives no number for {user}"))?, number(3))
        }
    };
    let gid = match group.filter(|group| !group.is_empty()) {
        None => own_group.unwrap_or(uid),
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let line = line_of(root, "/etc/group", group).ok_or_else(|| {
                    format!("failed to look up group \"{group}\": group: unknown group {group}")
                })?;
                line.get(2)
                    .and_then(|field| field.parse().ok())
                    .ok_or_else(|| format!("/etc/group gives no number for {group}"))?
            }
        },
    };
    Ok((uid, gid))
}

/// The fields of the line that begins with `name`.
fn line_of(root: &Root, path: &str, name: &str) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(&root.read(path, LARGEST).ok()?).into_owned();
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    Some(line.split(':').map(str::to_owned).collect())
}

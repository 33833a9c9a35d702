//! Does the jobs.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use wharf_sys::mount::Recipe;
use wharf_sys::root::Root;

use super::stat::{absolute, base, lookup_failure, resolve_dir, stat};
use super::{Answer, Answers, Failure, Job, Task, Tree, bootstrap, tree};
use crate::{Change, PackOptions, UnpackOptions, Whiteouts};

/// Streams are read and written in pieces of this many bytes.
const BUFFER: usize = 256 * 1024;

pub(super) fn run(job: Job, answers: &mut Answers) -> Result<(), Failure> {
    match job {
        Job::Tree { tree, task } => work(&tree, task, answers),
        Job::Changes { tree, base } => {
            let changes = changes(&tree, &base)?;
            let told = changes
                .into_iter()
                .map(|change| (change.path.to_string_lossy().into_owned(), change.kind as u8));
            answers.send(&Answer::Changes(told.collect()))
        }
        Job::Diff { tree, base } => {
            let mut output = output()?;
            let summary = diff(&tree, &base, &mut output)?;
            output.flush()?;
            answers.send(&Answer::Layer { diff_id: summary.diff_id.to_string(), size: summary.stream_size })
        }
        Job::Bootstrap(job) => {
            let root = bootstrap::run(&job, answers)?;
            crate::pack(&root, Path::new("/"), PackOptions::default(), output()?)?.flush()?;
            Ok(())
        }
    }
}

fn changes(tree: &Recipe, base: &Recipe) -> Result<Vec<Change>, Failure> {
    let lower = Root::from_fd(base.mount()?.into_fd());
    Ok(match tree {
        Recipe::Overlay { upper, .. } => crate::changes(&Root::open(upper)?, &lower)?,
        Recipe::Bind { source } => crate::changes_between(&lower, &Root::open(source)?)?,
        // On the disk ids are the container's own, mapped or not.
        Recipe::Mapped { recipe, .. } => return changes(recipe, base),
        Recipe::View { .. } => Vec::new(),
    })
}

fn diff(tree: &Recipe, base: &Recipe, output: impl Write) -> Result<crate::DiffSummary, Failure> {
    Ok(match tree {
        Recipe::Overlay { upper, .. } => crate::diff(&Root::open(upper)?, output)?,
        Recipe::Bind { source } => {
            let lower = Root::from_fd(base.mount()?.into_fd());
            crate::diff_between(&lower, &Root::open(source)?, output)?
        }
        Recipe::Mapped { recipe, .. } => return diff(recipe, base, output),
        Recipe::View { .. } => return Err(Failure::failed("a read-only tree has no changes")),
    })
}

fn work(tree: &Tree, task: Task, answers: &mut Answers) -> Result<(), Failure> {
    let root = tree::mount(tree)?;
    match task {
        Task::Stat { path } => answers.send(&Answer::Found(stat(&root, &path)?)),
        Task::Read { path } => read(&root, &absolute(&path), answers),
        Task::Write { path, owner, keep_kind, read_only_root } => {
            let path = resolve_dir(&root, &absolute(&path))?;
            check_writable(tree, &path, read_only_root)?;
            let mut options = UnpackOptions::new(Whiteouts::Plain);
            (options.owner, options.keep_kind) = (owner, keep_kind);
            write(&root, &path, &options)
        }
        Task::Export => {
            crate::pack(&root, Path::new("/"), PackOptions::default(), output()?)?.flush()?;
            Ok(())
        }
    }
}

fn read(root: &Root, path: &str, answers: &mut Answers) -> Result<(), Failure> {
    let found = stat(root, path)?;
    let options = PackOptions { name: base(path).as_bytes(), owner: None };
    if found.is_dir() {
        let dir = root.dir(path).map_err(|error| lookup_failure(&error, path))?;
        answers.send(&Answer::Found(found))?;
        crate::pack_dir(&dir, options, output()?)?.flush()?;
    } else {
        answers.send(&Answer::Found(found))?;
        crate::pack(root, Path::new(path), options, output()?)?.flush()?;
    }
    Ok(())
}

/// Docker's rule: what is in a volume depends on the volume, all else on the root file system.
fn check_writable(tree: &Tree, path: &Path, read_only_root: bool) -> Result<(), Failure> {
    let inside = tree.volumes.iter().filter(|volume| path.starts_with(&volume.destination));
    match inside.max_by_key(|volume| volume.destination.components().count()) {
        Some(volume) if volume.read_only => Err(Failure::invalid("mounted volume is marked read-only")),
        None if read_only_root => Err(Failure::invalid("container rootfs is marked read-only")),
        _ => Ok(()),
    }
}

fn write(root: &Root, path: &Path, options: &UnpackOptions) -> Result<(), Failure> {
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (_, input) = crate::decompressor(input)?;
    crate::extract(BufReader::with_capacity(BUFFER, input), root, path, options)?;
    Ok(())
}

fn output() -> Result<BufWriter<File>, Failure> {
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    Ok(BufWriter::with_capacity(BUFFER, output))
}

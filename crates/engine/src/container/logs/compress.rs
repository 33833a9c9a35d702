//! Compressing log files that were rotated away, for containers with `compress=true`.
//!
//! The supervisor writes and renames; it says that it has rotated, and one task here, for all containers,
//! compresses file after file, so that no more than one processor is ever busy with it. The compressed file is
//! complete and on the disk under a name of its own before it takes the plain one's place; who puts it there is
//! the supervisor while there is one, since only it knows what the file is called by then.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use wharf_shim::log::{UNFINISHED, put_compressed};

use super::super::{Container, Containers, Happening, News, log_config};
use crate::error::{Error, Result};
use crate::pools::Class;

/// Starts the task. It looks at a container when its log was rotated, and at starts and ends for what no daemon
/// heard of.
pub(crate) fn watch(containers: &Arc<Containers>) {
    let mut news = containers.listen();
    let containers = Arc::downgrade(containers);
    tokio::spawn(async move {
        while let Some(first) = news.recv().await {
            let Some(containers) = containers.upgrade() else { return };
            // Rotations that came while one was dealt with are dealt with together.
            let mut wanted = BTreeMap::new();
            let mut next = Some(first);
            while let Some(News { container, what }) = next {
                let due = matches!(what, Happening::Started | Happening::Ended | Happening::LogRotated);
                if due && log_config::compresses(&container.view().record) {
                    wanted.insert(container.id().to_owned(), container);
                }
                next = news.try_recv().ok();
            }
            for (id, container) in wanted {
                if let Err(error) = one(&containers, &container).await {
                    tracing::warn!("container {id}: compress log: {error}");
                }
            }
        }
    });
}

/// Compresses what one container has rotated away, the oldest first.
async fn one(containers: &Containers, container: &Container) -> Result<()> {
    let record = container.view().record.clone();
    let driver = record.host_config.log_config.r#type.as_str();
    let Some(path) = containers.config.log_path(&record.id, driver) else { return Ok(()) };
    let listed = path.clone();
    let numbers = containers.pools.run(Class::Files, move || plain_ones(&listed)).await?;
    for number in numbers.into_iter().rev() {
        let log = path.clone();
        let made = containers.pools.run(Class::Files, move || compress(&log, number)).await?;
        let Some((inode, temporary)) = made else { continue };
        match container.handle() {
            Some(handle) => {
                // A supervisor that is just ending, or has a client that still reads the plain file, leaves the
                // work to the next turn.
                if let Err(error) = handle.log_compressed(inode, temporary.clone()).await {
                    tracing::debug!("container {}: {error}", record.id);
                    let _ = fs::remove_file(&temporary);
                }
            }
            None => put_compressed(&path, inode, &temporary)
                .map_err(|error| Error::io(format_args!("rename {}", temporary.display()), &error))?,
        }
    }
    Ok(())
}

/// The numbers of rotated files that are not compressed. What an earlier daemon had not finished goes.
fn plain_ones(path: &Path) -> Result<Vec<u32>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.map_err(|error| Error::io(format_args!("list {}", directory.display()), &error))?
        }
    };
    let mut numbers = Vec::new();
    for entry in entries.flatten() {
        let entry_name = entry.file_name();
        let Some(rest) = entry_name.to_str().and_then(|other| other.strip_prefix(name)?.strip_prefix('.'))
        else {
            continue;
        };
        if rest.ends_with(UNFINISHED) {
            let _ = fs::remove_file(entry.path());
        } else if let Ok(number) = rest.parse() {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the compressed form of a rotated file; `None`: it is gone already.
fn compress(path: &Path, number: u32) -> Result<Option<(u64, PathBuf)>> {
    let suffixed = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let plain = suffixed(format!(".{number}"));
    let source = match File::open(&plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        source => source.map_err(|error| Error::io(format_args!("open {}", plain.display()), &error))?,
    };
    let metadata = source.metadata().map_err(|error| Error::io("stat log", &error))?;
    let temporary = suffixed(format!(".{}{UNFINISHED}", metadata.ino()));
    let make = || -> io::Result<()> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        let mut encoder = GzEncoder::new(BufWriter::new(file), Compression::fast());
        io::copy(&mut BufReader::with_capacity(1 << 18, &source), &mut encoder)?;
        let file = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Readers tell by it what was last written when.
        file.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
        file.sync_all()
    };
    match make() {
        Ok(()) => Ok(Some((metadata.ino(), temporary))),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(Error::io(format_args!("write {}", temporary.display()), &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_rotated_file_gives_way_to_its_compressed_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (name, text) in [("log", "new"), ("log.1", "old"), ("log.2", "older"), ("log.9.gz.new", "half")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(plain_ones(&path).unwrap(), [1, 2]);
        let (inode, temporary) = compress(&path, 1).unwrap().unwrap();
        // It was renamed meanwhile.
        fs::rename(dir.path().join("log.2"), dir.path().join("log.3")).unwrap();
        fs::rename(dir.path().join("log.1"), dir.path().join("log.2")).unwrap();
        put_compressed(&path, inode, &temporary).unwrap();
        assert!(!dir.path().join("log.2").exists() && dir.path().join("log.3").exists());
        let mut text = String::new();
        let file = File::open(dir.path().join("log.2.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        // Gone meanwhile: nothing is left of the work.
        let (inode, temporary) = compress(&path, 3).unwrap().unwrap();
        fs::remove_file(dir.path().join("log.3")).unwrap();
        put_compressed(&path, inode, &temporary).unwrap();
        assert!(!temporary.exists());
        assert!(compress(&path, 3).unwrap().is_none());
    }
}

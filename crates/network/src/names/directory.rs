//! The table's files: read at the start, and followed from then on.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use rustix::io::Errno;

use super::record::{self, MAX_RECORD, Names};
use super::table::Table;

/// The directory of the table and the news of it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    news: OwnedFd,
}

impl Directory {
    /// Reads the whole table of an instance; its directory is made if there is none.
    ///
    /// # Errors
    /// What the file system refuses, `EMFILE` when the user's inotify instances are used up.
    pub(crate) fn open(exec_root: &Path, table: &mut Table) -> io::Result<Self> {
        let path = record::directory(exec_root);
        std::fs::create_dir_all(&path)?;
        let news = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let watched = inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&news, &path, watched)?;
        let directory = Self { path, news };
        directory.read_all(table)?;
        Ok(directory)
    }

    /// Brings the table up to what the files say now. Cheap when nothing changed.
    pub(crate) fn follow(&self, table: &mut Table) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.news, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    table.clear();
                    // Whoever removed the directory wants no names.
                    let _no_names = self.read_all(table);
                }
                Ok(event) => {
                    if let Some(Ok(owner)) = event.file_name().map(std::ffi::CStr::to_str) {
                        self.read(owner, table);
                    }
                }
                Err(Errno::INTR) => {}
                // `EAGAIN`: that was all.
                Err(_) => return,
            }
        }
    }

    fn read_all(&self, table: &mut Table) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            if let Some(owner) = entry?.file_name().to_str() {
                self.read(owner, table);
            }
        }
        Ok(())
    }

    fn read(&self, owner: &str, table: &mut Table) {
        if record::file_name(owner).is_err() {
            return;
        }
        match read_record(&self.path.join(owner)) {
            Ok(names) => table.set(owner, names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => table.remove(owner),
            Err(error) => tracing::warn!("names of {owner}: {error}"),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn read_record(path: &Path) -> io::Result<Names> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_RECORD + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_RECORD {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::super::record::Endpoint;
    use super::super::table::Found;
    use super::*;

    fn names(address: &str) -> Names {
        let endpoint = Endpoint {
            network: "n".into(),
            addresses: vec![address.parse().unwrap()],
            names: vec!["web".into()],
            ..Endpoint::default()
        };
        Names { endpoints: vec![endpoint], ..Names::default() }
    }

    #[test]
    fn the_table_follows_its_files() {
        let root = tempfile::tempdir().unwrap();
        record::write(root.path(), "a", &names("10.0.0.1")).unwrap();
        let mut table = Table::default();
        let directory = Directory::open(root.path(), &mut table).unwrap();
        let addresses = |table: &Table| match table.resolve("a", "web", false) {
            Found::Addresses(addresses) => addresses.len(),
            Found::Unknown => 0,
        };
        assert_eq!(addresses(&table), 1);

        record::write(root.path(), "b", &names("10.0.0.2")).unwrap();
        directory.follow(&mut table);
        assert_eq!((addresses(&table), table.len()), (2, 2));
        assert_eq!(record::owners(root.path()).unwrap().len(), 2);

        // Half a file beside and a broken one change nothing.
        std::fs::write(record::directory(root.path()).join(".c"), "{").unwrap();
        std::fs::write(record::directory(root.path()).join(".b"), "{").unwrap();
        std::fs::rename(record::directory(root.path()).join(".b"), record::directory(root.path()).join("b"))
            .unwrap();
        directory.follow(&mut table);
        assert_eq!(addresses(&table), 2);

        record::remove(root.path(), "b").unwrap();
        record::remove(root.path(), "b").unwrap();
        directory.follow(&mut table);
        assert_eq!((addresses(&table), table.len()), (1, 1));
        assert!(record::write(root.path(), "../x", &names("10.0.0.1")).is_err());
    }

    #[test]
    fn more_changes_than_the_kernel_queues_are_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let mut table = Table::default();
        let directory = Directory::open(root.path(), &mut table).unwrap();
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let rounds = limit.trim().parse::<usize>().unwrap() / 2 + 10;
        if rounds > 50_000 {
            return;
        }
        for round in 0..rounds {
            // Two different events each, so that the kernel does not merge them.
            record::write(root.path(), "a", &names(&format!("10.0.{}.{}", round / 250, round % 250)))
                .unwrap();
            record::remove(root.path(), "a").unwrap();
        }
        record::write(root.path(), "b", &names("10.0.0.1")).unwrap();
        directory.follow(&mut table);
        assert_eq!(table.len(), 1);
    }
}

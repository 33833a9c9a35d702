//! Copying into and out of containers.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;
use wharf_api::PathStat;
use wharf_layer::job::{self, Answer, Task};

use super::fs_job::Running;
use super::spec::user;
use super::{Containers, View};
use crate::body::{ByteSender, ByteStream};
use crate::error::{Error, Result};
use crate::pools::Class;

/// What is read from a job and handed on at once, in bytes.
const PIECE: usize = 128 * 1024;

impl Containers {
    /// What `path` in a container is; its last component is not followed.
    pub async fn stat_path(self: &Arc<Self>, asked: &str, path: &str) -> Result<PathStat> {
        let view = self.find(asked)?.view();
        let (containers, asked, path) = (self.clone(), asked.to_owned(), path.to_owned());
        let work = move || {
            let task = Task::Stat { path: path.clone() };
            found(&Running::in_tree(&containers, &view, task, &asked, &path)?.answer()?)
        };
        self.pools.run(Class::Files, work).await
    }

    /// What `path` in a container is, and an archive of it and all below it.
    pub async fn get_archive(self: &Arc<Self>, asked: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let view = self.find(asked)?.view();
        let (sender, stream) = ByteStream::channel();
        let (stat_sender, stat) = oneshot::channel();
        let (containers, asked, path) = (self.clone(), asked.to_owned(), path.to_owned());
        let pools = self.pools.clone();
        tokio::spawn(async move {
            let work = move || {
                let started = containers.start_reading(&view, &asked, &path);
                let (stat, running) = match started {
                    Ok((stat, running)) => (Ok(stat), Some(running)),
                    Err(error) => (Err(error), None),
                };
                if stat.is_ok() {
                    containers.emit(&view.record, "archive-path", &[]);
                }
                // Whoever asked may have gone away; the sending below finds out.
                let _ = stat_sender.send(stat);
                running.into_iter().for_each(|running| hand_on(running, sender.clone()));
                Ok(())
            };
            pools.run(Class::Files, work).await
        });
        let stat = stat.await.map_err(|_| Error::unavailable("the engine is closing"))??;
        Ok((stat, stream))
    }

    fn start_reading(&self, view: &View, asked: &str, path: &str) -> Result<(PathStat, Running)> {
        let mut running = Running::in_tree(self, view, Task::Read { path: path.to_owned() }, asked, path)?;
        let stat = found(&running.answer()?)?;
        Ok((stat, running))
    }

    /// Unpacks the archive in `body`, compressed or not, into the directory `path` of a container. `keep_kinds`: directories are
    /// not replaced by others or the other way round. `copy_ids`: everything belongs to the container's user, where one is
    /// configured, and not to the archive's.
    pub async fn put_archive(
        self: &Arc<Self>,
        asked: &str,
        path: &str,
        keep_kinds: bool,
        copy_ids: bool,
        body: ByteStream,
    ) -> Result<()> {
        let view = self.find(asked)?.view();
        let (containers, asked, path) = (self.clone(), asked.to_owned(), path.to_owned());
        let work = move || {
            let config = &view.record.config;
            let owner = if copy_ids && !config.user.is_empty() {
                let identity = user::resolve(&containers.root(&view)?, &config.user, &[])?;
                Some((identity.uid, identity.gid))
            } else {
                None
            };
            let read_only_root = view.record.host_config.readonly_rootfs;
            let task = Task::Write { path: path.clone(), owner, keep_kind: keep_kinds, read_only_root };
            let mut running = Running::in_tree(&containers, &view, task, &asked, &path)?;
            if let Some(mut input) = running.take_input() {
                match io::copy(&mut body.into_reader(), &mut input) {
                    // The job has its archive's end, or an error that it tells.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                    copied => drop(copied.map_err(|error| Error::io("read archive", &error))?),
                }
            }
            running.finish()?;
            containers.emit(&view.record, "extract-to-dir", &[]);
            Ok(())
        };
        self.pools.run(Class::Files, work).await
    }
}

fn found(answer: &Answer) -> Result<PathStat> {
    match answer {
        Answer::Found(stat) => api_stat(stat),
        other => Err(Error::internal(format!("read answer of job: unexpected {other:?}"))),
    }
}

fn api_stat(stat: &job::PathStat) -> Result<PathStat> {
    let modified = Timestamp::new(stat.seconds, stat.nanos.cast_signed())
        .map_err(|error| Error::internal(format!("time of {}: {error}", stat.name)))?;
    Ok(PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: stat.mode,
        mtime: modified.to_string(),
        link_target: stat.link_target.clone(),
    })
}

/// Sends a job's output to whoever asked for it; an error of the job ends the stream with it.
pub(super) fn hand_on(mut running: Running, sender: ByteSender) {
    let mut piece = vec![0; PIECE];
    loop {
        match running.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                if sender.blocking_send(Bytes::copy_from_slice(&piece[..count])).is_err() {
                    return;
                }
            }
            Err(error) => return sender.blocking_fail(Error::internal(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        let stat = job::PathStat {
            name: "etc".to_owned(),
            size: 4096,
            mode: 2_147_484_141,
            seconds: 1_795_267_392,
            nanos: 228_420_960,
            link_target: String::new(),
        };
        assert_eq!(api_stat(&stat).unwrap().mtime, "2026-11-21T13:23:12.22842096Z");
    }
}

//! Runs a [`Job`] on a container's tree in a process of its own, and speaks with it. Everything here sleeps.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use wharf_layer::job::{Answer, Base, FailureKind, Job, Task, Tree, Volume};
use wharf_sys::process::{self, Child};
use wharf_sys::root::Root;

use super::spec::points::{Kind, Point};
use super::spec::{idmap, user};
use super::{Containers, View, launch};
use crate::error::{Error, Result};
use crate::volume::Lent;

/// A job at work. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    answers: BufReader<File>,
    output: File,
    /// Its last answer was heard.
    done: bool,
    /// The process's standard input, until it is taken.
    input: Option<File>,
    /// Volumes of a container that does not run, mounted for this.
    lent: Option<Lent>,
    /// What the job is about, for its messages: a container as the client named it, and a path.
    subject: (String, String),
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::io("make pipe", &errno.into()))
}

impl Running {
    /// Starts a job. `asked` and `path`: as the client gave them.
    pub(super) fn start(containers: &Containers, job: &Job, asked: &str, path: &str) -> Result<Self> {
        let (input, input_end) = pipe()?;
        let (output_end, output) = pipe()?;
        let (job_fd, job_end) = pipe()?;
        let (answers_end, answers) = pipe()?;
        let errors = rustix::stdio::stderr();
        let descriptors = [input.as_fd(), output.as_fd(), errors, job_fd.as_fd(), answers.as_fd()];
        let program = format!("/proc/self/fd/{}", containers.executable.as_raw_fd());
        let child = process::spawn(program.as_ref(), ["wharf", "fs-job"], &descriptors)
            .map_err(|error| Error::internal(error.to_string()))?;
        // The process's ends have to be closed here for the end of its output to be seen.
        drop((input, output, job_fd, answers));
        let running = Self {
            child,
            answers: BufReader::new(File::from(answers_end)),
            output: File::from(output_end),
            done: false,
            input: Some(File::from(input_end)),
            lent: None,
            subject: (asked.to_owned(), path.to_owned()),
        };
        serde_json::to_writer(File::from(job_end), job)
            .map_err(|error| Error::internal(format!("start job: {error}")))?;
        Ok(running)
    }

    /// Starts a job on the tree that a container sees, with its volumes.
    pub(super) fn in_tree(
        containers: &Containers,
        view: &View,
        task: Task,
        asked: &str,
        path: &str,
    ) -> Result<Self> {
        let lent = match view.state().process() {
            Some(_) => None,
            None => containers.volumes.lend(&view.record.mounts)?,
        };
        let job = Job::Tree { tree: containers.tree(view, lent.as_ref())?, task };
        let mut running = Self::start(containers, &job, asked, path)?;
        running.lent = lent;
        Ok(running)
    }

    /// The next answer; a failure of the job is an error in Docker's words.
    pub(super) fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        let read =
            self.answers.read_line(&mut line).map_err(|error| Error::io("read answer of job", &error))?;
        if read == 0 {
            return Err(Error::internal("the process that works on the container's files ended early"));
        }
        let answer = serde_json::from_str(&line)
            .map_err(|error| Error::internal(format!("read answer of job: {error}")))?;
        let Answer::Failed { kind, message } = answer else { return Ok(answer) };
        Err(match kind {
            FailureKind::NotFound => {
                let (asked, path) = &self.subject;
                Error::not_found(format!("Could not find the file {path} in container {asked}"))
            }
            FailureKind::Invalid => Error::invalid(message),
            FailureKind::Failed => Error::internal(message),
        })
    }

    /// Waits until all is done.
    pub(super) fn finish(&mut self) -> Result<()> {
        while !self.done {
            self.done = self.answer()? == Answer::Done;
        }
        Ok(())
    }

    /// The process's standard input; dropping it is its end.
    pub(super) fn take_input(&mut self) -> Option<File> {
        self.input.take()
    }
}

/// The job's output. It ends well only where the job did, so that a cut archive is not taken for a whole one.
impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.finish().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; what is left is to take its exit status.
        let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let _ = process::wait(self.child.pid);
        // Only now does nothing of it hold them.
        drop(self.lent.take());
    }
}

impl Containers {
    /// A job on the tree that a container sees: its root and its volumes, but not the kernel's file systems.
    pub(super) fn tree_job(&self, view: &View, task: Task) -> Result<Job> {
        Ok(Job::Tree { tree: self.tree(view, None)?, task })
    }

    fn tree(&self, view: &View, lent: Option<&Lent>) -> Result<Tree> {
        let record = &view.record;
        let base = match view.state().process() {
            Some(running) => Base::Process(running.pid),
            None => Base::Recipe(self.mapped(record, self.recipe_of(&record.id)?)),
        };
        let place = launch::make_bundle(self, &record.id)?;
        let files = ["resolv.conf", "hostname", "hosts"].map(|name| Volume {
            source: place.join(name),
            subpath: PathBuf::new(),
            destination: PathBuf::from("/etc").join(name),
            read_only: false,
            ids: None,
        });
        let points = record.mounts.iter().filter(|point| matches!(point.kind, Kind::Bind | Kind::Volume));
        let source = |point: &Point| {
            let lent = lent.and_then(|lent| lent.source(point));
            lent.unwrap_or_else(|| self.volumes.source(&record.id, point))
        };
        let ids = crate::userns::of(&self.config, &record.host_config).cloned();
        let user = if record.mounts.iter().any(|point| point.owner.is_some()) {
            let user = user::resolve(&self.root(view)?, &record.config.user, &[])?;
            (user.uid, user.gid)
        } else {
            (0, 0)
        };
        let mut volumes: Vec<Volume> = points
            .map(|point| Volume {
                source: source(point),
                subpath: PathBuf::from(&point.subpath),
                destination: PathBuf::from(&point.destination),
                read_only: !point.rw,
                ids: point.owner.and_then(|owner| idmap::ids(owner, user, ids.as_ref())),
            })
            .collect();
        for file in files {
            if volumes.iter().all(|volume| volume.destination != file.destination) {
                volumes.push(file);
            }
        }
        // The files are made by the first start; a bind whose source went away shows what is below it.
        volumes.retain(|volume| volume.source.exists());
        Ok(Tree { base, place, volumes, ids })
    }

    /// A container's root for reading single files of it.
    pub(super) fn root(&self, view: &View) -> Result<Root> {
        let failed = |error: &dyn std::error::Error| Error::internal(error.to_string());
        match view.state().process() {
            Some(running) => {
                Root::open(format!("/proc/{}/root", running.pid)).map_err(|error| failed(&error))
            }
            None => {
                let mount = self.recipe_of(&view.record.id)?.mount().map_err(|error| failed(&error))?;
                Ok(Root::from_fd(mount.into_fd()))
            }
        }
    }
}

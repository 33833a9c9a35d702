//! Work on one container's tree in a process of its own: cp, export, changes, diff; and making a base image's tree.
//!
//! The process has one thread, a private mount namespace and descriptors on one tree; it dies with its work, so a hung
//! file system or a hostile tree costs the daemon nothing but that process. Descriptors: 0 a stream in, 1 a stream out,
//! 3 the [`Job`] as JSON, 4 [`Answer`]s as lines of JSON.

mod bootstrap;
mod run;
mod stat;
mod tree;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_sys::inherit;
use wharf_sys::mount::Recipe;
use wharf_sys::namespace::IdMap;

pub use bootstrap::{Bootstrap, Release};
pub use stat::PathStat;

/// Where the [`Job`] is read from.
const JOB: i32 = 3;
/// Where [`Answer`]s go.
const ANSWERS: i32 = 4;

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Something with the tree that the container sees.
    Tree {
        /// How it comes to be.
        tree: Tree,
        /// What to do with it.
        task: Task,
    },
    /// Answers [`Answer::Changes`]: how the snapshot `tree` differs from the `base` below it.
    Changes {
        /// The container's own snapshot.
        tree: Recipe,
        /// The layers below.
        base: Recipe,
    },
    /// Writes the difference as a layer and answers [`Answer::Layer`].
    Diff {
        /// The container's own snapshot.
        tree: Recipe,
        /// The layers below.
        base: Recipe,
    },
    /// Makes a base image's tree, answers [`Answer::Progress`] and [`Answer::Archive`], then writes it as a layer.
    Bootstrap(Bootstrap),
}

/// A container's tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Its root file system.
    pub base: Base,
    /// A directory to mount it over, in a mount namespace of this process alone.
    pub place: PathBuf,
    /// What is mounted into it.
    pub volumes: Vec<Volume>,
    /// The ids of the container's user namespace: owners are told, and given, as the container sees them.
    #[serde(default)]
    pub ids: Option<IdMap>,
}

/// A root file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Not mounted now.
    Recipe(Recipe),
    /// The root of this process, without what is mounted in it. An overlay must not be mounted twice.
    Process(i32),
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// A directory or file of the host.
    pub source: PathBuf,
    /// What to take of it: a path inside, where links cannot lead out.
    pub subpath: PathBuf,
    /// Where it is in the container.
    pub destination: PathBuf,
    /// Whether it must not be written.
    pub read_only: bool,
    /// Whose files there are whose in the container, where that is not as on the disk.
    pub ids: Option<IdMap>,
}

/// Work on a tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Answers [`Answer::Found`].
    Stat {
        /// As the client gave it.
        path: String,
    },
    /// Answers [`Answer::Found`], then writes an archive of it.
    Read {
        /// As the client gave it.
        path: String,
    },
    /// Unpacks an archive, compressed or not, into a directory.
    Write {
        /// As the client gave it.
        path: String,
        /// The owner of everything, instead of those in the archive.
        owner: Option<(u32, u32)>,
        /// Do not replace directories by others or the other way round.
        keep_kind: bool,
        /// Only volumes may be written.
        read_only_root: bool,
    },
    /// Writes an archive of the whole tree.
    Export,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What a path is.
    Found(PathStat),
    /// Changed paths, and the kinds of their changes as in Docker's API.
    Changes(Vec<(String, u8)>),
    /// A layer was written.
    Layer {
        /// The digest of the stream.
        diff_id: String,
        /// Its length.
        size: u64,
    },
    /// What is being done, in words.
    Progress(String),
    /// The state of the archive that a tree was made from.
    Archive(Release),
    /// All is done; always last, unless it failed.
    Done,
    /// It failed.
    Failed {
        /// The class of the failure.
        kind: FailureKind,
        /// In words for the client.
        message: String,
    },
}

/// Classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The path does not exist.
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// Anything else.
    Failed,
}

/// A failure on its way to the client.
#[derive(Debug)]
struct Failure {
    kind: FailureKind,
    message: String,
}

impl Failure {
    fn invalid(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Invalid, message: message.into() }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Failed, message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error.to_string())
    }
}

/// The process's entry: does the job on descriptor 3 and returns the exit code.
pub fn main() -> i32 {
    let (Ok(job), Ok(answers)) = (inherit::take(JOB), inherit::take(ANSWERS)) else { return 2 };
    let mut answers = Answers(File::from(answers));
    let done = serde_json::from_reader(File::from(job))
        .map_err(|error| Failure::failed(format!("read job: {error}")))
        .and_then(|job| run::run(job, &mut answers));
    let (answer, code) = match done {
        Ok(()) => (Answer::Done, 0),
        Err(Failure { kind, message }) => (Answer::Failed { kind, message }, 1),
    };
    // With nobody left to read it, the answer has no use.
    let _ = answers.send(&answer);
    code
}

struct Answers(File);

impl Answers {
    fn send(&mut self, answer: &Answer) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        Ok(self.0.write_all(&line)?)
    }
}

//! The graph of a build: operations, and which results each works on.
//!
//! Nodes stand in an order in which inputs come first. What a frontend sends over the wire maps onto the same operations
//! as what a Dockerfile becomes, so that one solver runs both.

use wharf_oci::{Descriptor, DiffId, Platform};

use crate::dockerfile::{Lines, NetworkMode, Security, Sharing};

/// A node of a [`Graph`], by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// One result of a node: a tree of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// Whose.
    pub node: NodeId,
    /// Which, for an operation with several.
    pub output: usize,
}

/// All operations of a build.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What is done.
    pub operation: Operation,
    /// What it works on.
    pub inputs: Vec<Edge>,
    /// How it is shown.
    pub name: String,
    /// Where it stands in the Dockerfile.
    pub lines: Option<Lines>,
    /// For what machine.
    pub platform: Platform,
    /// Run it whatever the cache holds.
    pub ignore_cache: bool,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Files from outside.
    Source(Source),
    /// A process; its result is what it leaves.
    Execute(Box<Execute>),
    /// Files copied, made, removed: one action after another.
    Files(Vec<FileAction>),
    /// The inputs laid over one another, each as its changes.
    Merge,
    /// What the second input changed against the first.
    Difference,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An image.
    Image {
        /// The reference, as it is shown.
        reference: String,
        /// What it meant when it was looked up: the digest of its config.
        id: String,
    },
    /// An image in a store of the client's.
    Stored {
        /// The store's name.
        store: String,
        /// Its layers, base first.
        layers: Vec<StoredLayer>,
    },
    /// A directory of the client's.
    Local {
        /// Its name: `context`, `dockerfile`, or a named context's.
        name: String,
        /// Patterns of what is sent; empty: everything.
        include: Vec<String>,
        /// Patterns of what is not sent.
        exclude: Vec<String>,
        /// Paths (globs) that are needed; empty: all.
        follow: Vec<String>,
    },
    /// A git repository.
    Git {
        /// Its address, with `#ref:subdirectory`.
        address: String,
        /// Whether `.git` stays.
        keep_git_dir: bool,
    },
    /// A file by HTTP.
    Http {
        /// Its address.
        url: String,
        /// The digest that it must have.
        checksum: Option<String>,
        /// The name it is kept under.
        file_name: String,
    },
}

/// A layer in a store of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its blob.
    pub blob: Descriptor,
    /// What the blob holds.
    pub diff_id: DiffId,
}

/// A process to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Execute {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// More of the same, of which the result does not depend: the proxies' settings.
    pub proxies: Vec<String>,
    /// Working directory.
    pub directory: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// The mounts; the first is the root.
    pub mounts: Vec<Mount>,
    /// What it may reach.
    pub network: NetworkMode,
    /// What it may do.
    pub security: Security,
    /// Host name; empty: the engine's choice.
    pub hostname: String,
    /// More lines of `/etc/hosts`: name and address.
    pub hosts: Vec<(String, String)>,
    /// Variables filled from secrets: variable, secret's id, whether it must be there.
    pub secret_environment: Vec<(String, String, bool)>,
    /// The exit codes that mean success; empty: 0 alone.
    pub valid_exit_codes: Vec<i32>,
    /// Limits that it is given beside the build's own: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// The cgroup under which its group is made; empty: where the build's others are. The result does not depend on it.
    pub cgroup_parent: String,
}

/// A mount of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which of the node's inputs; `None`: an empty tree.
    pub input: Option<usize>,
    /// The path within the input.
    pub selector: String,
    /// Where it appears.
    pub destination: String,
    /// Whether writing fails.
    pub read_only: bool,
    /// Which result of the node it becomes.
    pub output: Option<usize>,
    /// What kind.
    pub kind: MountType,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountType {
    /// A tree.
    Bind,
    /// A directory that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
    },
    /// Memory, with its limit in bytes where there is one.
    Tmpfs(Option<u64>),
    /// A secret.
    Secret(Access),
    /// An agent's socket.
    Ssh(Access),
}

/// How a secret or a socket appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Its name.
    pub id: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode.
    pub mode: u32,
    /// Whether the step fails without it.
    pub required: bool,
}

/// Who files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `user[:group]`, names or numbers; names are those of the node's first input.
    pub name: String,
}

/// A step of a file operation; each works on the result of the one before, the first on the node's first input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAction {
    /// Copies from another input.
    Copy(Box<CopyFiles>),
    /// Writes a file.
    MakeFile {
        /// Where.
        path: String,
        /// Its content.
        content: Vec<u8>,
        /// Mode.
        mode: u32,
        /// Owner.
        owner: Option<Owner>,
    },
    /// Makes a directory and those above it; one that is there is fine.
    MakeDirectory {
        /// Where.
        path: String,
        /// Mode.
        mode: u32,
        /// Owner.
        owner: Option<Owner>,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: String,
        /// What it says.
        target: String,
        /// Owner.
        owner: Option<Owner>,
    },
    /// Removes a path.
    Remove {
        /// What (a glob where `wildcard`).
        path: String,
        /// Whether the path is a glob.
        wildcard: bool,
        /// Whether nothing there is fine.
        allow_missing: bool,
    },
}

/// What a copy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFiles {
    /// Which of the node's inputs is copied from.
    pub input: usize,
    /// Path or glob in there.
    pub source: String,
    /// Path in the result; with a trailing slash a directory.
    pub destination: String,
    /// Owner of the copies; `None`: as they are.
    pub owner: Option<Owner>,
    /// Mode of the copies, octal or symbolic; `None`: as they are.
    pub mode: Option<String>,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Whether directories above the source are made too, from here on.
    pub parents: bool,
    /// Whether a source that is a pattern may name nothing.
    pub allow_empty: bool,
    /// Whether a directory is copied with its name into a destination that is one.
    pub keep_name: bool,
    /// Whether what is there of another kind gives way.
    pub replace: bool,
    /// Patterns of what is copied, relative to the input's top; empty: everything.
    pub include: Vec<String>,
    /// Paths that must be among what is copied, where patterns choose.
    pub required: Vec<String>,
    /// Patterns of what is not copied.
    pub exclude: Vec<String>,
}

impl FileAction {
    /// The input that files are copied from.
    pub(crate) fn copied_from(&self) -> Option<usize> {
        match self {
            Self::Copy(copy) => Some(copy.input),
            _ => None,
        }
    }
}

impl Operation {
    /// How many results it has that a cache keeps.
    pub(crate) fn results(&self) -> usize {
        match self {
            Self::Source(_) | Self::Merge => 0,
            Self::Files(_) | Self::Difference => 1,
            Self::Execute(execute) => execute.mounts.iter().filter(|mount| mount.output.is_some()).count(),
        }
    }
}

impl Mount {
    /// The input whose content the process may only read, so that nothing but its content counts.
    pub(crate) fn looked_into(&self) -> Option<usize> {
        let reads = self.output.is_none() && !matches!(self.kind, MountType::Cache { .. });
        self.input.filter(|_| reads)
    }
}

impl Graph {
    /// Adds a node; its inputs must be there already.
    pub fn add(&mut self, node: Node) -> NodeId {
        debug_assert!(node.inputs.iter().all(|edge| edge.node.0 < self.nodes.len()));
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All nodes, inputs first.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeId(at), node))
    }

    /// A node, to change how it is shown or what a source needs.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }
}

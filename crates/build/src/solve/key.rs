//! Cache keys: what a node's result depends on, and nothing else.

use std::path::Path;

use wharf_oci::{Digest, Hasher};
use wharf_sys::root::Root;

use super::checksum::{self, FileDigests, Selection};
use super::chosen::Chosen;
use super::schedule::Solver;
use super::{Failure, Tree, listing};
use crate::graph::{CopyFiles, Edge, Execute, FileAction, Node, NodeId, Operation, Source};

/// Raised when the meaning of a key changes: older records are then never found.
const GENERATION: &str = "1";

/// What stands in a key for a tree that a step looks into and another step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// What is in it. Such keys are what results are kept under.
    Content,
    /// What it is made of, so that nothing need be made for the key.
    Recipe,
}

impl Solver<'_> {
    /// A node's key. Trees are made on the way only where their content counts.
    pub(super) fn make_key(&self, id: NodeId, by: By) -> Result<Digest, Failure> {
        let node = self.graph.node(id);
        let mut key = Key::new(node, by);
        match &node.operation {
            Operation::Source(Source::Image { id, .. }) => key.word(id),
            Operation::Source(Source::Stored { layers, .. }) => {
                layers.iter().for_each(|layer| key.word(&layer.diff_id.to_string()));
            }
            // An address may mean something else tomorrow: only what it gave counts. Steps that take a part of it ask for
            // that part.
            Operation::Source(_) => {
                let edge = Edge { node: id, output: 0 };
                let whole = self.content(id, edge, Selection { path: "/", exclude: None }, &[])?;
                key.word(&whole.to_string());
            }
            Operation::Merge | Operation::Difference => self.inputs(&node.inputs, &mut key)?,
            Operation::Files(actions) => self.files_key(id, node, actions, &mut key)?,
            Operation::Execute(execute) => self.execute_key(id, node, execute, &mut key)?,
        }
        Ok(key.finish())
    }

    fn inputs(&self, edges: &[Edge], key: &mut Key) -> Result<(), Failure> {
        edges.iter().try_for_each(|edge| self.input(*edge, key))
    }

    fn input(&self, edge: Edge, key: &mut Key) -> Result<(), Failure> {
        let input = match key.by {
            By::Content => self.key(edge.node)?,
            By::Recipe => self.stands_for(edge.node)?,
        };
        key.word(&format!("{input} {}", edge.output));
        Ok(())
    }

    /// Whether a key names a tree that is looked into by what it is made of.
    fn names(&self, edge: Edge, key: &Key) -> bool {
        key.by == By::Recipe && self.is_made(edge.node)
    }

    fn files_key(
        &self,
        id: NodeId,
        node: &Node,
        actions: &[FileAction],
        key: &mut Key,
    ) -> Result<(), Failure> {
        self.input(node.inputs[0], key)?;
        for action in actions {
            key.word(&format!("{action:?}"));
            let FileAction::Copy(copy) = action else { continue };
            let edge = node.inputs[copy.input];
            if self.names(edge, key) {
                self.input(edge, key)?;
            } else {
                key.word(&self.copied(id, edge, copy)?.to_string());
            }
        }
        Ok(())
    }

    fn execute_key(&self, id: NodeId, node: &Node, execute: &Execute, key: &mut Key) -> Result<(), Failure> {
        let Execute {
            arguments,
            environment,
            directory,
            user,
            network,
            security,
            hostname,
            hosts,
            secret_environment,
            valid_exit_codes,
            ulimits,
            ..
        } = execute;
        key.word(&format!("{arguments:?} {environment:?} {directory:?} {user:?}"));
        key.word(&format!("{network:?} {security:?} {hostname:?} {hosts:?} {secret_environment:?}"));
        if !valid_exit_codes.is_empty() {
            key.word(&format!("{valid_exit_codes:?}"));
        }
        if !ulimits.is_empty() {
            key.word(&format!("ulimits {ulimits:?}"));
        }
        for mount in &execute.mounts {
            key.word(&format!(
                "{:?} {:?} {} {:?}",
                mount.kind, mount.destination, mount.read_only, mount.output
            ));
            let Some(input) = mount.input else { continue };
            let edge = node.inputs[input];
            if mount.looked_into().is_none() || self.names(edge, key) {
                self.input(edge, key)?;
            } else {
                let path = if mount.selector.is_empty() { "/" } else { &mount.selector };
                let content = self.content(id, edge, Selection { path, exclude: None }, &[])?;
                key.word(&content.to_string());
            }
        }
        Ok(())
    }

    fn copied(&self, id: NodeId, edge: Edge, copy: &CopyFiles) -> Result<Digest, Failure> {
        let fail = |message: String| self.failure(id, message);
        let tree = self.tree(edge)?;
        let chosen = Chosen::of(copy, || self.root(&tree)).map_err(fail)?;
        let exclude = |path: &Path| chosen.leaves_out(path);
        let exclude: Option<&dyn Fn(&Path) -> bool> = if chosen.is_all() { None } else { Some(&exclude) };
        let patterns = [copy.exclude.as_slice(), &copy.include].join(&String::new());
        self.content(id, edge, Selection { path: &copy.source, exclude }, &patterns)
    }

    /// The content that `selection`, which leaves out what `patterns` say, names in a tree.
    fn content(
        &self,
        id: NodeId,
        edge: Edge,
        selection: Selection<'_>,
        patterns: &[String],
    ) -> Result<Digest, Failure> {
        let tree = self.tree(edge)?;
        let known: &FileDigests = self.cache().file_digests();
        let name = self.revision(&tree).map(|revision| selection.name(&revision, patterns));
        if let Some(content) = name.and_then(|name| known.selection(&name)) {
            return Ok(content);
        }
        let listed = match &tree {
            Tree::Directory(path) => self.host.listing(path),
            Tree::Chain(_) => None,
        };
        let digest = match listed.and_then(|listing| listing::digest(&*listing, selection)) {
            Some(digest) => Ok(digest),
            None => self.root(&tree).and_then(|root| checksum::of(&root, selection, known)),
        };
        let content = digest.map_err(|error| {
            self.failure(id, format!("failed to compute cache key: failed to calculate checksum: {error}"))
        })?;
        if let Some(name) = name {
            known.remember(name, content);
        }
        Ok(content)
    }

    /// What stands for all that is in a tree; `None`: nothing does.
    fn revision(&self, tree: &Tree) -> Option<String> {
        match tree {
            Tree::Chain(chain) => Some(format!("{chain:?}")),
            Tree::Directory(path) => self.host.revision(path).map(|number| format!("{path:?} {number}")),
        }
    }

    /// A tree, to read from.
    pub(super) fn root(&self, tree: &Tree) -> Result<Root, String> {
        match tree {
            Tree::Directory(path) => Root::open(path).map_err(|error| error.to_string()),
            Tree::Chain(chain) => {
                let recipe = self.store.chain_view(chain).map_err(|error| error.to_string())?;
                Ok(Root::from_fd(recipe.mount().map_err(|error| error.to_string())?.into_fd()))
            }
        }
    }
}

/// A key being made.
struct Key {
    hasher: Hasher,
    by: By,
}

impl Key {
    fn new(node: &Node, by: By) -> Self {
        let mut key = Self { hasher: Hasher::new(), by };
        if by == By::Recipe {
            key.word("recipe");
        }
        key.word(GENERATION);
        key.word(match &node.operation {
            Operation::Source(_) => "source",
            Operation::Execute(_) => "execute",
            Operation::Files(_) => "files",
            Operation::Merge => "merge",
            Operation::Difference => "difference",
        });
        key.word(&format!("{:?}", node.platform));
        key
    }

    /// A word with its length before it, so that two never read as one.
    fn word(&mut self, word: &str) {
        self.hasher.update(&(word.len() as u64).to_le_bytes());
        self.hasher.update(word.as_bytes());
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

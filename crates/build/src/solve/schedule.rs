//! Who runs when: a node's result is made once, by the first who needs it; the others wait for that.

use std::sync::{Arc, OnceLock};
use std::thread;

use wharf_oci::Digest;
use wharf_store::{Chain, ChainLayer, Store};

use super::cache::{Cache, Found, Hold};
use super::{Cancel, Event, Failure, Host, LocalRequest, Tree, Watch};
use crate::graph::{Edge, Graph, NodeId, Operation, Source};

/// The stack of a thread that waits for nodes below, bytes: graphs are deep, frames are small.
const STACK: usize = 1 << 20;

/// One build.
pub struct Solver<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Arc<Store>,
    pub(super) host: &'a dyn Host,
    pub(super) hold: &'a Hold,
    pub(super) cancel: &'a Cancel,
    watch: Watch<'a>,
    keys: Vec<OnceLock<Result<Digest, Failure>>>,
    results: Vec<OnceLock<Result<Vec<Tree>, Failure>>>,
}

impl std::fmt::Debug for Solver<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Solver").field("nodes", &self.keys.len()).finish_non_exhaustive()
    }
}

impl<'a> Solver<'a> {
    /// A build of `graph`. `hold` keeps all that it makes and finds; `watch` is told of everything.
    pub fn new(
        graph: &'a Graph,
        store: &'a Arc<Store>,
        host: &'a dyn Host,
        hold: &'a Hold,
        cancel: &'a Cancel,
        watch: Watch<'a>,
    ) -> Self {
        let count = graph.nodes().count();
        let keys = std::iter::repeat_with(OnceLock::new).take(count).collect();
        let results = std::iter::repeat_with(OnceLock::new).take(count).collect();
        Self { graph, store, host, hold, cancel, watch, keys, results }
    }

    /// Makes one result, and tells of every node above it that the cache spared.
    ///
    /// # Errors
    /// The first failure.
    pub fn solve(&self, edge: Edge) -> Result<Tree, Failure> {
        let tree = self.tree(edge)?;
        self.tell_spared(edge.node);
        Ok(tree)
    }

    /// One result of a node.
    pub(super) fn tree(&self, edge: Edge) -> Result<Tree, Failure> {
        let made = self.results[edge.node.0].get_or_init(|| self.run(edge.node));
        let trees = made.as_ref().map_err(Clone::clone)?;
        trees
            .get(edge.output)
            .cloned()
            .ok_or_else(|| self.failure(edge.node, format!("there is no result {}", edge.output)))
    }

    /// A node's cache key.
    pub(super) fn key(&self, node: NodeId) -> Result<Digest, Failure> {
        self.keys[node.0].get_or_init(|| self.make_key(node)).clone()
    }

    pub(super) fn cache(&self) -> &Cache {
        self.hold.cache()
    }

    pub(super) fn failure(&self, node: NodeId, message: String) -> Failure {
        Failure { node, lines: self.graph.node(node).lines, message, code: None }
    }

    fn run(&self, id: NodeId) -> Result<Vec<Tree>, Failure> {
        if self.cancel.is_set() {
            return Err(self.failure(id, "canceled".to_owned()));
        }
        let node = self.graph.node(id);
        if let Operation::Source(source) = &node.operation {
            return self.told(id, || self.source(id, source).map(|tree| vec![tree]));
        }
        if matches!(node.operation, Operation::Merge) {
            return self.merge(id);
        }
        let key = self.key(id)?;
        let flight = match self.cache().find(key, node.ignore_cache, self.hold, self.cancel) {
            Found::Chains(chains) => {
                (self.watch)(Event::Cached(id));
                return Ok(chains.into_iter().map(Tree::Chain).collect());
            }
            Found::Mine(flight) => flight,
            Found::Canceled => return Err(self.failure(id, "canceled".to_owned())),
        };
        self.ahead(&node.inputs);
        // A step begins when what it stands on is there, and does not fail with it.
        for edge in &node.inputs {
            self.tree(*edge)?;
        }
        let chains = self.told(id, || match &node.operation {
            Operation::Files(actions) => self.files(id, actions).map(|chain| vec![chain]),
            Operation::Execute(execute) => self.execute(id, execute),
            Operation::Difference => self.difference(id).map(|chain| vec![chain]),
            Operation::Source(_) | Operation::Merge => Err(self.failure(id, "has no step".to_owned())),
        })?;
        flight.land(&chains, &node.name);
        Ok(chains.into_iter().map(Tree::Chain).collect())
    }

    /// Makes inputs at the same time. Their failures are met again by who uses them.
    fn ahead(&self, inputs: &[Edge]) {
        let waiting: Vec<Edge> =
            inputs.iter().filter(|edge| self.results[edge.node.0].get().is_none()).copied().collect();
        if waiting.len() < 2 {
            return;
        }
        thread::scope(|scope| {
            for edge in waiting {
                let started = thread::Builder::new()
                    .name("build".to_owned())
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || drop(self.tree(edge)));
                // Without a thread more, the one that is there makes them one after another.
                if started.is_err() {
                    return;
                }
            }
        });
    }

    /// Does something for a node, and tells when it begins and ends.
    fn told<T>(&self, id: NodeId, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        (self.watch)(Event::Started(id));
        let done = work();
        (self.watch)(match &done {
            Ok(_) => Event::Finished(id),
            Err(failure) => Event::Failed(id, failure.message.clone()),
        });
        done
    }

    fn source(&self, id: NodeId, source: &Source) -> Result<Tree, Failure> {
        let platform = &self.graph.node(id).platform;
        let made = match source {
            Source::Image { reference, id: image } => {
                self.host.image(reference, image, platform, id).map(Tree::Chain)
            }
            Source::Local { name, include, exclude, follow } => {
                let request = LocalRequest { name, include, exclude, follow };
                self.host.local(&request, id).map(Tree::Directory)
            }
            Source::Git { address, keep_git_dir } => {
                self.host.git(address, *keep_git_dir, id).map(Tree::Directory)
            }
            Source::Http { url, checksum, file_name } => {
                self.host.http(url, checksum.as_deref(), file_name, id).map(Tree::Directory)
            }
        };
        made.map_err(|message| self.failure(id, message))
    }

    /// The layers of all inputs, one upon another: nothing is copied.
    fn merge(&self, id: NodeId) -> Result<Vec<Tree>, Failure> {
        let mut whole: Chain = Vec::new();
        for edge in &self.graph.node(id).inputs {
            whole.extend(self.chain(id, *edge)?);
        }
        Ok(vec![Tree::Chain(whole)])
    }

    /// The layers that the second input has above the first.
    fn difference(&self, id: NodeId) -> Result<Chain, Failure> {
        let [lower, upper] = self.graph.node(id).inputs[..] else {
            return Err(self.failure(id, "a difference has two inputs".to_owned()));
        };
        let (lower, upper) = (self.chain(id, lower)?, self.chain(id, upper)?);
        match upper.strip_prefix(lower.as_slice()) {
            Some(above) => Ok(above.to_vec()),
            None => Err(self.failure(
                id,
                "the difference of unrelated trees is not available in this version of Wharf".to_owned(),
            )),
        }
    }

    /// An input as layers.
    pub(super) fn chain(&self, id: NodeId, edge: Edge) -> Result<Chain, Failure> {
        match self.tree(edge)? {
            Tree::Chain(chain) => Ok(chain),
            Tree::Directory(path) => self.as_layer(id, &path).map(|layer: ChainLayer| vec![layer]),
        }
    }

    /// Nodes that nobody had to look at because of a hit below them count as cached.
    fn tell_spared(&self, node: NodeId) {
        let mut left = vec![node];
        let mut seen = vec![false; self.keys.len()];
        while let Some(node) = left.pop() {
            if std::mem::replace(&mut seen[node.0], true) {
                continue;
            }
            if self.results[node.0].get().is_none() {
                (self.watch)(Event::Cached(node));
            }
            left.extend(self.graph.node(node).inputs.iter().map(|edge| edge.node));
        }
    }
}

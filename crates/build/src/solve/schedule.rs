//! Who runs when: a node's result is made once, by the first who needs it; the others wait for that.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use wharf_oci::Digest;
use wharf_store::{Chain, ChainLayer, Store};

use super::cache::{Cache, Found, Hold};
use super::key::By;
use super::recall::Recall;
use super::{Cancel, Event, Failure, Host, LocalRequest, Tree, Watch};
use crate::graph::{Edge, FileAction, Graph, Mount, NodeId, Operation, Source};

/// The stack of a thread that waits for nodes below, bytes: graphs are deep, frames are small.
const STACK: usize = 1 << 20;
/// How many trees are begun at once, at most.
const AT_ONCE: usize = 16;

/// One build.
pub struct Solver<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Arc<Store>,
    pub(super) host: &'a dyn Host,
    pub(super) hold: &'a Hold,
    pub(super) cancel: &'a Cancel,
    watch: Watch<'a>,
    /// What failed first: the rest is ended by it.
    first: OnceLock<Failure>,
    keys: Vec<OnceLock<Result<Digest, Failure>>>,
    pub(super) recall: Recall,
    results: Vec<OnceLock<Result<Vec<Tree>, Failure>>>,
    /// The results whose layers the build's own result has.
    lineage: OnceLock<HashSet<Edge>>,
}

impl std::fmt::Debug for Solver<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Solver").field("nodes", &self.keys.len()).finish_non_exhaustive()
    }
}

impl<'a> Solver<'a> {
    /// A build of `graph`. `cancel` is set when something fails, so that nothing else goes on; `hold` keeps all that it makes and finds; `watch` is told of everything.
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
        Self {
            graph,
            store,
            host,
            hold,
            cancel,
            watch,
            first: OnceLock::new(),
            keys,
            recall: Recall::new(count),
            results,
            lineage: OnceLock::new(),
        }
    }

    /// Makes one result, and tells of every node above it that the cache spared.
    ///
    /// # Errors
    /// The first failure.
    pub fn solve(&self, edge: Edge) -> Result<Tree, Failure> {
        self.lineage.get_or_init(|| lineage(self.graph, edge));
        // Whatever the cache holds, keys are made of what these trees have in them: all are begun at once.
        let looked_into = Mutex::new(VecDeque::new());
        let lock = || looked_into.lock().unwrap_or_else(PoisonError::into_inner);
        let made = thread::scope(|scope| {
            let begin = |edges: VecDeque<Edge>| {
                let count = edges.len();
                lock().extend(edges);
                for _ in 0..count.min(AT_ONCE) {
                    let work = || {
                        let next = || lock().pop_front();
                        while let Some(edge) = next().filter(|_| !self.cancel.is_set()) {
                            // A failure is met again by who looks into the tree.
                            drop(self.tree(edge));
                        }
                    };
                    let builder = thread::Builder::new().name("build".to_owned()).stack_size(STACK);
                    // Without a thread more, the one that is there makes them one after another.
                    if builder.spawn_scoped(scope, work).is_err() {
                        break;
                    }
                }
            };
            if self.may_recall() {
                // What steps make is not begun before it is known that somebody will look into it.
                begin(self.looked_into(edge.node, |edge| !self.is_made(edge.node), |_| false));
                begin(self.looked_into(edge.node, |edge| self.is_made(edge.node), |id| self.is_spared(id)));
            } else {
                begin(self.looked_into(edge.node, |_| true, |_| false));
            }
            self.tree(edge)
        });
        let tree = made.map_err(|failure| self.first.get().cloned().unwrap_or(failure))?;
        self.tell_spared(edge.node);
        Ok(tree)
    }

    /// The trees whose content counts for keys, those that others stand on first, as far as they are wanted and no node is
    /// above them whose result spares them.
    fn looked_into(
        &self,
        node: NodeId,
        wanted: impl Fn(Edge) -> bool,
        spares: impl Fn(NodeId) -> bool,
    ) -> VecDeque<Edge> {
        let (mut left, mut seen) = (vec![node], vec![false; self.keys.len()]);
        let mut found = BTreeSet::new();
        while let Some(id) = left.pop() {
            if std::mem::replace(&mut seen[id.0], true) {
                continue;
            }
            if spares(id) {
                continue;
            }
            left.extend(self.graph.node(id).inputs.iter().map(|edge| edge.node));
            found.extend(self.looks_into(id).into_iter().filter(|edge| wanted(*edge)));
        }
        found.into_iter().collect()
    }

    /// The trees whose content counts for a node's own key.
    pub(super) fn looks_into(&self, id: NodeId) -> Vec<Edge> {
        let node = self.graph.node(id);
        let inputs: Vec<usize> = match &node.operation {
            Operation::Files(actions) => actions.iter().filter_map(FileAction::copied_from).collect(),
            Operation::Execute(execute) => execute.mounts.iter().filter_map(Mount::looked_into).collect(),
            _ => Vec::new(),
        };
        inputs.into_iter().filter_map(|input| node.inputs.get(input).copied()).collect()
    }

    /// The keys of all steps that a result stands on, as far as they are known.
    #[must_use]
    pub fn keys_of(&self, result: Edge) -> Vec<Digest> {
        let (mut left, mut seen) = (vec![result.node], vec![false; self.keys.len()]);
        let mut found = Vec::new();
        while let Some(id) = left.pop() {
            if std::mem::replace(&mut seen[id.0], true) {
                continue;
            }
            let node = self.graph.node(id);
            left.extend(node.inputs.iter().map(|edge| edge.node));
            if let (1.., Some(key)) = (node.operation.results(), self.known_key(id)) {
                self.learn(id, key);
                found.push(key);
            }
        }
        found
    }

    /// One result of a node.
    pub(super) fn tree(&self, edge: Edge) -> Result<Tree, Failure> {
        let made = self.results[edge.node.0].get_or_init(|| {
            let trees = self.run(edge.node)?;
            for (output, tree) in trees.iter().enumerate() {
                let edge = Edge { node: edge.node, output };
                if let Tree::Chain(chain) = tree
                    && self.lineage.get().is_some_and(|lineage| lineage.contains(&edge))
                {
                    self.host.made(chain);
                }
            }
            Ok(trees)
        });
        let trees = made.as_ref().map_err(Clone::clone)?;
        trees
            .get(edge.output)
            .cloned()
            .ok_or_else(|| self.failure(edge.node, format!("there is no result {}", edge.output)))
    }

    /// A node's cache key.
    pub(super) fn key(&self, node: NodeId) -> Result<Digest, Failure> {
        let key = || match self.may_recall().then(|| self.recalled(node)).transpose()?.flatten() {
            Some(key) => Ok(key),
            None => self.make_key(node, By::Content),
        };
        self.keys[node.0].get_or_init(key).clone()
    }

    /// A node's key, where it is known already.
    pub(super) fn known_key(&self, node: NodeId) -> Option<Digest> {
        self.keys[node.0].get()?.clone().ok()
    }

    /// Whether a node's results are there.
    pub(super) fn is_done(&self, node: NodeId) -> bool {
        self.results[node.0].get().is_some_and(Result::is_ok)
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
        let elsewhere = || self.host.elsewhere(&key, node.operation.results());
        if let Some(chains) = (!node.ignore_cache).then(elsewhere).flatten() {
            flight.land(&chains, &node.name);
            (self.watch)(Event::Cached(id));
            return Ok(chains.into_iter().map(Tree::Chain).collect());
        }
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
        if let Err(failure) = &done {
            let failure = failure.clone();
            let _known = self.first.get_or_init(|| failure);
            self.cancel.cancel();
        }
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
            Source::Stored { store, layers } => self.host.stored(store, layers, id).map(Tree::Chain),
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

/// The results whose layers are among those of `result`, itself included.
fn lineage(graph: &Graph, result: Edge) -> HashSet<Edge> {
    let (mut left, mut found) = (vec![result], HashSet::new());
    while let Some(edge) = left.pop() {
        if !found.insert(edge) {
            continue;
        }
        let node = graph.node(edge.node);
        match &node.operation {
            Operation::Source(_) => {}
            Operation::Files(_) => left.extend(node.inputs.first()),
            Operation::Merge => left.extend(&node.inputs),
            Operation::Difference => left.extend(node.inputs.last()),
            Operation::Execute(execute) => {
                let mount = execute.mounts.iter().find(|mount| mount.output == Some(edge.output));
                left.extend(mount.and_then(|mount| mount.input).and_then(|input| node.inputs.get(input)));
            }
        }
    }
    found
}

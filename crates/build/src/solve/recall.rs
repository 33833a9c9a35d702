//! Keys by memory: a step that copies from what other steps make has the content of that in its key. Where nobody has it any
//! more, as with a cache that holds the layers of an image alone, the key is the one that it had when it was last made of
//! the same steps, if its result is still there; so they need not run for the key alone.

use std::sync::OnceLock;

use wharf_oci::Digest;

use super::Failure;
use super::cache::Found;
use super::key::By;
use super::schedule::Solver;
use crate::graph::{NodeId, Operation};

/// What is found out of the nodes of a graph, each once.
pub(super) struct Recall {
    recipes: Vec<OnceLock<Result<Option<Digest>, Failure>>>,
    needs: Vec<OnceLock<Result<bool, Failure>>>,
    recalled: Vec<OnceLock<Result<Option<Digest>, Failure>>>,
}

impl Recall {
    pub(super) fn new(count: usize) -> Self {
        Self { recipes: fresh(count), needs: fresh(count), recalled: fresh(count) }
    }
}

fn fresh<T>(count: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

impl Solver<'_> {
    /// Whether there is any memory.
    pub(super) fn may_recall(&self) -> bool {
        self.cache().has_recipes() || self.host.has_elsewhere()
    }

    /// Whether a step makes a node's result.
    pub(super) fn is_made(&self, id: NodeId) -> bool {
        !matches!(self.graph.node(id).operation, Operation::Source(_))
    }

    /// What a node's result is made of; `None`: its key says that, as it looks into nothing that has to be made.
    pub(super) fn recipe(&self, id: NodeId) -> Result<Option<Digest>, Failure> {
        let recipe = || {
            if !self.is_made(id) {
                return Ok(None);
            }
            let mut looks = self.looks_into(id).iter().any(|edge| self.is_made(edge.node));
            for edge in &self.graph.node(id).inputs {
                looks = looks || self.recipe(edge.node)?.is_some();
            }
            if looks { self.make_key(id, By::Recipe).map(Some) } else { Ok(None) }
        };
        self.recall.recipes[id.0].get_or_init(recipe).clone()
    }

    /// What stands for a node's result in a recipe.
    pub(super) fn stands_for(&self, id: NodeId) -> Result<Digest, Failure> {
        self.recipe(id)?.map_or_else(|| self.key(id), Ok)
    }

    /// Takes note of the key that a node has.
    pub(super) fn learn(&self, id: NodeId, key: Digest) {
        // A recipe that cannot be told is none to remember.
        if let Ok(Some(recipe)) = self.recipe(id) {
            self.cache().remember(recipe, key);
        }
    }

    /// Whether a node's result is there by memory, so that nothing need be made for its key.
    pub(super) fn is_spared(&self, id: NodeId) -> bool {
        self.recalled(id).is_ok_and(|key| key.is_some())
    }

    /// A node's key by memory, where something would have to be made for it and its result is there.
    pub(super) fn recalled(&self, id: NodeId) -> Result<Option<Digest>, Failure> {
        let recalled = || {
            if !self.needs_steps(id)? || self.is_made_anew(id) { Ok(None) } else { self.remembered(id) }
        };
        self.recall.recalled[id.0].get_or_init(recalled).clone()
    }

    /// Whether something has to be made before a node's key can be told.
    fn needs_steps(&self, id: NodeId) -> Result<bool, Failure> {
        let needs = || {
            let looked_into = self.looks_into(id);
            for edge in &self.graph.node(id).inputs {
                let missing = match looked_into.contains(edge) {
                    true => self.is_made(edge.node) && !self.is_there(edge.node)?,
                    false => self.needs_steps(edge.node)?,
                };
                if missing {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        self.recall.needs[id.0].get_or_init(needs).clone()
    }

    /// Whether the results of a node can be had without a step.
    fn is_there(&self, id: NodeId) -> Result<bool, Failure> {
        if self.is_done(id) {
            return Ok(true);
        }
        let node = self.graph.node(id);
        let count = node.operation.results();
        if count == 0 {
            // What is put together of others is there with them.
            let inputs: Result<Vec<bool>, Failure> = node
                .inputs
                .iter()
                .map(|edge| Ok(!self.is_made(edge.node) || self.is_there(edge.node)?))
                .collect();
            return Ok(inputs?.into_iter().all(|there| there));
        }
        if node.ignore_cache || self.needs_steps(id)? {
            return Ok(false);
        }
        let key = self.key(id)?;
        Ok(self.hold.results(&key).is_some() || self.host.is_elsewhere(&key, count))
    }

    /// Whether the client wants some step made anew that a node stands on.
    fn is_made_anew(&self, id: NodeId) -> bool {
        let (mut left, mut seen) = (vec![id], std::collections::HashSet::new());
        while let Some(id) = left.pop() {
            let node = self.graph.node(id);
            if node.ignore_cache {
                return true;
            }
            left.extend(node.inputs.iter().map(|edge| edge.node).filter(|id| seen.insert(*id)));
        }
        false
    }

    /// The key that a node had when it was last made of the same steps. Its results are held from here on: under that key,
    /// they must not be made of anything else.
    fn remembered(&self, id: NodeId) -> Result<Option<Digest>, Failure> {
        let node = self.graph.node(id);
        let count = node.operation.results();
        let Some(recipe) = self.recipe(id)?.filter(|_| count > 0) else { return Ok(None) };
        let known: [&dyn Fn() -> Option<Digest>; 2] =
            [&|| self.cache().recalled(&recipe), &|| self.host.recalled(&recipe)];
        for key in known.iter().filter_map(|known| known()) {
            match self.cache().find(key, false, self.hold, self.cancel) {
                Found::Chains(_) => return Ok(Some(key)),
                Found::Canceled => return Err(self.failure(id, "canceled".to_owned())),
                Found::Mine(flight) => {
                    if let Some(chains) = self.host.elsewhere(&key, count) {
                        flight.land(&chains, &node.name);
                        return Ok(Some(key));
                    }
                }
            }
        }
        Ok(None)
    }
}

//! Processes: their mounts are made ready, they run, what they left becomes layers.

use wharf_store::{Chain, Step};

use super::schedule::Solver;
use super::{Failure, MountSource, Process, ReadyMount, Tree};
use crate::graph::{Execute, Mount, MountType, NodeId};

impl Solver<'_> {
    /// Runs a process; its results are the trees that it could write to, in their order.
    pub(super) fn execute(&self, id: NodeId, execute: &Execute) -> Result<Vec<Chain>, Failure> {
        let fail = |message: String| self.failure(id, message);
        let mut outputs: Vec<(usize, Chain, Step)> = Vec::new();
        // Trees that may be written to, but whose changes nobody wants.
        let mut scratch: Vec<Step> = Vec::new();
        let mut mounts = Vec::new();
        let mut held = Vec::new();
        for mount in &execute.mounts {
            let source = match &mount.kind {
                MountType::Tmpfs(size) => MountSource::Tmpfs(*size),
                MountType::Secret(access) => MountSource::Secret(access.clone()),
                MountType::Ssh(access) => MountSource::Ssh(access.clone()),
                MountType::Cache { id: name, sharing } => {
                    let begins_with =
                        mount.input.map(|input| self.tree(self.graph.node(id).inputs[input])).transpose()?;
                    let root = begins_with.map(|tree| self.root(&tree)).transpose().map_err(fail)?;
                    let cache = self
                        .cache()
                        .directory(name, *sharing, root.as_ref(), &mount.selector, self.cancel)
                        .map_err(fail)?;
                    let directory = cache.path().to_owned();
                    held.push(cache);
                    mounts.push(ready(mount, MountSource::Directory(directory), String::new()));
                    continue;
                }
                MountType::Bind => self.bound(id, mount, &mut outputs, &mut scratch)?,
            };
            mounts.push(ready(mount, source, mount.selector.clone()));
        }
        let root = match mounts.first() {
            Some(ReadyMount { source: MountSource::Layers(recipe), destination, .. })
                if destination == "/" =>
            {
                recipe.clone()
            }
            _ => return Err(fail("a process needs a root to run in".to_owned())),
        };
        mounts.remove(0);
        let process = Process { execute, root, mounts, platform: &self.graph.node(id).platform };
        let code = self.host.execute(&process, self.cancel, id).map_err(fail)?;
        drop((process, held, scratch));
        let valid = &execute.valid_exit_codes;
        let succeeded = if valid.is_empty() { code == 0 } else { valid.contains(&code) };
        if !succeeded {
            let shown = execute.arguments.join(" ");
            let message = format!("process \"{shown}\" did not complete successfully: exit code: {code}");
            return Err(Failure { code: Some(code), ..fail(message) });
        }
        outputs.sort_by_key(|(at, ..)| *at);
        let kept = outputs.into_iter().map(|(_, mut chain, step)| {
            chain.push(self.hold.keep(step).map_err(|error| fail(error.to_string()))?);
            Ok(chain)
        });
        kept.collect()
    }

    /// The source of a bind mount: read-only as it is, else on top of a step of its own.
    fn bound(
        &self,
        id: NodeId,
        mount: &Mount,
        outputs: &mut Vec<(usize, Chain, Step)>,
        scratch: &mut Vec<Step>,
    ) -> Result<MountSource, Failure> {
        let fail = |error: wharf_store::Error| self.failure(id, error.to_string());
        let tree = match mount.input {
            Some(input) => self.tree(self.graph.node(id).inputs[input])?,
            None => Tree::Chain(Vec::new()),
        };
        if mount.read_only {
            return match tree {
                Tree::Directory(path) => Ok(MountSource::Directory(path)),
                Tree::Chain(chain) => self.store.chain_view(&chain).map(MountSource::Layers).map_err(fail),
            };
        }
        let chain = match tree {
            Tree::Chain(chain) => chain,
            Tree::Directory(path) => vec![self.as_layer(id, &path)?],
        };
        let step = self.store.begin_step(&chain).map_err(fail)?;
        let recipe = step.recipe();
        match mount.output {
            Some(output) => outputs.push((output, chain, step)),
            None => scratch.push(step),
        }
        Ok(MountSource::Layers(recipe))
    }
}

fn ready(mount: &Mount, source: MountSource, selector: String) -> ReadyMount {
    ReadyMount { source, selector, destination: mount.destination.clone(), read_only: mount.read_only }
}

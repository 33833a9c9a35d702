//! Definitions of builds as frontends send them: operations that name one another by digest, turned into a graph.
//!
//! What comes is anybody's: it is bounded, and all it names is looked up before it is used. What the engine cannot do is
//! refused by name.

mod execute;
mod files;
mod reference;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard_buildkit_proto::pb;
use prost::Message;
use wharf_build::graph::{Edge, Graph, Node, Operation};
use wharf_oci::{Digest, Platform};

pub(super) use execute::kind as mount_kind;
pub(super) use reference::{definition_of, graph};

/// The operations of one definition, at most, and all of their bytes.
const MOST: usize = 10_000;
const LARGEST: usize = 32 << 20;

/// An image as it was looked up: its reference with its digest, and the digest of its config.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) reference: String,
    pub(super) id: String,
}

/// Images by reference and platform.
pub(super) type Images = HashMap<(String, String), Found>;

/// What was found out of all that a definition names.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) images: Images,
    /// Results of builds, by name.
    pub(super) results: HashMap<String, (Graph, Option<Edge>)>,
    /// What the definitions within came to, by the operations that run them.
    pub(super) within: HashMap<String, (Graph, Option<Edge>)>,
}

/// A definition within a definition: a file of what an input makes.
#[derive(Debug, Clone)]
pub(super) struct Within {
    /// The operation.
    pub(super) digest: String,
    pub(super) input: pb::Input,
    pub(super) file: String,
}

/// The name of the input that has a definition, and of the file that it is in.
const WITHIN: &str = "buildkit.llb.definition";
/// The attribute that gives the file another name.
const WITHIN_FILE: &str = "llbfile";

/// What a client allows.
pub(super) type Allowed = wharf_engine::build::Entitlements;

/// Why a definition is no graph.
pub(super) type Result<T> = std::result::Result<T, String>;

/// A definition whose operations were read.
#[derive(Debug)]
pub(super) struct Parsed {
    /// In an order in which inputs come first.
    operations: Vec<(String, pb::Op)>,
    places: HashMap<String, usize>,
    metadata: BTreeMap<String, pb::OpMetadata>,
    /// What the last operation asks for; `None`: an empty tree.
    result: Option<pb::Input>,
}

impl Parsed {
    /// Reads the operations of a definition and checks that what they name is there.
    pub(super) fn read(definition: &pb::Definition) -> Result<Self> {
        let bytes: usize = definition.def.iter().map(Vec::len).sum();
        if definition.def.len() > MOST || bytes > LARGEST {
            return Err(format!("the definition has more than {MOST} operations or {LARGEST} bytes"));
        }
        let mut parsed = Self {
            operations: Vec::new(),
            places: HashMap::new(),
            metadata: definition.metadata.clone(),
            result: None,
        };
        let mut unordered: HashMap<String, pb::Op> = HashMap::new();
        let mut last = None;
        for bytes in &definition.def {
            let op = pb::Op::decode(bytes.as_slice());
            let op = op.map_err(|error| format!("failed to parse llb proto op: {error}"))?;
            let digest = Digest::of(bytes).to_string();
            last = Some(digest.clone());
            unordered.insert(digest, op);
        }
        let Some(last) = last else { return Ok(parsed) };
        let Some(end) = unordered.remove(&last) else { return Ok(parsed) };
        let [result] = end.inputs.as_slice() else {
            return Err(format!("the last operation has {} inputs instead of one", end.inputs.len()));
        };
        if end.op.is_some() {
            return Err("the last operation does more than name the result".to_owned());
        }
        parsed.result = Some(result.clone());
        parsed.order(&result.digest, &mut unordered)?;
        Ok(parsed)
    }

    /// Takes in an operation and all it stands on, deepest first.
    fn order(&mut self, from: &str, unordered: &mut HashMap<String, pb::Op>) -> Result<()> {
        let mut open: Vec<(String, bool)> = vec![(from.to_owned(), false)];
        while let Some((digest, entered)) = open.pop() {
            if self.places.contains_key(&digest) {
                continue;
            }
            if entered {
                // Left in place when it was entered, and taken out but here.
                let Some(op) = unordered.remove(&digest) else { continue };
                self.places.insert(digest.clone(), self.operations.len());
                self.operations.push((digest, op));
                continue;
            }
            let op =
                unordered.get(&digest).ok_or_else(|| format!("invalid missing input digest {digest}"))?;
            let inputs: Vec<(String, bool)> =
                op.inputs.iter().map(|input| (input.digest.clone(), false)).collect();
            open.push((digest, true));
            open.extend(inputs);
            if open.len() > MOST * 8 {
                return Err("the definition's operations name one another too often".to_owned());
            }
        }
        Ok(())
    }

    /// The images that must be looked up, with their platforms.
    pub(super) fn images(&self) -> BTreeSet<(String, String)> {
        let image = |(_, op): &(String, pb::Op)| match &op.op {
            Some(pb::op::Op::Source(source)) => {
                let reference = source::image_reference(&source.identifier)?;
                Some((reference, platform(op.platform.as_ref()).to_string()))
            }
            _ => None,
        };
        self.operations.iter().filter_map(image).collect()
    }

    /// The names of results of builds that it stands on.
    pub(super) fn references(&self) -> BTreeSet<String> {
        let reference = |(_, op): &(String, pb::Op)| match &op.op {
            Some(pb::op::Op::Source(source)) => reference::name(&source.identifier).map(str::to_owned),
            _ => None,
        };
        self.operations.iter().filter_map(reference).collect()
    }

    /// The definitions within it, those that others stand on first.
    pub(super) fn within(&self) -> Result<Vec<Within>> {
        let mut found = Vec::new();
        for (digest, op) in &self.operations {
            let Some(pb::op::Op::Build(build)) = &op.op else { continue };
            if build.builder != -1 || build.def.is_some() {
                return Err("an operation builds with another builder than this".to_owned());
            }
            let at = build.inputs.get(WITHIN).map(|input| input.input);
            let at = at.ok_or_else(|| format!("an operation that builds has no input {WITHIN}"))?;
            let input = usize::try_from(at).ok().and_then(|at| op.inputs.get(at));
            let input = input.ok_or_else(|| format!("invalid input index {at}"))?.clone();
            let file = build.attrs.get(WITHIN_FILE).cloned().unwrap_or_else(|| WITHIN.to_owned());
            found.push(Within { digest: digest.clone(), input, file });
        }
        Ok(found)
    }

    /// The graph, and its result; `None`: an empty tree.
    pub(super) fn graph(&self, known: &Known, allowed: Allowed) -> Result<(Graph, Option<Edge>)> {
        self.graph_of(self.result.as_ref(), known, allowed)
    }

    /// The graph that one output of an operation stands on.
    pub(super) fn graph_of(
        &self,
        result: Option<&pb::Input>,
        known: &Known,
        allowed: Allowed,
    ) -> Result<(Graph, Option<Edge>)> {
        let mut builder = Builder { graph: Graph::default(), known, allowed, made: Vec::new() };
        let Some(result) = result else { return Ok((builder.graph, None)) };
        let last = self.places.get(&result.digest).copied().unwrap_or_default();
        for (digest, op) in self.operations.iter().take(last + 1) {
            let inputs =
                op.inputs.iter().map(|input| self.input(&builder, input)).collect::<Result<Vec<_>>>()?;
            let shown = Shown::of(self.metadata.get(digest), op);
            let outputs = builder.operation(digest, op, &inputs, &shown)?;
            builder.made.push(outputs);
        }
        let result = self.input(&builder, result)?;
        Ok((builder.graph, result))
    }

    fn input(&self, builder: &Builder<'_>, input: &pb::Input) -> Result<Option<Edge>> {
        let place = self.places.get(&input.digest);
        let made = place.and_then(|place| builder.made.get(*place));
        let output = usize::try_from(input.index).ok().and_then(|index| made?.get(index));
        output.copied().ok_or_else(|| format!("invalid input {}#{}", input.digest, input.index))
    }
}

/// How an operation is shown.
#[derive(Debug, Clone)]
struct Shown {
    name: String,
    ignore_cache: bool,
    platform: Platform,
}

impl Shown {
    fn of(metadata: Option<&pb::OpMetadata>, op: &pb::Op) -> Self {
        let named = metadata.and_then(|metadata| metadata.description.get("llb.customname"));
        Self {
            name: named.cloned().unwrap_or_else(|| usual_name(op)),
            ignore_cache: metadata.is_some_and(|metadata| metadata.ignore_cache),
            platform: platform(op.platform.as_ref()),
        }
    }
}

fn usual_name(op: &pb::Op) -> String {
    match &op.op {
        Some(pb::op::Op::Source(source)) => source.identifier.clone(),
        Some(pb::op::Op::Exec(exec)) => {
            exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default()
        }
        Some(pb::op::Op::File(file)) => files::usual_name(file),
        Some(pb::op::Op::Merge(_)) => "merge".to_owned(),
        Some(pb::op::Op::Diff(_)) => "diff".to_owned(),
        _ => "operation".to_owned(),
    }
}

/// A platform as the wire has it; none: this machine's.
pub(super) fn platform(given: Option<&pb::Platform>) -> Platform {
    match given {
        Some(given) if !given.architecture.is_empty() => Platform {
            architecture: given.architecture.clone(),
            os: given.os.clone(),
            os_version: given.os_version.clone(),
            variant: given.variant.clone(),
            ..Platform::default()
        },
        _ => Platform::host(),
    }
}

/// A graph on its way.
struct Builder<'a> {
    graph: Graph,
    known: &'a Known,
    allowed: Allowed,
    /// The outputs of all operations so far; `None`: an empty tree.
    made: Vec<Vec<Option<Edge>>>,
}

impl Builder<'_> {
    /// Adds an operation; returns its outputs.
    fn operation(
        &mut self,
        digest: &str,
        op: &pb::Op,
        inputs: &[Option<Edge>],
        shown: &Shown,
    ) -> Result<Vec<Option<Edge>>> {
        match &op.op {
            Some(pb::op::Op::Source(source)) => self.source(source, shown).map(|edge| vec![edge]),
            Some(pb::op::Op::Exec(exec)) => self.execute(exec, inputs, shown),
            Some(pb::op::Op::File(file)) => self.files(file, inputs, shown),
            Some(pb::op::Op::Merge(merge)) => {
                let picked = merge.inputs.iter().map(|input| pick(inputs, input.input));
                let edges: Vec<Edge> = picked.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
                Ok(vec![match edges.as_slice() {
                    [] => None,
                    [one] => Some(*one),
                    _ => Some(self.node(Operation::Merge, edges, shown)),
                }])
            }
            Some(pb::op::Op::Diff(diff)) => {
                let lower = pick(inputs, diff.lower.as_ref().map_or(-1, |lower| lower.input))?;
                let upper = pick(inputs, diff.upper.as_ref().map_or(-1, |upper| upper.input))?;
                Ok(vec![match (lower, upper) {
                    // Against nothing, all of it is new.
                    (None, upper) => upper,
                    (Some(lower), upper) => {
                        let upper = upper.unwrap_or_else(|| self.empty(shown));
                        Some(self.node(Operation::Difference, vec![lower, upper], shown))
                    }
                }])
            }
            Some(pb::op::Op::Build(_)) => {
                let within = self.known.within.get(digest);
                let (graph, result) = within.ok_or("a definition within was not looked up")?;
                Ok(vec![self.graft(graph, *result)])
            }
            None => Err("an operation does nothing".to_owned()),
        }
    }

    fn node(&mut self, operation: Operation, inputs: Vec<Edge>, shown: &Shown) -> Edge {
        let node = self.graph.add(Node {
            operation,
            inputs,
            name: shown.name.clone(),
            lines: None,
            platform: shown.platform.clone(),
            ignore_cache: shown.ignore_cache,
        });
        Edge { node, output: 0 }
    }

    /// A tree with nothing in it.
    fn empty(&mut self, shown: &Shown) -> Edge {
        let shown = Shown { name: "[internal] empty".to_owned(), ignore_cache: false, ..shown.clone() };
        self.node(Operation::Merge, Vec::new(), &shown)
    }

    /// Takes another graph's nodes in; returns where its result is.
    fn graft(&mut self, graph: &Graph, result: Option<Edge>) -> Option<Edge> {
        let mut places = Vec::new();
        for (_, node) in graph.nodes() {
            let mut node = node.clone();
            for edge in &mut node.inputs {
                edge.node = places[edge.node.0];
            }
            node.lines = None;
            places.push(self.graph.add(node));
        }
        result.map(|edge| Edge { node: places[edge.node.0], output: edge.output })
    }
}

/// An input by its number; -1: an empty tree.
fn pick(inputs: &[Option<Edge>], at: i64) -> Result<Option<Edge>> {
    if at == -1 {
        return Ok(None);
    }
    let found = usize::try_from(at).ok().and_then(|at| inputs.get(at));
    found.copied().ok_or_else(|| format!("invalid input index {at}"))
}

/// Reads bytes as a definition; returns how many nodes its graph has.
pub(super) fn fuzz(bytes: &[u8]) -> Result<usize> {
    let definition = pb::Definition::decode(bytes).map_err(|error| error.to_string())?;
    let parsed = Parsed::read(&definition)?;
    let found = |(reference, _): &(String, String)| Found { reference: reference.clone(), id: String::new() };
    let known = Known {
        images: parsed.images().into_iter().map(|image| (image.clone(), found(&image))).collect(),
        results: parsed.references().into_iter().map(|name| (name, (Graph::default(), None))).collect(),
        within: parsed.within()?.into_iter().map(|one| (one.digest, (Graph::default(), None))).collect(),
    };
    let (graph, _) = parsed.graph(&known, Allowed::default())?;
    Ok(graph.nodes().count())
}

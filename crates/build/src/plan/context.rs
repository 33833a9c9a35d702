//! Where trees of files come from that are not stages: the build context, and named ones in its place or beside it.

use wharf_oci::{ImageConfig, Platform};

use super::PlanError;
use super::stage::Planner;
use crate::dockerfile::Lines;
use crate::graph::{CopyFiles, Edge, FileAction, Graph, Node, NodeId, Operation, Source};

/// Where a tree of files comes from.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// A directory of the client's.
    Local {
        /// Its name (`context`).
        name: String,
        /// What is left out of it: lines of its ignore file.
        ignored: Vec<String>,
    },
    /// A git repository: its address with `#ref:subdirectory`.
    Git(String),
    /// An archive by HTTP.
    Archive(String),
    /// An image's files.
    Image(String),
    /// The result of a graph of its own.
    Graph(Box<GraphSource>),
}

/// A graph as a context.
#[derive(Debug, Clone)]
pub struct GraphSource {
    /// The operations.
    pub graph: Graph,
    /// Its result; `None`: an empty tree.
    pub result: Option<Edge>,
    /// As a base it has this config.
    pub config: Option<ImageConfig>,
}

/// The name of an archive's file while it is unpacked.
const ARCHIVE: &str = "context";

impl Planner<'_> {
    /// The named context that stands for `name`, if any: one for the platform that is built for counts before one for all.
    /// Names of images count however they are written.
    pub(super) fn named(&self, name: &str) -> Option<&ContextSource> {
        let platform = self.options.platform.to_string();
        self.named_for(name, Some(&platform)).or_else(|| self.named_for(name, None))
    }

    fn named_for(&self, name: &str, platform: Option<&str>) -> Option<&ContextSource> {
        let contexts = &self.options.contexts;
        let key = |name: &str| platform.map_or(name.to_owned(), |platform| format!("{name}::{platform}"));
        let whole = |text: &str| {
            wharf_oci::Reference::parse(text).ok().map(|reference| reference.with_default_tag().to_string())
        };
        contexts.get(&key(name)).or_else(|| contexts.get(&key(&name.to_lowercase()))).or_else(|| {
            let wanted = whole(name)?;
            let same = |(given, _): &(&String, _)| {
                let (given, of) =
                    given.split_once("::").map_or((given.as_str(), None), |(name, of)| (name, Some(of)));
                of == platform && whole(given).as_ref() == Some(&wanted)
            };
            contexts.iter().find(same).map(|(_, source)| source)
        })
    }

    /// The tree of a context, and its config where it is an image.
    pub(super) fn source_tree(
        &mut self,
        source: &ContextSource,
        platform: &Platform,
        paths: &[String],
        lines: Option<Lines>,
    ) -> Result<(Option<Edge>, Option<ImageConfig>), PlanError> {
        let at = lines.unwrap_or(Lines::one(1));
        Ok(match source {
            ContextSource::Local { name, ignored } => (Some(self.local(name, ignored, paths)), None),
            ContextSource::Git(_) | ContextSource::Archive(_) => {
                (fetched(&mut self.graph, source, &self.options.platform), None)
            }
            ContextSource::Image(name) => {
                let name = name.strip_prefix("docker-image://").unwrap_or(name).to_owned();
                let (edge, config) = self.image_of(&name, platform, at)?;
                (edge, Some(config))
            }
            ContextSource::Graph(source) => (self.graft(source), source.config.clone()),
        })
    }

    /// A directory of the client's, of which `paths` are needed from now on; an empty list needs everything.
    fn local(&mut self, name: &str, ignored: &[String], paths: &[String]) -> Edge {
        let known = self.locals.get(name).copied();
        let node = known.unwrap_or_else(|| {
            let operation = Operation::Source(Source::Local {
                name: name.to_owned(),
                include: Vec::new(),
                exclude: ignored.to_vec(),
                follow: Vec::new(),
            });
            let shown = match name {
                "context" => "[internal] load build context".to_owned(),
                other => format!("[context {other}] load from client"),
            };
            let node = self.alone(operation, shown);
            self.locals.insert(name.to_owned(), node);
            node
        });
        if let Operation::Source(Source::Local { follow, .. }) = &mut self.graph.node_mut(node).operation {
            let paths = paths.iter().map(|path| path.trim_start_matches('/'));
            let paths: Vec<&str> = paths.map(|path| if path.is_empty() { "." } else { path }).collect();
            for path in if paths.is_empty() { vec!["."] } else { paths } {
                if !follow.iter().any(|known| known == path) {
                    follow.push(path.to_owned());
                }
            }
        }
        Edge { node, output: 0 }
    }

    /// Another graph's nodes, taken into this one.
    fn graft(&mut self, source: &GraphSource) -> Option<Edge> {
        let result = source.result?;
        let mut places: Vec<NodeId> = Vec::new();
        let move_edge =
            |edge: &Edge, places: &[NodeId]| Edge { node: places[edge.node.0], output: edge.output };
        for (_, node) in source.graph.nodes() {
            let mut node = node.clone();
            node.inputs = node.inputs.iter().map(|edge| move_edge(edge, &places)).collect();
            node.lines = None;
            places.push(once(&mut self.graph, node));
        }
        Some(move_edge(&result, &places))
    }

    /// A node without inputs that stands in no line.
    fn alone(&mut self, operation: Operation, name: String) -> NodeId {
        self.graph.add(alone(operation, name, &self.options.platform))
    }
}

/// The graph of a context that comes from elsewhere, by itself; no result for one that is the client's or an image.
#[must_use]
pub fn context_graph(source: &ContextSource, platform: &Platform) -> (Graph, Option<Edge>) {
    match source {
        ContextSource::Graph(source) => (source.graph.clone(), source.result),
        source => {
            let mut graph = Graph::default();
            let result = fetched(&mut graph, source, platform);
            (graph, result)
        }
    }
}

/// A repository's or an archive's tree.
fn fetched(graph: &mut Graph, source: &ContextSource, platform: &Platform) -> Option<Edge> {
    let node = match source {
        ContextSource::Git(address) => {
            let source = Source::Git { address: address.clone(), keep_git_dir: false };
            let name = format!("[internal] load git source {address}");
            once(graph, alone(Operation::Source(source), name, platform))
        }
        ContextSource::Archive(url) => {
            let file_name = ARCHIVE.to_owned();
            let source = Source::Http { url: url.clone(), checksum: None, file_name };
            let name = format!("[internal] load remote build context {url}");
            let file = once(graph, alone(Operation::Source(source), name, platform));
            let empty = once(graph, alone(Operation::Merge, "[internal] empty".to_owned(), platform));
            let name = "[internal] unpack build context".to_owned();
            let inputs = [empty, file].map(|node| Edge { node, output: 0 }).to_vec();
            once(graph, Node { inputs, ..alone(unpacking(), name, platform) })
        }
        _ => return None,
    };
    Some(Edge { node, output: 0 })
}

fn unpacking() -> Operation {
    Operation::Files(vec![FileAction::Copy(Box::new(CopyFiles {
        input: 1,
        source: format!("/{ARCHIVE}"),
        destination: "/".to_owned(),
        owner: None,
        mode: None,
        unpack: true,
        parents: false,
        allow_empty: false,
        keep_name: false,
        replace: false,
        include: Vec::new(),
        required: Vec::new(),
        exclude: Vec::new(),
    }))])
}

/// A node without inputs that stands in no line.
fn alone(operation: Operation, name: String, platform: &Platform) -> Node {
    let (inputs, lines, platform) = (Vec::new(), None, platform.clone());
    Node { operation, inputs, name, lines, platform, ignore_cache: false }
}

/// Adds a node, unless there is one like it.
fn once(graph: &mut Graph, node: Node) -> NodeId {
    let known = graph.nodes().find(|(_, other)| **other == node).map(|found| found.0);
    known.unwrap_or_else(|| graph.add(node))
}

//! Results of builds as definitions, so that a client can pass them on to another build.
//!
//! A client takes a result's definition apart and sends it back as an input; it need not know what is in it. So it is one
//! source, which names the result.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use prost::Message;
use tonic::Status;
use wharf_build::graph::{Edge, Graph, Operation, Source};
use wharf_oci::Digest;

use super::{Found, Known, Parsed};
use crate::buildkit::session::OF_SESSION;
use crate::buildkit::solve::{Made, Outcome, Solving};
use crate::buildkit::{BuildKit, error};

/// What the address of a result begins with.
const SCHEME: &str = "wharf-result://";

/// The name of the result that an address is of.
pub(super) fn name(identifier: &str) -> Option<&str> {
    identifier.strip_prefix(SCHEME)
}

/// The definition of a result.
pub(in crate::buildkit) fn definition_of(outcome: &Outcome) -> pb::Definition {
    let source = pb::Op {
        op: Some(pb::op::Op::Source(pb::SourceOp {
            identifier: format!("{SCHEME}{}", outcome.id),
            ..pb::SourceOp::default()
        })),
        ..pb::Op::default()
    };
    let source = source.encode_to_vec();
    let digest = Digest::of(&source).to_string();
    let end = pb::Op { inputs: vec![pb::Input { digest: digest.clone(), index: 0 }], ..pb::Op::default() };
    let end = end.encode_to_vec();
    let metadata = [digest, Digest::of(&end).to_string()].map(|digest| (digest, pb::OpMetadata::default()));
    pb::Definition { def: vec![source, end], metadata: metadata.into(), source: None }
}

/// How deep definitions may be within one another.
const DEEPEST: usize = 8;
/// The largest definition in a file, in bytes.
const LARGEST: u64 = 32 << 20;

/// A graph, and what comes of it.
type Read = (Graph, Option<Edge>);

/// The graph of a definition; the images in it are looked up, the definitions in it are read.
pub(in crate::buildkit) async fn graph(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    definition: &pb::Definition,
) -> Result<Read, Status> {
    within(state, solving, definition, 0).await
}

fn within<'a>(
    state: &'a Arc<BuildKit>,
    solving: &'a Arc<Solving>,
    definition: &'a pb::Definition,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<Read, Status>> + Send + 'a>> {
    Box::pin(async move {
        if depth > DEEPEST {
            return Err(Status::unknown(format!("more than {DEEPEST} definitions are within one another")));
        }
        let parsed = Parsed::read(definition).map_err(Status::unknown)?;
        let mut known = Known::default();
        for name in parsed.references() {
            let outcome = state.solves.result(&name)?;
            known.results.insert(name, graph_of(&outcome, solving));
            solving.use_of(outcome);
        }
        for (reference, platform) in parsed.images() {
            let wanted =
                platform.parse().map_err(|_| Status::unknown(format!("invalid platform {platform}")))?;
            let found = solving.build.resolve(reference.clone(), wanted, false).await;
            let found = found.map_err(|failure| error::status(&failure))?;
            let found = Found { reference: found.reference, id: found.id.to_string() };
            known.images.insert((reference, platform), found);
        }
        for one in parsed.within().map_err(Status::unknown)? {
            let (graph, result) =
                parsed.graph_of(Some(&one.input), &known, solving.entitlements()).map_err(Status::unknown)?;
            let inner = file_of(solving, graph, result, one.file).await?;
            let made = within(state, solving, &inner, depth + 1).await?;
            known.within.insert(one.digest, made);
        }
        parsed.graph(&known, solving.entitlements()).map_err(Status::unknown)
    })
}

/// The definition in a file of what a graph makes.
async fn file_of(
    solving: &Arc<Solving>,
    graph: Graph,
    result: Option<Edge>,
    file: String,
) -> Result<pb::Definition, Status> {
    let made = solving.build.graph(graph, result, String::new(), solving.entitlements()).await;
    let tree = made.map_err(|failure| error::status(&failure))?;
    let tree = tree.ok_or_else(|| Status::unknown(format!("open {file}: no such file or directory")))?;
    let build = solving.build.clone();
    let read = tokio::task::spawn_blocking(move || {
        let root = build.open(&tree).map_err(|failure| error::status(&failure))?;
        let bytes = root.read(&file, LARGEST).map_err(|error| Status::unknown(error.to_string()))?;
        pb::Definition::decode(bytes.as_slice())
            .map_err(|error| Status::unknown(format!("failed to parse llb definition {file}: {error}")))
    });
    read.await.map_err(|error| Status::internal(error.to_string()))?
}

/// The graph that a result came of. Where it names directories of its own client's session, they are that session's still.
fn graph_of(outcome: &Outcome, solving: &Solving) -> (Graph, Option<Edge>) {
    let (graph, result) = match &outcome.made {
        Made::Image(solved) => (&solved.plan.graph, solved.plan.result),
        Made::Files { graph, result, .. } => (graph, *result),
    };
    if Arc::ptr_eq(&outcome.build, &solving.build) {
        return (graph.clone(), result);
    }
    let mut renamed = Graph::default();
    for (_, node) in graph.nodes() {
        let mut node = node.clone();
        if let Operation::Source(Source::Local { name, .. }) = &mut node.operation
            && !name.contains(OF_SESSION)
            && let Some(session) = outcome.session_of(name)
        {
            *name = format!("{name}{OF_SESSION}{session}");
        }
        renamed.add(node);
    }
    (renamed, result)
}

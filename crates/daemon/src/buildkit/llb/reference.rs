//! Results of builds as definitions, so that a client can pass them on to another build.
//!
//! A client takes a result's definition apart and sends it back as an input; it need not know what is in it. So it is one
//! source, which names the result.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use prost::Message;
use tonic::Status;
use wharf_build::graph::{Edge, Graph, Operation, Source};
use wharf_oci::Digest;

use super::{Found, Images, Parsed};
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

/// The graph of a definition; the images in it are looked up.
pub(in crate::buildkit) async fn graph(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    definition: &pb::Definition,
) -> Result<(Graph, Option<Edge>), Status> {
    let parsed = Parsed::read(definition).map_err(Status::unknown)?;
    let mut results = HashMap::new();
    for name in parsed.references() {
        let outcome = state.solves.result(&name)?;
        results.insert(name, graph_of(&outcome, solving));
        solving.use_of(outcome);
    }
    let mut images = Images::new();
    for (reference, platform) in parsed.images() {
        let wanted = platform.parse().map_err(|_| Status::unknown(format!("invalid platform {platform}")))?;
        let found = solving.build.resolve(reference.clone(), wanted, false).await;
        let found = found.map_err(|failure| error::status(&failure))?;
        images.insert((reference, platform), Found { reference: found.reference, id: found.id.to_string() });
    }
    parsed.graph(&images, &results, solving.entitlements()).map_err(Status::unknown)
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

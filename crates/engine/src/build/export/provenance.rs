//! How an image came about, in the words of SLSA. What a secret holds is never known here: a build's graph has only its id.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wharf_build::graph::{Graph, MountType, Operation};
use wharf_build::plan::Plan;
use wharf_oci::Platform;

use super::Product;
use super::attest::{Provenance, Statement};
use super::options::Attributes;
use crate::build::{Build, Material};

/// Where the members of BuildKit's own that are in the documents are described.
const OWN: &str = "https://mobyproject.org/buildkit@v1";

/// What frontends are asked that says something of this machine, not of the result.
const OF_THE_HOST: [&str; 4] = ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];

/// When a build was under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

impl Build {
    /// How a product came about, with all that is known, for who asks after the build: what kind of document it is, and
    /// the document.
    #[must_use]
    pub fn account(&self, product: &Product, frontend: &Attributes) -> (String, Vec<u8>) {
        let times = Times { started: self.started, finished: Timestamp::now() };
        let Statement { predicate_type, predicate } =
            statement(product, &Provenance::whole(), frontend, Some((&self.id, times)));
        (predicate_type, format!("{predicate:#}").into_bytes())
    }
}

/// The provenance of one product. With `times` it names the build, without it is the same for every build of the same.
pub(super) fn statement(
    product: &Product,
    wanted: &Provenance,
    frontend: &Attributes,
    build: Option<(&str, Times)>,
) -> Statement {
    let mut args = arguments(frontend);
    let source = config_source(&mut args, &product.materials);
    let whole = args.len();
    if !wanted.max {
        args.retain(|name, _| !name.starts_with("build-arg:") && !name.starts_with("label:"));
    }
    let plan = product.plan.as_deref();
    let locals = plan.map(|plan| locals(&plan.graph)).unwrap_or_default();
    let mut parameters = json!({ "frontend": "dockerfile.v0", "args": args, "locals": locals });
    if wanted.max
        && let Some(plan) = plan
    {
        for (name, used) in [("secrets", secrets(&plan.graph)), ("ssh", agents(&plan.graph))] {
            if !used.is_empty() {
                parameters[name] = Value::from(used);
            }
        }
    }
    let complete = json!({
        "parameters": args.len() == whole,
        "environment": true,
        "materials": locals.is_empty(),
    });
    let environment = json!({ "platform": Platform::host().to_string() });
    let mut own = Map::new();
    let vcs: Map<String, Value> = frontend
        .iter()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("vcs:")?.to_owned(), Value::from(value.as_str())))
        })
        .collect();
    if !vcs.is_empty() {
        own.insert("vcs".to_owned(), vcs.into());
    }
    let steps = plan.filter(|_| wanted.max).map(steps);
    if wanted.max
        && let Some((name, text)) = &product.file
    {
        let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text.as_bytes());
        let info = json!({ "filename": name, "language": "Dockerfile", "data": data });
        own.insert("source".to_owned(), json!({ "infos": [info] }));
    }
    let materials: Vec<Value> = product.materials.iter().map(material).collect();
    let parts = Parts { source, parameters, environment, complete, own, steps, materials, build };
    if wanted.slsa1 {
        Statement {
            predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
            predicate: parts.slsa1(wanted),
        }
    } else {
        Statement {
            predicate_type: "https://slsa.dev/provenance/v0.2".to_owned(),
            predicate: parts.slsa02(wanted),
        }
    }
}

/// What both forms are made of.
struct Parts<'a> {
    source: Map<String, Value>,
    parameters: Value,
    environment: Value,
    complete: Value,
    own: Map<String, Value>,
    steps: Option<Value>,
    materials: Vec<Value>,
    build: Option<(&'a str, Times)>,
}

impl Parts<'_> {
    fn slsa02(self, wanted: &Provenance) -> Value {
        let mut metadata = Map::new();
        if let Some((id, times)) = self.build {
            metadata.insert("buildInvocationID".to_owned(), id.into());
            metadata.insert("buildStartedOn".to_owned(), times.started.to_string().into());
            metadata.insert("buildFinishedOn".to_owned(), times.finished.to_string().into());
        }
        metadata.insert("completeness".to_owned(), self.complete);
        metadata.insert("reproducible".to_owned(), wanted.reproducible.into());
        if !self.own.is_empty() {
            metadata.insert(format!("{OWN}#metadata"), self.own.into());
        }
        let mut predicate = json!({
            "builder": { "id": wanted.builder },
            "buildType": OWN,
            "materials": self.materials,
            "invocation": {
                "configSource": self.source,
                "parameters": self.parameters,
                "environment": self.environment,
            },
            "metadata": metadata,
        });
        if let Some(steps) = self.steps {
            predicate["buildConfig"] = steps;
        }
        predicate
    }

    fn slsa1(mut self, wanted: &Provenance) -> Value {
        let mut metadata = Map::new();
        if let Some((id, times)) = self.build {
            metadata.insert("invocationID".to_owned(), id.into());
            metadata.insert("startedOn".to_owned(), times.started.to_string().into());
            metadata.insert("finishedOn".to_owned(), times.finished.to_string().into());
        }
        metadata.insert(format!("{OWN}#completeness"), self.complete);
        metadata.insert(format!("{OWN}#reproducible"), wanted.reproducible.into());
        if !self.own.is_empty() {
            metadata.insert(format!("{OWN}#metadata"), self.own.into());
        }
        if let Some(path) = self.source.remove("entryPoint") {
            self.source.insert("path".to_owned(), path);
        }
        let mut external = json!({ "configSource": self.source, "parameters": self.parameters });
        if let Some(steps) = self.steps {
            external["buildConfig"] = steps;
        }
        json!({
            "buildDefinition": {
                "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
                "externalParameters": external,
                "internalParameters": { "environment": self.environment },
                "resolvedDependencies": self.materials,
            },
            "runDetails": { "builder": { "id": wanted.builder }, "metadata": metadata },
        })
    }
}

/// What the frontend was asked, without what does not change the result.
fn arguments(frontend: &Attributes) -> Attributes {
    let kept = frontend.iter().filter(|(name, _)| {
        !OF_THE_HOST.contains(&name.as_str()) && !name.starts_with("attest:") && !name.starts_with("vcs:")
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Where the Dockerfile came from; takes it out of the arguments.
fn config_source(args: &mut Attributes, materials: &[Material]) -> Map<String, Value> {
    let mut source = Map::new();
    if let Some(context) = args.remove("context").filter(|context| !context.is_empty()) {
        if let Some(known) = materials.iter().find(|material| material.uri == context) {
            source.insert("digest".to_owned(), json!({ known.algorithm.as_str(): known.digest }));
        }
        source.insert("uri".to_owned(), context.into());
    }
    if let Some(file) = args.remove("filename").filter(|file| !file.is_empty()) {
        source.insert("entryPoint".to_owned(), file.into());
    }
    source
}

fn material(material: &Material) -> Value {
    json!({ "uri": material.uri, "digest": { material.algorithm.as_str(): material.digest } })
}

/// The client's directories that were used.
fn locals(graph: &Graph) -> Vec<Value> {
    let mut names: Vec<&str> = vec!["dockerfile"];
    for (_, node) in graph.nodes() {
        if let Operation::Source(wharf_build::graph::Source::Local { name, .. }) = &node.operation {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// The ids of the secrets that steps may see, never what is in them.
fn secrets(graph: &Graph) -> Vec<Value> {
    let mounted = access(graph, |kind| match kind {
        MountType::Secret(access) => Some((access.id.as_str(), access.required)),
        _ => None,
    });
    let variables = graph.nodes().filter_map(|(_, node)| match &node.operation {
        Operation::Execute(execute) => Some(&execute.secret_environment),
        _ => None,
    });
    let variables = variables.flatten().map(|(_, id, required)| (id.as_str(), *required));
    listed(mounted.into_iter().chain(variables).collect())
}

fn agents(graph: &Graph) -> Vec<Value> {
    listed(access(graph, |kind| match kind {
        MountType::Ssh(access) => Some((access.id.as_str(), access.required)),
        _ => None,
    }))
}

fn access<'a>(
    graph: &'a Graph,
    of: impl Fn(&'a MountType) -> Option<(&'a str, bool)>,
) -> Vec<(&'a str, bool)> {
    let mounts = graph.nodes().filter_map(|(_, node)| match &node.operation {
        Operation::Execute(execute) => Some(&execute.mounts),
        _ => None,
    });
    mounts.flatten().filter_map(|mount| of(&mount.kind)).collect()
}

fn listed(mut used: Vec<(&str, bool)>) -> Vec<Value> {
    used.sort_unstable();
    used.dedup_by_key(|(id, _)| *id);
    let one = |(id, required): (&str, bool)| match required {
        true => json!({ "id": id }),
        false => json!({ "id": id, "optional": true }),
    };
    used.into_iter().map(one).collect()
}

/// The steps and what each works on.
fn steps(plan: &Plan) -> Value {
    let steps: Vec<Value> = plan
        .graph
        .nodes()
        .map(|(id, node)| {
            let inputs: Vec<String> =
                node.inputs.iter().map(|edge| format!("step{}:{}", edge.node.0, edge.output)).collect();
            let op = match &node.operation {
                Operation::Execute(execute) => {
                    json!({ "exec": { "meta": { "args": execute.arguments, "cwd": execute.directory } } })
                }
                Operation::Source(_) => json!({ "source": {} }),
                Operation::Files(_) => json!({ "file": {} }),
                Operation::Merge => json!({ "merge": {} }),
                Operation::Difference => json!({ "diff": {} }),
            };
            json!({ "id": format!("step{}", id.0), "op": { "Op": op, "name": node.name }, "inputs": inputs })
        })
        .collect();
    json!({ "llbDefinition": steps })
}

/// A predicate without what tells one build from the next.
pub(super) fn timeless(predicate: &Value) -> Value {
    const OF_ONE_BUILD: [&str; 6] =
        ["buildInvocationID", "buildStartedOn", "buildFinishedOn", "invocationID", "startedOn", "finishedOn"];
    let mut predicate = predicate.clone();
    for metadata in ["/metadata", "/runDetails/metadata"] {
        if let Some(Value::Object(metadata)) = predicate.pointer_mut(metadata) {
            metadata.retain(|name, _| !OF_ONE_BUILD.contains(&name.as_str()));
        }
    }
    predicate
}

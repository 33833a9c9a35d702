//! From a request to files and a config: the Dockerfile is read, planned, solved.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use wharf_build::dockerfile::{Directives, Dockerfile, Lines, ParseError};
use wharf_build::graph::{Edge, Graph};
use wharf_build::plan::{BaseImage, ImageRequest, Plan, PlanError, PlanOptions, plan};
use wharf_build::solve::{Cancel, Event, Solver, Tree};
use wharf_oci::Platform;
use wharf_sys::root::Root;

use super::event::{BuildEvent, VertexWarning};
use super::host::Hosted;
use super::request::{BuildRequest, Solved};
use super::source::definition::Definition;
use super::vertex::Steps;
use super::{Build, BuildFailure, Entitlements, Limits, Place};
use crate::error::{Error, ErrorKind};

/// What the processes of a build may take and reach.
#[derive(Debug, Clone, Default)]
pub(super) struct RunOptions {
    pub(super) network: String,
    pub(super) limits: Limits,
    pub(super) entitlements: Entitlements,
}

impl From<&BuildRequest> for RunOptions {
    fn from(request: &BuildRequest) -> Self {
        Self {
            network: request.network.clone(),
            limits: request.limits.clone(),
            entitlements: request.entitlements,
        }
    }
}

/// A Dockerfile that was planned for one platform.
#[derive(Debug, Clone)]
pub struct Planned {
    /// For what machine.
    pub platform: Platform,
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// Its name and its text.
    pub file: (String, Arc<str>),
    /// What is to be done.
    pub plan: Plan,
}

impl Build {
    /// Builds a Dockerfile: one result for each platform.
    ///
    /// # Errors
    /// The first failure, with its place.
    pub async fn dockerfile(self: &Arc<Self>, request: BuildRequest) -> Result<Vec<Solved>, BuildFailure> {
        self.sleeping(move |build| {
            let options = RunOptions::from(&request);
            let planned = build.planned(&request)?;
            planned.into_iter().map(|planned| build.solved(planned, &options)).collect()
        })
        .await
    }

    /// Reads and plans a Dockerfile, and does nothing of it: what `--check` and outlines ask for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn plan(self: &Arc<Self>, request: BuildRequest) -> Result<Vec<Planned>, BuildFailure> {
        self.sleeping(move |build| build.planned(&request)).await
    }

    /// Does what was planned.
    ///
    /// # Errors
    /// The first failure, with its place.
    pub async fn solve(
        self: &Arc<Self>,
        planned: Planned,
        request: &BuildRequest,
    ) -> Result<Solved, BuildFailure> {
        let options = RunOptions::from(request);
        self.sleeping(move |build| build.solved(planned, &options)).await
    }

    /// Makes one result of a graph; `None`: an empty tree.
    ///
    /// # Errors
    /// The first failure.
    pub async fn graph(
        self: &Arc<Self>,
        graph: Graph,
        result: Option<Edge>,
        network: String,
        entitlements: Entitlements,
    ) -> Result<Option<Tree>, BuildFailure> {
        let options = RunOptions { network, entitlements, ..RunOptions::default() };
        self.sleeping(move |build| {
            let Some(result) = result else { return Ok(None) };
            let made = build.run_graph(&graph, result, &options, None).map(Some);
            build.builds.reclaim();
            made
        })
        .await
    }

    /// A result's files, to be read. Sleeps.
    ///
    /// # Errors
    /// When its layers are gone.
    pub fn open(&self, tree: &Tree) -> Result<Root, BuildFailure> {
        let opened = match tree {
            Tree::Directory(path) => Root::open(path).map_err(|error| Error::internal(error.to_string())),
            Tree::Chain(chain) => {
                self.builds.store.chain_view(chain).map_err(Error::from).and_then(|recipe| {
                    let mount = recipe.mount().map_err(|error| Error::internal(error.to_string()))?;
                    Ok(Root::from_fd(mount.into_fd()))
                })
            }
        };
        opened.map_err(BuildFailure::from)
    }

    /// Runs work that sleeps.
    pub(super) async fn sleeping<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, BuildFailure> + Send + 'static,
    ) -> Result<T, BuildFailure> {
        let build = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&build)).await;
        let done = done.unwrap_or_else(|error| {
            Err(BuildFailure::new(ErrorKind::Internal, format!("build worker: {error}")))
        });
        done.map_err(|failure| if self.cancel.is_set() { BuildFailure::canceled() } else { failure })
    }

    fn planned(self: &Arc<Self>, request: &BuildRequest) -> Result<Vec<Planned>, BuildFailure> {
        let definition = self.definition(request)?;
        let file = (definition.name.clone(), definition.text.clone());
        own_language(&file)?;
        let dockerfile = Dockerfile::parse(&definition.text).map_err(|error| misread(&error, &file))?;
        let platforms =
            if request.platforms.is_empty() { vec![Platform::host()] } else { request.platforms.clone() };
        let mut all = Vec::new();
        for platform in platforms {
            let plan = self.plan_for(request, &definition, &dockerfile, &platform)?;
            for warning in plan.warnings.iter().filter(|_| all.is_empty()) {
                (self.tell)(BuildEvent::Warning(VertexWarning {
                    vertex: definition.step,
                    warning: warning.clone(),
                    lines: warning.lines,
                    file: file.0.clone(),
                    text: file.1.clone(),
                }));
            }
            all.push(Planned { platform, dockerfile: dockerfile.clone(), file: file.clone(), plan });
        }
        Ok(all)
    }

    /// Plans, looking up base images until all are known.
    fn plan_for(
        self: &Arc<Self>,
        request: &BuildRequest,
        definition: &Definition,
        dockerfile: &Dockerfile,
        platform: &Platform,
    ) -> Result<Plan, BuildFailure> {
        let options = PlanOptions {
            target: request.target.clone(),
            arguments: request.arguments.clone(),
            labels: request.labels.clone(),
            platform: platform.clone(),
            build_platform: Platform::host(),
            no_cache: request.no_cache.clone(),
            hosts: request.hosts.clone(),
            hostname: request.hostname.clone(),
            context: definition.context.clone(),
            contexts: definition.contexts.clone(),
        };
        let file = (definition.name.clone(), definition.text.clone());
        let mut images: BTreeMap<ImageRequest, BaseImage> = BTreeMap::new();
        loop {
            match plan(dockerfile, &options, &images) {
                Ok(plan) => return Ok(plan),
                Err(PlanError::Missing(missing)) => {
                    for wanted in missing {
                        let platform = Platform {
                            architecture: wanted.architecture.clone(),
                            variant: wanted.variant.clone(),
                            os: "linux".to_owned(),
                            ..Platform::default()
                        };
                        let found = self.base_image(&wanted.reference, &platform, request.pull);
                        let found = found.map_err(|failure| at_base(failure, dockerfile, &wanted, &file))?;
                        images.insert(wanted, found);
                    }
                }
                Err(PlanError::Dockerfile(error)) => return Err(misread(&error, &file)),
                Err(error @ PlanError::NoTarget(_)) => {
                    return Err(BuildFailure::new(ErrorKind::Invalid, error.to_string()));
                }
            }
        }
    }

    fn solved(self: &Arc<Self>, planned: Planned, options: &RunOptions) -> Result<Solved, BuildFailure> {
        let Planned { platform, file, plan, .. } = planned;
        let tree = match plan.result {
            None => None,
            Some(result) => Some(self.run_graph(&plan.graph, result, options, Some(&file))?),
        };
        self.builds.reclaim();
        let materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner);
        let materials = materials.iter().cloned().collect();
        Ok(Solved { platform, tree, config: plan.config.clone(), plan, file, materials })
    }

    /// Solves a graph.
    pub(super) fn run_graph(
        self: &Arc<Self>,
        graph: &Graph,
        result: Edge,
        options: &RunOptions,
        file: Option<&(String, Arc<str>)>,
    ) -> Result<Tree, BuildFailure> {
        let steps = Steps::announce(self, graph, result);
        let host = Hosted { build: self, options, steps: &steps };
        let watch = |event: Event| steps.hear(&event);
        let cancel = Cancel::below(&self.cancel);
        let solver = Solver::new(graph, &self.builds.store, &host, &self.hold, &cancel, &watch);
        let made = solver.solve(result);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(solver.keys_of(result));
        made.map_err(|failure| BuildFailure {
            vertex: Some(steps.of(failure.node).digest()),
            place: failure.lines.zip(file).map(|(lines, file)| place(file, lines)),
            code: failure.code,
            ..BuildFailure::new(ErrorKind::Internal, failure.message)
        })
    }
}

fn place((file, text): &(String, Arc<str>), lines: Lines) -> Place {
    Place { file: file.clone(), text: text.clone(), lines }
}

/// Refuses what an image of its own is to read: who can run such an image is told which.
fn own_language(file: &(String, Arc<str>)) -> Result<(), BuildFailure> {
    let directives = Directives::read(&file.1).map_err(|error| misread(&error, file))?;
    match directives.syntax {
        Some((ref image, lines)) if !directives.is_built_in() => Err(BuildFailure {
            place: Some(place(file, lines)),
            foreign: true,
            ..BuildFailure::new(
                ErrorKind::NotImplemented,
                format!("the frontend {image} cannot be run for this API: builds of BuildKit's can"),
            )
        }),
        _ => Ok(()),
    }
}

fn misread(error: &ParseError, file: &(String, Arc<str>)) -> BuildFailure {
    BuildFailure {
        place: error.lines.map(|lines| place(file, lines)),
        ..BuildFailure::new(ErrorKind::Invalid, error.message.clone())
    }
}

/// An image that cannot be had, at the first `FROM` that asks for it.
fn at_base(
    failure: BuildFailure,
    dockerfile: &Dockerfile,
    wanted: &ImageRequest,
    file: &(String, Arc<str>),
) -> BuildFailure {
    let names = |base: &str| {
        wharf_oci::Reference::parse(base)
            .is_ok_and(|reference| reference.with_default_tag().to_string() == wanted.reference)
    };
    let stage = dockerfile.stages.iter().find(|stage| names(&stage.base));
    BuildFailure { place: stage.map(|stage| place(file, stage.lines)), ..failure }
}

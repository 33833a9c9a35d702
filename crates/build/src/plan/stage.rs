//! Stages: which are needed, what each starts from, and what is known while its instructions are gone through.

use std::collections::{BTreeMap, BTreeSet};

use wharf_oci::{ImageConfig, Platform, Reference};

use super::arguments::{full_name, platform_arguments};
use super::{BaseImage, ImageRequest, Plan, PlanError, PlanOptions};
use crate::dockerfile::{
    Argument, CheckOptions, Dockerfile, Instruction, Lines, Located, MountKind, Rule, Stage, Warning, nearest,
};
use crate::graph::{Edge, Graph, Node, NodeId, Operation, Source};
use crate::words::{Expanded, Lexer};

/// What a process finds programs by where the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What planning has come to.
pub(super) struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    images: &'a BTreeMap<ImageRequest, BaseImage>,
    missing: BTreeSet<ImageRequest>,
    pub(super) graph: Graph,
    /// The arguments above the first `FROM`, and those of the platforms.
    pub(super) globals: BTreeMap<String, String>,
    pub(super) stages: Vec<Option<StageState>>,
    /// How many triggers of its base each stage has, if any.
    triggers: BTreeMap<usize, usize>,
    /// Images copied or mounted from, by reference.
    sources: BTreeMap<String, NodeId>,
    /// The nodes of the client's directories, once something is taken from them.
    pub(super) locals: BTreeMap<String, NodeId>,
    pub(super) warnings: Vec<Warning>,
}

/// What is known at a point of a stage.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The tree so far; `None`: empty.
    pub(super) tree: Option<Edge>,
    /// The image's config so far.
    pub(super) image: ImageConfig,
    /// The variables that words see: the image's, and the arguments.
    pub(super) variables: BTreeMap<String, String>,
    /// The arguments that are declared, in order, with their values.
    pub(super) arguments: Vec<(String, Option<String>)>,
    /// For what machine.
    pub(super) platform: Platform,
    /// How its steps are called: `base 2/5`, and how many there are.
    pub(super) label: String,
    pub(super) total: usize,
    pub(super) step: usize,
    /// Whether its steps run whatever the cache holds.
    pub(super) ignore_cache: bool,
    /// Whether a `CMD` was given here, and so survives an `ENTRYPOINT`.
    pub(super) command_given: bool,
    /// Whether a `WORKDIR` said where one is.
    pub(super) directory_given: bool,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a PlanOptions,
        images: &'a BTreeMap<ImageRequest, BaseImage>,
    ) -> Result<Self, PlanError> {
        let mut planner = Self {
            dockerfile,
            options,
            images,
            missing: BTreeSet::new(),
            graph: Graph::default(),
            globals: platform_arguments(options),
            stages: vec![None; dockerfile.stages.len()],
            triggers: BTreeMap::new(),
            sources: BTreeMap::new(),
            locals: BTreeMap::new(),
            warnings: dockerfile.warnings.clone(),
        };
        for located in &dockerfile.arguments {
            for argument in &located.item {
                let value = planner.global(argument, located.lines)?;
                planner.globals.extend(value.map(|value| (argument.name.clone(), value)));
            }
        }
        Ok(planner)
    }

    fn global(&mut self, argument: &Argument, lines: Lines) -> Result<Option<String>, PlanError> {
        if let Some(given) = self.options.arguments.get(&argument.name) {
            return Ok(Some(given.clone()));
        }
        let Some(default) = &argument.default else { return Ok(self.globals.get(&argument.name).cloned()) };
        self.in_globals(default, lines).map(|expanded| Some(expanded.word))
    }

    fn in_globals(&self, word: &str, lines: Lines) -> Result<Expanded, PlanError> {
        let lookup = |name: &str| self.globals.get(name).cloned();
        let expanded = Lexer::new(self.dockerfile.directives.escape).expand(word, &lookup);
        expanded.map_err(|error| PlanError::at(lines, error.to_string()))
    }

    /// Plans the target and all it stands on; asks for every image that is missing at once.
    pub(super) fn all(&mut self, target: usize) -> Result<(), PlanError> {
        self.stage(target, &mut Vec::new())?;
        if self.missing.is_empty() {
            Ok(())
        } else {
            Err(PlanError::Missing(std::mem::take(&mut self.missing)))
        }
    }

    /// Plans one stage, those it needs first. `above` are the stages that wait for it.
    pub(super) fn stage(&mut self, at: usize, above: &mut Vec<usize>) -> Result<(), PlanError> {
        if self.stages[at].is_some() {
            return Ok(());
        }
        let stage = &self.dockerfile.stages[at];
        if above.contains(&at) {
            let name = stage.name.clone().unwrap_or_else(|| at.to_string());
            return Err(PlanError::at(stage.lines, format!("circular dependency detected on stage: {name}")));
        }
        above.push(at);
        let mut state = self.begin(at, above)?;
        let triggers = triggers(&mut state, self.dockerfile.directives.escape, stage.lines)?;
        self.triggers.extend((!triggers.is_empty()).then_some((at, triggers.len())));
        let instructions: Vec<&Located<Instruction>> = triggers.iter().chain(&stage.instructions).collect();
        for needed in self.needs(at, &instructions) {
            self.stage(needed, above)?;
        }
        above.pop();
        state.total = state.step + instructions.iter().filter(|located| makes_layer(&located.item)).count();
        self.rename_base(&state, stage);
        for located in instructions {
            self.dispatch(&mut state, located)?;
        }
        self.stages[at] = Some(state);
        Ok(())
    }

    /// The stages that instructions take files from.
    fn needs(&self, at: usize, instructions: &[&Located<Instruction>]) -> Vec<usize> {
        let earlier = |name: &str| {
            self.dockerfile.stage(name).filter(|found| *found < at && self.named(name).is_none())
        };
        let mut needs = Vec::new();
        for located in instructions {
            match &located.item {
                Instruction::Copy(copy) => needs.extend(copy.from.as_deref().and_then(earlier)),
                Instruction::Run(run) => {
                    let mounts = run
                        .mounts
                        .iter()
                        .filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Cache));
                    needs.extend(mounts.filter_map(|mount| mount.from.as_deref()).filter_map(earlier));
                }
                _ => {}
            }
        }
        needs
    }

    /// A stage's state behind its `FROM`.
    pub(super) fn begin(&mut self, at: usize, above: &mut Vec<usize>) -> Result<StageState, PlanError> {
        let stage = &self.dockerfile.stages[at];
        let base = self.base_name(stage)?;
        let platform = self.platform(stage)?;
        let label = match (&stage.name, self.dockerfile.stages.len()) {
            (Some(name), _) => format!("{name} "),
            (None, 1) => String::new(),
            (None, _) => format!("stage-{at} "),
        };
        let ignore_cache = self.options.no_cache.as_ref().is_some_and(|stages| {
            stages.is_empty()
                || stage.name.as_ref().is_some_and(|name| stages.contains(name))
                || stages.contains(&at.to_string())
        });
        let earlier = self.dockerfile.stages[..at]
            .iter()
            .rposition(|other| other.name.as_deref() == Some(base.to_lowercase().as_str()))
            .filter(|_| self.named(&base).is_none());
        if let Some(earlier) = earlier {
            self.stage(earlier, above)?;
            let below = self.stages[earlier].clone();
            // Just planned.
            let Some(below) = below else { return Err(PlanError::at(stage.lines, "stage was not planned")) };
            let mut state = StageState { label, step: 0, ignore_cache, command_given: false, ..below };
            // The arguments are inherited, but do not hide the image's variables any longer.
            state.variables.extend(pairs(&state.image.config.env));
            return Ok(state);
        }
        let (tree, image, directory_given) = if base == "scratch" {
            (None, empty_image(&platform), false)
        } else {
            let (edge, image) = self.image(&base, &platform, stage.lines)?;
            let directory_given = !image.config.working_dir.is_empty();
            (edge, image, directory_given)
        };
        Ok(StageState {
            step: usize::from(base != "scratch"),
            tree,
            variables: pairs(&image.config.env).collect(),
            image,
            arguments: Vec::new(),
            platform,
            label,
            total: 0,
            ignore_cache,
            command_given: false,
            directory_given,
        })
    }

    fn base_name(&mut self, stage: &Stage) -> Result<String, PlanError> {
        let expanded = self.in_globals(&stage.base, stage.lines)?;
        for name in &expanded.unset {
            let message = format!("FROM argument '{name}' is not declared");
            let near = nearest(name, self.globals.keys().map(String::as_str));
            let message = near.map_or(message.clone(), |near| format!("{message} (did you mean {near}?)"));
            self.warnings.push(Warning::new(Rule::UNDEFINED_ARG_IN_FROM, stage.lines, message));
        }
        if expanded.word.is_empty() {
            return Err(PlanError::at(
                stage.lines,
                format!("base name ({}) should not be blank", stage.base),
            ));
        }
        Ok(expanded.word)
    }

    fn platform(&self, stage: &Stage) -> Result<Platform, PlanError> {
        let Some(asked) = &stage.platform else { return Ok(self.options.platform.clone()) };
        let word = self.in_globals(asked, stage.lines)?.word;
        if word.is_empty() {
            let why = format!("empty platform value from expression {asked}");
            return Err(PlanError::at(stage.lines, why));
        }
        word.parse().map_err(|_| PlanError::at(stage.lines, format!("failed to parse platform {word}")))
    }

    /// A base image's tree and config; while it is missing, an empty one stands in.
    fn image(
        &mut self,
        name: &str,
        platform: &Platform,
        lines: Lines,
    ) -> Result<(Option<Edge>, ImageConfig), PlanError> {
        let Some(source) = self.named(name).cloned() else { return self.image_of(name, platform, lines) };
        let (edge, config) = self.source_tree(&source, platform, &[], Some(lines))?;
        Ok((edge, config.unwrap_or_else(|| empty_image(platform))))
    }

    /// [`Self::image`], whatever named contexts say.
    pub(super) fn image_of(
        &mut self,
        name: &str,
        platform: &Platform,
        lines: Lines,
    ) -> Result<(Option<Edge>, ImageConfig), PlanError> {
        let Some(found) = self.look_up(name, platform, lines)? else {
            return Ok((None, empty_image(platform)));
        };
        let mut config = found.config.clone();
        if !config.config.env.iter().any(|line| line.starts_with("PATH=")) {
            config.config.env.insert(0, DEFAULT_PATH.to_owned());
        }
        let node = self.source(found, platform, lines);
        Ok((Some(Edge { node, output: 0 }), config))
    }

    fn look_up(
        &mut self,
        name: &str,
        platform: &Platform,
        lines: Lines,
    ) -> Result<Option<&'a BaseImage>, PlanError> {
        let reference = Reference::parse(name).map_err(|error| {
            PlanError::at(lines, format!("failed to parse stage name \"{name}\": {error}"))
        })?;
        let request = ImageRequest {
            reference: reference.with_default_tag().to_string(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        };
        let found = self.images.get(&request);
        if found.is_none() {
            self.missing.insert(request);
        }
        Ok(found)
    }

    /// The tree of an image that files are taken from.
    pub(super) fn other_image(
        &mut self,
        name: &str,
        platform: &Platform,
        paths: &[String],
        lines: Lines,
    ) -> Result<Option<Edge>, PlanError> {
        if let Some(source) = self.named(name).cloned() {
            return Ok(self.source_tree(&source, platform, paths, Some(lines))?.0);
        }
        let Some(found) = self.look_up(name, platform, lines)? else { return Ok(None) };
        let node = self.source(found, platform, lines);
        Ok(Some(Edge { node, output: 0 }))
    }

    fn source(&mut self, image: &BaseImage, platform: &Platform, lines: Lines) -> NodeId {
        let BaseImage { reference, id, .. } = image;
        let key = format!("{reference} {}", full_name(platform));
        if let Some(known) = self.sources.get(&key) {
            return *known;
        }
        let operation = Operation::Source(Source::Image { reference: reference.clone(), id: id.clone() });
        let (name, platform) = (format!("FROM {reference}"), platform.clone());
        let inputs = Vec::new();
        let node = self.graph.add(Node {
            operation,
            inputs,
            name,
            lines: Some(lines),
            platform,
            ignore_cache: false,
        });
        self.sources.insert(key, node);
        node
    }

    /// The base's node is shown as the first step of the stage that stands on it.
    fn rename_base(&mut self, state: &StageState, stage: &Stage) {
        let Some(edge) = state.tree else { return };
        let prefix = state.prefix(1);
        let node = self.graph.node_mut(edge.node);
        if node.lines == Some(stage.lines) && node.inputs.is_empty() && !node.name.starts_with('[') {
            node.name = format!("{prefix}{}", node.name);
        }
    }

    /// The result of the target stage.
    pub(super) fn finish(mut self, target: usize) -> Result<Plan, PlanError> {
        let lines = self.dockerfile.stages[target].lines;
        let planned = self.stages.iter().enumerate().filter(|(_, stage)| stage.is_some());
        let stages = planned.map(|(at, _)| at).collect();
        let Some(mut state) = self.stages[target].take() else {
            return Err(PlanError::at(lines, "stage was not planned"));
        };
        state.image.config.labels.extend(self.options.labels.clone());
        let check = self
            .dockerfile
            .directives
            .check
            .as_deref()
            .map_or(Ok(CheckOptions::default()), CheckOptions::parse);
        let check = check.map_err(|why| PlanError::at(Lines::one(1), why))?;
        self.warnings.retain(|warning| check.tells(warning.rule));
        self.warnings.sort_by_key(|warning| warning.lines);
        Ok(Plan {
            graph: self.graph,
            result: state.tree,
            config: state.image,
            warnings: self.warnings,
            stages,
            triggers: self.triggers,
        })
    }
}

impl StageState {
    /// `[base 2/5] `.
    pub(super) fn prefix(&self, step: usize) -> String {
        let width = self.total.to_string().len();
        format!("[{}{step:>width$}/{}] ", self.label, self.total)
    }

    /// The next step's prefix.
    pub(super) fn next(&mut self) -> String {
        self.step += 1;
        self.prefix(self.step)
    }
}

/// `NAME=value` lines, as pairs.
pub(super) fn pairs(environment: &[String]) -> impl Iterator<Item = (String, String)> {
    environment
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// An image of nothing.
fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig {
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        ..ImageConfig::default()
    };
    image.config.env = vec![DEFAULT_PATH.to_owned()];
    image.config.working_dir = "/".to_owned();
    image
}

/// The base's triggers, as instructions; they are used up.
fn triggers(
    state: &mut StageState,
    escape: char,
    lines: Lines,
) -> Result<Vec<Located<Instruction>>, PlanError> {
    let texts = std::mem::take(&mut state.image.config.on_build);
    let parse = |text: String| {
        let item = Dockerfile::parse_trigger(&text, escape);
        let item = item.map_err(|error| PlanError::at(lines, error.message))?;
        Ok(Located { item, lines, text, comments: Vec::new() })
    };
    texts.into_iter().map(parse).collect()
}

/// Whether an instruction counts as a step: it makes a layer.
fn makes_layer(item: &Instruction) -> bool {
    matches!(item, Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_))
}

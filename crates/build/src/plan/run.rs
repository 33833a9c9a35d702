//! `RUN`.

use super::PlanError;
use super::arguments::proxies;
use super::metadata::{absolute, with_shell};
use super::stage::{Planner, StageState};
use crate::dockerfile::{Command, Heredoc, Instruction, Lines, Located, MountKind, MountSpec, Run};
use crate::graph::{Access, Edge, Execute, FileAction, Mount, MountType, Node, Operation};
use crate::words::Lexer;

/// Where a script that stands in the Dockerfile appears.
const SCRIPTS: &str = "/dev/pipes";

impl Planner<'_> {
    /// Adds the node of a `RUN`.
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        run: &Run,
        located: &Located<Instruction>,
    ) -> Result<(), PlanError> {
        let lines = located.lines;
        let (command, script) = command(run);
        let arguments = with_shell(&command, &state.image.config);
        let root = state.tree.unwrap_or_else(|| self.empty());
        let mut inputs = vec![root];
        let mut mounts = vec![bind(0, "/", false, Some(0))];
        if let Some(script) = script {
            let tree = self.script(state, script, lines);
            inputs.push(tree);
            mounts.push(bind(inputs.len() - 1, SCRIPTS, true, None));
        }
        let mut secret_environment = Vec::new();
        for spec in &run.mounts {
            if let (MountKind::Secret, Some(variable)) = (spec.kind, &spec.env) {
                let id = spec.id.clone().or_else(|| spec.source.clone()).unwrap_or_default();
                secret_environment.push((variable.clone(), id, spec.required));
                if spec.target.is_empty() {
                    continue;
                }
            }
            let mount = self.mount(state, spec, &mut inputs, lines)?;
            mounts.push(mount);
        }
        let mut environment = environment(state);
        if let Some(agent) = mounts.iter().find(|mount| matches!(mount.kind, MountType::Ssh(_))) {
            environment.push(format!("SSH_AUTH_SOCK={}", agent.destination));
        }
        let shown = self.shown(state, located, run);
        let name = format!("{}RUN {shown}", state.next());
        let recorded = format!("RUN {}{} # buildkit", given(&state.arguments), arguments.join(" "));
        let node = self.graph.add(Node {
            operation: Operation::Execute(Box::new(Execute {
                arguments,
                environment,
                proxies: proxies(self.options),
                directory: if state.image.config.working_dir.is_empty() {
                    "/".to_owned()
                } else {
                    state.image.config.working_dir.clone()
                },
                user: state.image.config.user.clone(),
                mounts,
                network: run.network,
                security: run.security,
                hostname: self.options.hostname.clone(),
                hosts: self.options.hosts.clone(),
                secret_environment,
                ..Execute::default()
            })),
            inputs,
            name,
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: state.ignore_cache,
        });
        state.tree = Some(Edge { node, output: 0 });
        state.record_layer(recorded);
        Ok(())
    }

    /// A tree with the one script of a `RUN <<EOF` that begins with `#!`.
    fn script(&mut self, state: &StageState, heredoc: &Heredoc, lines: Lines) -> Edge {
        let empty = self.empty();
        let content = heredoc.text().into_bytes();
        let action =
            FileAction::MakeFile { path: format!("/{}", heredoc.name), content, mode: 0o755, owner: None };
        let node = self.graph.add(Node {
            operation: Operation::Files(vec![action]),
            inputs: vec![empty],
            name: "[internal] preparing inline document".to_owned(),
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: false,
        });
        Edge { node, output: 0 }
    }

    /// One `--mount`, its words expanded.
    fn mount(
        &mut self,
        state: &mut StageState,
        spec: &MountSpec,
        inputs: &mut Vec<Edge>,
        lines: Lines,
    ) -> Result<Mount, PlanError> {
        let directory = state.image.config.working_dir.clone();
        let target = self.word(state, &spec.target, lines)?;
        let destination = if target.is_empty() { String::new() } else { absolute(&directory, &target) };
        let optional = |planner: &mut Self, word: &Option<String>| match word {
            Some(word) => planner.word(state, word, lines).map(Some),
            None => Ok(None),
        };
        let source = optional(self, &spec.source)?;
        let id = optional(self, &spec.id)?;
        let from = optional(self, &spec.from)?;
        let writable = Mount {
            input: None,
            selector: String::new(),
            destination,
            read_only: false,
            output: None,
            kind: MountType::Bind,
        };
        Ok(match spec.kind {
            MountKind::Bind => {
                let selector = source.unwrap_or_default();
                inputs.push(self.from(state, from.as_deref(), std::slice::from_ref(&selector), lines)?);
                let read_only = spec.read_only.unwrap_or(true);
                Mount { input: Some(inputs.len() - 1), selector, read_only, ..writable }
            }
            MountKind::Cache => {
                let mut mount = Mount {
                    selector: source.unwrap_or_default(),
                    read_only: spec.read_only == Some(true),
                    ..writable
                };
                mount.kind = MountType::Cache {
                    id: id.unwrap_or_else(|| mount.destination.clone()),
                    sharing: spec.sharing,
                };
                if from.is_some() {
                    inputs.push(self.from(state, from.as_deref(), &[], lines)?);
                    mount.input = Some(inputs.len() - 1);
                } else if spec.mode.is_some() || spec.uid.is_some() || spec.gid.is_some() {
                    inputs.push(self.cache_directory(state, spec, &mut mount, lines));
                    mount.input = Some(inputs.len() - 1);
                }
                mount
            }
            MountKind::Tmpfs => Mount { kind: MountType::Tmpfs(spec.size), ..writable },
            MountKind::Secret => {
                let id = id.or(source).unwrap_or_else(|| last_part(&writable.destination));
                let destination = if writable.destination.is_empty() {
                    format!("/run/secrets/{id}")
                } else {
                    writable.destination.clone()
                };
                Mount {
                    kind: MountType::Secret(access(spec, id, 0o400)),
                    destination,
                    read_only: true,
                    ..writable
                }
            }
            MountKind::Ssh => {
                let id = id.or(source).unwrap_or_else(|| "default".to_owned());
                let count = inputs.len() - 1;
                let destination = if writable.destination.is_empty() {
                    format!("/run/buildkit/ssh_agent.{count}")
                } else {
                    writable.destination.clone()
                };
                Mount {
                    kind: MountType::Ssh(access(spec, id, 0o600)),
                    destination,
                    read_only: true,
                    ..writable
                }
            }
        })
    }

    /// A directory with the mode and owner that a new cache begins with.
    fn cache_directory(
        &mut self,
        state: &StageState,
        spec: &MountSpec,
        mount: &mut Mount,
        lines: Lines,
    ) -> Edge {
        mount.selector = "/cache".to_owned();
        let owner = format!("{}:{}", spec.uid.unwrap_or(0), spec.gid.unwrap_or(0));
        let action = FileAction::MakeDirectory {
            path: "/cache".to_owned(),
            mode: spec.mode.unwrap_or(0o755),
            owner: Some(crate::graph::Owner { name: owner }),
        };
        let inputs = vec![self.empty()];
        let node = self.graph.add(Node {
            operation: Operation::Files(vec![action]),
            inputs,
            name: "[internal] settings cache mount permissions".to_owned(),
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: false,
        });
        Edge { node, output: 0 }
    }

    /// The command as it is shown: variables that are set in it, the lines of a script left out.
    fn shown(&self, state: &StageState, located: &Located<Instruction>, run: &Run) -> String {
        let text = located.text.trim().get(3..).unwrap_or_default().trim();
        let lookup =
            |name: &str| Some(state.variables.get(name).cloned().unwrap_or_else(|| format!("${name}")));
        let lexer = Lexer { escape: self.dockerfile.directives.escape, literal_quotes: true };
        let text = lexer.expand(text, &lookup).map_or_else(|_| text.to_owned(), |expanded| expanded.word);
        match run.heredocs.first().and_then(|heredoc| heredoc.content.lines().next()) {
            Some(first) => format!("{text} ({first}...)"),
            None => text,
        }
    }
}

/// What is run, and the script it is in where it is one of its own.
fn command(run: &Run) -> (Command, Option<&Heredoc>) {
    let (Command::Shell(line), [first, rest @ ..]) = (&run.command, run.heredocs.as_slice()) else {
        return (run.command.clone(), None);
    };
    let alone = rest.is_empty() && line.split_whitespace().count() == 1 && line.starts_with("<<");
    if alone && first.content.starts_with("#!") {
        return (Command::Shell(format!("{SCRIPTS}/{}", first.name)), Some(first));
    }
    if alone {
        return (Command::Shell(first.text()), None);
    }
    let mut whole = line.clone();
    for heredoc in &run.heredocs {
        whole.push('\n');
        whole.push_str(&heredoc.content);
        whole.push_str(&heredoc.name);
    }
    (Command::Shell(whole), None)
}

fn bind(input: usize, destination: &str, read_only: bool, output: Option<usize>) -> Mount {
    let (selector, destination) = (String::new(), destination.to_owned());
    Mount { input: Some(input), selector, destination, read_only, output, kind: MountType::Bind }
}

fn access(spec: &MountSpec, id: String, mode: u32) -> Access {
    let (uid, gid) = (spec.uid.unwrap_or(0), spec.gid.unwrap_or(0));
    Access { id, uid, gid, mode: spec.mode.unwrap_or(mode), required: spec.required }
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What the process sees: the image's variables, the arguments beside them.
fn environment(state: &StageState) -> Vec<String> {
    let mut lines = state.image.config.env.clone();
    for line in &mut lines {
        let name = line.split_once('=').map_or(line.as_str(), |(name, _)| name).to_owned();
        if let Some(value) = state.variables.get(&name) {
            *line = format!("{name}={value}");
        }
    }
    let known = |name: &str| {
        state.image.config.env.iter().any(|line| line.split_once('=').is_some_and(|(known, _)| known == name))
    };
    let arguments = state.arguments.iter().filter(|(name, _)| !known(name));
    lines.extend(arguments.filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}"))));
    lines
}

/// `|2 A=1 B= `: the arguments a step may have used.
fn given(arguments: &[(String, Option<String>)]) -> String {
    if arguments.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = arguments
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or_default()))
        .collect();
    format!("|{} {} ", arguments.len(), shown.join(" "))
}
